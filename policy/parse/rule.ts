// SPDX-License-Identifier: Apache-2.0

/** From plain JSON data to rules: all checks of policy-language 10, every fault with its place. */
import type { Label } from '../../identity/label.ts';
import type { RegexEngine } from '../../identity/regex.ts';
import { EndpointSelector } from '../../identity/selector.ts';
import { DATAPATH_LANGUAGE, type Language } from '../language.ts';
import {
  AUTHENTICATION_MODES,
  directionOf,
  isDeny,
  SECTIONS,
  type Direction,
  type Entry,
  type Rule,
  type RuleOrigin,
  type Section,
} from '../rule.ts';
import { PolicyValidationError } from '../validation-error.ts';
import { Cursor, type Members, type ParseContext } from './cursor.ts';
import { readPeers } from './peers.ts';
import { readIcmpFields, readPortRule, type PortRulePlace } from './ports.ts';
import { readProxyMembers } from './proxy.ts';
import { readLabel, readSelector } from './selector.ts';

const MAX_LOG_CHARS = 32;

export interface ParseOptions {
  /** What the origin of the rules says: a file's name, for example. */
  readonly source?: string;
  /** Default: what the datapath enforces by itself. */
  readonly language?: Language;
  /** Checks the regular expressions of HTTP rules; without it rules that have one are refused. */
  readonly regex?: RegexEngine;
  /** Passes over members that are not of the language, as Cilium does. Default: they are refused. */
  readonly ignoreUnknown?: boolean;
}

/**
 * Checks the array of rules that `cilium policy import` reads.
 * Throws PolicyValidationError with every fault found; paths begin with the rule's index.
 */
export function parseRules(value: unknown, options: ParseOptions = {}): Rule[] {
  const context = newParseContext(options);
  const rules = new Cursor(value, [], context).list((item) =>
    readRule(item, {
      index: item.path[0] as number,
      ...(options.source === undefined ? {} : { source: options.source }),
    }),
  );
  if (context.problems.length > 0) throw new PolicyValidationError(context.problems);
  return rules!;
}

export function newParseContext({ language = DATAPATH_LANGUAGE, regex, ignoreUnknown }: ParseOptions): ParseContext {
  return { language, regex, ignoreUnknown, goodPatterns: new Set(), problems: [] };
}

export function readRule(cursor: Cursor, origin: RuleOrigin): Rule | undefined {
  return cursor.object((members) => {
    const subject = readSubject(members);
    const node = subject.kind === 'node';
    const entries = Object.fromEntries(
      SECTIONS.map((section) => [section, members.read(section, (list) => readSection(list, section, node)) ?? []]),
    ) as unknown as Record<Section, Entry[]>;
    if (SECTIONS.every((section) => isEmptyOrAbsent(members, section))) {
      cursor.fail(`expected an entry in at least one of ${SECTIONS.join(', ')}`);
    }
    const defaultDeny = members.read('enableDefaultDeny', readDefaultDeny);
    const has = (direction: Direction): boolean =>
      SECTIONS.some((section) => directionOf(section) === direction && !isEmptyOrAbsent(members, section));
    const labels: Label[] = members.read('labels', (list) => list.list(readLabel)) ?? [];
    const description = members.read('description', (member) => member.string());
    const log = members.read('log', readLog);
    return {
      subject,
      entries,
      enableDefaultDeny: {
        ingress: defaultDeny?.ingress ?? has('ingress'),
        egress: defaultDeny?.egress ?? has('egress'),
      },
      labels,
      ...(description === undefined ? {} : { description }),
      ...(log === undefined ? {} : { log }),
      origin,
    };
  });
}

function isEmptyOrAbsent(members: Members, section: Section): boolean {
  const value = members.get(section)?.value;
  return value === undefined || (Array.isArray(value) && value.length === 0);
}

function readSubject(members: Members): Rule['subject'] {
  const endpoint = members.get('endpointSelector');
  const node = members.get('nodeSelector');
  const { cursor } = members;
  if (endpoint !== undefined && node !== undefined)
    cursor.fail('expected endpointSelector or nodeSelector, found both');
  if (endpoint === undefined && node === undefined) cursor.fail('endpointSelector is missing');
  if (node !== undefined && !cursor.context.language.hostPolicies) {
    node.unsupported(
      'policy of the host itself is not supported; write rules for containers, with the host as a peer (entity host)',
    );
  }
  const kind = node === undefined ? 'endpoint' : 'node';
  const member = endpoint ?? node;
  return { kind, selector: (member === undefined ? undefined : readSelector(member)) ?? EndpointSelector.WILDCARD };
}

function readDefaultDeny(cursor: Cursor): Partial<Record<Direction, boolean>> | undefined {
  return cursor.object((members) => {
    const ingress = members.read('ingress', (member) => member.boolean());
    const egress = members.read('egress', (member) => member.boolean());
    return { ...(ingress === undefined ? {} : { ingress }), ...(egress === undefined ? {} : { egress }) };
  });
}

function readLog(cursor: Cursor): string | undefined {
  return cursor.object((members) => {
    const member = members.get('value');
    const text = member?.string();
    if (text === undefined) return undefined;
    const printable = /^[\x20-\x7e]*$/.test(text) && text.length <= MAX_LOG_CHARS;
    return printable ? text : member?.expected(`at most ${MAX_LOG_CHARS} printable characters`);
  });
}

function readSection(cursor: Cursor, section: Section, node: boolean): Entry[] | undefined {
  const place = { direction: directionOf(section), deny: isDeny(section), node };
  return cursor.list((item) => item.object((members) => readEntry(members, place)));
}

function readEntry(members: Members, place: PortRulePlace): Entry {
  const peers = readPeers(members, place.direction, place.deny);
  const requires = place.deny ? undefined : readRequires(members, place.direction);
  const portList = members.get('toPorts');
  const toPorts = portList?.list((item) => readPortRule(item, place, readProxyMembers)) ?? [];
  const icmpList = members.get('icmps');
  const icmps = icmpList?.list(readIcmpFields) ?? [];
  const authentication = place.deny ? undefined : members.read('authentication', readAuthentication);
  const given = (list: Cursor | undefined): boolean => Array.isArray(list?.value) && list.value.length > 0;
  if (given(portList) && given(icmpList))
    icmpList?.fail('icmps and toPorts cannot stand in one entry; write two entries');
  return {
    ...(peers === undefined ? {} : { peers }),
    ...(requires === undefined ? {} : { requires }),
    ...(given(portList) ? { toPorts } : {}),
    ...(given(icmpList) ? { icmps: icmps.flat() } : {}),
    ...(authentication === undefined ? {} : { authentication }),
  };
}

function readRequires(members: Members, direction: Direction): EndpointSelector[] | undefined {
  const list = members.get(direction === 'ingress' ? 'fromRequires' : 'toRequires');
  if (list === undefined || (Array.isArray(list.value) && list.value.length === 0)) return undefined;
  if (!list.context.language.requires) {
    return list.unsupported('requirements ended with Cilium 1.1; add the labels to the selectors of the entries');
  }
  return list.list(readSelector);
}

function readAuthentication(cursor: Cursor): Entry['authentication'] {
  return cursor.object((members) => {
    const mode = members.required('mode', (member) => member.oneOf(AUTHENTICATION_MODES));
    // "disabled" asks for nothing, so it can be had anywhere.
    if (mode === undefined || mode === 'disabled' || cursor.context.language.authentication) return mode;
    return members.get('mode')?.unsupported(`nothing here authenticates peers, so "${mode}" would never let them in`);
  });
}
