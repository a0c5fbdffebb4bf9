// SPDX-License-Identifier: Apache-2.0

/** What a command may touch: the world behind one interface, so that commands run in tests as they do in a terminal. */
import type { Readable, Writable } from 'node:stream';
import { CiliumClient } from '../api/client.ts';
import { DEFAULT_SOCKET } from '../api/paths.ts';
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
  /** What `--host` said. */
  host: string | undefined;
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
    return new CiliumClient(socketOf(this.host ?? this.io.env.CILIUM_HOST, this.io.env.CILIUM_SOCK));
  }
}

function socketOf(host: string | undefined, socket: string | undefined): string {
  if (host === undefined || host === '') return socket ?? DEFAULT_SOCKET;
  const path = /^unix:\/\/(\/.+)$/.exec(host)?.[1];
  if (path === undefined) {
    throw new CiliumError('InvalidArgument', `"${host}" is not the address of an agent (expected unix:///PATH)`);
  }
  return path;
}
