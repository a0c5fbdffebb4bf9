// SPDX-License-Identifier: Apache-2.0

/** What the tests of the Docker drivers do with a node of the lab, and see there. */
import { cpSync, existsSync, mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Ipam } from '../../ipam/ipam.ts';
import { Prefix } from '../../net/ip.ts';
import type { Lab } from '../../lab/lab.ts';
import type { LabNode } from '../../lab/node.ts';
import { ManualClock } from '../../runtime/fake/manual-clock.ts';
import { silentLogger } from '../../runtime/logger.ts';

/** What a container sees of one of its interfaces. */
export interface Inside {
  readonly mac: string;
  readonly mtu: number;
  /** With prefix length, link-local ones left out. */
  readonly ipv4: readonly string[];
  readonly ipv6: readonly string[];
}

export class DockerNode {
  readonly #lab: Lab;
  readonly #number: number;

  constructor(lab: Lab, number = 1) {
    this.#lab = lab;
    this.#number = number;
  }

  get lab(): LabNode {
    return this.#lab.node(this.#number);
  }

  async docker(...args: string[]): Promise<string> {
    return await this.lab.docker(args);
  }

  /** What docker prints when it refuses. */
  async refusal(...args: string[]): Promise<string> {
    const { status, stderr, stdout } = await this.lab.run(['docker', ...args]);
    if (status === 0) throw new Error(`docker ${args.join(' ')} succeeded: ${stdout}`);
    return stderr;
  }

  /** `docker network create -d cilium …` */
  async network(name: string, ...args: string[]): Promise<void> {
    await this.docker('network', 'create', '-d', 'cilium', ...args, name);
  }

  /** `docker run -d …` of the image `web`, which answers with the container's name, and is labelled with it. */
  async container(name: string, network: string, ...args: string[]): Promise<void> {
    const names = ['--name', name, '--hostname', name, '-l', `id=${name}`];
    await this.docker('run', '-d', ...names, '--network', network, ...args, 'web');
  }

  /** Removes all containers and all networks of ours. */
  async clean(): Promise<void> {
    const containers = (await this.docker('ps', '-aq')).split('\n').filter(Boolean);
    if (containers.length > 0) await this.docker('rm', '-f', ...containers);
    const networks = (await this.docker('network', 'ls', '-q', '--filter', 'driver=cilium'))
      .split('\n')
      .filter(Boolean);
    if (networks.length > 0) await this.docker('network', 'rm', ...networks);
  }

  async inside(container: string, device = 'eth0'): Promise<Inside> {
    const text = await this.docker('exec', container, 'ip', 'addr', 'show', 'dev', device);
    const all = (pattern: RegExp): string[] => [...text.matchAll(pattern)].map((match) => match[1] ?? '');
    return {
      mac: all(/link\/ether (\S+)/g)[0] ?? '',
      mtu: Number(all(/mtu (\d+)/g)[0]),
      ipv4: all(/inet (\S+)/g),
      ipv6: all(/inet6 (\S+)/g).filter((address) => !address.startsWith('fe80')),
    };
  }

  /** Lines of the container's routing table, without what goes to its own addresses. */
  async routes(container: string, family: '-4' | '-6'): Promise<string[]> {
    const text = await this.docker('exec', container, 'ip', family, 'route');
    return text
      .split('\n')
      .map((line) => line.replace(/ (metric|scope|src|proto) \S+/g, '').trim())
      .filter((line) => line !== '' && !/^(fe80|ff00)/.test(line));
  }

  /** One container asks another's web server; answers its name, or undefined when there is no answer. */
  async ask(from: string, address: string, port = 80): Promise<string | undefined> {
    const host = address.includes(':') ? `[${address}]` : address;
    // By timeout and not by wget's own -T, with which Debian's busybox 1.35 crashes.
    const wget = ['timeout', '2', 'wget', '-q', '-O', '-', `http://${host}:${port}/`];
    const { status, stdout } = await this.lab.run(['docker', 'exec', from, ...wget]);
    return status === 0 ? stdout.trim() : undefined;
  }

  async inspect(format: string, name: string): Promise<string> {
    return await this.docker('inspect', '-f', format, name);
  }

  /** Interfaces of containers that the node has. */
  async links(): Promise<string[]> {
    const text = await this.lab.exec(['ip', '-o', 'link']);
    return [...text.matchAll(/^\d+: ((?:lxc|tmp)[^@:]*)/gm)].map((match) => match[1] ?? '');
  }

  /** Address pools as the agent's files have them, each with its leases but the gateway's. */
  async leases(): Promise<Record<string, string[]>> {
    const stateDir = mkdtempSync(join(tmpdir(), 'drv-'));
    const file = join(this.lab.machine.dir, 'cilium', 'ipam.jsonl');
    try {
      mkdirSync(stateDir, { recursive: true });
      if (existsSync(file)) cpSync(file, join(stateDir, 'ipam.jsonl'));
      const range = Prefix.parse('10.0.0.0/8');
      const options = { ipv4Range: range, ipv6Range: undefined, nodeRanges: () => [] };
      const ipam = new Ipam({ stateDir, ...options, clock: new ManualClock(), log: silentLogger });
      await ipam.start();
      const pools = [...ipam.pools()].map((pool): [string, string[]] => {
        const leases = [...pool.leases()].filter(({ gateway }) => !gateway);
        return [pool.id, leases.map(({ address }) => address.toString())];
      });
      await ipam.stop();
      return Object.fromEntries(pools);
    } finally {
      rmSync(stateDir, { recursive: true });
    }
  }
}
