// SPDX-License-Identifier: Apache-2.0

/** A member of the lab's etcd cluster: a machine on the wire with a real etcd, the system's or $ETCD_BIN. */
import { existsSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { CiliumError } from '../errors/cilium-error.ts';
import { etcdAddresses, etcdUrls, type Addresses } from './addresses.ts';
import type { Cgroup } from './cgroup.ts';
import type { CommandOptions, CommandResult } from './command.ts';
import { Daemon } from './daemon.ts';
import { Machine, type SpawnOptions } from './machine.ts';

const PEER_PORT = 2380;
const LOCAL_URL = 'http://127.0.0.1:2379';
/** A single member needs no time to hear others; with several, etcd's defaults, which a busy machine can keep. */
const ALONE = ['--heartbeat-interval=20', '--election-timeout=100'];
/** How long a cluster may take to be whole enough for a new member. */
const UNHEALTHY_MS = 30_000;
const POLL_MS = 100;
const PATH = '/usr/local/bin:/usr/bin:/bin';

export class EtcdMember {
  readonly number: number;
  readonly machine: Machine;
  readonly addresses: Addresses;
  /** How many members the cluster has. */
  readonly #size: number;
  readonly #daemon: Daemon;

  constructor(number: number, size: number, dir: string, cgroup: Cgroup) {
    this.number = number;
    this.#size = size;
    this.machine = new Machine(`etcd${number}`, dir, cgroup);
    this.addresses = etcdAddresses(number);
    this.#daemon = new Daemon(this.machine, 'etcd');
  }

  get name(): string {
    return this.machine.name;
  }

  get pid(): number | undefined {
    return this.#daemon.pid;
  }

  get log(): string {
    return this.#daemon.logFile;
  }

  /** Where clients reach it from a node, in each family. */
  get urls(): Addresses {
    return etcdUrls(this.number);
  }

  /** Starts etcd unless it runs, and waits until it serves clients: of three members, two must be there for that. */
  start(): Promise<void> {
    return this.#start('new');
  }

  /** Ends etcd and waits until it is gone; its data stays. */
  async stop(signal: NodeJS.Signals = 'SIGTERM'): Promise<void> {
    this.resume(); // one that hangs would take no other signal
    await this.#daemon.stop(signal);
  }

  kill(): Promise<void> {
    return this.stop('SIGKILL');
  }

  /** It keeps its connections, takes new ones and answers nothing, until `resume`. */
  hang(): void {
    this.#signal('SIGSTOP');
  }

  resume(): void {
    this.#signal('SIGCONT');
  }

  /** Kills it and loses its disk. One of several joins anew with `rejoin`; a single one starts with an empty store. */
  async wipe(): Promise<void> {
    await this.kill();
    rmSync(this.#data, { recursive: true, force: true });
  }

  /** After `wipe`, in a cluster of several: the others forget the member that it was and take it in as a new one. */
  async rejoin(other: EtcdMember): Promise<void> {
    const members = (await other.etcdctl('member', 'list')).split('\n'); // ID, status, name, …
    const line = members.find((one) => one.split(', ')[2] === this.name);
    if (line === undefined) throw new CiliumError('NotFound', `${this.name} is no member of ${other.name}'s cluster`);
    await other.etcdctl('member', 'remove', line.split(',')[0]!);
    const add = ['etcdctl', 'member', 'add', this.name, `--peer-urls=${peerUrl(this.number)}`];
    const limit = performance.now() + UNHEALTHY_MS;
    // etcd takes nobody in until those that stay have been together for 5 s.
    while ((await other.run(add)).status !== 0) {
      if (performance.now() > limit) throw new CiliumError('Timeout', `${other.name} does not take in ${this.name}`);
      await delay(POLL_MS);
    }
    await this.#start('existing');
  }

  /** `etcdctl` asks this member; throws unless it succeeds. Gives back what it printed. */
  etcdctl(...args: readonly string[]): Promise<string> {
    return this.exec(['etcdctl', ...args]);
  }

  /** Runs a program in the machine that has to succeed; `etcdctl` talks to this member. */
  exec(argv: readonly string[], options: CommandOptions = {}): Promise<string> {
    return this.machine.exec(argv, { env: this.environment(), ...options });
  }

  /** As `exec`, but any exit status is an answer. */
  run(argv: readonly string[], options: CommandOptions = {}): Promise<CommandResult> {
    return this.machine.run(argv, { env: this.environment(), ...options });
  }

  spawn(argv: readonly string[], options: SpawnOptions = {}) {
    return this.machine.spawn('exec', argv, { env: this.environment(), ...options });
  }

  environment(base: NodeJS.ProcessEnv = process.env): NodeJS.ProcessEnv {
    return { ...base, PATH, ETCDCTL_API: '3', ETCDCTL_ENDPOINTS: LOCAL_URL };
  }

  get #data(): string {
    return join(this.machine.dir, 'data');
  }

  async #start(state: 'new' | 'existing'): Promise<void> {
    const { ipv4, ipv6 } = this.urls;
    const binary = etcdBinary();
    const members = Array.from({ length: this.#size }, (_unused, index) => index + 1);
    const again = existsSync(this.#data); // etcd then knows its cluster from its data
    await this.#daemon.start({
      argv: [
        binary,
        `--name=${this.name}`,
        `--data-dir=${this.#data}`,
        `--listen-client-urls=${[ipv4, ipv6, LOCAL_URL].join(',')}`,
        `--advertise-client-urls=${[ipv4, ipv6].join(',')}`,
        `--listen-peer-urls=${peerUrl(this.number)}`,
        `--initial-advertise-peer-urls=${peerUrl(this.number)}`,
        `--initial-cluster=${members.map((one) => `etcd${one}=${peerUrl(one)}`).join(',')}`,
        `--initial-cluster-state=${again ? 'new' : state}`,
        ...(this.#size === 1 ? ALONE : []),
        ...['--logger=zap', '--log-outputs=stderr'],
      ],
      env: { PATH },
      ready: () => this.#serves(),
    });
  }

  async #serves(): Promise<boolean> {
    const ask = ['busybox', 'wget', '-q', '-O', '-', `${LOCAL_URL}/health`];
    return /"health":\s*"true"/.test((await this.run(ask)).stdout);
  }

  #signal(signal: NodeJS.Signals): void {
    const { pid } = this;
    if (pid !== undefined) process.kill(pid, signal);
  }
}

/** $ETCD_BIN, or the system's; throws `Precondition` when there is none. */
export function etcdBinary(env: NodeJS.ProcessEnv = process.env, path = PATH): string {
  const candidates =
    env.ETCD_BIN === undefined ? path.split(':').map((folder) => join(folder, 'etcd')) : [env.ETCD_BIN];
  const found = candidates.find((one) => existsSync(one));
  if (found !== undefined) return found;
  throw new CiliumError(
    'Precondition',
    `there is no etcd (${candidates.join(', ')}), which nodes share: install it (tools/setup.sh --tests), set ETCD_BIN to ` +
      'another one, or pass --etcd 0 for nodes on their own',
  );
}

function peerUrl(number: number): string {
  return `http://${etcdAddresses(number).ipv4}:${PEER_PORT}`;
}
