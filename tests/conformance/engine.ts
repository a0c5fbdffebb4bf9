// SPDX-License-Identifier: Apache-2.0

/** The world of a case, built on the project's policy engine. */
import { LABEL_SOURCE, type Label } from '../../identity/label.ts';
import { LabelSet } from '../../identity/label-set.ts';
import {
  DUAL_STACK,
  GLOBAL_IDENTITY_MIN,
  LOCAL_IDENTITY_MIN,
  numericIdentity,
  RESERVED_IDENTITIES,
  worldName,
  type Families,
  type NumericIdentity,
  type ReservedName,
} from '../../identity/numeric-identity.ts';
import { IpAddress, Prefix } from '../../net/ip.ts';
import { PrefixTrie } from '../../net/prefix-trie.ts';
import { FqdnIdentities } from '../../policy/fqdn-identities.ts';
import { WHOLE_LANGUAGE, type Language } from '../../policy/language.ts';
import { lookupEntry, type PolicyPacket } from '../../policy/lookup.ts';
import { IP_PROTOCOL, type PolicyEntry } from '../../policy/map-entry.ts';
import { parseRules } from '../../policy/parse/rule.ts';
import { PolicyRepository, type ImportOptions } from '../../policy/repository.ts';
import { parseResource } from '../../policy/resources/resource.ts';
import type { Rule } from '../../policy/rule.ts';
import { re2 } from '../../runtime/re2.ts';
import { forwardedHeaders, hasRequest, requestAllowed } from './requests.ts';
import type { CaseConfig, Check, Verdict, World } from './case.ts';

/** Which port it is does not matter to the cases. */
const FIRST_PROXY_PORT = 10_000;

/** A check without its answer. */
export type Question = Omit<Check, 'verdict'>;

/** One policy that a check asks. */
export interface Side {
  readonly subject: NumericIdentity;
  readonly packet: PolicyPacket;
  /** Of a peer outside. */
  readonly peerAddress?: IpAddress;
}

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
  /** Of addresses that rules mention, by the longest prefix. */
  readonly #prefixes = new PrefixTrie<NumericIdentity>();
  /** Of addresses that DNS names stand for. */
  readonly #named = new Map<string, NumericIdentity>();
  readonly #fqdns: FqdnIdentities;
  readonly #world: World;
  readonly #entries = new Map<string, readonly PolicyEntry[]>();
  #lastLocal = LOCAL_IDENTITY_MIN;

  constructor(world: World, config: CaseConfig = {}) {
    this.#world = world;
    this.#config = config;
    this.#families = { ipv4: config.ipv4 ?? DUAL_STACK.ipv4, ipv6: config.ipv6 ?? DUAL_STACK.ipv6 };
    this.repository = new PolicyRepository({
      enforcement: world.enforcement ?? 'default',
      allowLocalhost: config.allowLocalhost ?? 'policy',
      hostFirewall: config.hostFirewall ?? false,
      clusterName: config.clusterName ?? 'default',
      families: this.#families,
      proxyPort: ({ priority }) => FIRST_PROXY_PORT + priority,
      cidrIdentities: {
        acquire: (prefix: Prefix) => {
          this.#fqdns.addPrefix(prefix);
          const identity = numericIdentity(this.#lastLocal++);
          this.#prefixes.set(prefix, identity);
          return identity;
        },
        release: (prefix: Prefix) => {
          this.#fqdns.removePrefix(prefix);
          this.#prefixes.delete(prefix);
        },
      },
    });
    this.#fqdns = new FqdnIdentities({
      selectors: () => this.repository.fqdnPeers(),
      policy: this.repository,
      numbers: { acquire: () => numericIdentity(this.#lastLocal++), release: () => undefined },
      ipcache: {
        upsert: (prefix, { identity }) => void this.#named.set(prefix.toString(), numericIdentity(identity)),
        delete: (prefix) => void this.#named.delete(prefix.toString()),
      },
      families: this.#families,
    });
    for (const [name, { labels = {}, cidrs }] of Object.entries(world.cidrGroups ?? {})) {
      this.repository.setCidrGroup(name, {
        labels: LabelSet.of(
          Object.entries(labels).map(([key, value]) => ({ source: LABEL_SOURCE.cidrGroup, key, value })),
        ),
        prefixes: cidrs.map((cidr) => Prefix.parse(cidr)),
      });
    }
    this.#addEndpoints();
    this.#addNames();
  }

  /** Members that Cilium does not know it passes over; this product refuses them. */
  parse(rules: unknown, { ignoreUnknown = false }: { readonly ignoreUnknown?: boolean } = {}): Rule[] {
    return parseRules(rules, { language: languageOf(this.#config), regex: re2, ignoreUnknown });
  }

  translate(resources: readonly unknown[]): Rule[] {
    const options = {
      language: languageOf(this.#config),
      regex: re2,
      clusterName: this.#config.clusterName ?? 'default',
    };
    return resources.flatMap((value) => {
      const resource = parseResource(value, options);
      if (resource.kind === 'policy') return resource.rules;
      this.repository.setCidrGroup(resource.name, resource.group);
      return [];
    });
  }

  /** Imports rules, and then gives the addresses that DNS names stand for the labels that the rules ask for. */
  import(rules: readonly Rule[], options: ImportOptions = {}): void {
    this.repository.import(rules, options);
    this.#settleNames();
  }

  deleteByLabels(labels: readonly Label[]): number {
    const { deleted } = this.repository.deleteByLabels(labels);
    this.#settleNames();
    return deleted;
  }

  verdict(check: Question): Verdict {
    const verdicts = this.sidesOf(check).map((side) => {
      const verdict = this.packetVerdict(side);
      if (verdict !== 'redirect' || !hasRequest(check)) return verdict;
      return requestAllowed(check, this.repository.explain(side.subject, side.packet)) ? 'allowed' : 'l7-denied';
    });
    return SEVERITY.find((verdict) => verdicts.includes(verdict)) ?? 'allowed';
  }

  /** What becomes of the packet itself, whatever a proxy says later. */
  packetVerdict({ subject, packet }: Side): 'allowed' | 'denied' | 'redirect' {
    const entry = lookupEntry(this.entriesOf(subject), packet);
    if (entry === undefined || entry.deny) return 'denied';
    return entry.proxyPort === 0 ? 'allowed' : 'redirect';
  }

  /** Headers of the check's HTTP request as the proxy leaves them. */
  forwardedHeaders(check: Question): ReadonlyMap<string, readonly string[]> {
    const explanations = this.sidesOf(check).map(({ subject, packet }) => this.repository.explain(subject, packet));
    return forwardedHeaders(check.http!, explanations);
  }

  /** Whose policy the check asks for, and what that policy sees. */
  sidesOf(check: Question): Side[] {
    const { protocol, port } = { protocol: protocolNumber(check.proto), port: check.port ?? check.icmpType ?? 0 };
    const side = (subject: string, peer: string, egress: boolean): Side => ({
      subject: this.#identityOf(subject),
      packet: { identity: this.#identityOf(peer), egress, protocol, port },
      ...this.#outside(peer),
    });
    // What is outside, and what is only a peer here, has no policy of its own.
    const hasPolicy = (name: string): boolean => {
      this.#identityOf(name);
      return this.#identities.has(name);
    };
    return [
      ...(check.direction !== 'ingress' && hasPolicy(check.from) ? [side(check.from, check.to, true)] : []),
      ...(check.direction !== 'egress' && hasPolicy(check.to) ? [side(check.to, check.from, false)] : []),
    ];
  }

  /** Only imports and deletions change the maps of a case. */
  entriesOf(subject: NumericIdentity): readonly PolicyEntry[] {
    const key = `${this.repository.revision} ${subject}`;
    const entries = this.#entries.get(key) ?? [...this.repository.entries(subject)];
    this.#entries.set(key, entries);
    return entries;
  }

  /** Hands over what names stand for, as a DNS proxy would. */
  #addNames(): void {
    const addresses = new Map<string, IpAddress[]>();
    for (const { name, ips } of this.#world.dnsCache ?? []) {
      addresses.set(name, [...(addresses.get(name) ?? []), ...ips.map((ip) => IpAddress.parse(ip))]);
    }
    for (const [name, found] of addresses) this.#fqdns.setAddresses(name, found);
  }

  /** Addresses that names stand for follow the rules. */
  #settleNames(): void {
    this.#fqdns.settle();
    this.#fqdns.publish();
  }

  /** Names of ports belong to an endpoint, so each has an identity of its own even where labels are equal. */
  #addEndpoints(): void {
    for (const [name, { labels, namedPorts = {} }] of Object.entries(this.#world.endpoints ?? {})) {
      const set = LabelSet.fromTexts(labels.length > 0 ? labels : ['reserved:init']);
      const isHost = set.has(LABEL_SOURCE.reserved, 'host');
      const identity = isHost ? RESERVED_IDENTITIES.host : numericIdentity(GLOBAL_IDENTITY_MIN + this.#identities.size);
      this.#identities.set(name, identity);
      this.repository.addIdentity(identity, set);
      this.repository.addSubject(identity);
      const ports = Object.entries(namedPorts).map(
        ([port, { port: number, protocol = 'TCP' }]) =>
          [port.toLowerCase(), { port: number, protocol: protocolNumber(protocol.toUpperCase()) }] as const,
      );
      if (ports.length > 0) this.repository.setNamedPorts(identity, new Map(ports));
    }
  }

  #outside(name: string): { peerAddress?: IpAddress } {
    const peer = this.#world.peers?.[name];
    return peer !== undefined && 'ip' in peer ? { peerAddress: IpAddress.parse(peer.ip) } : {};
  }

  #identityOf(name: string): NumericIdentity {
    const identity = this.#identities.get(name);
    if (identity !== undefined) return identity;
    const peer = this.#world.peers?.[name];
    if (peer === undefined) throw new Error(`the case has no endpoint or peer "${name}"`);
    if ('entity' in peer) {
      if (Object.hasOwn(RESERVED_IDENTITIES, peer.entity)) return RESERVED_IDENTITIES[peer.entity as ReservedName];
      throw new Error(`no identity is reserved for "${peer.entity}"`);
    }
    const address = IpAddress.parse(peer.ip);
    const named = this.#named.get(Prefix.of(address).toString());
    if (named !== undefined) return named;
    return this.#prefixes.longest(address) ?? RESERVED_IDENTITIES[worldName(address.family, this.#families)];
  }
}

function protocolNumber(name: string): number {
  if (Object.hasOwn(IP_PROTOCOL, name)) return IP_PROTOCOL[name as keyof typeof IP_PROTOCOL];
  throw new Error(`unknown protocol "${name}"`);
}
