// SPDX-License-Identifier: Apache-2.0

/** What tests say about a packet's fate. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { readObjectTypes } from '../../../datapath/btf/btf.ts';
import type { PolicyVerdictEvent } from '../../../datapath/events/records.ts';
import { ACTION, type Result } from './bed.ts';
import { dissect, type Dissected } from './dissect.ts';

/** enum drop_reason of the compiled object, as positive numbers. */
export function dropReasons(): ReadonlyMap<string, number> {
  const objects = process.env['BPF_OBJECTS'] ?? 'bpf-src/build';
  const reasons = readObjectTypes(readFileSync(`${objects}/bpf_lxc.o`)).enums.get('drop_reason');
  assert.ok(reasons);
  return new Map([...reasons].map(([name, value]) => [name, Math.abs(value | 0)]));
}

const numbers = dropReasons();
const names = new Map([...numbers].map(([name, value]) => [value, name]));

function reasonOf(result: Result): string {
  const { action, dropReason } = result;
  return dropReason === undefined ? `action ${action}` : (names.get(dropReason) ?? `drop ${dropReason}`);
}

/** Dropped for this reason (a name of enum drop_reason), with exactly one event that says so. */
export function assertDropped(result: Result, reason: string, message?: string): void {
  assert.equal(reasonOf(result), reason, message);
  assert.equal(result.action, ACTION.drop, message);
}

/** Dropped, and nobody is told. */
export function assertSilent(result: Result, message?: string): void {
  assert.deepEqual(result.events, [], message);
  assert.equal(result.action, ACTION.drop, message);
}

/** Sent on to device `ifindex`, whole and right. */
export function assertDelivered(result: Result, ifindex: number, message?: string): Dissected {
  assert.equal(reasonOf(result), `action ${ACTION.redirect}`, message);
  assert.equal(result.target, ifindex, message);
  const seen = dissect(result.packet);
  assert.ok(seen.checksumsRight, message ?? 'checksums');
  return seen;
}

/** Answered to where it came from, without a trace of delivery. */
export function assertAnswered(result: Result, message?: string): Dissected {
  assert.equal(reasonOf(result), `action ${ACTION.redirect}`, message);
  assert.ok(!result.events.some((event) => event.type === 'trace' && event.point !== 5 && event.point < 7), message);
  const seen = dissect(result.packet);
  assert.ok(seen.checksumsRight, message ?? 'checksums');
  return seen;
}

/** Left to the node's stack, unchanged. */
export function assertUntouched(result: Result, sent: Buffer, message?: string): void {
  assert.equal(reasonOf(result), `action ${ACTION.ok}`, message);
  assert.ok(result.packet.equals(sent), message ?? 'packet changed');
}

export function verdicts(result: Result): PolicyVerdictEvent[] {
  return result.events.filter((event) => event.type === 'policy-verdict');
}
