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
import { type IpAddress, Prefix } from '../../net/ip.ts';
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
  /** It is in the Ipcache. */
  isApplied: boolean;
}

export class RemoteAddresses implements Component {
  readonly name = 'remote-addresses';
  /** Resolves when all that the store held at the start is known. */
  readonly synced: Promise<unknown>;
  readonly #options: RemoteAddressesOptions;
  readonly #watch: WatchedPrefix;
  readonly #byAddress = new Map<string, Known>();
  /** The same by node, so that a node's ranges concern its addresses alone. */
  readonly #byHost = new Map<string, Set<Known>>();
  readonly #hosts = new Map<string, IpAddress>();
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
    this.#watch = new WatchedPrefix({
      store,
      prefix: ADDRESSES_PREFIX,
      listener: { onPut: (entry, old) => this.#onPut(entry, old), onDelete: (old) => this.#onDelete(old) },
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
  entries(): Iterable<RemoteAddress> {
    return this.#byAddress.values();
  }

  get size(): number {
    return this.#byAddress.size;
  }

  /** How many entries are held back. */
  get held(): number {
    let held = 0;
    for (const known of this.#byAddress.values()) if (!known.isApplied && !isNodeItself(known)) held++;
    return held;
  }

  /** Told after the Ipcache. Must not throw. */
  onChange(listener: (change: RemoteAddressChange) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  #onPut(entry: KvEntry, before: KvEntry | undefined): void {
    const { host, own, log } = this.#options;
    const text = addressText(entry);
    let said: RemoteAddress | undefined;
    try {
      said = decodeAddress(entry.key, entry.value);
    } catch (error) {
      log.warn('Not an address of the cluster', { key: entry.key, reason: describeError(error) });
    }
    const isOurs = said?.host.equals(host()) === true;
    if (isOurs) own.seen(text, entry);
    else if (said !== undefined) own.taken(text, said.host);
    else if (before !== undefined) own.gone(text, before);
    this.#replace(text, isOurs ? undefined : said);
  }

  #onDelete(old: KvEntry): void {
    const text = addressText(old);
    if (!this.#byAddress.has(text)) this.#options.own.gone(text, old);
    this.#replace(text, undefined, LINGER_MS);
  }

  #replace(text: string, said: RemoteAddress | undefined, lingerMs = 0): void {
    const old = this.#byAddress.get(text);
    if (old === undefined && said === undefined) return;
    const now = said && this.#known(said);
    if (old !== undefined) this.#forget(old);
    if (now === undefined) {
      this.#byAddress.delete(text);
      if (old?.isApplied === true && lingerMs === 0) this.#options.ipcache.delete(Prefix.of(old.address));
      else if (old?.isApplied === true) this.#lingering.add({ ...old, prefix: Prefix.of(old.address) }, lingerMs);
    } else {
      this.#byAddress.set(text, now);
      this.#hostSet(now.host).add(now);
      this.#apply(now, this.#lingering.take(text) || old?.isApplied === true);
    }
    for (const listener of this.#listeners) listener({ old, now });
  }

  #known({ address, host, identity, docker }: RemoteAddress): Known {
    const shared = this.#hosts.get(host.toString()) ?? host;
    this.#hosts.set(shared.toString(), shared);
    const shown = identity === RESERVED_IDENTITIES.host ? RESERVED_IDENTITIES['remote-node'] : identity;
    return { address, host: shared, identity: shown, ...(docker && { docker }), isApplied: false };
  }

  #hostSet(host: IpAddress): Set<Known> {
    const text = host.toString();
    let set = this.#byHost.get(text);
    if (set === undefined) this.#byHost.set(text, (set = new Set()));
    return set;
  }

  #forget(old: Known): void {
    const ofHost = this.#hostSet(old.host);
    ofHost.delete(old);
    if (ofHost.size === 0) {
      this.#byHost.delete(old.host.toString());
      this.#hosts.delete(old.host.toString());
    }
    this.#stopWaiting(old);
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
    const waiting = this.#waiting.get(known.identity);
    if (waiting === undefined) this.#waiting.set(known.identity, new Set([known]));
    else waiting.add(known);
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
    this.#reconsider(this.#byHost.get(changed.toString()) ?? []);
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
    for (const known of this.#byAddress.values()) {
      if (changed.has(known.identity)) this.#apply(known, known.isApplied);
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

function addressText({ key }: KvEntry): string {
  return key.slice(ADDRESSES_PREFIX.length);
}

function isNodeItself({ identity }: RemoteAddress): boolean {
  return identity === RESERVED_IDENTITIES['remote-node'];
}
