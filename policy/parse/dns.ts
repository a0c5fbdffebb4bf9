// SPDX-License-Identifier: Apache-2.0

/** DNS names and patterns, of toFQDNs and of DNS rules. */
import type { DnsRule } from '../l7/rules.ts';
import type { Cursor } from './cursor.ts';

const MAX_CHARS = 255;

/** `{ matchName?, matchPattern? }` with the characters that each may have. */
export function readFqdn(cursor: Cursor): DnsRule | undefined {
  return cursor.object((members) => {
    const matchName = members.read('matchName', (name) => readText(name, /^[-a-zA-Z0-9_.]*$/, 'a DNS name'));
    const matchPattern = members.read('matchPattern', (pattern) =>
      readText(pattern, /^[-a-zA-Z0-9_.*]*$/, 'a DNS name with "*" for any characters'),
    );
    return {
      ...(matchName === undefined || matchName === '' ? {} : { matchName }),
      ...(matchPattern === undefined || matchPattern === '' ? {} : { matchPattern }),
    };
  });
}

/** False when neither a name nor a pattern is there; that is a fault unless one was written and is faulty itself. */
export function namesSomething(cursor: Cursor, rule: DnsRule): boolean {
  if (rule.matchName !== undefined || rule.matchPattern !== undefined) return true;
  const written = Object.values(cursor.value as object).some((value) => value !== '');
  if (!written) cursor.fail('matchName or matchPattern is missing');
  return false;
}

function readText(cursor: Cursor, allowed: RegExp, what: string): string | undefined {
  const text = cursor.string();
  if (text === undefined) return undefined;
  if (!allowed.test(text)) return cursor.expected(what);
  return text.length > MAX_CHARS ? cursor.fail(`longer than ${MAX_CHARS} characters`) : text;
}
