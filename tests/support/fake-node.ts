// SPDX-License-Identifier: Apache-2.0

/** Runs command lines in this process, against a real API server with the services of a fake agent. */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Readable, Writable } from 'node:stream';
import type { TestContext } from 'node:test';
import { FakeServices } from '../../agent/rest/fake/fake-services.ts';
import { fakeHealth, type FakeHealth } from '../../agent/rest/fake/fake-health.ts';
import { healthApi } from '../../agent/rest/health-routes.ts';
import { agentApi } from '../../agent/rest/routes.ts';
import { RestServer } from '../../agent/rest/server.ts';
import { healthSocketBeside } from '../../api/paths.ts';
import { silentLogger } from '../../runtime/logger.ts';
import type { CliIo } from '../../cli/context.ts';
import { CILIUM_HEALTH } from '../../cli/health-program.ts';
import { CILIUM, runCli, type Program } from '../../cli/program.ts';

export interface Result {
  readonly stdout: string;
  readonly stderr: string;
  readonly status: number;
}

export interface FakeNode {
  readonly services: FakeServices;
  readonly health: FakeHealth;
  readonly folder: string;
  readonly run: (...argv: string[]) => Promise<Result>;
  /** The `cilium-health` command. */
  readonly runHealth: (...argv: string[]) => Promise<Result>;
  /** With something on standard input. */
  readonly runWith: (stdin: string, ...argv: string[]) => Promise<Result>;
}

/** An agent with its socket in a folder of its own; both are gone at the end of the test. */
export async function startNode(t: TestContext): Promise<FakeNode> {
  const folder = await mkdtemp(join(tmpdir(), 'cli-'));
  const socketPath = join(folder, 'cilium.sock');
  const services = new FakeServices();
  const health = fakeHealth();
  const servers = [
    new RestServer({ socketPath, api: agentApi(services), log: silentLogger }),
    new RestServer({ socketPath: healthSocketBeside(socketPath), api: healthApi(health), log: silentLogger }),
  ];
  for (const server of servers) await server.start();
  t.after(async () => {
    for (const server of servers) await server.stop();
    await rm(folder, { recursive: true });
  });
  const runWith = (stdin: string, ...argv: string[]) => {
    return runCommand(argv, { env: { CILIUM_SOCK: socketPath }, stdin: Readable.from([Buffer.from(stdin)]) });
  };
  const runHealth = (...argv: string[]) => {
    return runCommand(argv, { env: { CILIUM_SOCK: socketPath }, program: CILIUM_HEALTH });
  };
  return { services, health, runHealth, folder, runWith, run: (...argv) => runWith('', ...argv) };
}

/** Runs one command line and keeps what it writes. */
export async function runCommand(
  argv: readonly string[],
  { onOutput, program = CILIUM, ...io }: Partial<CliIo> & { onOutput?: () => void; program?: Program } = {},
): Promise<Result> {
  const stdout = collector(onOutput);
  const stderr = collector();
  const world: CliIo = {
    stdout: stdout.stream,
    stderr: stderr.stream,
    stdin: Readable.from([]),
    env: {},
    isRoot: false,
    interrupted: new AbortController().signal,
    ...io,
  };
  const status = await runCli(argv, world, program);
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
