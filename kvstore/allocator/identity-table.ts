// SPDX-License-Identifier: Apache-2.0

/** Which number stands for which labels, as far as this node knows, and who wants to know. */

export interface IdentityEvent {
  readonly type: 'upsert' | 'delete';
  readonly id: number;
  readonly labels: string;
}

export type IdentityListener = (event: IdentityEvent) => void;

export class IdentityTable {
  readonly #labels = new Map<number, string>();
  readonly #numbers = new Map<string, Set<number>>();
  readonly #listeners = new Set<IdentityListener>();

  /** `listener` must not throw. Returns how to unsubscribe. */
  onChange(listener: IdentityListener): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  get(id: number): string | undefined {
    return this.#labels.get(id);
  }

  /** All numbers of the labels; more than one is an accident that passes. */
  numbersOf(labels: string): ReadonlySet<number> {
    return this.#numbers.get(labels) ?? new Set();
  }

  [Symbol.iterator](): IterableIterator<[number, string]> {
    return this.#labels[Symbol.iterator]();
  }

  learn(id: number, labels: string): void {
    const old = this.#labels.get(id);
    if (old === labels) return;
    if (old !== undefined) this.forget(id);
    this.#labels.set(id, labels);
    const numbers = this.#numbers.get(labels);
    if (numbers === undefined) this.#numbers.set(labels, new Set([id]));
    else numbers.add(id);
    this.#tell({ type: 'upsert', id, labels });
  }

  forget(id: number): void {
    const labels = this.#labels.get(id);
    if (labels === undefined) return;
    this.#labels.delete(id);
    const numbers = this.#numbers.get(labels);
    numbers?.delete(id);
    if (numbers?.size === 0) this.#numbers.delete(labels);
    this.#tell({ type: 'delete', id, labels });
  }

  #tell(event: IdentityEvent): void {
    for (const listener of this.#listeners) listener(event);
  }
}
