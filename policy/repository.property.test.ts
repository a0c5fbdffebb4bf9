// SPDX-License-Identifier: Apache-2.0

/** The engine against the plain simulator. PROPERTY_RUNS sets how many rule sets are tried (default: 500). */
import { test } from 'node:test';
import assert from 'node:assert/strict';
import fc from 'fast-check';
import { LabelSet } from '../identity/label-set.ts';
import { reservedLabels, RESERVED_IDENTITIES, type ReservedName } from '../identity/numeric-identity.ts';
import { ConformanceEngine } from '../tests/conformance/engine.ts';
import { ADDRESSES, endpointLabels, enforcements, PACKETS, rules } from '../tests/conformance/random-rules.ts';
import { simulate, type SimulatedPeer, type Simulation } from '../tests/conformance/simulator.ts';

const RUNS = Number(process.env['PROPERTY_RUNS'] ?? 500);
const ENTITIES: readonly ReservedName[] = ['host', 'remote-node', 'kube-apiserver', 'unmanaged'];

const worlds = fc.record(
  {
    ruleSet: fc.array(rules, { maxLength: 6, size: 'max' }),
    endpoints: fc.uniqueArray(endpointLabels, {
      minLength: 1,
      maxLength: 4,
      selector: (labels) => LabelSet.fromTexts(labels).toString(),
    }),
    enforcement: enforcements,
    allowLocalhost: fc.constantFrom<'always' | 'policy'>('always', 'policy'),
    webPort: fc.constantFrom(80, 8080),
  },
  { noNullPrototype: true },
);

test('every packet is judged as the simulator judges it', () => {
  fc.assert(
    fc.property(worlds, ({ ruleSet, endpoints, enforcement, allowLocalhost, webPort }) => {
      const namedPorts = { web: { port: webPort, protocol: 'TCP' } };
      const peers = {
        ...Object.fromEntries(ADDRESSES.map((ip) => [ip, { ip }])),
        ...Object.fromEntries(ENTITIES.map((entity) => [entity, { entity }])),
      };
      const named = endpoints.map((labels, index) => [`endpoint ${index}`, labels] as const);
      const engine = new ConformanceEngine(
        {
          enforcement,
          peers,
          endpoints: Object.fromEntries(named.map(([name, labels]) => [name, { labels, namedPorts }])),
        },
        { allowLocalhost, dialect: '1.1' },
      );
      engine.repository.import(engine.parse(ruleSet));

      const simulation: Simulation = {
        rules: ruleSet,
        enforcement,
        allowLocalhost: allowLocalhost === 'always',
        namedPorts: () => [namedPorts.web],
      };
      const others: (readonly [string, SimulatedPeer])[] = [
        ...ADDRESSES.map((address) => [address, { address }] as const),
        ...ENTITIES.map((name) => [name, { labels: reservedLabels(RESERVED_IDENTITIES[name])!.toTexts() }] as const),
        ...named.map(([name, labels]) => [name, { labels }] as const),
      ];
      for (const [subject, labels] of named) {
        for (const [name, peer] of others) {
          for (const packet of PACKETS) {
            for (const direction of ['ingress', 'egress'] as const) {
              const [from, to] = direction === 'egress' ? [subject, name] : [name, subject];
              const check = { from, to, direction, proto: packet.proto, port: packet.port };
              const expected = simulate(simulation, labels, direction, peer, packet);
              if (engine.verdict(check) === expected) continue;
              assert.fail(`${labels.join()} ${JSON.stringify(check)}: the simulator says ${expected}`);
            }
          }
        }
      }
    }),
    { numRuns: RUNS },
  );
});
