// SPDX-License-Identifier: Apache-2.0

/**
 * Values of policy map entries, shared by all entries that say the same for the same reason.
 *
 * A value's cookie names its set of rules: the kernel reports it with a verdict, and `ruleIdsOf` gives the rules back. A
 * number is not given away again while an entry may carry it.
 */
import { CiliumError } from '../errors/cilium-error.ts';
import { PRECEDENCE_DENY, type PolicyValue } from './map-entry.ts';

/** A reason for an entry: something a rule says, or a setting of the node. */
export interface Contributor {
  readonly precedence: number;
  readonly proxyPort: number;
  /** The rule's number in the repository; undefined for a setting. */
  readonly ruleId: number | undefined;
  /** The table's own note: the value of this reason alone, which most entries have. */
  alone?: SharedValue;
}

/** Compare by reference. */
export interface SharedValue extends PolicyValue {
  readonly ruleIds: readonly number[];
  readonly key: string;
  /** How often it is held; counted by the table, which forgets it at zero. */
  uses: number;
}

const MAX_COOKIE = 0xffff_ffff;

export class ValueTable {
  readonly #byKey = new Map<string, SharedValue>();
  readonly #byCookie = new Map<number, SharedValue>();
  #lastCookie = 0;

  /** The value of the strongest of `contributors` (not empty), with one use counted. */
  acquire(contributors: readonly Contributor[]): SharedValue {
    const [first] = contributors;
    if (contributors.length === 1 && first!.alone !== undefined && first!.alone.uses > 0)
      return this.share(first!.alone);
    const winners = strongest(contributors);
    const value = this.#valueOf(winners[0]!, idsOf(winners));
    if (contributors.length === 1) first!.alone = value;
    return this.share(value);
  }

  /** Counts one more use. */
  share(value: SharedValue): SharedValue {
    value.uses++;
    return value;
  }

  release(value: SharedValue): void {
    if (--value.uses > 0) return;
    this.#byKey.delete(value.key);
    this.#byCookie.delete(value.cookie);
  }

  /** Numbers of the rules behind a cookie; none when it is unknown or names a setting. */
  ruleIdsOf(cookie: number): readonly number[] {
    return this.#byCookie.get(cookie)?.ruleIds ?? [];
  }

  #valueOf({ precedence, proxyPort }: Contributor, ruleIds: readonly number[]): SharedValue {
    const key = `${precedence} ${proxyPort} ${ruleIds.join(' ')}`;
    const known = this.#byKey.get(key);
    if (known !== undefined) return known;
    const cookie = ruleIds.length === 0 ? 0 : this.#freeCookie();
    const value = { deny: precedence === PRECEDENCE_DENY, proxyPort, precedence, cookie, ruleIds, key, uses: 0 };
    this.#byKey.set(key, value);
    if (cookie !== 0) this.#byCookie.set(cookie, value);
    return value;
  }

  #freeCookie(): number {
    if (this.#byCookie.size >= MAX_COOKIE)
      throw new CiliumError('Internal', 'all cookies of policy entries are in use');
    do {
      this.#lastCookie = (this.#lastCookie % MAX_COOKIE) + 1;
    } while (this.#byCookie.has(this.#lastCookie));
    return this.#lastCookie;
  }
}

/** Those that decide; of redirects that are equally strong the one with the lowest port, so that order never matters. */
function strongest(contributors: readonly Contributor[]): readonly Contributor[] {
  if (contributors.length === 1) return contributors;
  let best = contributors[0]!;
  for (const other of contributors) if (isStronger(other, best)) best = other;
  return contributors.filter(
    ({ precedence, proxyPort }) => precedence === best.precedence && proxyPort === best.proxyPort,
  );
}

function isStronger(a: Contributor, b: Contributor): boolean {
  return a.precedence > b.precedence || (a.precedence === b.precedence && a.proxyPort < b.proxyPort);
}

function idsOf(contributors: readonly Contributor[]): number[] {
  const ids: number[] = [];
  for (const { ruleId } of contributors) if (ruleId !== undefined) ids.push(ruleId);
  return ids.length < 2 ? ids : [...new Set(ids)].sort((a, b) => a - b);
}
