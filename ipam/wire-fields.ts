// SPDX-License-Identifier: Apache-2.0

/**
 * Fields of Docker's plugin protocol, text on the wire, values inside.
 *
 * Go's JSON writes an absent text as "" and an absent object as null: both mean "not given" here.
 */
import { z } from 'zod';
import { MacAddress } from '../net/mac.ts';
import { IpAddress, Prefix } from '../net/ip.ts';

/** An address with the prefix length that goes with it, as "10.15.0.2/24". */
export interface InterfaceAddress {
  readonly address: IpAddress;
  readonly length: number;
}

export const idField = z.string('expected an ID').min(1, 'expected an ID, not an empty text');

const text = z.string();

/** An address; not given when "". */
export const addressField = text
  .transform((value, context) => parse(value, context, (given) => IpAddress.parse(given)))
  .nullish();
/** A prefix, host bits cleared; not given when "". */
export const prefixField = text
  .transform((value, context) => parse(value, context, (given) => Prefix.parse(given)))
  .nullish();
/** An address with its prefix length; not given when "". */
export const interfaceAddressField = text
  .transform((value, context) => parse(value, context, parseInterfaceAddress))
  .nullish();
export const macField = text
  .transform((value, context) => parse(value, context, (given) => MacAddress.parse(given)))
  .nullish();

function parseInterfaceAddress(value: string): InterfaceAddress {
  const prefix = Prefix.parse(value);
  return { address: IpAddress.parse(value.split('/', 1)[0] ?? ''), length: prefix.length };
}

function parse<T>(value: string, context: z.RefinementCtx, parser: (text: string) => T): T | undefined {
  if (value === '') return undefined;
  try {
    return parser(value);
  } catch (error) {
    context.addIssue({ code: 'custom', message: error instanceof Error ? error.message : String(error) });
    return z.NEVER;
  }
}
