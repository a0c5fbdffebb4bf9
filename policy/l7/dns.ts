// SPDX-License-Identifier: Apache-2.0

/** Which DNS names a rule or a toFQDNs item means (policy-language 8.3). */
import type { DnsRule } from './rules.ts';

/** Name and pattern are OR-ed. Letters match in any case, and a final dot does not matter. */
export function dnsRuleMatches({ matchName, matchPattern }: DnsRule, name: string): boolean {
  if (matchName !== undefined && plain(matchName) === plain(name)) return true;
  return matchPattern !== undefined && patternMatches(plain(matchPattern), plain(name));
}

/**
 * `*` stands for any characters of one label, also none; `**.` in front for one or more whole labels; a pattern of
 * stars only for every name.
 */
function patternMatches(pattern: string, name: string): boolean {
  if (/^\*+$/.test(pattern)) return true;
  const subdomains = /^\*\*+\./.exec(pattern);
  const rest = (subdomains === null ? pattern : pattern.slice(subdomains[0].length)).split('.');
  const labels = name.split('.');
  const extra = labels.length - rest.length;
  if (subdomains === null ? extra !== 0 : extra < 1) return false;
  return (
    labels.slice(0, extra).every((label) => labelMatches('*', label)) &&
    rest.every((part, index) => labelMatches(part, labels[extra + index]!))
  );
}

function labelMatches(part: string, label: string): boolean {
  const pieces = part.split(/\*+/);
  if (pieces.length === 1) return part === label;
  if (!/^[-a-z0-9_]*$/.test(label)) return false;
  const [first, ...middle] = pieces;
  const last = middle.pop()!;
  if (!label.startsWith(first!)) return false;
  // Each piece as early as can be leaves the most room for those behind it.
  let at = first!.length;
  for (const piece of middle) {
    const found = label.indexOf(piece, at);
    if (found < 0) return false;
    at = found + piece.length;
  }
  return label.endsWith(last) && label.length - last.length >= at;
}

function plain(name: string): string {
  const lower = name.toLowerCase();
  return lower.endsWith('.') ? lower.slice(0, -1) : lower;
}
