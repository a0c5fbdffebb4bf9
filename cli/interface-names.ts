// SPDX-License-Identifier: Apache-2.0

/** Names of this node's network devices by number, read again when a number appears that is not known yet. */
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';

/** Containers come and go: how often the devices are read at most, when unknown numbers keep coming. */
const REREAD_INTERVAL_MS = 1000;

export class InterfaceNames {
  readonly #folder: string;
  readonly #names = new Map<number, string>();
  #readAt = -Infinity;

  constructor(folder = '/sys/class/net') {
    this.#folder = folder;
  }

  /** The name, or the number as text when there is no such device (any more). */
  readonly name = (ifindex: number): string => {
    const known = this.#names.get(ifindex);
    if (known !== undefined) return known;
    if (performance.now() - this.#readAt >= REREAD_INTERVAL_MS) this.#read();
    return this.#names.get(ifindex) ?? String(ifindex);
  };

  #read(): void {
    this.#readAt = performance.now();
    for (const device of readdirSync(this.#folder)) {
      try {
        this.#names.set(Number(readFileSync(join(this.#folder, device, 'ifindex'), 'utf8')), device);
      } catch {
        // the device went between the two calls, or it is a file that describes bonding
      }
    }
  }
}
