// SPDX-License-Identifier: Apache-2.0

/** Random worlds for the whole language: the same one for the engine and for the simulator. */
import fc from 'fast-check';
import { LabelSet } from '../../identity/label-set.ts';
import { reservedLabels, RESERVED_IDENTITIES, type ReservedName } from '../../identity/numeric-identity.ts';
import { ConformanceEngine, type Question } from './engine.ts';
import type { PeerSpec } from './case.ts';
import { GROUPS, NAMES, portNames, REQUESTS, wholeRuleSets } from './random-language.ts';
import { ADDRESSES, endpointLabels, enforcements, PACKETS } from './random-rules.ts';
import type { RuleText } from './rule-texts.ts';
import type { SimulatedRequest } from './simulated-requests.ts';
import type { SimulatedPacket, SimulatedPeer, Simulation } from './simulator.ts';

const ENTITIES: readonly ReservedName[] = ['remote-node', 'kube-apiserver', 'unmanaged', 'health', 'ingress'];

type Names = Readonly<Record<string, { readonly port: number; readonly protocol: string }>>;
interface Endpoint {
  readonly labels: readonly string[];
  readonly namedPorts: Names;
}

export interface LanguageSample {
  readonly ruleSet: readonly RuleText[];
  readonly endpoints: readonly (readonly [string[], Names])[];
  readonly enforcement: 'default' | 'always' | 'never';
  readonly allowLocalhost: 'always' | 'policy';
  readonly hostFirewall: boolean;
  readonly families: { readonly ipv4?: false; readonly ipv6?: false };
}

export const languageSamples: fc.Arbitrary<LanguageSample> = fc.record(
  {
    ruleSet: wholeRuleSets,
    endpoints: fc.array(fc.tuple(endpointLabels, portNames), { minLength: 1, maxLength: 3 }),
    enforcement: enforcements,
    allowLocalhost: fc.constantFrom('always', 'policy'),
    hostFirewall: fc.boolean(),
    families: fc.constantFrom<LanguageSample['families']>({}, {}, { ipv6: false }, { ipv4: false }),
  },
  { noNullPrototype: true },
);

/** A question to the engine, and the same one to the simulator. */
export interface LanguageCheck {
  readonly question: Question;
  readonly simulation: Simulation;
  readonly subject: readonly string[];
  readonly direction: 'ingress' | 'egress';
  readonly peer: SimulatedPeer;
  readonly packet: SimulatedPacket;
  readonly request?: SimulatedRequest;
}

export class LanguageWorld {
  readonly engine: ConformanceEngine;
  readonly #sample: LanguageSample;
  readonly #endpoints: ReadonlyMap<string, Endpoint>;
  readonly #peers: ReadonlyMap<string, SimulatedPeer>;

  constructor(sample: LanguageSample) {
    const { enforcement, allowLocalhost, hostFirewall, families } = sample;
    this.#sample = sample;
    this.#endpoints = new Map([
      ...sample.endpoints.map(([labels, namedPorts], index) => [`endpoint ${index}`, { labels, namedPorts }] as const),
      ['host', { labels: ['reserved:host', 'node:kind=gw'], namedPorts: {} }],
      ['node', { labels: ['reserved:remote-node', 'node:kind=gw'], namedPorts: {} }],
    ]);
    const addresses = ADDRESSES.filter((ip) => (ip.includes(':') ? families.ipv6 : families.ipv4) !== false);
    const peers: Record<string, PeerSpec> = {};
    for (const ip of addresses) peers[ip] = { ip };
    for (const entity of ENTITIES) peers[entity] = { entity };
    this.engine = new ConformanceEngine(
      { enforcement, peers, cidrGroups: GROUPS, dnsCache: NAMES, endpoints: Object.fromEntries(this.#endpoints) },
      { allowLocalhost, hostFirewall, ...families, nodeSelectorLabels: true },
    );
    this.engine.import(this.engine.parse(sample.ruleSet));
    this.#peers = new Map<string, SimulatedPeer>([
      ...addresses.map((address) => [address, { address }] as const),
      ...ENTITIES.map((name) => [name, { labels: reservedLabels(RESERVED_IDENTITIES[name])!.toTexts() }] as const),
      ...[...this.#endpoints].map(
        ([name, { labels }]) => [name, { labels: LabelSet.fromTexts(labels).toTexts() }] as const,
      ),
    ]);
  }

  /** Every packet and request between every endpoint and every peer. */
  *checks(): Generator<LanguageCheck> {
    for (const [name, { labels: subject }] of this.#endpoints) {
      for (const direction of ['ingress', 'egress'] as const) {
        const simulation = this.#simulationOf(name, direction);
        for (const [other, peer] of this.#peers) {
          const [from, to] = direction === 'egress' ? [name, other] : [other, name];
          const common = { simulation, subject, direction, peer };
          for (const packet of PACKETS) yield { ...common, packet, question: { from, to, direction, ...packet } };
          for (const { port, request } of REQUESTS) {
            const packet = { proto: 'dns' in request ? ('UDP' as const) : ('TCP' as const), port };
            yield { ...common, packet, request, question: { from, to, direction, ...packet, ...request } };
          }
        }
      }
    }
  }

  #simulationOf(name: string, direction: 'ingress' | 'egress'): Simulation {
    const { ruleSet, enforcement, allowLocalhost, hostFirewall, families } = this.#sample;
    const own = this.#endpoints.get(name)!.namedPorts;
    const all = Array.from(this.#endpoints.values(), ({ namedPorts }) => namedPorts);
    return {
      rules: ruleSet,
      enforcement,
      allowLocalhost: allowLocalhost === 'always',
      hostFirewall,
      singleStack: Object.keys(families).length > 0,
      groups: GROUPS,
      names: NAMES,
      namedPorts: resolver(direction === 'ingress' ? [own] : all),
    };
  }
}

/** What several endpoints call by the same name and number differently is nobody's. */
function resolver(sources: readonly Names[]): NonNullable<Simulation['namedPorts']> {
  return (name) => {
    const found = sources.flatMap((names) => names[name] ?? []);
    return found.filter(({ port, protocol }) =>
      found.every((other) => other.protocol !== protocol || other.port === port),
    );
  };
}
