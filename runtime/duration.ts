// SPDX-License-Identifier: Apache-2.0

/** Lengths of time as Cilium shows them, which is as Go does: `1m36.566628282s`, `1.2ms`, `0s`. */

const NS_PER_S = 1_000_000_000;
const SMALL_UNITS = [
  ['ms', 1_000_000],
  ['µs', 1_000],
  ['ns', 1],
] as const;

/** @param ns nanoseconds, not negative, at most 2^53 (104 days) */
export function formatDuration(ns: number): string {
  const whole = Math.round(ns);
  if (whole === 0) return '0s';
  if (whole < NS_PER_S) {
    const [unit, size] = SMALL_UNITS.find((candidate) => whole >= candidate[1])!;
    return `${decimal(whole, size)}${unit}`;
  }
  const minutes = Math.floor(whole / (60 * NS_PER_S));
  const seconds = `${decimal(whole - minutes * 60 * NS_PER_S, NS_PER_S)}s`;
  if (minutes === 0) return seconds;
  const hours = Math.floor(minutes / 60);
  return `${hours === 0 ? '' : `${hours}h`}${minutes % 60}m${seconds}`;
}

/** `value / size` in full, without zeros at the end. */
function decimal(value: number, size: number): string {
  const digits = String(size).length - 1;
  const rest = String(value % size).padStart(digits, '0');
  const fraction = digits === 0 ? '' : rest.replace(/0+$/, '');
  return `${Math.floor(value / size)}${fraction === '' ? '' : `.${fraction}`}`;
}
