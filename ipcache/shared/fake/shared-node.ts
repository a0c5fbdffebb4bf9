// SPDX-License-Identifier: Apache-2.0

/** Nodes that share their addresses through a store, as far as `ipcache/shared` goes; ranges and identities by hand. */
import type { Kvstore, KvTransaction, KvTransactionResult } from '../../../kvstore/kvstore.ts';
import { IpAddress, Prefix } from '../../../net/ip.ts';
import type { Clock } from '../../../runtime/clock.ts';
import { silentLogger } from '../../../runtime/logger.ts';
import { Ipcache } from '../../ipcache.ts';
import type { AddressClaims } from '../address-claims.ts';
import { RemoteAddresses, type KnownIdentities, type RemoteAddressChange } from '../remote-addresses.ts';
import { SharedAddresses } from '../shared-addresses.ts';

export class Claims implements AddressClaims {
  readonly #ranges = new Map<string, Prefix[]>();
  readonly #listeners = new Set<(host: IpAddress) => void>();

  set(host: string, ...ranges: string[]): void {
    this.#ranges.set(
      host,
      ranges.map((range) => Prefix.parse(range)),
    );
    for (const listener of this.#listeners) listener(IpAddress.parse(host));
  }

  holds(host: IpAddress, address: IpAddress): boolean {
    return this.#ranges.get(host.toString())?.some((range) => range.contains(address)) ?? false;
  }

  onChange(listener: (host: IpAddress) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }
}

export class Identities implements KnownIdentities {
  readonly #known = new Set<number>();
  readonly #listeners = new Set<(identities: ReadonlySet<number>) => void>();

  learn(...identities: number[]): void {
    for (const identity of identities) this.#known.add(identity);
    for (const listener of this.#listeners) listener(new Set(identities));
  }

  forget(...identities: number[]): void {
    for (const identity of identities) this.#known.delete(identity);
    for (const listener of this.#listeners) listener(new Set(identities));
  }

  has(identity: number): boolean {
    return this.#known.has(identity);
  }

  onChange(listener: (identities: ReadonlySet<number>) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }
}

/** Counts transactions, and refuses them while it is away. */
export function watchedStore(store: Kvstore): Kvstore & { readonly transactions: KvTransaction[]; isAway: boolean } {
  const transactions: KvTransaction[] = [];
  const transact = (transaction: KvTransaction): Promise<KvTransactionResult> => {
    if (watched.isAway) return Promise.reject(new Error('away'));
    transactions.push(transaction);
    return store.transact(transaction);
  };
  const watched = { transactions, isAway: false };
  return new Proxy(store, {
    get: (target, name) => {
      if (name === 'transact') return transact;
      if (name in watched) return watched[name as keyof typeof watched];
      const value: unknown = Reflect.get(target, name, target);
      return typeof value === 'function' ? (value.bind(target) as unknown) : value;
    },
    set: (_target, name, value) => Reflect.set(watched, name, value),
  }) as never;
}

export interface SharedNodeOptions {
  readonly host: string;
  readonly store: Kvstore;
  readonly claims: Claims;
  readonly identities: Identities;
  readonly clock: Clock;
}

export class SharedNode {
  readonly store: ReturnType<typeof watchedStore>;
  readonly ipcache = new Ipcache();
  readonly shared: SharedAddresses;
  readonly remote: RemoteAddresses;
  readonly changes: RemoteAddressChange[] = [];

  constructor({ host, store, claims, identities, clock }: SharedNodeOptions) {
    this.store = watchedStore(store);
    const common = { store: this.store, host: () => IpAddress.parse(host), claims, log: silentLogger, clock };
    this.shared = new SharedAddresses(common);
    this.remote = new RemoteAddresses({
      ...common,
      identities,
      ipcache: this.ipcache.as('kvstore'),
      own: this.shared,
      route: (tunnelEndpoint) => ({ tunnelEndpoint }),
    });
    this.remote.onChange((change) => this.changes.push(change));
  }

  async start(): Promise<void> {
    await this.remote.start();
    await this.shared.start();
    await this.remote.synced;
  }

  async stop(): Promise<void> {
    await this.shared.stop();
    await this.remote.stop();
  }

  publish(address: string, identity: number, names?: readonly string[]): void {
    const docker = names && { names, network: 'net' };
    this.shared.publish(IpAddress.parse(address), { identity, ...(docker && { docker }) });
  }

  withdraw(address: string): void {
    this.shared.withdraw(IpAddress.parse(address));
  }

  /** What the kernel would know: "address=identity@node". */
  get image(): string[] {
    return Array.from(this.ipcache.entries(), ({ prefix, entry }) => {
      return `${prefix.address.toString()}=${entry.identity}@${entry.tunnelEndpoint?.toString() ?? ''}`;
    });
  }
}
