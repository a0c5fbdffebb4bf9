// SPDX-License-Identifier: Apache-2.0

/** The lines of `ipam.jsonl`; short keys, since there is one for each address given or taken back. */
import { z } from 'zod';
import { IpAddress, Prefix } from '../net/ip.ts';

const address = z.string().transform((text) => IpAddress.parse(text));
const prefix = z.string().transform((text) => Prefix.parse(text));

export const JournalEntry = z.discriminatedUnion('op', [
  /** A pool is new, or (known already) was asked for again by a restarted Docker. */
  z.object({
    op: z.literal('pool'),
    space: z.string(),
    prefix,
    range: prefix,
    cursor: z.int().optional(),
    replayable: z.boolean().optional(),
  }),
  z.object({ op: z.literal('unpool'), pool: z.string() }),
  z.object({
    op: z.literal('lease'),
    pool: z.string(),
    address,
    gateway: z.boolean().optional(),
    owner: z.string().optional(),
    /** Where the next search begins; absent when the address was asked for by number. */
    cursor: z.int().optional(),
    replayable: z.boolean().optional(),
  }),
  z.object({ op: z.literal('release'), pool: z.string(), address }),
  /** Docker was started: all that is known at this point may be asked for once more. */
  z.object({ op: z.literal('replayable') }),
]);

export type JournalEntry = z.infer<typeof JournalEntry>;
