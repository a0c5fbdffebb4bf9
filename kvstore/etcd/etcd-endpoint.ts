// SPDX-License-Identifier: Apache-2.0

/**
 * One member of an etcd cluster, through etcd3: its connections, its token, its certificates.
 *
 * etcd3 also retries, breaks circuits, keeps leases and restarts watches. None of that is used: it repeats writes whose
 * outcome is unknown, closes streams that are well, and lets a watch go on after events it has not had. What is used
 * are its connections, its definitions of the protocol and its authentication; each request is one attempt.
 */
import { Etcd3, type IDuplexStream, type IOptions } from 'etcd3';
import type { EtcdConfig, EtcdTimes } from './etcd-config.ts';
import { readTlsFiles } from './tls-files.ts';

export type EtcdService = 'KV' | 'Lease' | 'Maintenance' | 'Watch';
export type EtcdStream<Request, Response> = IDuplexStream<Request, Response>;

type Metadata = { clone(): Metadata; set(key: string, value: string): void };
type Answer = (error: Error | null, response: unknown) => void;
type Call = { cancel(): void };
type Stub = Record<string, (...args: unknown[]) => unknown>;
/** What gRPC's clients carry of their service's definition. */
interface Definition {
  readonly path: string;
  readonly requestSerialize: (message: unknown) => Buffer;
}
export type Decoder<T> = (bytes: Buffer) => T;

/** etcd3's client, with its connections open to us. */
class Connections extends Etcd3 {
  /** Calls `use` with the stub of a service. Metadata hold our token and ask for a member that has a leader. */
  async with<T>(service: EtcdService, use: (stub: Stub, metadata: Metadata) => T): Promise<T> {
    const box = await this.pool.withConnection(service, ({ client, metadata }) => {
      const own = (metadata as unknown as Metadata).clone();
      own.set('hasleader', 'true');
      return { result: use(client as unknown as Stub, own) }; // boxed: the pool must not see how it ends
    });
    return box.result;
  }
}

export class EtcdEndpoint {
  readonly url: string;
  readonly #config: EtcdConfig;
  readonly #times: EtcdTimes;
  #connections: Connections | undefined;
  /** Requests that have not been answered. */
  readonly #calls = new Set<Call>();

  constructor(url: string, config: EtcdConfig, times: EtcdTimes) {
    this.url = url;
    this.#config = config;
    this.#times = times;
  }

  /** One attempt. Rejects with what gRPC says, see `toFault`. `decode`: instead of etcd3's way to read the answer. */
  async request<T>(service: EtcdService, method: string, message: unknown, decode?: Decoder<T>): Promise<T> {
    const answer = await this.#use(
      service,
      (stub, metadata) =>
        new Promise((resolve, reject) => {
          const done: Answer = (error, response) => {
            this.#calls.delete(call);
            if (error === null) resolve(response);
            else reject(error);
          };
          const rest = [message, metadata, { deadline: Date.now() + this.#times.requestTimeoutMs }, done];
          const call = (decode === undefined ? stub[method]!(...rest) : callWith(decode, stub, method, rest)) as Call;
          this.#calls.add(call);
        }),
    );
    return answer as T;
  }

  /** A stream tells by `error` that it could not be opened. */
  async stream<Request, Response>(
    service: EtcdService,
    method: string,
    timeoutMs?: number,
  ): Promise<EtcdStream<Request, Response>> {
    const options = timeoutMs === undefined ? {} : { deadline: Date.now() + timeoutMs };
    return this.#use(service, (stub, metadata) => stub[method]!(metadata, options) as EtcdStream<Request, Response>);
  }

  /** From now on with a new token, and with certificates as they are on disk now. */
  renew(): void {
    this.#connections?.close();
    this.#connections = undefined;
  }

  /** What has not been answered fails. */
  close(): void {
    for (const call of this.#calls) call.cancel();
    this.renew();
  }

  #use<T>(service: EtcdService, use: (stub: Stub, metadata: Metadata) => T | Promise<T>): Promise<T> {
    const connections = (this.#connections ??= new Connections(this.#options()));
    return connections.with(service, use).then((result) => result);
  }

  #options(): IOptions {
    const { username, password } = this.#config;
    const { requestTimeoutMs, pingMs, pingTimeoutMs } = this.#times;
    const tls = this.url.startsWith('https:') ? readTlsFiles(this.#config) : undefined;
    return {
      hosts: this.url,
      ...(tls && { credentials: tls as NonNullable<IOptions['credentials']> }),
      ...(username !== undefined && { auth: { username, password: password! } }),
      // For what etcd3 asks by itself, which is for tokens: without it a member that hangs is waited for without end.
      defaultCallOptions: ({ isStream }) => (isStream ? {} : { deadline: Date.now() + requestTimeoutMs }),
      grpcOptions: {
        // A member that hangs, or is cut off, keeps its connections open: probe them.
        'grpc.keepalive_time_ms': pingMs,
        'grpc.keepalive_timeout_ms': pingTimeoutMs,
        // Else gRPC tries less and less often, in the end every two minutes.
        'grpc.initial_reconnect_backoff_ms': 100,
        'grpc.max_reconnect_backoff_ms': 2_000,
        // The events of one transaction come in one message of any size.
        'grpc.max_receive_message_length': -1,
        // A proxy is for the way to the outside.
        'grpc.enable_http_proxy': 0,
      },
    };
  }
}

function callWith(decode: Decoder<unknown>, stub: Stub, method: string, rest: readonly unknown[]): unknown {
  const { path, requestSerialize } = definitionOf(stub, method);
  return stub['makeUnaryRequest']!(path, requestSerialize, decode, ...rest);
}

function definitionOf(stub: Stub, method: string): Definition {
  const { service } = stub.constructor as unknown as { service: Record<string, Definition & { originalName: string }> };
  return Object.values(service).find(({ originalName }) => originalName === method)!;
}
