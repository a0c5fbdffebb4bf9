// SPDX-License-Identifier: Apache-2.0

/**
 * Values by prefix, with both ways of containment: what contains a prefix, and what lies inside it.
 *
 * A path-compressed binary trie per address family. Cost: O(address bits) for an update or a walk upwards, plus the
 * size of the answer for a walk downwards.
 */
import type { IpAddress, Prefix } from './ip.ts';

interface Node<V> {
  readonly prefix: Bits;
  value: V | undefined;
  readonly children: [Node<V> | undefined, Node<V> | undefined];
}

/** The first `length` bits of `bytes` count. */
interface Bits {
  readonly bytes: Uint8Array;
  readonly length: number;
}

export class PrefixTrie<V extends object | string | number> {
  readonly #roots: Record<4 | 6, Node<V>> = { 4: newNode(ROOT), 6: newNode(ROOT) };
  #size = 0;

  /** How many prefixes have a value. */
  get size(): number {
    return this.#size;
  }

  get(prefix: Prefix): V | undefined {
    const key = bitsOf(prefix);
    for (let node: Node<V> | undefined = this.#roots[prefix.family]; node && contains(node.prefix, key);) {
      if (node.prefix.length === key.length) return node.value;
      node = node.children[bitAt(key.bytes, node.prefix.length)];
    }
    return undefined;
  }

  set(prefix: Prefix, value: V): void {
    const key = bitsOf(prefix);
    let parent = this.#roots[prefix.family];
    while (parent.prefix.length !== key.length) {
      const side = bitAt(key.bytes, parent.prefix.length);
      const child = parent.children[side];
      if (child !== undefined && contains(child.prefix, key)) {
        parent = child;
        continue;
      }
      const added = newNode<V>(key);
      const shared = child === undefined ? 0 : commonLength(child.prefix, key);
      if (child === undefined) {
        parent.children[side] = added;
      } else if (shared === key.length) {
        added.children[bitAt(child.prefix.bytes, shared)] = child;
        parent.children[side] = added;
      } else {
        const fork = newNode<V>({ bytes: key.bytes, length: shared });
        fork.children[bitAt(key.bytes, shared)] = added;
        fork.children[bitAt(child.prefix.bytes, shared)] = child;
        parent.children[side] = fork;
      }
      parent = added;
    }
    if (parent.value === undefined) this.#size++;
    parent.value = value;
  }

  /** Returns false when the prefix had no value. */
  delete(prefix: Prefix): boolean {
    const key = bitsOf(prefix);
    const path: Node<V>[] = [];
    let node: Node<V> | undefined = this.#roots[prefix.family];
    while (node !== undefined && node.prefix.length < key.length && contains(node.prefix, key)) {
      path.push(node);
      node = node.children[bitAt(key.bytes, node.prefix.length)];
    }
    if (node?.value === undefined || node.prefix.length !== key.length || !contains(node.prefix, key)) return false;
    node.value = undefined;
    this.#size--;
    // A node without a value and with at most one child is not needed; taking it out may leave its fork unneeded.
    for (let parent = path.pop(); parent !== undefined && node.value === undefined; parent = path.pop()) {
      const [left, right]: Node<V>['children'] = node.children;
      if (left !== undefined && right !== undefined) break;
      parent.children[bitAt(key.bytes, parent.prefix.length)] = left ?? right;
      node = parent;
    }
    return true;
  }

  /** Values of all prefixes that contain `key`, itself included, the widest first. */
  *containing(key: Prefix | IpAddress): Generator<V> {
    const bits = 'length' in key ? bitsOf(key) : { bytes: key.bytes, length: key.bits };
    for (let node: Node<V> | undefined = this.#roots[key.family]; node && contains(node.prefix, bits);) {
      if (node.value !== undefined) yield node.value;
      if (node.prefix.length === bits.length) return;
      node = node.children[bitAt(bits.bytes, node.prefix.length)];
    }
  }

  /** The value of the longest prefix that contains `key`. */
  longest(key: Prefix | IpAddress): V | undefined {
    let found: V | undefined;
    for (const value of this.containing(key)) found = value;
    return found;
  }

  /** Values of all prefixes inside `prefix`, itself included, in ascending order, wider before narrower. */
  *inside(prefix: Prefix): Generator<V> {
    const key = bitsOf(prefix);
    let node: Node<V> | undefined = this.#roots[prefix.family];
    while (node !== undefined && node.prefix.length < key.length && contains(node.prefix, key)) {
      node = node.children[bitAt(key.bytes, node.prefix.length)];
    }
    if (node === undefined || !contains(key, node.prefix)) return;
    const stack = [node];
    for (let next = stack.pop(); next !== undefined; next = stack.pop()) {
      if (next.value !== undefined) yield next.value;
      if (next.children[1] !== undefined) stack.push(next.children[1]);
      if (next.children[0] !== undefined) stack.push(next.children[0]);
    }
  }
}

const ROOT: Bits = { bytes: new Uint8Array(16), length: 0 };

function newNode<V>(prefix: Bits): Node<V> {
  return { prefix, value: undefined, children: [undefined, undefined] };
}

function bitsOf(prefix: Prefix): Bits {
  return { bytes: prefix.address.bytes, length: prefix.length };
}

function bitAt(bytes: Uint8Array, index: number): 0 | 1 {
  return ((bytes[index >> 3]! >> (7 - (index & 7))) & 1) as 0 | 1;
}

function contains(outer: Bits, inner: Bits): boolean {
  return outer.length <= inner.length && commonLength(outer, inner) === outer.length;
}

/** How many leading bits both have in common, up to the length of the shorter. */
function commonLength(a: Bits, b: Bits): number {
  const limit = Math.min(a.length, b.length);
  for (let i = 0; i * 8 < limit; i++) {
    const difference = a.bytes[i]! ^ b.bytes[i]!;
    if (difference !== 0) return Math.min(limit, i * 8 + Math.clz32(difference) - 24);
  }
  return limit;
}
