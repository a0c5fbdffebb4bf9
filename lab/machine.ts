// SPDX-License-Identifier: Apache-2.0

/**
 * A pretended machine: a process that holds a network, mount and UTS namespace of its own. Nothing on the real machine
 * names these namespaces (no `ip netns`, no mount): when the lab's control group is killed they are gone.
 *
 * Inside, /run is empty, /sys shows the own network, /sys/fs/bpf is an own bpffs, and there is no name server: the real
 * one's cannot be reached. From outside, files and sockets of the machine are reached through the link `<dir>/root`.
 */
import { spawn, type ChildProcess, type StdioOptions } from 'node:child_process';
import { existsSync, mkdirSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { CiliumError } from '../errors/cilium-error.ts';
import type { Cgroup } from './cgroup.ts';
import { output, run, type CommandOptions, type CommandResult } from './command.ts';

/** Prints "ready" when the namespaces are set up and stays. $1: host name. */
const HOLDER_SCRIPT = `set -e
echo "$1" >/proc/sys/kernel/hostname
mount -t tmpfs -o mode=755 tmpfs /run
mkdir -p /run/lock /run/sys /run/docker/plugins
echo '# no name server can be reached from here' >/run/resolv.conf
[ ! -e /etc/resolv.conf ] || mount --bind /run/resolv.conf /etc/resolv.conf
mount -t sysfs sysfs /run/sys
mount --rbind /sys/fs/cgroup /run/sys/fs/cgroup
mount --move /run/sys /sys
rmdir /run/sys
mount -t bpf bpf /sys/fs/bpf
ip link set lo up
echo ready
exec sleep infinity >/dev/null 2>&1`;

/** Joins the control group whose cgroup.procs is $1, then becomes the rest of the arguments. */
const JOIN_GROUP_SCRIPT = 'echo 0 >"$1" && shift && exec "$@"';

export class Machine {
  readonly name: string;
  /** Its files on the real machine. */
  readonly dir: string;
  readonly cgroup: Cgroup;

  constructor(name: string, dir: string, cgroup: Cgroup) {
    this.name = name;
    this.dir = dir;
    this.cgroup = cgroup;
  }

  /** The process that holds the namespaces; undefined when the machine is down. */
  get holder(): number | undefined {
    return this.cgroup.child('holder').pids()[0];
  }

  /** Where the machine's root directory is seen from outside. */
  get root(): string {
    return join(this.dir, 'root');
  }

  /** Whether `up` has finished and the namespaces are there. */
  get isUp(): boolean {
    return this.holder !== undefined && existsSync(this.#marker);
  }

  /** Makes the namespaces and lets `configure` furnish them; what a broken attempt left is removed first. */
  async up(configure: () => Promise<void>): Promise<void> {
    await this.cgroup.kill();
    mkdirSync(this.dir, { recursive: true });
    const unshare = ['unshare', '--mount', '--net', '--uts', '--propagation', 'private'];
    const child = this.#spawn('holder', [...unshare, 'sh', '-c', HOLDER_SCRIPT, 'sh', this.name], {
      stdio: ['ignore', 'pipe', 'pipe'],
      detached: true,
    });
    await readyOrDead(child, this.name);
    rmSync(this.root, { force: true });
    symlinkSync(`/proc/${child.pid!}/root`, this.root);
    await configure();
    writeFileSync(this.#marker, '');
  }

  /** The command line that runs `argv` in the machine's namespaces, in the caller's working directory. */
  enter(argv: readonly string[], workingDirectory = process.cwd()): string[] {
    const pid = this.holder;
    if (pid === undefined) throw new CiliumError('NotFound', `${this.name} is not up: bin/lab up`);
    return ['nsenter', '-t', String(pid), '-m', '-n', '-u', `--wdns=${workingDirectory}`, '--', ...argv];
  }

  /** Starts a program in the machine, as a member of the group `group`. Detached ones outlive this process. */
  spawn(group: string, argv: readonly string[], options: SpawnOptions = {}): ChildProcess {
    const { cwd, ...rest } = options;
    return this.#spawn(group, this.enter(argv, cwd), rest);
  }

  /** Runs a program in the machine and gives back how it ended. */
  run(argv: readonly string[], options: CommandOptions = {}): Promise<CommandResult> {
    return run(this.#joined('exec', this.enter(argv)), options);
  }

  /** Runs a program in the machine that has to succeed and gives back its output. */
  exec(argv: readonly string[], options: CommandOptions = {}): Promise<string> {
    return output(this.#joined('exec', this.enter(argv)), options);
  }

  /** In the machine's own /run: it cannot outlive the namespaces. */
  get #marker(): string {
    return join(this.root, 'run/configured');
  }

  #spawn(group: string, argv: readonly string[], options: Omit<SpawnOptions, 'cwd'>): ChildProcess {
    const [program, ...args] = this.#joined(group, argv);
    return spawn(program!, args, options);
  }

  #joined(group: string, argv: readonly string[]): string[] {
    const cgroup = this.cgroup.child(group);
    cgroup.create();
    return ['sh', '-c', JOIN_GROUP_SCRIPT, 'sh', cgroup.procsFile, ...argv];
  }
}

export interface SpawnOptions {
  stdio?: StdioOptions;
  env?: NodeJS.ProcessEnv;
  detached?: boolean;
  /** Inside the machine. */
  cwd?: string;
}

async function readyOrDead(child: ChildProcess, name: string): Promise<void> {
  let said = '';
  child.stderr!.on('data', (chunk: Buffer) => (said += chunk.toString()));
  await new Promise<void>((resolve, reject) => {
    child.once('error', (cause) => reject(new CiliumError('Precondition', `make namespaces of ${name}`, {}, cause)));
    child.once('close', () => reject(new CiliumError('Precondition', `make namespaces of ${name}: ${said.trim()}`)));
    child.stdout!.once('data', () => resolve());
  });
  child.stdout!.destroy();
  child.stderr!.destroy();
  child.unref();
}
