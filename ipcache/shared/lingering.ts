// SPDX-License-Identifier: Apache-2.0

/**
 * Addresses that stay in the Ipcache for a while though nobody says anything of them, or not yet.
 *
 * That does no harm: such an address is nobody's until somebody says so, which counts at once.
 */
import type { IpAddress, Prefix } from '../../net/ip.ts';
import { systemClock, type Clock } from '../../runtime/clock.ts';

export interface LingeringAddress {
  readonly prefix: Prefix;
  readonly identity: number;
  /** The node that had it. */
  readonly host: IpAddress | undefined;
}

interface Stay extends LingeringAddress {
  /** On the monotonic clock; Infinity: until somebody decides. */
  readonly until: number;
}

export class Lingering {
  readonly #clock: Clock;
  readonly #onOver: (prefix: Prefix) => void;
  readonly #stays = new Map<string, Stay>();
  readonly #stop = new AbortController();
  #isSweeping = false;

  /** `onOver`: the address is to leave the Ipcache. */
  constructor(onOver: (prefix: Prefix) => void, clock: Clock = systemClock) {
    this.#onOver = onOver;
    this.#clock = clock;
  }

  /** All stay where they are. */
  stop(): void {
    this.#stop.abort();
  }

  /** `ms`: for how long; Infinity: until `end` says otherwise. */
  add(address: LingeringAddress, ms: number): void {
    this.#stays.set(address.prefix.address.toString(), { ...address, until: this.#clock.monotonic() + ms });
    if (ms < Infinity && !this.#isSweeping) void this.#sweep(ms);
  }

  /** Somebody says something of the address again: it is theirs now. True if it was here. */
  take(text: string): boolean {
    return this.#stays.delete(text);
  }

  /** Ends the stay of those that are chosen. */
  end(isOver: (address: LingeringAddress, isBounded: boolean) => boolean): void {
    for (const [text, stay] of this.#stays) {
      if (!isOver(stay, stay.until < Infinity)) continue;
      this.#stays.delete(text);
      this.#onOver(stay.prefix);
    }
  }

  async #sweep(ms: number): Promise<void> {
    this.#isSweeping = true;
    try {
      while ([...this.#stays.values()].some(({ until }) => until < Infinity)) {
        await this.#clock.sleep(ms, this.#stop.signal);
        const now = this.#clock.monotonic();
        for (const [text, { until, prefix }] of this.#stays) {
          if (until > now) continue;
          this.#stays.delete(text);
          this.#onOver(prefix);
        }
      }
    } catch {
      // stopped
    } finally {
      this.#isSweeping = false;
    }
  }
}
