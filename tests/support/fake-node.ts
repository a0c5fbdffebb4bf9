// SPDX-License-Identifier: Apache-2.0

/** Runs command lines in this process, against a real API server with the services of a fake agent. */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Readable, Writable } from 'node:stream';
import type { TestContext } from 'node:test';
import { FakeServices } from '../../agent/rest/fake/fake-services.ts';
import { RestServer } from '../../agent/rest/server.ts';
import { silentLogger } from '../../runtime/logger.ts';
import type { CliIo } from '../../cli/context.ts';
import { runCli } from '../../cli/program.ts';

export interface Result {
  readonly stdout: string;
  readonly stderr: string;
  readonly status: number;
}

export interface FakeNode {
  readonly services: FakeServices;
  readonly folder: string;
  readonly run: (...argv: string[]) => Promise<Result>;
  /** With something on standard input. */
  readonly runWith: (stdin: string, ...argv: string[]) => Promise<Result>;
}

/** An agent with its socket in a folder of its own; both are gone at the end of the test. */
export async function startNode(t: TestContext): Promise<FakeNode> {
  const folder = await mkdtemp(join(tmpdir(), 'cli-'));
  const socketPath = join(folder, 'cilium.sock');
  const services = new FakeServices();
  const server = new RestServer({ socketPath, services, log: silentLogger });
  await server.start();
  t.after(async () => {
    await server.stop();
    await rm(folder, { recursive: true });
  });
  const runWith = (stdin: string, ...argv: string[]) => {
    return runCommand(argv, { env: { CILIUM_SOCK: socketPath }, stdin: Readable.from([Buffer.from(stdin)]) });
  };
  return { services, folder, runWith, run: (...argv) => runWith('', ...argv) };
}

/** Runs one command line and keeps what it writes. */
export async function runCommand(
  argv: readonly string[],
  { onOutput, ...io }: Partial<CliIo> & { onOutput?: () => void } = {},
): Promise<Result> {
  const stdout = collector(onOutput);
  const stderr = collector();
  const status = await runCli(argv, {
    stdout: stdout.stream,
    stderr: stderr.stream,
    stdin: Readable.from([]),
    env: {},
    isRoot: false,
    interrupted: new AbortController().signal,
    ...io,
  });
  return { stdout: stdout.text(), stderr: stderr.text(), status };
}

function collector(onWrite: () => void = () => undefined): { stream: Writable; text: () => string } {
  const chunks: Buffer[] = [];
  const stream = new Writable({
    write(chunk: Buffer, _encoding, done) {
      chunks.push(chunk);
      onWrite();
      done();
    },
  });
  return { stream, text: () => Buffer.concat(chunks).toString() };
}
