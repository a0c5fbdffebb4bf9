// SPDX-License-Identifier: Apache-2.0

/** Raw Ethernet frames on a device of another network namespace, as a container's root may send and see them. */
import { type ChildProcessByStdio, execFileSync, spawn } from 'node:child_process';
import { mkdirSync, renameSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import type { Readable, Writable } from 'node:stream';

const SOURCE = join(import.meta.dirname, 'frames.c');
const CACHE = join(import.meta.dirname, '../../.cache');
const PROGRAM = join(CACHE, 'frames');
const FLAGS = ['-O2', '-static', '-D_GNU_SOURCE', '-Wall', '-Wextra', '-Wshadow', '-Werror'];

type Watcher = (frame: Buffer) => boolean;

export class Frames {
  readonly #process: ChildProcessByStdio<Writable, Readable, null>;
  #received: Buffer[] = [];
  #watchers: { readonly matches: Watcher; readonly resolve: () => void }[] = [];

  private constructor(process: ChildProcessByStdio<Writable, Readable, null>) {
    this.#process = process;
  }

  /** Opens a device in the network namespace of a process. */
  static async open(pid: number, device = 'eth0'): Promise<Frames> {
    const argv = [`--net=/proc/${pid}/ns/net`, build(), device];
    const frames = new Frames(spawn('nsenter', argv, { stdio: ['pipe', 'pipe', 'inherit'] }));
    await frames.#start();
    return frames;
  }

  send(...packets: readonly Buffer[]): void {
    this.#process.stdin.write(packets.map((packet) => `${packet.toString('hex')}\n`).join(''));
  }

  /** What came since the last call. */
  take(): Buffer[] {
    const received = this.#received;
    this.#received = [];
    return received;
  }

  /** Resolves when a frame that matches has come, after the last `take`. */
  async until(matches: Watcher): Promise<void> {
    if (this.#received.some(matches)) return;
    await new Promise<void>((resolve) => this.#watchers.push({ matches, resolve }));
  }

  close(): void {
    this.#process.stdin.end();
  }

  async #start(): Promise<void> {
    const lines = createInterface({ input: this.#process.stdout });
    await new Promise<void>((resolve, reject) => {
      lines.once('line', () => resolve());
      this.#process.once('exit', (status) => reject(new Error(`frames ended with status ${status}`)));
    });
    lines.on('line', (line) => {
      const frame = Buffer.from(line, 'hex');
      this.#received.push(frame);
      for (const { resolve } of this.#watchers.filter(({ matches }) => matches(frame))) resolve();
      this.#watchers = this.#watchers.filter(({ matches }) => !matches(frame));
    });
  }
}

/** The program, compiled when its source is newer. */
function build(): string {
  const built = statSync(PROGRAM, { throwIfNoEntry: false })?.mtimeMs ?? 0;
  if (built > statSync(SOURCE).mtimeMs) return PROGRAM;
  mkdirSync(CACHE, { recursive: true });
  const temporary = `${PROGRAM}.${process.pid}`;
  execFileSync('clang', [...FLAGS, '-o', temporary, SOURCE]);
  renameSync(temporary, PROGRAM);
  return PROGRAM;
}
