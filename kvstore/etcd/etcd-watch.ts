// SPDX-License-Identifier: Apache-2.0

/**
 * One watch, on a stream of its own. It ends with its stream; going on from where it ended is the caller's.
 *
 * (etcd3's own watch goes on by itself, from the revision that the store had when it last heard from it, whether or
 * not the events up to there had arrived.)
 */
import type { IEvent, IWatchRequest, IWatchResponse } from 'etcd3';
import { CiliumError } from '../../errors/cilium-error.ts';
import type { KvEvent, Watch, WatchHandlers } from '../kvstore.ts';
import type { EtcdConnection } from './etcd-connection.ts';
import type { EtcdStream } from './etcd-endpoint.ts';
import { isKind } from './etcd-fault.ts';
import { toNumber, type EtcdMessages } from './etcd-messages.ts';

type WatchStream = EtcdStream<IWatchRequest, IWatchResponse>;

export interface EtcdWatchDeps {
  readonly connection: EtcdConnection;
  readonly messages: EtcdMessages;
  /** The revision of the store, as a majority sees it. */
  readonly storeRevision: () => Promise<number>;
}

export class EtcdWatch implements Watch {
  readonly started: Promise<void>;
  readonly #deps: EtcdWatchDeps;
  readonly #prefix: string;
  readonly #fromRevision: number;
  readonly #handlers: WatchHandlers;
  readonly #onOver: (watch: EtcdWatch) => void;
  readonly #start = Promise.withResolvers<undefined>();
  #stream: WatchStream | undefined;
  #isOver = false;
  #hasNewToken = false;

  /** `onOver`: it has ended or was closed. */
  constructor(
    deps: EtcdWatchDeps,
    { prefix, fromRevision }: { readonly prefix: string; readonly fromRevision: number },
    handlers: WatchHandlers,
    onOver: (watch: EtcdWatch) => void,
  ) {
    this.#deps = deps;
    this.#prefix = prefix;
    this.#fromRevision = fromRevision;
    this.#handlers = handlers;
    this.#onOver = onOver;
    this.started = this.#start.promise;
    this.started.catch(() => undefined); // nobody has to look
    void this.#open();
  }

  close(): void {
    if (this.#finish()) this.#start.reject(new CiliumError('KvstoreUnavailable', 'the watch was closed'));
  }

  end(reason: 'compacted' | 'lost', error?: unknown): void {
    if (!this.#finish()) return;
    this.#handlers.onEnd(reason, error);
    this.#start.reject(error ?? new CiliumError('KvstoreUnavailable', `the watch has ended as ${reason}`));
  }

  /** False if it was over before. */
  #finish(): boolean {
    if (this.#isOver) return false;
    this.#isOver = true;
    this.#stream?.cancel();
    this.#onOver(this);
    return true;
  }

  async #open(): Promise<void> {
    const what = `watch ${this.#prefix}`;
    try {
      const { stream, failed } = await this.#deps.connection.stream<IWatchRequest, IWatchResponse>('Watch', 'watch');
      this.#stream = stream;
      const isPresent = (): boolean => !this.#isOver && this.#stream === stream;
      // Cancelling a stream is told as an error, too: this listener stays.
      stream.on('error', (error) => {
        if (isPresent()) this.end('lost', failed(what, error));
      });
      stream.on('end', () => {
        if (isPresent()) this.end('lost', failed(what, new Error('14 UNAVAILABLE: the stream has ended')));
      });
      stream.on('data', (response) => {
        if (isPresent()) this.#receive(response, failed);
      });
      if (this.#isOver) stream.cancel();
      else {
        const range = this.#deps.messages.range(this.#prefix);
        stream.write({ create_request: { ...range, start_revision: this.#fromRevision } });
      }
    } catch (error) {
      this.end('lost', error);
    }
  }

  #receive(response: IWatchResponse, failed: (what: string, error: unknown) => CiliumError): void {
    if (response.compact_revision !== '0') this.end('compacted');
    else if (response.canceled) {
      this.#cancelled(failed(`watch ${this.#prefix}`, new Error(response.cancel_reason || 'etcd ended the watch')));
    } else if (response.created) void this.#checkHistory(toNumber(response.header.revision));
    else this.#deliver(response.events);
  }

  /** etcd looks at a token only here; with a new one it may be well. */
  #cancelled(error: CiliumError): void {
    if (this.#hasNewToken || !isKind(error, 'token')) {
      this.end('lost', error);
      return;
    }
    this.#hasNewToken = true;
    const refused = this.#stream;
    this.#stream = undefined;
    refused?.cancel();
    void this.#open();
  }

  /** A store that has never been where we want to go on from is not the one we know: it has lost its data. */
  async #checkHistory(memberRevision: number): Promise<void> {
    try {
      // A member may lag behind; the store as a whole does not.
      const isBehind = memberRevision < this.#fromRevision - 1;
      if (isBehind && (await this.#deps.storeRevision()) < this.#fromRevision - 1) this.end('compacted');
      else this.#start.resolve(undefined);
    } catch (error) {
      this.end('lost', error);
    }
  }

  /** Changes of one revision in one call. etcd sends revisions in order, and each in one piece. */
  #deliver(events: readonly IEvent[]): void {
    let batch: KvEvent[] = [];
    let revision = 0;
    for (const event of events) {
      const told = this.#toEvent(event);
      const its = told.type === 'put' ? told.entry.modRevision : told.modRevision;
      if (its !== revision && batch.length > 0) {
        this.#handlers.onEvents(batch);
        if (this.#isOver) return;
        batch = [];
      }
      revision = its;
      batch.push(told);
    }
    if (batch.length > 0) this.#handlers.onEvents(batch);
  }

  #toEvent({ type, kv }: IEvent): KvEvent {
    const { messages } = this.#deps;
    if (type === 'Put') return { type: 'put', entry: messages.entry(kv) };
    return { type: 'delete', key: messages.keyOf(kv.key), modRevision: toNumber(kv.mod_revision) };
  }
}
