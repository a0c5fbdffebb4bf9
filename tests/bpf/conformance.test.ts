// SPDX-License-Identifier: Apache-2.0

/**
 * The engine and the kernel agree: every packet of the conformance cases runs through the compiled programs, with the
 * policy maps that the engine makes and, for peers outside, their identity from the ipcache map.
 *
 * CONFORMANCE_DIR names another folder of cases.
 */
import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import fc from 'fast-check';
import type { IpFamily } from '../../net/ip.ts';
import { IP_PROTOCOL, type PolicyEntry } from '../../policy/map-entry.ts';
import type { PolicyPacket } from '../../policy/lookup.ts';
import type { CaseFile, EvaluateCase } from '../conformance/case.ts';
import { ConformanceEngine, type Question, type Side } from '../conformance/engine.ts';
import { endpointLabels, PACKETS, rules } from '../conformance/random-rules.ts';
import { rulesOf } from '../conformance/runner.ts';
import { dropReasons, verdicts } from './support/assert.ts';
import { Bed, ends, prefixOf, type Result, WORLD } from './support/bed.ts';
import { inNamespace } from './support/namespace.ts';
import { icmp, packet, sctp, tcp, TCP, type Transport, udp } from './support/packet.ts';

const FOLDER = process.env['CONFORMANCE_DIR'] ?? join(import.meta.dirname, '../conformance/policy');
/** Requirements on peers are of this dialect; the random rules have some. */
const LANGUAGE = { dialect: '1.1' } as const;
const RUNS = Number(process.env['PROPERTY_RUNS'] ?? 15);
const PROXY_MISSING = -dropReasons().get('DROP_PROXY_LOOKUP_FAILED')!;

inNamespace(import.meta.filename, () => {
  const bed = new Bed();
  for (const name of readdirSync(FOLDER).filter((file) => file.endsWith('.json'))) {
    const { cases } = JSON.parse(readFileSync(join(FOLDER, name), 'utf8')) as CaseFile;
    const evaluated = cases.filter((one) => one.kind === 'evaluate');
    if (evaluated.length === 0) continue;
    test(`privileged: the kernel judges the packets of ${name} as the engine does`, () => {
      for (const one of evaluated) judgeCase(bed, one);
    });
  }

  test('privileged: the kernel judges packets by random rules as the engine does', () => {
    const peers = { near: { ip: '10.1.1.1' }, far: { ip: '2001:db8::1' }, host: { entity: 'host' } };
    const worlds = fc.tuple(
      fc.array(rules, { minLength: 1, maxLength: 6, size: 'max' }),
      endpointLabels,
      endpointLabels,
    );
    fc.assert(
      fc.property(worlds, ([ruleSet, own, other]) => {
        const engine = new ConformanceEngine(
          { endpoints: { own: { labels: own }, other: { labels: other } }, peers },
          LANGUAGE,
        );
        engine.import(engine.parse(ruleSet));
        const names = ['other', ...Object.keys(peers)];
        for (const { proto, port } of PACKETS) {
          for (const name of names) {
            judge(bed, engine, { from: 'own', to: name, direction: 'egress', proto, port });
            judge(bed, engine, { from: name, to: 'own', direction: 'ingress', proto, port });
          }
        }
      }),
      { numRuns: RUNS },
    );
  });
});

function judgeCase(bed: Bed, one: EvaluateCase): void {
  const engine = new ConformanceEngine(one, one.config);
  engine.import(rulesOf(engine, one));
  for (const check of one.checks) judge(bed, engine, check, one.id);
}

function judge(bed: Bed, engine: ConformanceEngine, check: Question, id = 'random rules'): void {
  for (const side of engine.sidesOf(check)) {
    if (isIcmpError(side.packet) || isImpossible(side)) continue;
    bed.flush();
    const found = kernelVerdict(bed, side, engine.entriesOf(side.subject));
    assert.equal(found, engine.packetVerdict(side), `${id} ${JSON.stringify(check)}`);
  }
}

/** The kernel judges an error with the flow that it is about, and drops one about no flow whatever the policy says. */
function isIcmpError({ protocol, port }: PolicyPacket): boolean {
  if (protocol === IP_PROTOCOL.ICMP) return [3, 4, 5, 11, 12].includes(port);
  return protocol === IP_PROTOCOL.ICMPv6 && port < 128;
}

/** ICMP of one family to an address of the other. */
function isImpossible({ packet: { protocol }, peerAddress }: Side): boolean {
  const other = peerAddress?.family === 6 ? IP_PROTOCOL.ICMP : IP_PROTOCOL.ICMPv6;
  return peerAddress !== undefined && protocol === other;
}

/** Endpoint B has the policy; endpoint A or the outside is the peer. */
function kernelVerdict(bed: Bed, side: Side, entries: readonly PolicyEntry[]): 'allowed' | 'denied' | 'redirect' {
  const { a, b } = bed;
  const { subject, packet: sent, peerAddress } = side;
  const family: IpFamily = peerAddress?.family ?? (sent.protocol === IP_PROTOCOL.ICMPv6 ? 6 : 4);
  bed.policy(b, entries);
  bed.setEndpoint(b, { identity: subject });
  const outside = peerAddress !== undefined;
  if (outside) bed.ipcache.update(prefixOf(WORLD[family]), { identity: sent.identity });
  else bed.setEndpoint(a, { identity: sent.identity });
  const peer = outside ? WORLD : a;
  const [from, to] = sent.egress ? [b, peer] : [peer, b];
  const frame = packet(ends(from, to, family), transportOf(sent, family));
  const result = sent.egress ? bed.send(b, frame) : outside ? bed.fromOutside(frame) : bed.send(a, frame);
  return verdictOf(result, sent);
}

function verdictOf(result: Result, { egress, identity }: PolicyPacket): 'allowed' | 'denied' | 'redirect' {
  const event = verdicts(result).find((verdict) => verdict.egress === egress);
  assert.ok(event, `no verdict, but action ${result.action}, drop ${result.dropReason}`);
  assert.equal(event.remoteIdentity, identity);
  if (event.verdict === PROXY_MISSING) return 'redirect';
  return event.verdict < 0 ? 'denied' : 'allowed';
}

function transportOf({ protocol, port }: PolicyPacket, family: IpFamily): Transport {
  const sport = 33_000;
  switch (protocol) {
    case IP_PROTOCOL.TCP:
      return tcp(sport, port, TCP.syn);
    case IP_PROTOCOL.UDP:
      return udp(sport, port);
    case IP_PROTOCOL.SCTP:
      return sctp(sport, port);
    default:
      return icmp(family, port, 0, Buffer.alloc(16, 1));
  }
}
