// SPDX-License-Identifier: Apache-2.0

/**
 * Follows which addresses other nodes have, and under which identity, down to the Ipcache.
 *
 * What a node says of an address counts once two things are known here, whatever came first: that the address lies in a
 * range of that node, and that the policy maps of this node know the identity. Until then the entry is held back, and
 * the address is what the range around it says: closed. So neither a rule that denies an identity nor one that asks for
 * it is missed while news travels on different ways.
 *
 * What vanishes is kept a while in the Ipcache, where it does no harm: the address is nobody's until somebody says so,
 * which counts at once. So a node whose keys were lost with their lease, and are written again, is not cut off. For the
 * same reason an agent that starts begins with what the kernel still holds (`adopt`) until there is a complete list.
 */
import { describeError } from '../../errors/cilium-error.ts';
import { GLOBAL_IDENTITY_MIN, RESERVED_IDENTITIES } from '../../identity/numeric-identity.ts';
import type { KvEntry, Kvstore } from '../../kvstore/kvstore.ts';
import { WatchedPrefix } from '../../kvstore/watched-prefix.ts';
import { IpAddress, Prefix } from '../../net/ip.ts';
import type { Clock } from '../../runtime/clock.ts';
import type { Component } from '../../runtime/component.ts';
import type { Logger } from '../../runtime/logger.ts';
import type { IpcacheEntry, IpcacheVoice } from '../ipcache.ts';
import type { AddressClaims } from './address-claims.ts';
import { ADDRESSES_PREFIX, decodeAddress, type AddressValue } from './address-value.ts';
import { Lingering } from './lingering.ts';
import type { SharedAddresses } from './shared-addresses.ts';

/** Longer than a node takes to find out that its keys have gone, and to write them again. */
const LINGER_MS = 5_000;

/** Which identities the policy maps of this node know. */
export interface KnownIdentities {
  has(identity: number): boolean;
  /**
   * Called after identities became known, and before they are forgotten: then `has` says false already, and the policy
   * maps still know them. Must not throw.
   */
  onChange(listener: (identities: ReadonlySet<number>) => void): () => void;
}

/** What another node says of one of its addresses. */
export interface RemoteAddress extends AddressValue {
  readonly address: IpAddress;
}

/** `old` and `now`: what is said of one address; absent: nothing. */
export interface RemoteAddressChange {
  readonly old?: RemoteAddress | undefined;
  readonly now?: RemoteAddress | undefined;
}

export interface RemoteAddressesOptions {
  readonly store: Pick<Kvstore, 'list' | 'watch' | 'onSessionLost'>;
  /** The address of this node that others send to, known once started: what is said in its name is not news. */
  readonly host: () => IpAddress;
  readonly claims: AddressClaims;
  readonly identities: KnownIdentities;
  readonly ipcache: IpcacheVoice;
  /** Told what the store holds in this node's name. */
  readonly own: Pick<SharedAddresses, 'seen' | 'gone' | 'taken'>;
  /** How the address is reached; the identity is added. */
  readonly route: (host: IpAddress) => Omit<IpcacheEntry, 'identity'>;
  readonly log: Logger;
  readonly clock?: Clock;
}

interface Known extends RemoteAddress {
  readonly modRevision: number;
  /** It is in the Ipcache. */
  isApplied: boolean;
}

/** What is kept of a key: of those in this node's name, and of what is no address, the entry itself. */
type Kept = Known | KvEntry;

export class RemoteAddresses implements Component {
  readonly name = 'remote-addresses';
  /** Resolves when all that the store held at the start is known. */
  readonly synced: Promise<unknown>;
  readonly #options: RemoteAddressesOptions;
  readonly #watch: WatchedPrefix<Kept>;
  /** By node, so that a node's ranges concern its addresses alone. */
  readonly #byHost = new Map<string, { readonly host: IpAddress; readonly entries: Set<Known> }>();
  readonly #networks = new Map<string, string>();
  #size = 0;
  /** Entries that wait for their identity. */
  readonly #waiting = new Map<number, Set<Known>>();
  readonly #lingering: Lingering;
  readonly #listeners = new Set<(change: RemoteAddressChange) => void>();
  readonly #unsubscribe: (() => void)[] = [];
  readonly #stop = new AbortController();
  readonly #listed = Promise.withResolvers<undefined>();
  #isSynced = false;

  constructor(options: RemoteAddressesOptions) {
    this.#options = options;
    this.synced = this.#listed.promise;
    const { store, ipcache, log, clock } = options;
    this.#lingering = new Lingering((prefix) => ipcache.delete(prefix), clock);
    this.#watch = new WatchedPrefix<Kept>({
      store,
      prefix: ADDRESSES_PREFIX,
      keep: (entry) => this.#keep(entry),
      listener: { onPut: (now, old) => this.#onPut(now, old), onDelete: (old) => this.#onDelete(old) },
      log,
      ...(clock && { clock }),
    });
  }

  /** Before `start`: entries that the kernel holds from an earlier agent stay until the store has told what is. */
  adopt(entries: Iterable<{ readonly prefix: Prefix; readonly info: IpcacheEntry }>): void {
    for (const { prefix, info } of entries) {
      this.#lingering.add({ prefix, identity: info.identity, host: info.tunnelEndpoint }, Infinity);
      this.#options.ipcache.upsert(prefix, info);
    }
  }

  /** Does not wait for the store: see `synced`. */
  start(): Promise<void> {
    const { claims, identities } = this.#options;
    this.#unsubscribe.push(
      claims.onChange((host) => this.#onClaims(host)),
      identities.onChange((changed) => this.#onIdentities(changed)),
    );
    this.#watch.start(this.#stop.signal).then(
      () => this.#onListed(),
      () => undefined, // stopped before
    );
    return Promise.resolve();
  }

  /** The kernel keeps what it has. */
  async stop(): Promise<void> {
    this.#stop.abort();
    this.#lingering.stop();
    for (const unsubscribe of this.#unsubscribe.splice(0)) unsubscribe();
    await this.#watch.stop();
  }

  get isSynced(): boolean {
    return this.#isSynced;
  }

  /** What other nodes say, whether or not it counts yet. */
  *entries(): Generator<RemoteAddress> {
    for (const kept of this.#watch.entries.values()) if (isKnown(kept)) yield kept;
  }

  get size(): number {
    return this.#size;
  }

  /** How many entries are held back. */
  get held(): number {
    let held = 0;
    for (const { entries } of this.#byHost.values()) {
      for (const known of entries) if (!known.isApplied && !isNodeItself(known)) held++;
    }
    return held;
  }

  /** Told after the Ipcache. Must not throw. */
  onChange(listener: (change: RemoteAddressChange) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  #keep(entry: KvEntry): Kept {
    const { key, value, modRevision } = entry;
    try {
      const said = decodeAddress(key, value, {
        host: (text) => this.#byHost.get(text)?.host ?? IpAddress.parse(text),
        network: (text) => getOrInsert(this.#networks, text, () => text),
      });
      if (said === undefined || said.host.equals(this.#options.host())) return entry;
      const { address, host, docker } = said;
      const identity = said.identity === RESERVED_IDENTITIES.host ? RESERVED_IDENTITIES['remote-node'] : said.identity;
      return { address, host, identity, docker, modRevision, isApplied: false };
    } catch (error) {
      this.#options.log.warn('Not an address of the cluster', { key, reason: describeError(error) });
      return entry;
    }
  }

  #onPut(now: Kept, old: Kept | undefined): void {
    const { own } = this.#options;
    if (old !== undefined && isKnown(old)) this.#forget(old);
    if (isKnown(now)) {
      own.taken(now.address.toString(), now.host);
      this.#learn(now, old);
    } else {
      own.seen(now);
      if (old === undefined || !isKnown(old)) return;
      if (old.isApplied) this.#options.ipcache.delete(Prefix.of(old.address));
      this.#tell({ old });
    }
  }

  #learn(now: Known, old: Kept | undefined): void {
    const host = now.host.toString();
    getOrInsert(this.#byHost, host, () => ({ host: now.host, entries: new Set<Known>() })).entries.add(now);
    this.#size++;
    const before = old !== undefined && isKnown(old) ? old : undefined;
    const lingered = this.#lingering.take(now.address.toString());
    this.#apply(now, lingered || before?.isApplied === true);
    this.#tell({ old: before, now });
  }

  #onDelete(old: Kept): void {
    if (!isKnown(old)) {
      this.#options.own.gone(old);
      return;
    }
    this.#forget(old);
    if (old.isApplied) this.#lingering.add({ ...old, prefix: Prefix.of(old.address) }, LINGER_MS);
    this.#tell({ old });
  }

  #forget(old: Known): void {
    const host = old.host.toString();
    const ofHost = this.#byHost.get(host);
    ofHost?.entries.delete(old);
    if (ofHost?.entries.size === 0) this.#byHost.delete(host);
    this.#size--;
    this.#stopWaiting(old);
  }

  #tell(change: RemoteAddressChange): void {
    for (const listener of this.#listeners) listener(change);
  }

  /** Writes what counts now, in one step. `counted`: whether the Ipcache has anything of the address. */
  #apply(known: Known, counted: boolean): void {
    const { ipcache, route } = this.#options;
    const { address, host, identity } = known;
    known.isApplied = this.#counts(known);
    if (known.isApplied) ipcache.upsert(Prefix.of(address), { identity, ...route(host) });
    else if (counted) ipcache.delete(Prefix.of(address));
  }

  /** Whether an entry is in force; if only its identity is wanting it waits for it. */
  #counts(known: Known): boolean {
    const { claims, identities } = this.#options;
    this.#stopWaiting(known);
    // A node speaks for its own addresses through its key in the store.
    if (isNodeItself(known) || !claims.holds(known.host, known.address)) return false;
    if (known.identity < GLOBAL_IDENTITY_MIN || identities.has(known.identity)) return true;
    getOrInsert(this.#waiting, known.identity, () => new Set<Known>()).add(known);
    return false;
  }

  #stopWaiting(known: Known): void {
    const waiting = this.#waiting.get(known.identity);
    if (waiting?.delete(known) === true && waiting.size === 0) this.#waiting.delete(known.identity);
  }

  #reconsider(entries: Iterable<Known>): void {
    for (const known of [...entries]) this.#apply(known, known.isApplied);
  }

  #onClaims(changed: IpAddress): void {
    const { claims } = this.#options;
    this.#reconsider(this.#byHost.get(changed.toString())?.entries ?? []);
    this.#lingering.end(({ host, prefix }) => host?.equals(changed) === true && !claims.holds(host, prefix.address));
  }

  #onIdentities(changed: ReadonlySet<number>): void {
    const { identities } = this.#options;
    let forgotten = false;
    for (const identity of changed) {
      if (identities.has(identity)) this.#reconsider(this.#waiting.get(identity) ?? []);
      else forgotten = true;
    }
    if (!forgotten) return;
    for (const { entries } of this.#byHost.values()) {
      for (const known of entries) if (changed.has(known.identity)) this.#apply(known, known.isApplied);
    }
    this.#lingering.end(({ identity }) => changed.has(identity) && !identities.has(identity));
  }

  /** What the store did not confirm is no more. */
  #onListed(): void {
    this.#lingering.end((_address, isBounded) => !isBounded);
    this.#isSynced = true;
    this.#listed.resolve(undefined);
    this.#options.log.info('Addresses of other nodes are known', { addresses: this.size, held: this.held });
  }
}

function isKnown(kept: Kept): kept is Known {
  return 'host' in kept;
}

function isNodeItself({ identity }: RemoteAddress): boolean {
  return identity === RESERVED_IDENTITIES['remote-node'];
}

function getOrInsert<K, V>(map: Map<K, V>, key: K, make: () => V): V {
  let value = map.get(key);
  if (value === undefined) map.set(key, (value = make()));
  return value;
}
