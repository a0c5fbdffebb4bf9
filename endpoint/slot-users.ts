// SPDX-License-Identifier: Apache-2.0

/**
 * Which identities use which policy slot: those we know, and those that an earlier agent left and nobody adopted yet, which
 * are counted by their endpoints.
 */
export class SlotUsers {
  readonly #known = new Map<number, Set<number>>();
  readonly #expected = new Map<number, Map<number, number>>();

  expect(slot: number, identity: number): void {
    const expected = this.#expected.get(slot) ?? new Map<number, number>();
    this.#expected.set(slot, expected.set(identity, (expected.get(identity) ?? 0) + 1));
  }

  /** One endpoint of the expected is adopted. */
  arrive(slot: number, identity: number): void {
    const expected = this.#expected.get(slot);
    const left = (expected?.get(identity) ?? 0) - 1;
    if (left > 0) expected?.set(identity, left);
    else expected?.delete(identity);
    if (expected?.size === 0) this.#expected.delete(slot);
  }

  forgetExpected(): void {
    this.#expected.clear();
  }

  add(slot: number, identity: number): void {
    const users = this.#known.get(slot);
    if (users === undefined) this.#known.set(slot, new Set([identity]));
    else users.add(identity);
  }

  /** True when nobody uses the slot any more. */
  remove(slot: number, identity: number): boolean {
    const users = this.#known.get(slot);
    users?.delete(identity);
    if (users?.size !== 0) return false;
    this.#known.delete(slot);
    return !this.#expected.has(slot);
  }

  has(slot: number): boolean {
    return this.#known.has(slot) || this.#expected.has(slot);
  }

  /** True when nobody but some of these uses the slot; an expected endpoint's policy may be another than we think. */
  areAmong(slot: number, identities: ReadonlySet<number>): boolean {
    return !this.#expected.has(slot) && [...(this.#known.get(slot) ?? [])].every((user) => identities.has(user));
  }
}
