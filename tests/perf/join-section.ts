// SPDX-License-Identifier: Apache-2.0

/** The agent's part in a container's start, from its own log: first RequestAddress to the reply to Join. */
import { readFileSync } from 'node:fs';
import type { LabNode } from '../../lab/node.ts';

export interface JoinMeasurement {
  readonly containers: number;
  readonly network: string;
  readonly onProgress: (step: string) => void;
}

export interface JoinTimes {
  /** Milliseconds from the first RequestAddress to the reply to Join, Docker's work in between included; one a container. */
  readonly wall: readonly number[];
  /** Milliseconds that the agent worked on the calls in between; one a container. */
  readonly own: readonly number[];
}

/** A line of the agent's log about one call of Docker's. */
export interface DockerCall {
  readonly method: string;
  /** When it was answered: Unix time in milliseconds. */
  readonly answered: number;
  readonly durationMs: number;
}

/** Starts containers one after the other under an agent that logs every call; restarts the agent before and after. */
export async function measureJoins(node: LabNode, options: JoinMeasurement): Promise<JoinTimes> {
  const wall: number[] = [];
  const own: number[] = [];
  await node.stopAgent();
  await node.startAgent(['--log-level', 'debug', '--log-format', 'json']);
  for (let started = 0; started < options.containers; started++) {
    if (started % 10 === 0)
      options.onProgress(`first RequestAddress to Join: container ${started} of ${options.containers}`);
    const offset = readFileSync(node.agentLog, 'utf8').length;
    const id = await node.docker([
      'run',
      '-d',
      '--network',
      options.network,
      '-l',
      'bench=join',
      'busybox',
      'sleep',
      '2147483647',
    ]);
    const calls = dockerCalls(readFileSync(node.agentLog, 'utf8').slice(offset));
    const times = joinTimes(calls);
    wall.push(times.wall);
    own.push(times.own);
    await node.docker(['rm', '-f', id]);
  }
  await node.stopAgent();
  await node.startAgent();
  return { wall, own };
}

/** The calls among the lines of a log in JSON. */
export function dockerCalls(log: string): DockerCall[] {
  return log
    .split('\n')
    .filter((line) => line.includes('"Docker call"'))
    .map((line) => {
      const { time, method, durationMs } = JSON.parse(line) as { time: string; method: string; durationMs: number };
      return { method, answered: Date.parse(time), durationMs };
    });
}

/** Of one container's start; throws when the calls are not those of one. */
export function joinTimes(calls: readonly DockerCall[]): { wall: number; own: number } {
  const first = calls.findIndex(({ method }) => method === 'IpamDriver.RequestAddress');
  const join = calls.findIndex(({ method }) => method === 'NetworkDriver.Join');
  const [begin, end] = [calls[first], calls[join]];
  if (begin === undefined || end === undefined || join < first) {
    throw new Error(`expected RequestAddress … Join, got ${calls.map(({ method }) => method).join(', ') || 'nothing'}`);
  }
  return {
    wall: end.answered - (begin.answered - begin.durationMs),
    own: calls.slice(first, join + 1).reduce((sum, { durationMs }) => sum + durationMs, 0),
  };
}
