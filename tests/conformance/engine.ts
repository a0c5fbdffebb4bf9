// SPDX-License-Identifier: Apache-2.0

/** The world of a case, built on the project's policy engine. */
import { LabelSet } from '../../identity/label-set.ts';
import {
  DUAL_STACK,
  LOCAL_IDENTITY_MIN,
  numericIdentity,
  RESERVED_IDENTITIES,
  worldName,
  type Families,
  type NumericIdentity,
  type ReservedName,
} from '../../identity/numeric-identity.ts';
import { IpAddress, type Prefix } from '../../net/ip.ts';
import { PrefixTrie } from '../../net/prefix-trie.ts';
import { WHOLE_LANGUAGE, type Language } from '../../policy/language.ts';
import { lookupEntry } from '../../policy/lookup.ts';
import { IP_PROTOCOL } from '../../policy/map-entry.ts';
import { parseRules } from '../../policy/parse/rule.ts';
import { PolicyRepository } from '../../policy/repository.ts';
import type { Rule } from '../../policy/rule.ts';
import type { CaseConfig, Check, Verdict, World } from './case.ts';

const SEVERITY: readonly Verdict[] = ['denied', 'l7-denied', 'redirect', 'allowed'];

export function languageOf(config: CaseConfig = {}): Language {
  return {
    ...WHOLE_LANGUAGE,
    nodes: config.nodeSelectorLabels ?? false,
    extendedProtocols: config.extendedIPProtocols ?? false,
    requires: config.dialect === '1.1',
  };
}

export class ConformanceEngine {
  readonly repository: PolicyRepository;
  readonly #config: CaseConfig;
  readonly #families: Families;
  readonly #identities = new Map<string, NumericIdentity>();
  readonly #prefixes = new PrefixTrie<NumericIdentity>();
  readonly #world: World;

  constructor(world: World, config: CaseConfig = {}) {
    this.#world = world;
    this.#config = config;
    this.#families = { ipv4: config.ipv4 ?? DUAL_STACK.ipv4, ipv6: config.ipv6 ?? DUAL_STACK.ipv6 };
    let lastLocal = LOCAL_IDENTITY_MIN;
    this.repository = new PolicyRepository({
      enforcement: world.enforcement ?? 'default',
      allowLocalhost: config.allowLocalhost ?? 'policy',
      hostFirewall: config.hostFirewall ?? false,
      clusterName: config.clusterName ?? 'default',
      families: this.#families,
      cidrIdentities: {
        acquire: (prefix: Prefix) => {
          const identity = numericIdentity(lastLocal++);
          this.#prefixes.set(prefix, identity);
          return identity;
        },
        release: (prefix: Prefix) => void this.#prefixes.delete(prefix),
      },
    });
    this.#addEndpoints();
  }

  parse(rules: unknown): Rule[] {
    return parseRules(rules, { language: languageOf(this.#config) });
  }

  verdict(check: Omit<Check, 'verdict'>): Verdict {
    const verdicts: Verdict[] = [];
    if (check.direction !== 'ingress') verdicts.push(this.#judge(check, check.from, check.to, true));
    if (check.direction !== 'egress') verdicts.push(this.#judge(check, check.to, check.from, false));
    return SEVERITY.find((verdict) => verdicts.includes(verdict))!;
  }

  #judge(check: Omit<Check, 'verdict'>, subject: string, peer: string, egress: boolean): Verdict {
    const entry = lookupEntry(this.repository.entries(this.#identityOf(subject)), {
      identity: this.#identityOf(peer),
      egress,
      protocol: IP_PROTOCOL[check.proto],
      port: check.port ?? check.icmpType ?? 0,
    });
    if (entry === undefined || entry.deny) return 'denied';
    return entry.proxyPort === 0 ? 'allowed' : 'redirect';
  }

  #addEndpoints(): void {
    const byLabels = new Map<string, NumericIdentity>();
    for (const [name, { labels, namedPorts }] of Object.entries(this.#world.endpoints ?? {})) {
      const set = LabelSet.fromTexts(labels);
      const known = set.has('reserved', 'host') ? RESERVED_IDENTITIES.host : byLabels.get(set.toString());
      const identity = known ?? numericIdentity(256 + byLabels.size);
      byLabels.set(set.toString(), identity);
      this.#identities.set(name, identity);
      this.repository.addIdentity(identity, set);
      this.repository.addSubject(identity);
      const ports = Object.entries(namedPorts ?? {}).map(
        ([port, { port: number, protocol }]) =>
          [port, { port: number, protocol: IP_PROTOCOL[protocol as 'TCP'] }] as const,
      );
      if (ports.length > 0) this.repository.setNamedPorts(identity, new Map(ports));
    }
  }

  #identityOf(name: string): NumericIdentity {
    const identity = this.#identities.get(name);
    if (identity !== undefined) return identity;
    const peer = this.#world.peers?.[name];
    if (peer === undefined) throw new Error(`the case has no endpoint or peer "${name}"`);
    if ('entity' in peer) return RESERVED_IDENTITIES[peer.entity as ReservedName];
    const address = IpAddress.parse(peer.ip);
    return this.#prefixes.longest(address) ?? RESERVED_IDENTITIES[worldName(address.family, this.#families)];
  }
}
