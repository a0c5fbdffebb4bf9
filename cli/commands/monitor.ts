// SPDX-License-Identifier: Apache-2.0

/** `cilium monitor`: what the datapath decides and what the agent does, as it happens, until Ctrl-C. */
import { once } from 'node:events';
import type { IncomingMessage } from 'node:http';
import { setTimeout as sleep } from 'node:timers/promises';
import { InvalidArgumentError, type Command } from 'commander';
import type { CiliumClient } from '../../api/client.ts';
import { FRAME_KINDS, FrameReader } from '../../api/monitor-frames.ts';
import { decodeEvent } from '../../datapath/events/records.ts';
import { isCiliumError } from '../../errors/cilium-error.ts';
import type { Context } from '../context.ts';
import { InterfaceNames } from '../interface-names.ts';
import { eventFilter, EVENT_TYPES, type EventType, type FilterOptions } from '../monitor-filter.ts';
import { eventJson, eventText, type EventStyle } from '../output/event-text.ts';
import { printable } from '../output/printable.ts';

interface MonitorOptions extends FilterOptions {
  readonly verbose: number;
  readonly json?: boolean;
  readonly hex?: boolean;
  readonly numeric?: boolean;
}

/** How long after the agent went the next attempt to reach it is made. */
const RECONNECT_MS = 1000;

export function register(program: Command, context: Context): void {
  const ids = 'number of an endpoint; may be given several times';
  program
    .command('monitor')
    .description('Show drops, traces, policy verdicts and what the agent does, as they happen')
    .option('-t, --type <type>', `${EVENT_TYPES.join(', ')}; may be given several times`, addType, [])
    .option('--from <id>', `events of packets from this endpoint: ${ids}`, addId, [])
    .option('--to <id>', `events of packets to this endpoint: ${ids}`, addId, [])
    .option('--related-to <id>', `either of the two: ${ids}`, addId, [])
    .option('-v, --verbose', 'twice (-vv): with the headers of the packet', (_, count: number) => count + 1, 0)
    .option('-j, --json', 'one JSON object a line')
    .option('--hex', 'with -vv: the bytes of the packet instead of its headers')
    .option('-n, --numeric', 'reserved identities as numbers too')
    .action((options: MonitorOptions) => monitor(context, options));
}

async function monitor(context: Context, options: MonitorOptions): Promise<void> {
  const { interrupted } = context.io;
  const client = context.client();
  const render = renderer(options);
  let stream = await client.monitor(interrupted);
  context.io.stderr.write(await banner(client));
  for (;;) {
    await show(stream, render, context).catch((error: unknown) => {
      if (!isDisconnect(error)) throw error;
    });
    if (interrupted.aborted) break;
    context.warn('connection closed');
    const next = await reconnect(client, interrupted);
    if (next === undefined) break;
    stream = next;
  }
  context.warn('\nReceived an interrupt, disconnecting from monitor...\n');
}

async function banner(client: CiliumClient): Promise<string> {
  const { nodeMonitor } = await client.status();
  const ring =
    nodeMonitor && `${nodeMonitor.cpus} CPUs with ${nodeMonitor.npages}x${nodeMonitor.pagesize} of shared memory`;
  return `${ring === undefined ? '' : `Listening for events on ${ring}\n`}Press Ctrl-C to quit\n`;
}

/** Writes what arrives, a write for each piece of the stream, and not faster than it is taken. */
async function show(stream: IncomingMessage, render: Renderer, context: Context): Promise<void> {
  let text = '';
  const frames = new FrameReader((kind, payload) => {
    const lines = render(kind, payload);
    if (lines !== undefined) text += `${lines}\n`;
  });
  for await (const chunk of stream) {
    frames.push(chunk as Buffer);
    if (text !== '' && !context.io.stdout.write(printable(text))) await once(context.io.stdout, 'drain');
    text = '';
  }
}

/** Tries until the agent is there again; undefined when interrupted. */
async function reconnect(client: CiliumClient, interrupted: AbortSignal): Promise<IncomingMessage | undefined> {
  for (;;) {
    try {
      await sleep(RECONNECT_MS, undefined, { signal: interrupted });
      return await client.monitor(interrupted);
    } catch (error) {
      if (interrupted.aborted) return undefined;
      if (!isCiliumError(error, 'AgentUnavailable')) throw error;
    }
  }
}

/** The stream broke off: the agent ended, or we hung up. */
function isDisconnect(error: unknown): boolean {
  const code = error instanceof Error && 'code' in error ? error.code : undefined;
  return code === 'ECONNRESET' || code === 'ABORT_ERR';
}

/** Lines for a frame, undefined when it is not to be shown. */
type Renderer = (kind: number, payload: Buffer) => string | undefined;

function renderer(options: MonitorOptions): Renderer {
  const passes = eventFilter(options);
  const style: EventStyle = {
    numeric: options.numeric === true,
    dissect: options.verbose > 1,
    hex: options.hex === true,
    interfaceName: new InterfaceNames().name,
  };
  return (kind, payload) => {
    if (kind === FRAME_KINDS.record) {
      const event = decodeEvent(payload);
      if (event === undefined) return `Unknown event: ${payload.toString('hex')}`;
      if (!passes(event)) return undefined;
      return options.json === true ? eventJson(event, style) : eventText(event, style);
    }
    if (kind === FRAME_KINDS.agent) return passes({ type: 'agent' }) ? agentText(payload, options) : undefined;
    if (kind === FRAME_KINDS.lost) return lostText(Number(payload.readBigUInt64LE()), options);
    return `Unknown payload type: ${kind}`;
  };
}

function agentText(payload: Buffer, { json }: MonitorOptions): string {
  const { type, message } = JSON.parse(payload.toString()) as { type: string; message: unknown };
  if (json === true) return JSON.stringify({ type: 'agent', subtype: type, message });
  return `>> ${type}: ${JSON.stringify(message)}`;
}

function lostText(count: number, { json }: MonitorOptions): string {
  return json === true ? JSON.stringify({ type: 'lost', count }) : `Lost ${count} events`;
}

function addType(text: string, types: readonly EventType[]): EventType[] {
  const added = text.split(',').map((name) => EVENT_TYPES.find((type) => type === name));
  if (added.includes(undefined)) throw new InvalidArgumentError(`Known types: ${EVENT_TYPES.join(', ')}.`);
  return [...types, ...(added as EventType[])];
}

function addId(text: string, ids: readonly number[]): number[] {
  if (!/^[1-9][0-9]{0,4}$/.test(text)) throw new InvalidArgumentError('Expected the number of an endpoint.');
  return [...ids, Number(text)];
}
