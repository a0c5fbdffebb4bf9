// SPDX-License-Identifier: Apache-2.0

/** `rules` of a port rule: http, kafka, dns, or a parser by name. */
import { isCiliumError } from '../../errors/cilium-error.ts';
import {
  KAFKA_API_KEYS,
  MISMATCH_ACTIONS,
  type DnsRule,
  type HeaderMatch,
  type HttpRule,
  type KafkaRule,
  type L7Rules,
  type SecretRef,
} from '../l7/rules.ts';
import type { Cursor, Members } from './cursor.ts';
import { namesSomething, readFqdn } from './dns.ts';

const MAX_TOPIC_CHARS = 255;
const MAX_API_VERSION = 32_767;

/** Undefined when no kind has a rule: then it is a plain port. */
export function readL7Rules(cursor: Cursor): L7Rules | undefined {
  return cursor.object((members) => {
    const http = readRules(members, 'http', readHttpRule);
    const kafka = readRules(members, 'kafka', readKafkaRule);
    const dns = readRules(members, 'dns', readDnsRule);
    const protocol = members.read('l7proto', (member) => member.string());
    const generic = readRules(members, 'l7', readGenericRule);
    const isWritten = (name: string): boolean => Array.isArray(members.get(name)?.value);
    const found: L7Rules[] = [
      ...(http === undefined ? [] : [{ kind: 'http' as const, rules: http }]),
      ...(kafka === undefined ? [] : [{ kind: 'kafka' as const, rules: kafka }]),
      ...(dns === undefined ? [] : [{ kind: 'dns' as const, rules: dns }]),
      ...((protocol ?? '') === '' ? [] : [{ kind: 'generic' as const, protocol: protocol!, rules: generic ?? [] }]),
    ];
    if ((protocol ?? '') === '' && (generic !== undefined || (found.length > 0 && isWritten('l7'))))
      members.get('l7')?.fail('l7 needs the name of its parser in l7proto');
    // Beside a list that says something an empty one of another kind is a kind too.
    const kinds = ['http', 'kafka', 'dns'].filter(isWritten).length + Number((protocol ?? '') !== '');
    if (found.length > 0 && kinds > 1)
      cursor.fail('expected one of http, kafka, dns and l7proto; write one port rule for each');
    return found[0];
  });
}

function readRules<T>(members: Members, name: string, read: (item: Cursor) => T | undefined): T[] | undefined {
  const list = members.read(name, (member) => member.list(read));
  const value = members.get(name)?.value;
  return Array.isArray(value) && value.length > 0 ? list : undefined;
}

function readHttpRule(cursor: Cursor): HttpRule | undefined {
  return cursor.object((members) => {
    const method = members.read('method', readRegex);
    const path = members.read('path', readRegex);
    const host = members.read('host', (member) => member.string());
    const headers = members.read('headers', (list) => list.list((header) => header.nonEmptyString()));
    const headerMatches = members.read('headerMatches', (list) => list.list(readHeaderMatch));
    return {
      ...(method === undefined || method === '' ? {} : { method }),
      ...(path === undefined || path === '' ? {} : { path }),
      ...(host === undefined || host === '' ? {} : { host }),
      ...(headers === undefined || headers.length === 0 ? {} : { headers }),
      ...(headerMatches === undefined || headerMatches.length === 0 ? {} : { headerMatches }),
    };
  });
}

function readRegex(cursor: Cursor): string | undefined {
  const pattern = cursor.string();
  if (pattern === undefined) return undefined;
  const { regex, goodPatterns } = cursor.context;
  if (goodPatterns.has(pattern)) return pattern;
  if (regex === undefined) return cursor.unsupported('regular expressions cannot be checked here');
  try {
    regex.compile(pattern);
    goodPatterns.add(pattern);
    return pattern;
  } catch (error) {
    if (!isCiliumError(error, 'InvalidArgument')) throw error;
    return cursor.expected('a regular expression (RE2)', error.message);
  }
}

function readHeaderMatch(cursor: Cursor): HeaderMatch | undefined {
  return cursor.object((members) => {
    const name = members.required('name', (member) => member.nonEmptyString());
    const value = members.read('value', (member) => member.string());
    const secret = members.read('secret', readSecret);
    const mismatchMember = members.get('mismatch');
    const mismatch = mismatchMember?.value === '' ? undefined : mismatchMember?.oneOf(MISMATCH_ACTIONS);
    return {
      name: name ?? '',
      ...(value === undefined ? {} : { value }),
      ...(secret === undefined ? {} : { secret }),
      ...(mismatch === undefined ? {} : { mismatch }),
    };
  });
}

export function readSecret(cursor: Cursor): SecretRef | undefined {
  return cursor.object((members) => {
    const namespace = members.read('namespace', (member) => member.string());
    const name = members.required('name', (member) => member.nonEmptyString());
    return { ...(namespace === undefined ? {} : { namespace }), name: name ?? '' };
  });
}

function readKafkaRule(cursor: Cursor): KafkaRule | undefined {
  return cursor.object((members) => {
    const role = members.read('role', (member) => readLowerCase(member, ['produce', 'consume'] as const));
    const apiKey = members.read('apiKey', (member) => readLowerCase(member, KAFKA_API_KEYS));
    const apiVersion = members.read('apiVersion', readApiVersion);
    const clientID = members.read('clientID', (member) => member.string());
    const topic = members.read('topic', readTopic);
    if (role !== undefined && apiKey !== undefined) cursor.fail('expected role or apiKey, found both');
    return {
      ...(role === undefined ? {} : { role }),
      ...(apiKey === undefined ? {} : { apiKey }),
      ...(apiVersion === undefined ? {} : { apiVersion }),
      ...(clientID === undefined || clientID === '' ? {} : { clientID }),
      ...(topic === undefined || topic === '' ? {} : { topic }),
    };
  });
}

/** One of the names in whatever case; empty is like absent. */
function readLowerCase<T extends string>(cursor: Cursor, names: readonly T[]): T | undefined {
  const text = cursor.string()?.toLowerCase();
  if (text === undefined || text === '') return undefined;
  return names.find((name) => name === text) ?? cursor.expected(`one of ${names.join(', ')}`);
}

function readApiVersion(cursor: Cursor): number | undefined {
  const text = cursor.string();
  if (text === undefined || text === '') return undefined;
  const version = /^[0-9]{1,5}$/.test(text) ? Number(text) : Infinity;
  return version <= MAX_API_VERSION ? version : cursor.expected(`a number from 0 to ${MAX_API_VERSION} as a text`);
}

function readTopic(cursor: Cursor): string | undefined {
  const topic = cursor.string();
  if (topic === undefined) return undefined;
  if (topic.length > MAX_TOPIC_CHARS) return cursor.fail(`a topic has at most ${MAX_TOPIC_CHARS} characters`);
  return /^[A-Za-z0-9._-]*$/.test(topic) ? topic : cursor.expected('a topic of letters, digits, ".", "_" and "-"');
}

function readDnsRule(cursor: Cursor): DnsRule | undefined {
  const rule = readFqdn(cursor);
  return rule === undefined || namesSomething(cursor, rule) ? rule : undefined;
}

function readGenericRule(cursor: Cursor): Record<string, string> | undefined {
  return cursor.record((value, key) => {
    if (key === '') value.fail('a key of an l7 rule must not be empty');
    return value.string();
  });
}
