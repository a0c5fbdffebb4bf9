// SPDX-License-Identifier: Apache-2.0

/** A program that runs in a machine of the lab until it is stopped: dockerd, the agent, a web server. */
import type { ChildProcess } from 'node:child_process';
import { closeSync, existsSync, mkdirSync, openSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { CiliumError } from '../errors/cilium-error.ts';
import type { Cgroup } from './cgroup.ts';
import type { Machine } from './machine.ts';

const START_TIMEOUT_MS = 30_000;
/** dockerd gives containers ten seconds each, side by side, before it kills them. */
const STOP_TIMEOUT_MS = 40_000;
const POLL_MS = 10;
const LOG_LINES_IN_ERROR = 5;

export interface DaemonCommand {
  argv: readonly string[];
  env: NodeJS.ProcessEnv;
  /** Asked again and again until it says yes. */
  ready(): Promise<boolean>;
}

export class Daemon {
  readonly #machine: Machine;
  readonly #name: string;
  /** Names of programs (as in /proc/PID/comm) whose end is waited for too, in the daemon's group. */
  readonly #companions: readonly string[];

  constructor(machine: Machine, name: string, companions: readonly string[] = []) {
    this.#machine = machine;
    this.#name = name;
    this.#companions = companions;
  }

  get logFile(): string {
    return join(this.#machine.dir, `${this.#name}.log`);
  }

  /** The daemon's process, if it is running: the one we started, as long as it is in the daemon's own group. */
  get pid(): number | undefined {
    let recorded: number;
    try {
      recorded = Number(readFileSync(this.#pidFile, 'utf8'));
    } catch {
      return undefined;
    }
    return this.#group.pids().includes(recorded) ? recorded : undefined;
  }

  /** Starts the daemon unless it runs, and waits until it is ready. */
  async start(command: DaemonCommand): Promise<void> {
    const child = this.pid === undefined ? this.#spawn(command) : undefined;
    const running = (): boolean =>
      child === undefined ? this.pid !== undefined : child.exitCode === null && child.signalCode === null;
    const limit = performance.now() + START_TIMEOUT_MS;
    while (!(await command.ready())) {
      if (!running()) throw this.#failure('ended while it started');
      if (performance.now() > limit) throw this.#failure(`was not ready after ${START_TIMEOUT_MS} ms`);
      await delay(POLL_MS);
    }
  }

  /**
   * Sends `signal` and waits until the process and its companions are gone. Does nothing when it is not running.
   *
   * Gone means reaped: a dockerd that finds the number of its last containerd taken waits for that one in vain.
   */
  async stop(signal: NodeJS.Signals): Promise<void> {
    const pid = this.pid;
    const gone = this.#group.pids().filter((one) => one === pid || this.#companions.includes(programName(one)));
    if (pid !== undefined) process.kill(pid, signal);
    const limit = performance.now() + STOP_TIMEOUT_MS;
    while (gone.some((one) => existsSync(`/proc/${one}`))) {
      if (performance.now() > limit) throw this.#failure(`did not end within ${STOP_TIMEOUT_MS} ms of ${signal}`);
      await delay(POLL_MS);
    }
  }

  get #group(): Cgroup {
    return this.#machine.cgroup.child(this.#name);
  }

  get #pidFile(): string {
    return join(this.#machine.dir, `${this.#name}.pid`);
  }

  #spawn(command: DaemonCommand): ChildProcess {
    mkdirSync(this.#machine.dir, { recursive: true });
    const log = openSync(this.logFile, 'a');
    try {
      const child = this.#machine.spawn(this.#name, command.argv, {
        stdio: ['ignore', log, log],
        env: command.env,
        detached: true,
        cwd: '/',
      });
      child.once('error', () => undefined); // start() sees that it does not run
      child.unref();
      writeFileSync(this.#pidFile, String(child.pid ?? 0));
      return child;
    } finally {
      closeSync(log);
    }
  }

  #failure(what: string): CiliumError {
    const lines = readFileSync(this.logFile, 'utf8').trimEnd().split('\n').slice(-LOG_LINES_IN_ERROR);
    return new CiliumError('Precondition', `${this.#name} of ${this.#machine.name} ${what}: ${lines.join('\n')}`, {
      logFile: this.logFile,
    });
  }
}

function programName(pid: number): string {
  try {
    return readFileSync(`/proc/${pid}/comm`, 'utf8').trim();
  } catch {
    return ''; // has ended
  }
}
