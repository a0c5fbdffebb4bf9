// SPDX-License-Identifier: Apache-2.0

/** Random worlds of endpoints and rules in a repository, for the properties of explanations and simulations. */
import fc from 'fast-check';
import { LabelSet } from '../../identity/label-set.ts';
import {
  LOCAL_IDENTITY_MIN,
  numericIdentity,
  RESERVED_IDENTITIES,
  worldName,
  DUAL_STACK,
  type NumericIdentity,
  type ReservedName,
} from '../../identity/numeric-identity.ts';
import { IpAddress, Prefix } from '../../net/ip.ts';
import { PrefixTrie } from '../../net/prefix-trie.ts';
import { WHOLE_LANGUAGE } from '../../policy/language.ts';
import { lookupEntry } from '../../policy/lookup.ts';
import { IP_PROTOCOL, type PolicyEntry } from '../../policy/map-entry.ts';
import type { CidrGroup } from '../../policy/peer-selectors.ts';
import { parseRules } from '../../policy/parse/rule.ts';
import { PolicyRepository } from '../../policy/repository.ts';
import type { Direction, Rule } from '../../policy/rule.ts';
import { ADDRESSES, endpointLabels, enforcements, PACKETS, rules } from './random-rules.ts';
import type { PortText, RuleText } from './simulator.ts';

export interface RandomWorld {
  readonly ruleSet: readonly RuleText[];
  readonly endpoints: readonly string[][];
  readonly enforcement: 'default' | 'always' | 'never';
  readonly allowLocalhost: 'always' | 'policy';
  readonly webPort: number;
  /** Redirects lead nowhere. */
  readonly dropsRedirects: boolean;
}

export const randomWorlds: fc.Arbitrary<RandomWorld> = fc.record(
  {
    ruleSet: fc.array(rules, { maxLength: 6, size: 'max' }),
    endpoints: fc.uniqueArray(endpointLabels, {
      minLength: 2,
      maxLength: 4,
      selector: (labels) => LabelSet.fromTexts(labels).toString(),
    }),
    enforcement: enforcements,
    allowLocalhost: fc.constantFrom<'always' | 'policy'>('always', 'policy'),
    webPort: fc.constantFrom(80, 8080),
    dropsRedirects: fc.boolean(),
  },
  { noNullPrototype: true },
);

export const SAMPLE_PACKETS = PACKETS.map(({ proto, port }) => ({ protocol: IP_PROTOCOL[proto], port }));

const ENTITIES: readonly ReservedName[] = ['host', 'remote-node', 'kube-apiserver', 'unmanaged'];

/** Somebody to talk to: by identity, or outside by address. */
export type WorldPeer = { readonly identity: NumericIdentity } | { readonly address: IpAddress };

export type WorldVerdict = 'allowed' | 'denied' | 'redirect';

/** A repository with everything known, and the addresses of prefixes. */
export class BuiltWorld {
  readonly repository: PolicyRepository;
  readonly subjects: readonly NumericIdentity[];
  readonly peers: readonly WorldPeer[];
  readonly #prefixes = new PrefixTrie<NumericIdentity>();
  readonly #maps = new Map<string, readonly PolicyEntry[]>();
  #lastLocal = LOCAL_IDENTITY_MIN;

  constructor({ endpoints, enforcement, allowLocalhost, webPort, dropsRedirects }: Omit<RandomWorld, 'ruleSet'>) {
    this.repository = new PolicyRepository({
      enforcement,
      allowLocalhost,
      dropsRedirects,
      proxyPort: ({ priority }) => 10_000 + priority,
      cidrIdentities: {
        acquire: (prefix: Prefix) => {
          const identity = numericIdentity(this.#lastLocal++);
          this.#prefixes.set(prefix, identity);
          return identity;
        },
        release: (prefix: Prefix) => void this.#prefixes.delete(prefix),
      },
    });
    this.repository.setCidrGroup(RANDOM_GROUP, groupOf('192.0.2.0/24'));
    const ids: NumericIdentity[] = [];
    for (const [index, texts] of endpoints.entries()) {
      const labels = LabelSet.fromTexts(texts);
      const id = labels.has('reserved', 'init') ? RESERVED_IDENTITIES.init : numericIdentity(256 + index);
      this.repository.addIdentity(id, labels);
      this.repository.addSubject(id);
      this.repository.setNamedPorts(id, new Map([['web', { protocol: IP_PROTOCOL.TCP, port: webPort }]]));
      ids.push(id);
    }
    this.subjects = ids;
    this.peers = [
      ...ids.map((identity) => ({ identity })),
      ...ENTITIES.map((name) => ({ identity: RESERVED_IDENTITIES[name] })),
      ...ADDRESSES.map((address) => ({ address: IpAddress.parse(address) })),
    ];
  }

  identityOf(peer: WorldPeer): NumericIdentity {
    if ('identity' in peer) return peer.identity;
    const { address } = peer;
    return this.#prefixes.longest(address) ?? RESERVED_IDENTITIES[worldName(address.family, DUAL_STACK)];
  }

  /** What the kernel does, by the policy map. */
  verdict(
    subject: NumericIdentity,
    direction: Direction,
    peer: WorldPeer,
    packet: { readonly protocol: number; readonly port: number },
  ): WorldVerdict {
    const key = `${this.repository.revision} ${subject}`;
    const entries = this.#maps.get(key) ?? [...this.repository.entries(subject)];
    this.#maps.set(key, entries);
    const entry = lookupEntry(entries, { ...packet, identity: this.identityOf(peer), egress: direction === 'egress' });
    if (entry === undefined || entry.deny) return 'denied';
    return entry.proxyPort === 0 ? 'allowed' : 'redirect';
  }
}

/** Some ports get L7 rules, some prefixes are written as a group. */
export function parseRandom(ruleSet: readonly object[]): Rule[] {
  const varied = ruleSet.map((rule) =>
    Object.fromEntries(
      Object.entries(rule).map(([member, value]) => {
        const text = JSON.stringify(value).replaceAll('{"cidr":"192.0.2.0/24"}', `{"cidrGroupRef":"${RANDOM_GROUP}"}`);
        const allows = member === 'ingress' || member === 'egress';
        const list: unknown = JSON.parse(text, (key, item: unknown) =>
          allows && key === 'toPorts' ? withL7(item) : item,
        );
        return [member, list];
      }),
    ),
  );
  return parseRules(varied, { language: { ...WHOLE_LANGUAGE, requires: true } });
}

/** Those that begin with one of these ports. */
const L7_PORTS = ['3', '7', '80'];

function withL7(list: unknown): unknown {
  return (list as { ports: PortText[] }[]).map(({ ports }) =>
    L7_PORTS.includes(ports[0]?.port ?? '')
      ? { ports: [{ ...ports[0], protocol: 'TCP' }], rules: { http: [{}] } }
      : { ports },
  );
}

/** The CIDR group that random rules name. */
export const RANDOM_GROUP = 'group';

export function groupOf(...prefixes: readonly string[]): CidrGroup {
  return { labels: LabelSet.EMPTY, prefixes: prefixes.map((prefix) => Prefix.parse(prefix)) };
}
