// SPDX-License-Identifier: Apache-2.0

/** One piece of work after the other, in the order asked for, as many waiting as the bound allows. */
import { CiliumError } from '../errors/cilium-error.ts';

/** Far above what a node asks for at once; reaching it means that work hangs. */
const DEFAULT_LIMIT = 65_536;

export class SerialQueue {
  readonly #name: string;
  readonly #limit: number;
  #tail: Promise<unknown> = Promise.resolve();
  #size = 0;

  /** `limit`: how many may be waiting or running; one more is refused with `Internal`. */
  constructor(name: string, limit: number = DEFAULT_LIMIT) {
    this.#name = name;
    this.#limit = limit;
  }

  /** How many pieces of work wait or run. */
  get size(): number {
    return this.#size;
  }

  /** Settles as `work` does. Work that fails does not stop what is queued behind it. */
  async run<T>(work: () => Promise<T> | T): Promise<T> {
    if (this.#size >= this.#limit) {
      throw new CiliumError('Internal', `queue ${this.#name} is full`, { limit: this.#limit });
    }
    this.#size++;
    const done = this.#tail.then(work).finally(() => this.#size--);
    this.#tail = done.catch(() => undefined);
    return done;
  }

  /** Resolves when everything queued before this call has settled. */
  async drain(): Promise<void> {
    await this.#tail;
  }
}

/** A queue for each key: work of one key is in order, work of different keys is not held up by each other. */
export class KeyedQueue<Key> {
  readonly #name: string;
  readonly #queues = new Map<Key, SerialQueue>();

  constructor(name: string) {
    this.#name = name;
  }

  async run<T>(key: Key, work: () => Promise<T> | T): Promise<T> {
    const queue = this.#queues.get(key) ?? new SerialQueue(this.#name);
    this.#queues.set(key, queue);
    try {
      return await queue.run(work);
    } finally {
      if (queue.size === 0 && this.#queues.get(key) === queue) this.#queues.delete(key);
    }
  }

  /** Resolves when everything queued before this call, for any key, has settled. */
  async drain(): Promise<void> {
    await Promise.all([...this.#queues.values()].map((queue) => queue.drain()));
  }

  /** How many keys have work waiting or running. */
  get size(): number {
    return this.#queues.size;
  }
}
