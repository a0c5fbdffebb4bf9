// SPDX-License-Identifier: Apache-2.0

/**
 * The API of the agent as methods, over its unix socket. One connection a call, nothing kept: made for commands that run
 * and end. A refused request throws the CiliumError that the agent threw.
 */
import type { IncomingMessage } from 'node:http';
import { CiliumError, ERROR_CODES, type ErrorCode } from '../errors/cilium-error.ts';
import type {
  ApiError,
  BpfMap,
  BpfMapList,
  DaemonConfiguration,
  DaemonConfigurationSpec,
  Endpoint,
  Identity,
  LabelConfiguration,
  LabelConfigurationSpec,
  Policy,
  PolicyDeleted,
  PolicyPlan,
  StatusResponse,
  VersionInfo,
} from './models.ts';
import type { IdentityEndpoints, IpListEntry } from './cluster-models.ts';
import type { KvstoreDeleted, KvstoreEntries, KvstoreEntry, KvstoreSet } from './cluster-models.ts';
import type { ClusterNodeStatus } from './node-models.ts';
import type { FlowExplanationModel, FlowQuestion } from './explain-models.ts';
import type { SimulationModel } from './simulation-models.ts';
import type { PolicyTraceResult, SelectorMapping, TraceSelector } from './policy-models.ts';
import type { PolicySource } from '../policy/resources/policy-item.ts';
import { BASE_PATH, PATHS } from './paths.ts';

/**
 * Not imported: an import reads every export of the module, and one of them loads all of Node's fetch and WebSocket, which
 * takes as long as the rest of a command.
 */
const { request: httpRequest } = process.getBuiltinModule('node:http');

/** Longest wait for an answer. */
export const CLIENT_TIMEOUT_MS = 90_000;

export type PolicyImportBody = readonly unknown[] | { readonly sources: readonly PolicySource[] };

export interface PolicyImportRequest {
  readonly replace?: boolean;
  readonly replaceWithLabels?: readonly string[];
  /** The answer is to carry no rules. */
  readonly brief?: boolean;
}

export interface AddressQuery {
  readonly cidr?: string;
  readonly labels?: readonly string[];
}

/** An import with its options, or the labels of rules to delete; none: all rules. */
export type SimulationRequest =
  | {
      readonly sources: readonly PolicySource[];
      readonly replace: boolean;
      readonly 'replace-with-labels': readonly string[];
    }
  | { readonly delete: readonly string[] };

export class CiliumClient {
  readonly socketPath: string;
  readonly #timeoutMs: number;

  constructor(socketPath: string, timeoutMs: number = CLIENT_TIMEOUT_MS) {
    this.socketPath = socketPath;
    this.#timeoutMs = timeoutMs;
  }

  status(): Promise<StatusResponse> {
    return this.#call('GET', PATHS.status);
  }

  version(): Promise<VersionInfo> {
    return this.#call('GET', PATHS.version);
  }

  config(): Promise<DaemonConfiguration> {
    return this.#call('GET', PATHS.config);
  }

  changeConfig(change: DaemonConfigurationSpec): Promise<void> {
    return this.#call('PATCH', PATHS.config, change);
  }

  /** The endpoints whose identity carries all these labels; no labels: all of them. */
  endpoints(labels: readonly string[] = []): Promise<Endpoint[]> {
    return this.#call('GET', PATHS.endpoints, labels);
  }

  endpoint(id: string): Promise<Endpoint> {
    return this.#call('GET', fill(PATHS.endpoint, id));
  }

  endpointLabels(id: string): Promise<LabelConfiguration> {
    return this.#call('GET', fill(PATHS.endpointLabels, id));
  }

  setEndpointLabels(id: string, labels: LabelConfigurationSpec): Promise<void> {
    return this.#call('PATCH', fill(PATHS.endpointLabels, id), labels);
  }

  /** All identities, or the one with exactly these labels. */
  identities(labels: readonly string[] = []): Promise<Identity[]> {
    return this.#call('GET', PATHS.identities, labels);
  }

  identity(id: string): Promise<Identity> {
    return this.#call('GET', fill(PATHS.identity, id));
  }

  /** Identities that endpoints of the node have. */
  identityEndpoints(): Promise<IdentityEndpoints[]> {
    return this.#call('GET', PATHS.identityEndpoints);
  }

  nodes(): Promise<ClusterNodeStatus> {
    return this.#call('GET', PATHS.nodes);
  }

  /** Addresses inside `cidr` (an address or a prefix) whose identity carries all these labels. */
  addresses({ cidr, labels = [] }: AddressQuery = {}): Promise<IpListEntry[]> {
    const query = cidr === undefined ? '' : `?${new URLSearchParams({ cidr }).toString()}`;
    return this.#call('GET', PATHS.addresses + query, labels);
  }

  /** One key, or with `recursive` all that begin with it. */
  async kvstoreGet(key: string, { recursive = false } = {}): Promise<KvstoreEntry[]> {
    const query = new URLSearchParams({ key, ...(recursive && { recursive: 'true' }) });
    return (await this.#call<KvstoreEntries>('GET', `${PATHS.kvstore}?${query.toString()}`)).entries;
  }

  kvstoreSet(request: KvstoreSet): Promise<void> {
    return this.#call('PUT', PATHS.kvstore, request);
  }

  /** Answers how many keys are gone. */
  async kvstoreDelete(key: string, { recursive = false, force = false } = {}): Promise<number> {
    const query = new URLSearchParams({
      key,
      ...(recursive && { recursive: 'true' }),
      ...(force && { force: 'true' }),
    });
    return (await this.#call<KvstoreDeleted>('DELETE', `${PATHS.kvstore}?${query.toString()}`)).deleted;
  }

  /** The rules that carry all these labels; no labels: all rules. */
  policy(labels: readonly string[] = []): Promise<Policy> {
    return this.#call('GET', PATHS.policy, labels);
  }

  /** Rules and resources, as they are or with the places where they were written. */
  importPolicy(body: PolicyImportBody, options: PolicyImportRequest = {}): Promise<Policy> {
    return this.#call('PUT', importPath(options), body);
  }

  /** What the import would do; nothing is changed. */
  planImport(body: PolicyImportBody, options: PolicyImportRequest = {}): Promise<PolicyPlan> {
    return this.#call('PUT', importPath(options, { 'dry-run': 'true' }), body);
  }

  /** Deletes the rules that carry all these labels; no labels: all rules. With `brief` the answer carries no rules. */
  deletePolicy(labels: readonly string[], { brief = false } = {}): Promise<PolicyDeleted> {
    return this.#call('DELETE', brief ? `${PATHS.policy}?brief=true` : PATHS.policy, labels);
  }

  /** Would a flow between these labels pass, and why? */
  tracePolicy(selector: TraceSelector): Promise<PolicyTraceResult> {
    return this.#call('GET', PATHS.policyResolve, selector);
  }

  /** Why does a flow pass, or not? */
  explainFlow(question: FlowQuestion): Promise<FlowExplanationModel> {
    return this.#call('GET', PATHS.policyExplain, question);
  }

  /** What would an import or a deletion change? */
  simulatePolicy(request: SimulationRequest): Promise<SimulationModel> {
    return this.#call('POST', PATHS.policySimulate, request);
  }

  /** Selectors of peers in use. */
  policySelectors(): Promise<SelectorMapping[]> {
    return this.#call('GET', PATHS.policySelectors);
  }

  /** The rules' own selectors. */
  policySubjectSelectors(): Promise<SelectorMapping[]> {
    return this.#call('GET', PATHS.policySubjectSelectors);
  }

  maps(): Promise<BpfMapList> {
    return this.#call('GET', PATHS.maps);
  }

  map(name: string): Promise<BpfMap> {
    return this.#call('GET', fill(PATHS.map, name));
  }

  /** Opens the event stream (monitor-frames.ts); it ends when the agent does or when `signal` aborts. */
  monitor(signal: AbortSignal): Promise<IncomingMessage> {
    return this.#open('GET', PATHS.monitor, undefined, signal);
  }

  async #call<T>(method: string, path: string, body?: unknown): Promise<T> {
    const response = await this.#open(method, path, body, AbortSignal.timeout(this.#timeoutMs));
    const text = await readText(response).catch((error: unknown) => {
      throw this.#unavailable(error);
    });
    return (text === '' ? undefined : JSON.parse(text)) as T;
  }

  /** Sends the request and answers the response once its head is there; an answer of 400 or more is thrown. */
  async #open(method: string, path: string, body: unknown, signal: AbortSignal): Promise<IncomingMessage> {
    const response = await this.#send(method, path, body === undefined ? '' : JSON.stringify(body), signal);
    if (response.statusCode !== undefined && response.statusCode < 400) return response;
    throw asError(await readText(response), response.statusCode);
  }

  #send(method: string, path: string, body: string, signal: AbortSignal): Promise<IncomingMessage> {
    return new Promise((resolve, reject) => {
      const request = httpRequest({
        socketPath: this.socketPath,
        method,
        path: BASE_PATH + path,
        agent: false,
        signal,
        headers: {
          host: 'localhost',
          ...(body !== '' && { 'content-type': 'application/json', 'content-length': Buffer.byteLength(body) }),
        },
      });
      request.once('response', resolve);
      request.once('error', (error) => {
        reject(this.#unavailable(error));
      });
      request.end(body);
    });
  }

  #unavailable(cause: unknown): CiliumError {
    const reason = cause instanceof Error && cause.name === 'AbortError' ? cause.cause : cause;
    if (reason instanceof Error && reason.name === 'TimeoutError') {
      return new CiliumError('Timeout', 'Cilium API client timeout exceeded', { timeoutMs: this.#timeoutMs });
    }
    return new CiliumError('AgentUnavailable', `cannot reach the agent at ${this.socketPath}`, {}, cause);
  }
}

function importPath(
  { replace = false, brief = false, replaceWithLabels = [] }: PolicyImportRequest,
  more: Readonly<Record<string, string>> = {},
): string {
  const query = new URLSearchParams({
    ...(replace && { replace: 'true' }),
    ...(brief && { brief: 'true' }),
    ...(replaceWithLabels.length > 0 && { 'replace-with-labels': replaceWithLabels.join(',') }),
    ...more,
  });
  return query.size === 0 ? PATHS.policy : `${PATHS.policy}?${query.toString()}`;
}

/** Puts a value in the place of the only parameter of a path. */
function fill(path: string, value: string): string {
  return path.replace(/:[a-z]+/, () => encodeURIComponent(value));
}

async function readText(response: IncomingMessage): Promise<string> {
  const chunks: Buffer[] = [];
  for await (const chunk of response) chunks.push(chunk as Buffer);
  return Buffer.concat(chunks).toString('utf8');
}

function asError(text: string, status: number | undefined): CiliumError {
  try {
    const { code, message, details } = JSON.parse(text) as ApiError;
    return new CiliumError(Object.hasOwn(ERROR_CODES, code) ? (code as ErrorCode) : 'Internal', message, details);
  } catch {
    return new CiliumError('Internal', `the agent answered ${status ?? 'without a status'}: ${text.slice(0, 200)}`);
  }
}
