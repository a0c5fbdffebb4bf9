// SPDX-License-Identifier: Apache-2.0

/** Which machines are cut off from which, from what nft says of the set of cuts (its JSON is in libnftables-json(5)). */
import { z } from 'zod';

const LISTING = z.object({
  nftables: z.array(
    z.object({
      set: z.object({ elem: z.array(z.object({ concat: z.tuple([z.string(), z.string()]) })).default([]) }).optional(),
    }),
  ),
});

/** For each machine that is cut from any, these, in the order of their names. */
export type Cuts = ReadonlyMap<string, readonly string[]>;

export function parseCuts(json: string): Cuts {
  const { nftables } = LISTING.parse(JSON.parse(json));
  const pairs = nftables.flatMap(({ set }) => set?.elem.map(({ concat }) => concat) ?? []).sort(byNames);
  const groups = Map.groupBy(pairs, ([sender]) => sender);
  return new Map([...groups].map(([sender, group]) => [sender, group.map(([, receiver]) => receiver)]));
}

function byNames(one: readonly [string, string], other: readonly [string, string]): number {
  return one.join(' ') < other.join(' ') ? -1 : 1;
}
