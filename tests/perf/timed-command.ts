// SPDX-License-Identifier: Apache-2.0

/** A `cilium` command with the moments that count: when it began, when it asked the agent, when it was in force and at its end. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import type { Readable } from 'node:stream';
import { text } from 'node:stream/consumers';
import { HOME, type LabNode } from '../../lab/node.ts';
import { cpuNsOf } from './agent-section.ts';
import { monotonicMs } from './monotonic.ts';

/**
 * Preloaded into the command: tells on descriptor 3 when its first request went to the agent and when it ended. Plain
 * JavaScript without a file, since loading it is part of what is measured.
 */
const CLOCK = `
  const now = () => Number(process.hrtime.bigint()) / 1e6;
  let sent;
  process.getBuiltinModule('diagnostics_channel').subscribe('http.client.request.start', () => { sent ??= now(); });
  process.on('exit', () => {
    process.getBuiltinModule('fs').writeSync(3, JSON.stringify({ sent, ended: now() }));
  });
`;

/** All in milliseconds. */
export interface CommandTimes {
  /** From the start of the process to its end. */
  readonly whole: number;
  /** From its start to its first request: start-up, and reading what it was given. */
  readonly untilSent: number;
  /** From its start, and from the request, until it was in force. */
  readonly untilInForce: number;
  readonly sentToInForce: number;
  /** What the agent needed of all CPUs. */
  readonly agentCpu: number;
}

/** Runs the command; `inForce` blocks until what it asks for is in force, and answers when that was. */
export async function timedCommand(
  node: LabNode,
  args: readonly string[],
  inForce: () => number,
): Promise<CommandTimes> {
  const cpuBefore = cpuNsOf(node.agentPid!);
  const begun = monotonicMs();
  const child = spawn(join(HOME, 'bin/cilium'), ['-H', `unix://${node.agentSocket}`, ...args], {
    stdio: ['ignore', 'ignore', 'pipe', 'pipe'],
    env: { ...process.env, NODE_OPTIONS: `--import=data:text/javascript,${encodeURIComponent(CLOCK)}` },
  });
  const exit = once(child, 'exit');
  const outputs = Promise.all([text(child.stderr!), text(child.stdio[3] as Readable)]);
  const enforced = inForce();
  const [status] = (await exit) as [number];
  const [errors, clock] = await outputs;
  if (status !== 0) throw new Error(`cilium ${args.join(' ')}: ${errors}`);
  const { sent, ended } = JSON.parse(clock) as { sent: number; ended: number };
  return {
    whole: ended - begun,
    untilSent: sent - begun,
    untilInForce: enforced - begun,
    sentToInForce: enforced - sent,
    agentCpu: (cpuNsOf(node.agentPid!) - cpuBefore) / 1e6,
  };
}
