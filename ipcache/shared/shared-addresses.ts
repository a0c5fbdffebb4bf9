// SPDX-License-Identifier: Apache-2.0

/**
 * Tells the other nodes which addresses this node has, and under which identity.
 *
 * `publish` and `withdraw` cost no I/O; the store follows in transactions of up to 128 keys, one after the other, so
 * that a thousand containers that start together are a handful of requests. What the store does not take is tried again
 * with back-off, whatever was lost is written again, and what an earlier agent of this node left behind is removed:
 * the follower (`RemoteAddresses`) tells what the store holds in this node's name.
 *
 * A key that another node has taken meanwhile is neither deleted nor, unless the address is ours by the ranges that nodes
 * announce, overwritten.
 */
import { CiliumError } from '../../errors/cilium-error.ts';
import type { IpAddress } from '../../net/ip.ts';
import { systemClock, type Clock } from '../../runtime/clock.ts';
import type { Component } from '../../runtime/component.ts';
import { Controller } from '../../runtime/controller.ts';
import type { Logger } from '../../runtime/logger.ts';
import type { KvEntry, Kvstore } from '../../kvstore/kvstore.ts';
import type { AddressClaims } from './address-claims.ts';
import { addressKey, addressText, decodeAddress, encodeAddress, type DockerNames } from './address-value.ts';

/** etcd takes no more operations in one transaction unless it is told to (`--max-txn-ops`). */
const BATCH_KEYS = 128;
/** How often all is looked at again, against whatever was overlooked. */
const COMPARE_INTERVAL_MS = 60_000;
/** Others still have a withdrawn address as it was: see `Lingering`, with time for the news to travel. */
const AFTERLIFE_MS = 15_000;
/** A container's start does not wait longer for the store; Docker's call may take 9 s. */
const TAKE_OVER_LIMIT_MS = 6_000;
/** Others wait for the news. */
const RETRY = { minBackoffMs: 100, maxBackoffMs: 5_000 };

export interface SharedAddress {
  readonly identity: number;
  readonly docker?: DockerNames | undefined;
}

export interface SharedAddressesOptions {
  readonly store: Kvstore;
  /** The address of this node that others send to; known once started. */
  readonly host: () => IpAddress;
  readonly claims: AddressClaims;
  readonly log: Logger;
  readonly clock?: Clock;
}

interface Wanted {
  readonly address: IpAddress;
  readonly shared: SharedAddress;
}

/** What the store holds in this node's name, as far as is known. */
interface Stored {
  /** Undefined: we have deleted it. */
  readonly value: string | undefined;
  /** It lives as long as this client's present session. */
  readonly isKept: boolean;
  /** Of the store when we wrote it; older news of the key says nothing. */
  readonly revision: number;
}

/** What others may still take an address for that was withdrawn, and has not been told to be something else since. */
interface Past {
  readonly identities: ReadonlySet<number>;
  /** When the store had no key of it any more, on the monotonic clock. */
  readonly goneAt: number | undefined;
}

export class SharedAddresses implements Component {
  readonly name = 'shared-addresses';
  readonly #options: SharedAddressesOptions;
  readonly #writing: Controller;
  readonly #wanted = new Map<string, Wanted>();
  readonly #stored = new Map<string, Stored>();
  readonly #past = new Map<string, Past>();
  readonly #clock: Clock;
  /** Settles with the next transaction that the store has taken. */
  #progress = Promise.withResolvers<false>();
  /** Addresses whose key may not be what it should be. */
  readonly #dirty = new Set<string>();
  readonly #unsubscribe: (() => void)[] = [];

  constructor(options: SharedAddressesOptions) {
    this.#options = options;
    const { log, clock = systemClock } = options;
    this.#clock = clock;
    this.#writing = new Controller({
      name: this.name,
      run: (signal) => this.#write(signal),
      intervalMs: COMPARE_INTERVAL_MS,
      log,
      clock,
      ...RETRY,
    });
  }

  /** From now on the store follows; whatever this node has must have been published before. */
  start(): Promise<void> {
    const { store, claims, host } = this.#options;
    this.#unsubscribe.push(
      store.onSessionLost(() => this.#writeAll()),
      claims.onChange((changed) => {
        if (changed.equals(host())) this.#writing.trigger();
      }),
    );
    this.#writing.start();
    return Promise.resolve();
  }

  /** Keys stay for the time of the session, for the next agent. */
  async stop(): Promise<void> {
    for (const unsubscribe of this.#unsubscribe.splice(0)) unsubscribe();
    await this.#writing.stop();
  }

  publish(address: IpAddress, shared: SharedAddress): void {
    const text = address.toString();
    this.#wanted.set(text, { address, shared });
    if (!this.#isRight(text)) this.#mark(text);
  }

  withdraw(address: IpAddress): void {
    const text = address.toString();
    const before = this.#wanted.get(text);
    if (before === undefined) return;
    this.#wanted.delete(text);
    const identities = new Set(this.#past.get(text)?.identities).add(before.shared.identity);
    this.#past.set(text, { identities, goneAt: undefined });
    this.#mark(text);
  }

  /**
   * To be awaited before a container gets these addresses: resolves once no other node takes them for what they were, if
   * that was something else. Throws `KvstoreUnavailable` when others cannot be told; the addresses are withdrawn then.
   */
  async takeOver(addresses: readonly IpAddress[], identity: number): Promise<void> {
    const told = addresses.filter((address) => this.#before(address.toString()).some((before) => before !== identity));
    for (const address of told) this.publish(address, { identity });
    const done = new AbortController();
    const isLate = this.#clock.sleep(TAKE_OVER_LIMIT_MS, done.signal).then(
      () => true,
      () => true,
    );
    while (!told.every((address) => this.#isRight(address.toString()))) {
      if (!(await Promise.race([this.#progress.promise, isLate]))) continue;
      for (const address of told) this.withdraw(address);
      throw new CiliumError(
        'KvstoreUnavailable',
        `other nodes still take ${told.join(', ')} for another container, and cannot be told: start this one when the ` +
          'key-value store is back, or with another address',
      );
    }
    done.abort();
  }

  /** What others may take the address for. */
  #before(text: string): number[] {
    const past = this.#past.get(text);
    if (past !== undefined && !this.#isOver(past)) return [...past.identities];
    const value = this.#stored.get(text)?.value;
    const identity = value === undefined ? undefined : identityIn(text, value);
    return identity === undefined ? [] : [identity];
  }

  #isOver({ goneAt }: Past): boolean {
    return goneAt !== undefined && this.#clock.monotonic() - goneAt > AFTERLIFE_MS;
  }

  /** How many keys are not as they should be, as far as is known. */
  get pending(): number {
    const texts = new Set([...this.#wanted.keys(), ...this.#stored.keys()]);
    return [...texts].filter((text) => !this.#isRight(text)).length;
  }

  /** The follower has seen a key in this node's name, or one that is no address. */
  seen(entry: KvEntry): void {
    const text = addressText(entry.key);
    if (this.#isOld(text, entry)) return;
    const isKept = this.#options.store.isOwn(entry);
    this.#stored.set(text, { value: entry.value, isKept, revision: entry.modRevision });
    if (!this.#isRight(text)) this.#mark(text);
  }

  /** The follower has seen that such a key is no more. `old`: what it was. */
  gone(old: KvEntry): void {
    const text = addressText(old.key);
    if (this.#isOld(text, old)) return;
    this.#forget(text);
    if (this.#wanted.has(text)) this.#mark(text);
  }

  /** Another node speaks of an address that this node has. Who is right is settled by the ranges, not by haste. */
  taken(text: string, by: IpAddress): void {
    this.#stored.delete(text);
    if (!this.#wanted.has(text)) return;
    this.#options.log.warn('Another node claims an address of this node', { ipAddr: text, node: by });
  }

  #isOld(text: string, { modRevision }: KvEntry): boolean {
    return modRevision < (this.#stored.get(text)?.revision ?? 0);
  }

  #mark(text: string): void {
    this.#dirty.add(text);
    this.#writing.trigger();
  }

  /** Any key may have gone with its lease, and revisions may count anew. */
  #writeAll(): void {
    for (const [text, { value }] of this.#stored) this.#stored.set(text, { value, isKept: false, revision: 0 });
    for (const text of this.#wanted.keys()) this.#dirty.add(text);
    this.#writing.trigger();
  }

  async #write(signal: AbortSignal): Promise<void> {
    for (const text of [...this.#wanted.keys(), ...this.#stored.keys()]) {
      if (!this.#isRight(text)) this.#dirty.add(text);
    }
    for (const [text, past] of this.#past) if (this.#isOver(past)) this.#past.delete(text);
    while (this.#dirty.size > 0 && !signal.aborted) {
      const batch = [...this.#dirty].slice(0, BATCH_KEYS);
      for (const text of batch) this.#dirty.delete(text);
      try {
        await this.#writeBatch(batch);
        this.#progress.resolve(false);
        this.#progress = Promise.withResolvers();
      } catch (error) {
        for (const text of batch) this.#dirty.add(text);
        throw error;
      }
    }
  }

  #isRight(text: string): boolean {
    const stored = this.#stored.get(text);
    const wanted = this.#wanted.get(text);
    if (wanted === undefined) return stored?.value === undefined;
    return stored?.isKept === true && stored.value === this.#value(wanted);
  }

  #value({ address, shared }: Wanted): string {
    return encodeAddress(address, { host: this.#options.host(), ...shared });
  }

  async #writeBatch(batch: readonly string[]): Promise<void> {
    const { claims, host, log } = this.#options;
    const puts: [string, string][] = [];
    const obsolete: [string, string][] = [];
    for (const text of batch) {
      const wanted = this.#wanted.get(text);
      const stored = this.#stored.get(text)?.value;
      if (wanted === undefined) {
        if (stored !== undefined) obsolete.push([text, stored]);
        else this.#left(text);
      } else if (claims.holds(host(), wanted.address)) {
        puts.push([text, this.#value(wanted)]);
      } else {
        log.debug('Address is in no range that this node has announced: not told to others', { ipAddr: text });
      }
    }
    if (puts.length > 0) await this.#put(puts);
    if (obsolete.length > 0) await this.#remove(obsolete);
  }

  async #put(puts: readonly [string, string][]): Promise<void> {
    const then = puts.map(([text, value]) => ({ put: addressKey(text), value, leased: true }));
    const { revision } = await this.#options.store.transact({ then });
    for (const [text, value] of puts) {
      this.#stored.set(text, { value, isKept: true, revision });
      this.#past.delete(text);
    }
  }

  /** Only what is still in our name. */
  async #remove(obsolete: readonly [string, string][]): Promise<void> {
    const { succeeded, revision } = await this.#options.store.transact({
      when: obsolete.map(([text, value]) => ({ key: addressKey(text), value })),
      then: obsolete.map(([text]) => ({ delete: addressKey(text) })),
    });
    for (const [text] of obsolete) {
      if (succeeded) this.#removed(text, revision);
      else await this.#removeOne(text);
    }
  }

  async #removeOne(text: string): Promise<void> {
    const { store, host } = this.#options;
    const key = addressKey(text);
    const entry = await store.get(key);
    if (entry === undefined || hostOf(entry)?.equals(host()) !== true) {
      this.#forget(text);
      return;
    }
    const when = [{ key, modRevision: entry.modRevision }];
    const { succeeded, revision } = await store.transact({ when, then: [{ delete: key }] });
    if (succeeded) this.#removed(text, revision);
  }

  #removed(text: string, revision: number): void {
    this.#stored.set(text, { value: undefined, isKept: false, revision });
    this.#left(text);
  }

  /** There is no such key in our name. */
  #forget(text: string): void {
    this.#stored.delete(text);
    this.#left(text);
  }

  /** What others have of the address runs out from now on. */
  #left(text: string): void {
    const past = this.#past.get(text);
    if (past?.goneAt === undefined && past !== undefined) {
      this.#past.set(text, { ...past, goneAt: this.#clock.monotonic() });
    }
  }
}

function identityIn(text: string, value: string): number | undefined {
  try {
    return decodeAddress(addressKey(text), value)?.identity;
  } catch {
    return undefined;
  }
}

function hostOf({ key, value }: KvEntry): IpAddress | undefined {
  try {
    return decodeAddress(key, value)?.host;
  } catch {
    return undefined;
  }
}
