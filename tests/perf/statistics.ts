// SPDX-License-Identifier: Apache-2.0

/** Medians, quartiles and ratios of repeated measurements. */

export interface Summary {
  readonly n: number;
  readonly q1: number;
  readonly median: number;
  readonly q3: number;
}

/** The q-quantile (0..1) of values in any order, interpolated; NaN of nothing. */
export function quantile(values: readonly number[], q: number): number {
  const sorted = values.toSorted((a, b) => a - b);
  const position = (sorted.length - 1) * q;
  const below = sorted[Math.floor(position)] ?? NaN;
  const above = sorted[Math.ceil(position)] ?? NaN;
  return below + (above - below) * (position - Math.floor(position));
}

export function summarize(values: readonly number[]): Summary {
  return {
    n: values.length,
    q1: quantile(values, 0.25),
    median: quantile(values, 0.5),
    q3: quantile(values, 0.75),
  };
}

/**
 * The median of the ratios round by round: both values of a round were measured next to each other, so what the machine
 * did meanwhile cancels out, which it does not in a ratio of two medians.
 */
export function medianRatio(values: readonly number[], base: readonly number[]): number {
  return quantile(
    values.flatMap((value, round) => {
      const against = base[round];
      return against === undefined ? [] : [value / against];
    }),
    0.5,
  );
}

/** Values by what was measured, in the order of the rounds. */
export class Series {
  readonly #values = new Map<string, number[]>();

  add(name: string, value: number): void {
    const values = this.#values.get(name);
    if (values) values.push(value);
    else this.#values.set(name, [value]);
  }

  of(name: string): readonly number[] {
    return this.#values.get(name) ?? [];
  }
}

/** The items, begun with another one each round, so that none is always measured after the same neighbour. */
export function rotated<T>(items: readonly T[], round: number): T[] {
  const start = items.length === 0 ? 0 : round % items.length;
  return [...items.slice(start), ...items.slice(0, start)];
}
