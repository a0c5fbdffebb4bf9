// SPDX-License-Identifier: Apache-2.0

/**
 * Prefixes as keys of labels with source `cidr`. A key cannot hold a colon, so IPv6 is written with dashes, and a
 * `0` goes before a leading and after a trailing dash: `2001:db8::/32` is `2001-db8--0/32`.
 */
import { isCiliumError } from '../errors/cilium-error.ts';
import { Prefix } from '../net/ip.ts';

export function formatCidrKey(prefix: Prefix): string {
  if (prefix.family === 4) return prefix.toString();
  const address = prefix.address.toString().replaceAll(':', '-');
  return `${address.startsWith('-') ? '0' : ''}${address}${address.endsWith('-') ? '0' : ''}/${prefix.length}`;
}

/** What was parsed last: whoever has to do with a prefix asks for it several times in a row. */
let latest: { readonly key: string; readonly prefix: Prefix | undefined } = { key: '', prefix: undefined };

/** The prefix that a key stands for; undefined when it is none. */
export function parseCidrKey(key: string): Prefix | undefined {
  if (latest.key !== key) latest = { key, prefix: parse(key) };
  return latest.prefix;
}

function parse(key: string): Prefix | undefined {
  try {
    return Prefix.parse(key.replaceAll('-', ':'));
  } catch (error) {
    if (isCiliumError(error, 'InvalidArgument')) return undefined;
    throw error;
  }
}
