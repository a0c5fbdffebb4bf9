// SPDX-License-Identifier: Apache-2.0

/** The checks of the conformance cases, explained: same verdicts, and what is suggested for a denied one allows it. */
import { join } from 'node:path';
import { test } from 'node:test';
import assert from 'node:assert/strict';
import { parseLabel } from '../../identity/label.ts';
import { explainFlow, type DirectionExplanation, type FlowExplanation } from '../../policy/explain-flow.ts';
import { IP_PROTOCOL } from '../../policy/map-entry.ts';
import { tracePolicy } from '../../policy/trace.ts';
import type { FlowEnd } from '../../policy/why/flow-end.ts';
import type { EvaluateCase } from './case.ts';
import { loadCases } from './case-files.ts';
import { ConformanceEngine, type Question, type Side } from './engine.ts';

for (const { file, cases } of loadCases(join(import.meta.dirname, 'policy'))) {
  const evaluated = cases.filter((one) => one.kind === 'evaluate');
  if (evaluated.length > 0)
    test(`checks of ${file}, explained`, () => {
      for (const one of evaluated) explainCase(one);
    });
}

function explainCase(one: EvaluateCase): void {
  const engine = new ConformanceEngine(one, one.config);
  const { rules, resources = [] } = one;
  const written = rules === undefined ? [] : engine.parse(rules, { ignoreUnknown: true });
  engine.import([...written, ...engine.translate(resources)]);
  for (const check of one.checks) {
    for (const index of engine.sidesOf(check).keys()) explainSide(engine, check, index, `${one.id} ${one.name}`);
  }
}

function explainSide(engine: ConformanceEngine, check: Question, index: number, where: string): void {
  const now = (): Side => engine.sidesOf(check)[index]!;
  const side = now();
  const { explanation, found } = explain(engine, side);
  const expected = engine.packetVerdict(side);
  assert.equal(found.verdict, expected, where);
  assert.equal(found.map!.entry === undefined, found.cause === 'no-rule-allows', where);
  const protocol = (['TCP', 'UDP', 'SCTP'] as const).find((name) => IP_PROTOCOL[name] === side.packet.protocol);
  const { from, to } = explanation;
  if (protocol !== undefined && isAlone(engine, found.subject)) {
    const ports = [{ port: side.packet.port, protocol }];
    const trace = tracePolicy(engine.repository, { from: from.labels, to: to.labels, ports })[found.direction];
    assert.equal(trace.verdict, expected === 'denied' ? 'denied' : 'allowed', `${where}, traced`);
  }
  const { suggestion } = explanation;
  if (suggestion === undefined || suggestion.remove.length > 0) return;
  assert.deepEqual(suggestion.impossible, [], where);
  engine.import(engine.parse(suggestion.rules));
  assert.equal(engine.packetVerdict(now()), 'allowed', `${where}: ${JSON.stringify(suggestion.rules)}`);
  assert.equal(explain(engine, now()).explanation.verdict, 'allowed', where);
  engine.deleteByLabels([parseLabel(suggestion.label)]);
  assert.equal(engine.packetVerdict(now()), 'denied', where);
}

/** Labels alone do not tell which of several identities is meant, and so which names its ports have. */
function isAlone({ repository }: ConformanceEngine, { labels }: FlowEnd): boolean {
  return [...repository.view().peers.identities()].filter(([, other]) => other.equals(labels)).length === 1;
}

/** The side's policy alone: the other end counts as one that has none here. */
function explain(
  { repository }: ConformanceEngine,
  { subject, packet, peerAddress }: Side,
): { explanation: FlowExplanation; found: DirectionExplanation } {
  const labelsOf = (id: FlowEnd['identity']): FlowEnd['labels'] => repository.labelsOf(id)!;
  const peerId = packet.identity as FlowEnd['identity'];
  const own = { identity: subject, labels: labelsOf(subject), managed: true };
  const peer = {
    identity: peerId,
    labels: labelsOf(peerId),
    managed: false,
    ...(peerAddress && { address: peerAddress }),
  };
  const ends = packet.egress ? { from: own, to: peer } : { from: peer, to: own };
  const explanation = explainFlow(repository, { ...ends, protocol: packet.protocol, port: packet.port });
  return { explanation, found: packet.egress ? explanation.egress : explanation.ingress };
}
