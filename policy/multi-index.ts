// SPDX-License-Identifier: Apache-2.0

/** Values filed under texts. Most texts have one value, which then takes no set of its own. */
export class MultiIndex<V extends number | object> {
  readonly #values = new Map<string, V | Set<V>>();

  add(text: string, value: V): void {
    const there = this.#values.get(text);
    if (there === undefined) this.#values.set(text, value);
    else if (there instanceof Set) there.add(value);
    else if (there !== value) this.#values.set(text, new Set([there, value]));
  }

  delete(text: string, value: V): void {
    const there = this.#values.get(text);
    if (there === value) this.#values.delete(text);
    else if (there instanceof Set && there.delete(value) && there.size === 0) this.#values.delete(text);
  }

  of(text: string): Iterable<V> {
    const there = this.#values.get(text);
    if (there === undefined) return [];
    return there instanceof Set ? there : [there];
  }
}
