// SPDX-License-Identifier: Apache-2.0

/** Names under which addresses are asked for backwards (RFC 1035 3.5, RFC 3596 2.5). */
import { IpAddress } from '../net/ip.ts';

const IPV4_SUFFIX = '.in-addr.arpa';
const IPV6_SUFFIX = '.ip6.arpa';
const IPV6_DIGITS = 32;

/** The address of "4.3.2.10.in-addr.arpa" or of 32 digits in "ip6.arpa"; undefined: it is of neither form. */
export function addressOfReverseName(name: string): IpAddress | undefined {
  if (name.endsWith(IPV4_SUFFIX)) {
    const numbers = name.slice(0, -IPV4_SUFFIX.length).split('.');
    const isAddress = numbers.length === 4 && numbers.every((n) => /^(0|[1-9]\d{0,2})$/.test(n) && Number(n) <= 255);
    return isAddress ? new IpAddress(Uint8Array.from(numbers.reverse(), Number)) : undefined;
  }
  if (!name.endsWith(IPV6_SUFFIX)) return undefined;
  const digits = name.slice(0, -IPV6_SUFFIX.length).split('.');
  if (digits.length !== IPV6_DIGITS || !digits.every((digit) => /^[0-9a-f]$/.test(digit))) return undefined;
  return new IpAddress(Buffer.from(digits.reverse().join(''), 'hex'));
}
