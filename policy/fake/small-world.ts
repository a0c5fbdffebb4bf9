// SPDX-License-Identifier: Apache-2.0

/** A node with a few endpoints and prefixes, to ask why. */
import { LabelSet } from '../../identity/label-set.ts';
import {
  LOCAL_IDENTITY_MIN,
  numericIdentity,
  RESERVED_IDENTITIES,
  type NumericIdentity,
  type ReservedName,
} from '../../identity/numeric-identity.ts';
import { IpAddress, Prefix } from '../../net/ip.ts';
import { PrefixTrie } from '../../net/prefix-trie.ts';
import { explainFlow, type FlowExplanation } from '../explain-flow.ts';
import { WHOLE_LANGUAGE } from '../language.ts';
import { IP_PROTOCOL } from '../map-entry.ts';
import { parseRules } from '../parse/rule.ts';
import { PolicyRepository, type PolicyRepositoryOptions } from '../repository.ts';
import type { Rule } from '../rule.ts';
import type { FlowEnd } from '../why/flow-end.ts';

const ENDPOINTS = {
  web: ['container:app=web', 'container:tier=front'],
  cart: ['container:app=cart', 'container:tier=back'],
  admin: ['container:app=admin', 'container:tier=back', 'container:env=prod'],
} as const;

export type EndpointName = keyof typeof ENDPOINTS;

export class SmallWorld {
  readonly repository: PolicyRepository;
  readonly ids = {} as Record<EndpointName, NumericIdentity>;
  /** Of prefixes, as ipcache would say. */
  readonly #prefixes = new PrefixTrie<NumericIdentity>();

  constructor(rules: readonly object[], options: Partial<PolicyRepositoryOptions> = {}) {
    let lastLocal = LOCAL_IDENTITY_MIN;
    this.repository = new PolicyRepository({
      enforcement: 'default',
      allowLocalhost: 'policy',
      proxyPort: () => 10_000,
      cidrIdentities: {
        acquire: (prefix: Prefix) => {
          this.#prefixes.set(prefix, numericIdentity(++lastLocal));
          return numericIdentity(lastLocal);
        },
        release: (prefix: Prefix) => void this.#prefixes.delete(prefix),
      },
      ...options,
    });
    for (const [index, [name, labels]] of Object.entries(ENDPOINTS).entries()) {
      const id = numericIdentity(300 + index);
      this.ids[name as EndpointName] = id;
      this.repository.addIdentity(id, LabelSet.fromTexts(labels));
      this.repository.addSubject(id);
    }
    this.repository.addSubject(RESERVED_IDENTITIES.init);
    this.repository.import(parse(rules, 'shop.json'));
  }

  /** An endpoint by name, an entity by its, or an address outside. */
  end(name: string): FlowEnd {
    if (name in ENDPOINTS || name === 'init') {
      const identity = name === 'init' ? RESERVED_IDENTITIES.init : this.ids[name as EndpointName];
      return { identity, labels: this.labelsOf(identity), managed: true };
    }
    const identity = RESERVED_IDENTITIES[name as ReservedName] as NumericIdentity | undefined;
    if (identity !== undefined) return { identity, labels: this.labelsOf(identity), managed: false };
    const address = IpAddress.parse(name);
    const outside = this.#prefixes.longest(address) ?? RESERVED_IDENTITIES['world-ipv4'];
    return { identity: outside, labels: this.labelsOf(outside), managed: false, address };
  }

  /** `port`: `80/TCP`, `8/ICMP`. */
  explain(from: string, to: string, port: string): FlowExplanation {
    const [number, protocol] = port.split('/') as [string, keyof typeof IP_PROTOCOL];
    const packet = { protocol: IP_PROTOCOL[protocol], port: Number(number) };
    return explainFlow(this.repository, { from: this.end(from), to: this.end(to), ...packet });
  }

  labelsOf(identity: NumericIdentity): LabelSet {
    return this.repository.labelsOf(identity)!;
  }
}

export function parse(rules: readonly object[], source = 'new.json'): Rule[] {
  return parseRules(rules, { source, language: { ...WHOLE_LANGUAGE, requires: true } });
}

/** A rule for the endpoints with `app=NAME`. */
export function ruleFor(app: string, rest: object): object {
  return { endpointSelector: { matchLabels: { app } }, ...rest };
}

export function tcp(port: number | string, more: object = {}): object {
  return { ports: [{ port: String(port), protocol: 'TCP' }], ...more };
}

export function app(name: string): object {
  return { matchLabels: { app: name } };
}
