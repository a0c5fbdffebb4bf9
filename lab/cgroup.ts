// SPDX-License-Identifier: Apache-2.0

/**
 * The control groups of a lab: every process of a lab, its daemons' children and its containers included, is in one
 * subtree of the cgroup2 hierarchy, so that "end everything" is one write that can miss nothing and hit no stranger.
 */
import { existsSync, mkdirSync, readdirSync, readFileSync, rmdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { CiliumError } from '../errors/cilium-error.ts';

const KILL_TIMEOUT_MS = 15_000;
const POLL_MS = 5;
const LAB_PREFIX = 'cilium-lab-';

/** One group, by its path below the mount point of every hierarchy. */
export class Cgroup {
  /** As `dockerd --cgroup-parent` wants it: from the root of the hierarchy. */
  readonly path: string;
  readonly #directory: string;

  constructor(path: string) {
    this.path = path;
    this.#directory = join(unifiedMount(), path);
  }

  /** The group of a lab. Labs have no common parent: it would be made and removed by several at a time. */
  static ofLab(name: string): Cgroup {
    return new Cgroup(`/${LAB_PREFIX}${name}`);
  }

  /** Names of the labs of this machine that have a group. */
  static labNames(): string[] {
    return childDirectories(unifiedMount())
      .filter((name) => name.startsWith(LAB_PREFIX))
      .map((name) => name.slice(LAB_PREFIX.length));
  }

  child(name: string): Cgroup {
    return new Cgroup(`${this.path}/${name}`);
  }

  /** The file that takes a process into the group. */
  get procsFile(): string {
    return join(this.#directory, 'cgroup.procs');
  }

  create(): void {
    mkdirSync(this.#directory, { recursive: true });
  }

  /** Processes in this group itself, in no particular order; zombies are not listed. */
  pids(): number[] {
    try {
      return readFileSync(this.procsFile, 'utf8').split('\n').filter(Boolean).map(Number);
    } catch {
      return []; // no such group
    }
  }

  /** Kills every process of the subtree and waits until the last is gone. */
  async kill(): Promise<void> {
    if (!existsSync(this.#directory)) return;
    writeFileSync(join(this.#directory, 'cgroup.kill'), '1');
    const limit = performance.now() + KILL_TIMEOUT_MS;
    while (/^populated 1$/m.test(readFileSync(join(this.#directory, 'cgroup.events'), 'utf8'))) {
      if (performance.now() > limit) {
        throw new CiliumError('Timeout', `processes in ${this.#directory} do not end although they were killed`);
      }
      await delay(POLL_MS);
    }
  }

  /** Removes the subtree from all hierarchies, those of cgroup v1 included; it must be empty of processes. */
  async remove(): Promise<void> {
    const limit = performance.now() + KILL_TIMEOUT_MS;
    for (const mount of cgroupMounts()) {
      // A group whose last process has just died can be busy for a moment.
      while (!removeTree(join(mount.path, this.path))) {
        if (performance.now() > limit) throw new CiliumError('Timeout', `${mount.path}${this.path} stays busy`);
        await delay(POLL_MS);
      }
    }
  }
}

function childDirectories(directory: string): string[] {
  try {
    return readdirSync(directory, { withFileTypes: true })
      .filter((entry) => entry.isDirectory())
      .map((entry) => entry.name);
  } catch {
    return [];
  }
}

/** False when something in it is busy. */
function removeTree(directory: string): boolean {
  for (const name of childDirectories(directory)) if (!removeTree(join(directory, name))) return false;
  try {
    rmdirSync(directory);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'ENOENT';
  }
}

function cgroupMounts(): { path: string; unified: boolean }[] {
  return readFileSync('/proc/self/mounts', 'utf8')
    .split('\n')
    .map((line) => line.split(' '))
    .filter((fields) => fields[2] === 'cgroup' || fields[2] === 'cgroup2')
    .map((fields) => ({ path: fields[1]!, unified: fields[2] === 'cgroup2' }));
}

function unifiedMount(): string {
  const mount = cgroupMounts().find(({ unified }) => unified);
  if (mount === undefined) {
    throw new CiliumError('Precondition', 'the lab needs cgroup2: mount -t cgroup2 none /sys/fs/cgroup/unified');
  }
  return mount.path;
}
