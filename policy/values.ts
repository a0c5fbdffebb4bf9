// SPDX-License-Identifier: Apache-2.0

/**
 * Values of policy map entries, shared by all entries that say the same for the same reason.
 *
 * A value's cookie names its set of rules: the kernel reports it with a verdict, and `rulesOf` gives the rules back. A
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
}

/** Compare by reference. */
export interface SharedValue extends PolicyValue {
  readonly ruleIds: readonly number[];
}

interface Slot {
  readonly value: SharedValue;
  readonly key: string;
  uses: number;
}

const MAX_COOKIE = 0xffff_ffff;

export class ValueTable {
  readonly #slots = new Map<string, Slot>();
  readonly #slotOf = new Map<PolicyValue, Slot>();
  readonly #byCookie = new Map<number, Slot>();
  #lastCookie = 0;

  /** The value of the strongest of `contributors` (not empty), with one use counted. */
  acquire(contributors: readonly Contributor[]): SharedValue {
    const winners = strongest(contributors);
    const { precedence, proxyPort } = winners[0]!;
    const ruleIds = idsOf(winners);
    const key = `${precedence} ${proxyPort} ${ruleIds.join(' ')}`;
    let slot = this.#slots.get(key);
    if (slot === undefined) {
      const cookie = ruleIds.length === 0 ? 0 : this.#freeCookie();
      slot = { key, uses: 0, value: { deny: precedence === PRECEDENCE_DENY, proxyPort, precedence, cookie, ruleIds } };
      this.#slots.set(key, slot);
      this.#slotOf.set(slot.value, slot);
      if (cookie !== 0) this.#byCookie.set(cookie, slot);
    }
    slot.uses++;
    return slot.value;
  }

  /** Counts one more use. */
  share(value: SharedValue): SharedValue {
    this.#slotOf.get(value)!.uses++;
    return value;
  }

  release(value: SharedValue): void {
    const slot = this.#slotOf.get(value)!;
    if (--slot.uses > 0) return;
    this.#slots.delete(slot.key);
    this.#slotOf.delete(value);
    this.#byCookie.delete(value.cookie);
  }

  /** Numbers of the rules behind a cookie; none when it is unknown or names a setting. */
  ruleIdsOf(cookie: number): readonly number[] {
    return this.#byCookie.get(cookie)?.value.ruleIds ?? [];
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
