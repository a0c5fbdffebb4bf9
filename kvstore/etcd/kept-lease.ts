// SPDX-License-Identifier: Apache-2.0

/**
 * A lease that is kept alive, and replaced when etcd says that it has ended.
 *
 * Only etcd knows whether a lease lives: its time begins anew when etcd starts again or its leader changes, so a store
 * that was away for longer than the lease may have it still. It is asked often enough to learn of an end that has nothing
 * to do with time, such as etcd's data being lost.
 */
import type { ILeaseGrantResponse, ILeaseKeepAliveRequest, ILeaseKeepAliveResponse } from 'etcd3';
import { CiliumError } from '../../errors/cilium-error.ts';
import type { Clock } from '../../runtime/clock.ts';
import { Controller } from '../../runtime/controller.ts';
import type { Logger } from '../../runtime/logger.ts';
import type { EtcdConnection } from './etcd-connection.ts';
import { isKind } from './etcd-fault.ts';
import { leaseNumber, leaseText } from './etcd-messages.ts';

const RETRY_MIN_MS = 250;
const RETRY_MAX_MS = 5_000;

export interface KeptLeaseOptions {
  readonly name: string;
  readonly connection: EtcdConnection;
  /** How long it lives without us. etcd counts whole seconds. */
  readonly ttlMs: number;
  readonly log: Logger;
  readonly clock: Clock;
  /** It has ended, all its keys are gone, and there is another one. */
  readonly onReplaced: () => void;
}

export class KeptLease {
  readonly #options: KeptLeaseOptions;
  readonly #keeping: Controller;
  #id: string | undefined;

  constructor(options: KeptLeaseOptions) {
    this.#options = options;
    const { name, log, clock, ttlMs, connection } = options;
    this.#keeping = new Controller({
      name,
      run: () => this.#keep(),
      intervalMs: Math.min(connection.times.keepAliveMs, ttlMs / 3),
      minBackoffMs: Math.min(RETRY_MIN_MS, ttlMs / 10),
      maxBackoffMs: Math.min(RETRY_MAX_MS, ttlMs / 3),
      log,
      clock,
    });
  }

  /** In hexadecimal; `undefined` between the end of a lease and the next one. */
  get id(): string | undefined {
    return this.#id;
  }

  /** Resolves when there is a lease. */
  async start(): Promise<void> {
    this.#id = await this.#grant();
    this.#keeping.start();
  }

  /** Looks now whether it still lives. */
  check(): void {
    this.#keeping.trigger();
  }

  /** From now on its time runs. May be called twice. */
  async stop(): Promise<void> {
    await this.#keeping.stop();
    this.#id = undefined;
  }

  /** Ends it on the server, and its keys with it. */
  async revoke(): Promise<void> {
    const id = this.#id;
    await this.stop();
    if (id === undefined) return;
    try {
      await this.#options.connection.write('end a lease', 'Lease', 'leaseRevoke', { ID: leaseNumber(id) });
    } catch (error) {
      if (!isKind(error, 'gone')) throw error;
    }
  }

  async #grant(): Promise<string> {
    const { connection, ttlMs } = this.#options;
    const { ID } = await connection.write<ILeaseGrantResponse>('open a session', 'Lease', 'leaseGrant', {
      TTL: Math.ceil(ttlMs / 1000),
    });
    return leaseText(ID);
  }

  async #keep(): Promise<void> {
    if (this.#id !== undefined && (await this.#extend(this.#id))) return;
    this.#id = undefined;
    this.#id = await this.#grant();
    this.#options.log.warn('Session was lost and is replaced', { session: this.#options.name });
    this.#options.onReplaced();
  }

  /** False when it does not exist any more. */
  async #extend(id: string): Promise<boolean> {
    const { connection } = this.#options;
    const timeoutMs = connection.times.requestTimeoutMs;
    const what = 'keep a session';
    const { stream, failed } = await connection.stream<ILeaseKeepAliveRequest, ILeaseKeepAliveResponse>(
      'Lease',
      'leaseKeepAlive',
      timeoutMs,
    );
    const told = (): Promise<boolean> =>
      new Promise<boolean>((resolve, reject) => {
        stream.on('error', (error) => {
          const failure = failed(what, error);
          if (isKind(failure, 'gone')) resolve(false);
          else reject(failure);
        });
        stream.on('end', () => reject(new CiliumError('KvstoreUnavailable', `etcd ${what}: the stream has ended`)));
        stream.on('data', ({ TTL }) => resolve(Number(TTL) > 0));
        stream.write({ ID: leaseNumber(id) });
      });
    try {
      const isAlive = await connection.answer(told);
      stream.end();
      return isAlive;
    } catch (error) {
      stream.cancel(); // one that hangs would last for its time
      throw error;
    }
  }
}
