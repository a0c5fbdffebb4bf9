// SPDX-License-Identifier: Apache-2.0

/**
 * Makes sure that nothing remembered of a container's connections survives it: an address may be given to another
 * container only after its conntrack and masquerade entries are gone.
 *
 * One pass over the tables serves all addresses that wait, because a pass costs the same for one as for hundreds.
 */
import type { IpAddress } from '../net/ip.ts';
import type { Logger } from '../runtime/logger.ts';

export interface ConnectionTables {
  /** Removes every entry that names one of the addresses; off the event loop. */
  purgeAddresses(addresses: readonly IpAddress[]): Promise<unknown>;
}

export class ConnectionPurger {
  readonly #tables: ConnectionTables;
  readonly #log: Logger;
  /** Addresses to forget, and whether a pass that began after they were queued is under way. */
  readonly #waiting = new Map<string, { readonly address: IpAddress; inPass: boolean }>();
  #pass: Promise<void> | undefined;

  constructor(tables: ConnectionTables, log: Logger) {
    this.#tables = tables;
    this.#log = log;
  }

  /** Queues the addresses and begins a pass when none is under way. */
  purge(addresses: readonly IpAddress[]): void {
    for (const address of addresses) this.#waiting.set(address.toString(), { address, inPass: false });
    // A failed pass is in the log; whoever needs an address runs another and gets the error.
    this.#begin().catch(() => undefined);
  }

  /** Resolves once none of the addresses waits for a pass; rejects when the tables cannot be read. */
  async purged(addresses: readonly IpAddress[]): Promise<void> {
    while (addresses.some((address) => this.#waiting.has(address.toString()))) await this.#begin();
  }

  /** Resolves when no pass is under way; for an orderly stop. */
  async idle(): Promise<void> {
    while (this.#pass) await this.#pass.catch(() => undefined);
  }

  #begin(): Promise<void> {
    return (this.#pass ??= this.#run());
  }

  async #run(): Promise<void> {
    try {
      while (this.#waiting.size > 0) {
        for (const entry of this.#waiting.values()) entry.inPass = true;
        await this.#tables.purgeAddresses(Array.from(this.#waiting.values(), ({ address }) => address));
        for (const [key, { inPass }] of this.#waiting) if (inPass) this.#waiting.delete(key);
      }
    } catch (error) {
      this.#log.error('Cannot purge connections; their addresses stay reserved', { error });
      throw error;
    } finally {
      this.#pass = undefined;
    }
  }
}
