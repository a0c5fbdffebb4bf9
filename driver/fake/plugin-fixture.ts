// SPDX-License-Identifier: Apache-2.0

/** A plugin on a real socket in a temporary folder, and a client that calls it as dockerd does. */
import { mkdtemp, rm } from 'node:fs/promises';
import { Agent, request } from 'node:http';
import type { IncomingHttpHeaders } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Ipam } from '../../ipam/ipam.ts';
import type { TakenRange } from '../../ipam/ranges.ts';
import { Prefix } from '../../net/ip.ts';
import { ManualClock } from '../../runtime/fake/manual-clock.ts';
import { silentLogger } from '../../runtime/logger.ts';
import { DriverServer } from '../driver-server.ts';
import { Networks } from '../networks.ts';
import type { NetworkScope } from '../types.ts';
import { RecordingHooks } from './recording-hooks.ts';

export const NODE_MTU = 1500;

export interface PluginAnswer {
  readonly status: number;
  readonly headers: IncomingHttpHeaders;
  readonly body: Readonly<Record<string, unknown>>;
}

export class PluginFixture {
  readonly folder: string;
  readonly socketPath: string;
  readonly hooks = new RecordingHooks();
  readonly clock = new ManualClock();
  readonly nodeRanges: TakenRange[] = [];
  ipam!: Ipam;
  networks!: Networks;
  server!: DriverServer;
  readonly #ipv6Range: Prefix | undefined;
  readonly #scope: NetworkScope;
  readonly #agent = new Agent({ keepAlive: true });

  private constructor(folder: string, ipv6Range: string, scope: NetworkScope) {
    this.folder = folder;
    this.#scope = scope;
    this.socketPath = join(folder, 'plugins', 'cilium.sock');
    this.#ipv6Range = ipv6Range === 'none' ? undefined : Prefix.parse(ipv6Range);
  }

  /** `ipv6Range` 'none': a node without. */
  static async start(ipv6Range = 'fd15::/64', scope: NetworkScope = 'local'): Promise<PluginFixture> {
    const fixture = new PluginFixture(await mkdtemp(join(tmpdir(), 'drv-')), ipv6Range, scope);
    await fixture.#start();
    return fixture;
  }

  async #start(): Promise<void> {
    const { clock, hooks } = this;
    const stateDir = join(this.folder, 'state');
    this.ipam = new Ipam({
      stateDir,
      ipv4Range: Prefix.parse('10.15.0.0/16'),
      ipv6Range: this.#ipv6Range,
      nodeRanges: () => this.nodeRanges,
      clock,
      log: silentLogger,
    });
    this.networks = new Networks({
      stateDir,
      mtu: NODE_MTU,
      ipam: this.ipam,
      hooks: hooks.networks,
      inspect: hooks.inspect,
      log: silentLogger,
    });
    this.server = new DriverServer({
      socketPath: this.socketPath,
      ipam: this.ipam,
      networks: this.networks,
      endpoints: hooks.endpoints,
      scope: this.#scope,
      clock,
      log: silentLogger,
    });
    for (const component of [this.ipam, this.networks, this.server]) await component.start();
  }

  /** The agent dies and comes back: only the files are kept, and stopping writes none. */
  async restart(): Promise<void> {
    await this.server.stop();
    await this.ipam.stop();
    await this.#start();
  }

  async stop(): Promise<void> {
    this.#agent.destroy();
    await this.server.stop();
    await this.networks.stop();
    await this.ipam.stop();
    await rm(this.folder, { recursive: true });
  }

  /** One POST as dockerd sends it: no content type; text is sent as it is, no body at all for undefined. */
  async raw(method: string, body: string | undefined): Promise<PluginAnswer> {
    return await new Promise((resolve, reject) => {
      const call = request(
        {
          socketPath: this.socketPath,
          agent: this.#agent,
          method: 'POST',
          path: `/${method}`,
          headers: {
            accept: 'application/vnd.docker.plugins.v1.2+json',
            host: 'plugin.moby.localhost',
            'content-length': body === undefined ? 0 : Buffer.byteLength(body),
          },
        },
        (response) => {
          const chunks: Buffer[] = [];
          response.on('data', (chunk: Buffer) => chunks.push(chunk));
          response.on('end', () => {
            const parsed = JSON.parse(Buffer.concat(chunks).toString()) as Record<string, unknown>;
            resolve({ status: response.statusCode ?? 0, headers: response.headers, body: parsed });
          });
        },
      );
      call.on('error', reject).end(body);
    });
  }

  async call(method: string, body: object): Promise<PluginAnswer['body']> {
    return (await this.raw(method, `${JSON.stringify(body)}\n`)).body;
  }

  /** The error that dockerd would show for a network-driver or an IPAM-driver call; undefined for success. */
  async error(method: string, body: object): Promise<string | undefined> {
    const answer = await this.call(method, body);
    return answer[method.startsWith('Ipam') ? 'Error' : 'Err'] as string | undefined;
  }
}
