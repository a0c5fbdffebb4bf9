// SPDX-License-Identifier: Apache-2.0

/** What a command may touch: the world behind one interface, so that commands run in tests as they do in a terminal. */
import type { Readable, Writable } from 'node:stream';
import { CiliumClient } from '../api/client.ts';
import { HealthClient } from '../api/health-client.ts';
import { DEFAULT_SOCKET, healthSocketBeside } from '../api/paths.ts';
import { CiliumError } from '../errors/cilium-error.ts';
import { printable } from './output/printable.ts';

export interface CliIo {
  readonly stdout: Writable;
  readonly stderr: Writable;
  readonly stdin: Readable;
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly isRoot: boolean;
  /** Aborts when the person presses Ctrl-C. */
  readonly interrupted: AbortSignal;
}

export class Context {
  readonly io: CliIo;
  /** What `--host` said of the agent. */
  host: string | undefined;
  /** What `--host` said of the health API. */
  healthHost: string | undefined;
  /** Of a command that did its work but found something wrong; one that throws ends with 1 anyway. */
  exitStatus = 0;

  constructor(io: CliIo) {
    this.io = io;
  }

  print(text: string): void {
    this.io.stdout.write(printable(text));
  }

  warn(line: string): void {
    this.io.stderr.write(printable(`${line}\n`));
  }

  client(): CiliumClient {
    return new CiliumClient(this.#agentSocket());
  }

  healthClient(): HealthClient {
    return new HealthClient(socketOf(this.healthHost) ?? healthSocketBeside(this.#agentSocket()));
  }

  #agentSocket(): string {
    const { CILIUM_HOST, CILIUM_SOCK } = this.io.env;
    return socketOf(this.host ?? CILIUM_HOST) ?? CILIUM_SOCK ?? DEFAULT_SOCKET;
  }
}

/** Undefined when nothing is said. */
function socketOf(host: string | undefined): string | undefined {
  if (host === undefined || host === '') return undefined;
  const path = /^unix:\/\/(\/.+)$/.exec(host)?.[1];
  if (path === undefined) {
    throw new CiliumError('InvalidArgument', `"${host}" is not the address of an agent (expected unix:///PATH)`);
  }
  return path;
}
