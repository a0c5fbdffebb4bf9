// SPDX-License-Identifier: Apache-2.0

/**
 * Real etcd servers on loopback, with data in a temporary folder, for tests. Ports are free ones; they are stopped by pid.
 *
 * ETCD_BIN: another etcd than the system's.
 */
import { execFile, spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import { createServer, type AddressInfo } from 'node:net';
import { delimiter, join } from 'node:path';
import { promisify } from 'node:util';
import { temporaryFolder } from './temporary-folder.ts';

const run = promisify(execFile);
const HOST = '127.0.0.1';

export interface EtcdServerOptions {
  /** Such as `--quota-backend-bytes=…`. */
  readonly flags?: readonly string[];
  readonly scheme?: 'http' | 'https';
}

export async function freePorts(count: number): Promise<number[]> {
  const servers = Array.from({ length: count }, () => createServer().listen(0, HOST));
  await Promise.all(servers.map((server) => once(server, 'listening')));
  const ports = servers.map((server) => (server.address() as AddressInfo).port);
  await Promise.all(servers.map((server) => promisify(server.close.bind(server))()));
  return ports;
}

export class EtcdServer {
  readonly name: string;
  readonly url: string;
  readonly folder: string;
  readonly #flags: readonly string[];
  #child: ChildProcess | undefined;

  constructor(name: string, url: string, folder: string, flags: readonly string[]) {
    this.name = name;
    this.url = url;
    this.folder = folder;
    this.#flags = flags;
  }

  static async start(options: EtcdServerOptions = {}): Promise<EtcdServer> {
    const [server] = await startCluster(1, options);
    return server!;
  }

  /** Resolves when it takes connections. */
  async start(): Promise<void> {
    const binary = process.env['ETCD_BIN'] ?? 'etcd';
    if (!isInstalled(binary)) throw new Error('these tests need etcd: tools/setup.sh --tests installs it');
    const child = spawn(binary, this.#flags, { stdio: ['ignore', 'pipe', 'pipe'], env: {} });
    this.#child = child;
    let log = '';
    await new Promise<void>((resolve, reject) => {
      child.once('error', reject);
      child.once('exit', () => reject(new Error(`etcd has ended: ${log}`)));
      for (const stream of [child.stdout, child.stderr]) {
        stream.setEncoding('utf8').on('data', (text: string) => {
          log = (log + text).slice(-10_000);
          if (/serving client (traffic|requests)/.test(log)) resolve();
        });
      }
    });
  }

  /** SIGKILL, unless told otherwise; resolves when it has ended. */
  async stop(signal: NodeJS.Signals = 'SIGKILL'): Promise<void> {
    const child = this.#child;
    this.#child = undefined;
    if (child?.exitCode !== null || child.signalCode !== null) return;
    const ended = once(child, 'exit');
    child.kill(signal);
    child.kill('SIGCONT');
    await ended;
  }

  async restart(): Promise<void> {
    await this.stop();
    await this.start();
  }

  /** As if its disk had been lost. */
  async startEmpty(): Promise<void> {
    await this.stop();
    await rm(join(this.folder, 'data'), { recursive: true });
    await this.start();
  }

  /** Takes connections, answers nothing. */
  hang(): void {
    this.#child?.kill('SIGSTOP');
  }

  resume(): void {
    this.#child?.kill('SIGCONT');
  }

  /** Ends it and forgets its data. */
  async remove(): Promise<void> {
    await this.stop();
    await rm(this.folder, { recursive: true, force: true });
  }

  /** etcdctl with this server; returns what it prints. */
  async etcdctl(...args: readonly string[]): Promise<string> {
    const env = { ETCDCTL_API: '3', PATH: process.env['PATH'] };
    const { stdout } = await run('etcdctl', [`--endpoints=${this.url}`, ...args], { env });
    return stdout;
  }

  /** All keys with their values, as etcd's own tool sees them. */
  async dump(): Promise<Map<string, string>> {
    const { kvs = [] } = JSON.parse(await this.etcdctl('get', '', '--prefix', '-w', 'json')) as {
      kvs?: { key: string; value?: string }[];
    };
    const text = (base64 = ''): string => Buffer.from(base64, 'base64').toString();
    return new Map(kvs.map(({ key, value }) => [text(key), text(value)]));
  }

  /** All of the past is gone. */
  async compact(): Promise<void> {
    const { header } = JSON.parse(await this.etcdctl('get', 'x', '-w', 'json')) as { header: { revision: number } };
    await this.etcdctl('compact', '--physical', String(header.revision));
  }

  /** In hexadecimal. */
  async leases(): Promise<string[]> {
    const lines = (await this.etcdctl('lease', 'list')).split('\n');
    return lines.filter((line) => /^[0-9a-f]+$/.test(line));
  }
}

/** Members of one cluster, all started. */
export async function startCluster(size: number, options: EtcdServerOptions = {}): Promise<EtcdServer[]> {
  const { scheme = 'http', flags = [] } = options;
  const ports = await freePorts(2 * size);
  const peer = (i: number): string => `http://${HOST}:${ports[size + i]!}`;
  const cluster = Array.from({ length: size }, (_, i) => `m${i}=${peer(i)}`).join(',');
  const servers = await Promise.all(
    Array.from({ length: size }, async (_, i) => {
      const folder = await temporaryFolder('etcd');
      const url = `${scheme}://${HOST}:${ports[i]!}`;
      return new EtcdServer(`m${i}`, url, folder, [
        `--name=m${i}`,
        `--data-dir=${join(folder, 'data')}`,
        `--listen-client-urls=${url}`,
        `--advertise-client-urls=${url}`,
        `--listen-peer-urls=${peer(i)}`,
        `--initial-advertise-peer-urls=${peer(i)}`,
        `--initial-cluster=${cluster}`,
        // Elections in fractions of a second; leases may be as short as 1 s.
        `--heartbeat-interval=${size === 1 ? 20 : 50}`,
        `--election-timeout=${size === 1 ? 100 : 500}`,
        '--grpc-keepalive-min-time=500ms',
        '--logger=zap',
        '--log-outputs=stderr',
        ...flags,
      ]);
    }),
  );
  try {
    await Promise.all(servers.map((server) => server.start()));
  } catch (error) {
    await Promise.all(servers.map((server) => server.remove()));
    throw error;
  }
  return servers;
}

function isInstalled(binary: string): boolean {
  const paths = (process.env['PATH'] ?? '').split(delimiter);
  return binary.includes('/') ? existsSync(binary) : paths.some((folder) => existsSync(join(folder, binary)));
}
