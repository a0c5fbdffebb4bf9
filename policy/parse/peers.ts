// SPDX-License-Identifier: Apache-2.0

/** Members of an entry that name the other side: fromEndpoints, toCIDRSet and so on. */
import { isCiliumError } from '../../errors/cilium-error.ts';
import { IpAddress, Prefix } from '../../net/ip.ts';
import { ENTITIES, type CidrSetPeer, type Direction, type FqdnPeer, type Peer, type WrittenPrefix } from '../rule.ts';
import type { Cursor, Members } from './cursor.ts';
import { namesSomething, readFqdn } from './dns.ts';
import { readGroupSelector, readSelector } from './selector.ts';

/** The kinds that exist in both directions, after "from" or "to". */
const READERS = {
  Endpoints: (item: Cursor): Peer | undefined => withSelector('endpoints', item),
  Nodes: (item: Cursor): Peer | undefined => withSelector('nodes', item),
  Entities: (item: Cursor): Peer | undefined => {
    const entity = item.oneOf(ENTITIES);
    return entity === undefined ? undefined : { kind: 'entities', entity };
  },
  CIDR: readCidr,
  CIDRSet: readCidrSet,
  Groups: (item: Cursor): Peer | undefined => item.object((members) => readGroup(members)),
} satisfies Record<string, (item: Cursor) => Peer | undefined>;

/** Kinds whose empty list selects nobody, whatever stands beside it. */
const EMPTY_IS_NOBODY = ['Endpoints', 'Nodes', 'Entities', 'CIDR', 'CIDRSet'];

/** What to say of peers that nothing can be enforced for. */
const OFF = {
  nodes: 'nodes cannot be selected by their labels here; name them as entities (host, remote-node)',
  groups: 'there is nothing here that knows the addresses of a group; write its prefixes',
  services: 'there are no services here; write the endpoints (toEndpoints) or the prefixes (toCIDR) behind it',
  fqdns: 'there is no DNS proxy yet that learns the addresses of names; write the prefixes (toCIDR)',
};

/** Undefined: no member names peers, so any peer; an empty list: nobody. */
export function readPeers(members: Members, direction: Direction, deny: boolean): Peer[] | undefined {
  const { language } = members.cursor.context;
  const word = direction === 'ingress' ? 'from' : 'to';
  const lists: { readonly name: string; readonly peers: readonly Peer[]; readonly empty: boolean }[] = [];
  const read = (name: string, reader: (item: Cursor) => Peer | undefined, off?: string): void => {
    const list = members.get(name);
    if (list === undefined) return;
    const empty = Array.isArray(list.value) && list.value.length === 0;
    if (off !== undefined && !empty) list.unsupported(off);
    lists.push({ name, peers: list.list(reader) ?? [], empty });
  };

  for (const [suffix, reader] of Object.entries(READERS)) {
    if (suffix === 'Nodes') read(word + suffix, reader, language.nodes ? undefined : OFF.nodes);
    else if (suffix === 'Groups') read(word + suffix, reader, language.expanded ? undefined : OFF.groups);
    else read(word + suffix, reader);
  }
  if (direction === 'egress') {
    read('toServices', readService, language.expanded ? undefined : OFF.services);
    if (!deny) read('toFQDNs', readFqdnPeer, language.fqdns ? undefined : OFF.fqdns);
  }
  const filled = lists.filter(({ empty }) => !empty);
  if (filled.length > 1) {
    const names = filled.map(({ name }) => name).join(' and ');
    members.cursor.fail(`combining ${names} in one entry is not possible; write one entry for each`);
  }
  if (lists.some(({ name, empty }) => empty && EMPTY_IS_NOBODY.includes(name.slice(word.length)))) return [];
  const anyPeer = lists.every(({ name, empty }) => name === 'toFQDNs' && empty);
  return anyPeer ? undefined : filled.flatMap(({ peers }) => peers);
}

function withSelector(kind: 'endpoints' | 'nodes', item: Cursor): Peer | undefined {
  const selector = readSelector(item);
  return selector === undefined ? undefined : { kind, selector };
}

function readCidr(item: Cursor): Peer | undefined {
  const text = item.string();
  const prefix = text === undefined ? undefined : parsePrefix(item, text);
  return prefix === undefined ? undefined : { kind: 'cidr', prefix, text: text! };
}

/** `{ cidr | cidrGroupRef | cidrGroupSelector, except? }` */
export function readCidrSet(item: Cursor): CidrSetPeer | undefined {
  return item.object((members) => {
    const { language } = members.cursor.context;
    const names = ['cidr', 'cidrGroupRef', 'cidrGroupSelector'].filter(
      (name) => (members.get(name)?.value ?? '') !== '',
    );
    if (names.length !== 1) {
      item.fail(
        `expected exactly one of cidr, cidrGroupRef and cidrGroupSelector, found ${names.join(' and ') || 'none'}`,
      );
    }
    if (!language.cidrGroups)
      members.unsupported(['cidrGroupRef', 'cidrGroupSelector'], 'there are no CIDR groups here; write the prefixes');
    const cidr = members.get('cidr');
    const prefix = members.read('cidr', (member) => (member.value === '' ? undefined : readPrefixWithLength(member)));
    const groupRef = members.read('cidrGroupRef', (member) => member.string()) || undefined;
    const groupSelector = members.read('cidrGroupSelector', readGroupSelector);
    const except = members.read('except', (list) => list.list((member) => readExcept(member, prefix))) ?? [];
    return {
      kind: 'cidrSet',
      except,
      ...(prefix === undefined ? {} : { prefix, text: cidr!.value as string }),
      ...(groupRef === undefined ? {} : { groupRef }),
      ...(groupSelector === undefined ? {} : { groupSelector }),
    };
  });
}

/** Only the address has to lie inside: an `except` may be wider than its prefix, and then takes all of it. */
function readExcept(item: Cursor, outer: Prefix | undefined): WrittenPrefix | undefined {
  const prefix = readPrefixWithLength(item);
  if (prefix === undefined) return undefined;
  const text = item.value as string;
  const inside = outer?.contains(IpAddress.parse(text.slice(0, text.indexOf('/')))) ?? true;
  return inside ? { prefix, text } : item.expected(`a prefix inside ${outer!.toString()}`);
}

function readPrefixWithLength(item: Cursor): Prefix | undefined {
  const text = item.string();
  if (text === undefined) return undefined;
  return text.includes('/') ? parsePrefix(item, text) : item.expected('a prefix with its length (address/length)');
}

/** A prefix or a bare address. */
export function parsePrefix(item: Cursor, text: string): Prefix | undefined {
  // Go reads no IPv4 octet with leading zeros, since they may be meant as octal.
  if (/(^|[.:])0[0-9]+(\.|\/|$)/.test(text) && text.includes('.'))
    return item.expected('an address without leading zeros');
  try {
    return Prefix.parse(text);
  } catch (error) {
    if (!isCiliumError(error, 'InvalidArgument')) throw error;
    return item.expected('an address or prefix (address/length)');
  }
}

function readService(item: Cursor): Peer | undefined {
  return item.object((members) => {
    const service = members.read('k8sService', (member) =>
      member.object((inner) => {
        inner.read('serviceName', (name) => name.string());
        inner.read('namespace', (name) => name.string());
        return member.value as object;
      }),
    );
    const selector = members.read('k8sServiceSelector', (member) =>
      member.object((inner) => {
        inner.read('selector', readSelector);
        inner.read('namespace', (name) => name.string());
        return member.value as object;
      }),
    );
    if (service === undefined && selector === undefined) item.fail('expected k8sService or k8sServiceSelector');
    return { kind: 'services', json: item.value as object };
  });
}

function readGroup(members: Members): Peer {
  members.read('aws', (aws) =>
    aws.object((inner) => {
      inner.read('labels', (labels) => labels.record((value) => value.string()));
      inner.read('securityGroupsIds', (list) => list.list((id) => id.string()));
      inner.read('securityGroupsNames', (list) => list.list((name) => name.string()));
      inner.read('region', (region) => region.string());
    }),
  );
  return { kind: 'groups', json: members.cursor.value as object };
}

function readFqdnPeer(item: Cursor): FqdnPeer | undefined {
  const fqdn = readFqdn(item);
  if (fqdn === undefined) return undefined;
  if (fqdn.matchName !== undefined && fqdn.matchPattern !== undefined) {
    return item.fail('expected matchName or matchPattern, found both');
  }
  if (!namesSomething(item, fqdn)) return undefined;
  return { kind: 'fqdns', ...fqdn };
}
