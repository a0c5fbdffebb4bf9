// SPDX-License-Identifier: Apache-2.0

/**
 * Which of the cluster's identities the policy maps of this node know, in the kernel and for who has to wait for it.
 *
 * No rule can match an identity that the policy maps do not know, least of all one that denies. So it has its bit in
 * the kernel from when they know it until before they forget it; without the bit, packets of other nodes with that identity
 * and to it are dropped, and `ipcache/` holds their addresses back.
 */
import { GLOBAL_IDENTITY_MAX, GLOBAL_IDENTITY_MIN } from '../../identity/numeric-identity.ts';

export interface IdentityBits {
  /** In force when it returns. */
  set(identity: number, known: boolean): void;
  list(): Iterable<number>;
}

export class PolicyIdentities {
  readonly #bits: IdentityBits;
  readonly #known = new Set<number>();
  /** Those that the repository knows, and perhaps not every policy map. */
  readonly #pending = new Set<number>();
  readonly #listeners = new Set<(identities: ReadonlySet<number>) => void>();
  /** Policy maps of an earlier agent have become ours. */
  #isOpen = false;

  constructor(bits: IdentityBits) {
    this.#bits = bits;
  }

  /** The repository knows it from now on; or knows other labels of it. */
  learned(identity: number): void {
    if (!isOfCluster(identity)) return;
    this.#forget(identity);
    this.#pending.add(identity);
  }

  /** Before the repository forgets it. */
  forgotten(identity: number): void {
    if (!this.#pending.delete(identity)) this.#forget(identity);
  }

  /** Before policy maps of an earlier agent are brought to what the repository knows now: the rest is not known any more. */
  adopt(): void {
    for (const identity of [...this.#bits.list()]) if (!this.#pending.has(identity)) this.#bits.set(identity, false);
  }

  /** All policy maps there are have been taken over: `enforced`, said of some of them until now, counts from now on. */
  open(): void {
    this.#isOpen = true;
  }

  /** Every policy map holds what the repository knows. */
  enforced(): void {
    if (!this.#isOpen || this.#pending.size === 0) return;
    const identities = new Set(this.#pending);
    this.#pending.clear();
    for (const identity of identities) {
      this.#bits.set(identity, true);
      this.#known.add(identity);
    }
    this.#tell(identities);
  }

  has(identity: number): boolean {
    return this.#known.has(identity);
  }

  /** Called after identities became known, and before they are forgotten: then `has` says false already. Must not throw. */
  onChange(listener: (identities: ReadonlySet<number>) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  #forget(identity: number): void {
    if (!this.#known.delete(identity)) return;
    this.#tell(new Set([identity]));
    this.#bits.set(identity, false);
  }

  #tell(identities: ReadonlySet<number>): void {
    for (const listener of this.#listeners) listener(identities);
  }
}

/** Others are always known, or never cross the network. */
function isOfCluster(identity: number): boolean {
  return identity >= GLOBAL_IDENTITY_MIN && identity <= GLOBAL_IDENTITY_MAX;
}
