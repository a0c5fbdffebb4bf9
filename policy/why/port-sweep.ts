// SPDX-License-Identifier: Apache-2.0

/** Where in the space of protocols and ports two policies differ for one peer. */
import { L4_ANY, L4_FULL_BITS, L4_PROTOCOL_BITS, l4Bits, l4Cut, l4Parts, type L4Key } from '../map-entry.ts';
import { verdictOf, type PacketVerdict } from './judge.ts';

/** Packets whose verdict changes. */
export interface PortChange {
  /** Undefined: every protocol but `exceptProtocols`. */
  readonly protocol: number | undefined;
  readonly exceptProtocols: readonly number[];
  /** Ports, or types of ICMP messages; 0 to 65535 is all of them. */
  readonly firstPort: number;
  readonly lastPort: number;
  readonly before: PacketVerdict;
  readonly after: PacketVerdict;
}

/** What something says about packets of one peer. */
export interface Claim {
  readonly l4: L4Key;
  readonly precedence: number;
}

const LAST_PORT = 0xffff;

type Range = Pick<PortChange, 'firstPort' | 'lastPort' | 'before' | 'after'>;

/** Ascending by protocol and port, neighbours merged; changes of all protocols first. */
export function changedPorts(before: readonly Claim[], after: readonly Claim[]): PortChange[] {
  const named = new Set<number>();
  for (const { l4 } of [...before, ...after]) if (l4 !== L4_ANY) named.add(l4Parts(l4).protocol);
  const elsewhere = sweep(before.filter(isForAny), after.filter(isForAny));
  const different = [...named]
    .sort((a, b) => a - b)
    .map((protocol) => ({ protocol, ranges: sweep(claimsOn(protocol, before), claimsOn(protocol, after)) }))
    .filter(({ ranges }) => !equalRanges(ranges, elsewhere));
  const exceptProtocols = different.map(({ protocol }) => protocol);
  return [
    ...elsewhere.map((range) => ({ protocol: undefined, exceptProtocols, ...range })),
    ...different.flatMap(({ protocol, ranges }) =>
      ranges.map((range) => ({ protocol, exceptProtocols: [], ...range })),
    ),
  ];
}

function isForAny({ l4 }: Claim): boolean {
  return l4 === L4_ANY;
}

function claimsOn(protocol: number, claims: readonly Claim[]): Claim[] {
  return claims.filter(({ l4 }) => l4 === L4_ANY || l4Parts(l4).protocol === protocol);
}

/** How many claims of each precedence hold at the port that the sweep has come to. */
class Standing {
  readonly #counts = new Map<number, number>();

  change(precedence: number, step: number): void {
    const count = (this.#counts.get(precedence) ?? 0) + step;
    if (count === 0) this.#counts.delete(precedence);
    else this.#counts.set(precedence, count);
  }

  get verdict(): PacketVerdict {
    return verdictOf(Math.max(0, ...this.#counts.keys()));
  }
}

function sweep(before: readonly Claim[], after: readonly Claim[]): Range[] {
  const sides = [new Standing(), new Standing()] as const;
  const edges = [
    ...before.flatMap((claim) => edgesOf(claim, sides[0])),
    ...after.flatMap((claim) => edgesOf(claim, sides[1])),
  ].sort((a, b) => a.port - b.port);
  const ranges: Range[] = [];
  for (let index = 0; index < edges.length;) {
    const { port } = edges[index]!;
    for (; edges[index]?.port === port; index++)
      edges[index]!.side.change(edges[index]!.precedence, edges[index]!.step);
    const next = edges[index]?.port ?? LAST_PORT + 1;
    const [old, now] = [sides[0].verdict, sides[1].verdict];
    if (old === now || port > LAST_PORT) continue;
    const last = ranges.at(-1);
    if (last?.lastPort === port - 1 && last.before === old && last.after === now) {
      ranges[ranges.length - 1] = { ...last, lastPort: next - 1 };
    } else {
      ranges.push({ firstPort: port, lastPort: next - 1, before: old, after: now });
    }
  }
  return ranges;
}

interface Edge {
  readonly port: number;
  readonly precedence: number;
  readonly step: 1 | -1;
  readonly side: Standing;
}

function edgesOf({ l4, precedence }: Claim, side: Standing): Edge[] {
  const { port, bits } = l4Parts(l4);
  const size = 2 ** (L4_FULL_BITS - Math.max(bits, L4_PROTOCOL_BITS));
  return [
    { port, precedence, step: 1, side },
    { port: port + size, precedence, step: -1, side },
  ];
}

function equalRanges(a: readonly Range[], b: readonly Range[]): boolean {
  return JSON.stringify(a) === JSON.stringify(b);
}

/** A part of the space of protocols and ports. */
export class L4Region {
  readonly #keys = new Set<L4Key>();
  /** All that cover one of the keys. */
  readonly #above = new Set<L4Key>();

  add(key: L4Key): void {
    if (this.#keys.has(key)) return;
    this.#keys.add(key);
    for (let bits = l4Bits(key); bits >= 0; bits--) this.#above.add(l4Cut(key, bits));
  }

  overlaps(key: L4Key): boolean {
    if (this.#above.has(key)) return true;
    for (let bits = l4Bits(key); bits >= 0; bits--) if (this.#keys.has(l4Cut(key, bits))) return true;
    return false;
  }
}
