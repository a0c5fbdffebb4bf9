// SPDX-License-Identifier: Apache-2.0

/** The API of the agent as methods. A refused request throws the CiliumError that the agent threw. */
import type { IncomingMessage } from 'node:http';
import type {
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
import { ApiConnection } from './connection.ts';
import { BASE_PATH, PATHS } from './paths.ts';

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
  readonly #connection: ApiConnection;

  constructor(socketPath: string, timeoutMs: number = CLIENT_TIMEOUT_MS) {
    this.socketPath = socketPath;
    this.#connection = new ApiConnection(socketPath, BASE_PATH, timeoutMs);
  }

  status(): Promise<StatusResponse> {
    return this.#connection.call('GET', PATHS.status);
  }

  version(): Promise<VersionInfo> {
    return this.#connection.call('GET', PATHS.version);
  }

  config(): Promise<DaemonConfiguration> {
    return this.#connection.call('GET', PATHS.config);
  }

  changeConfig(change: DaemonConfigurationSpec): Promise<void> {
    return this.#connection.call('PATCH', PATHS.config, change);
  }

  /** The endpoints whose identity carries all these labels; no labels: all of them. */
  endpoints(labels: readonly string[] = []): Promise<Endpoint[]> {
    return this.#connection.call('GET', PATHS.endpoints, labels);
  }

  endpoint(id: string): Promise<Endpoint> {
    return this.#connection.call('GET', fill(PATHS.endpoint, id));
  }

  endpointLabels(id: string): Promise<LabelConfiguration> {
    return this.#connection.call('GET', fill(PATHS.endpointLabels, id));
  }

  setEndpointLabels(id: string, labels: LabelConfigurationSpec): Promise<void> {
    return this.#connection.call('PATCH', fill(PATHS.endpointLabels, id), labels);
  }

  /** All identities, or the one with exactly these labels. */
  identities(labels: readonly string[] = []): Promise<Identity[]> {
    return this.#connection.call('GET', PATHS.identities, labels);
  }

  identity(id: string): Promise<Identity> {
    return this.#connection.call('GET', fill(PATHS.identity, id));
  }

  /** Identities that endpoints of the node have. */
  identityEndpoints(): Promise<IdentityEndpoints[]> {
    return this.#connection.call('GET', PATHS.identityEndpoints);
  }

  nodes(): Promise<ClusterNodeStatus> {
    return this.#connection.call('GET', PATHS.nodes);
  }

  /** Addresses inside `cidr` (an address or a prefix) whose identity carries all these labels. */
  addresses({ cidr, labels = [] }: AddressQuery = {}): Promise<IpListEntry[]> {
    const query = cidr === undefined ? '' : `?${new URLSearchParams({ cidr }).toString()}`;
    return this.#connection.call('GET', PATHS.addresses + query, labels);
  }

  /** One key, or with `recursive` all that begin with it. */
  async kvstoreGet(key: string, { recursive = false } = {}): Promise<KvstoreEntry[]> {
    const query = new URLSearchParams({ key, ...(recursive && { recursive: 'true' }) });
    return (await this.#connection.call<KvstoreEntries>('GET', `${PATHS.kvstore}?${query.toString()}`)).entries;
  }

  kvstoreSet(request: KvstoreSet): Promise<void> {
    return this.#connection.call('PUT', PATHS.kvstore, request);
  }

  /** Answers how many keys are gone. */
  async kvstoreDelete(key: string, { recursive = false, force = false } = {}): Promise<number> {
    const query = new URLSearchParams({
      key,
      ...(recursive && { recursive: 'true' }),
      ...(force && { force: 'true' }),
    });
    return (await this.#connection.call<KvstoreDeleted>('DELETE', `${PATHS.kvstore}?${query.toString()}`)).deleted;
  }

  /** The rules that carry all these labels; no labels: all rules. */
  policy(labels: readonly string[] = []): Promise<Policy> {
    return this.#connection.call('GET', PATHS.policy, labels);
  }

  /** Rules and resources, as they are or with the places where they were written. */
  importPolicy(body: PolicyImportBody, options: PolicyImportRequest = {}): Promise<Policy> {
    return this.#connection.call('PUT', importPath(options), body);
  }

  /** What the import would do; nothing is changed. */
  planImport(body: PolicyImportBody, options: PolicyImportRequest = {}): Promise<PolicyPlan> {
    return this.#connection.call('PUT', importPath(options, { 'dry-run': 'true' }), body);
  }

  /** Deletes the rules that carry all these labels; no labels: all rules. With `brief` the answer carries no rules. */
  deletePolicy(labels: readonly string[], { brief = false } = {}): Promise<PolicyDeleted> {
    return this.#connection.call('DELETE', brief ? `${PATHS.policy}?brief=true` : PATHS.policy, labels);
  }

  /** Would a flow between these labels pass, and why? */
  tracePolicy(selector: TraceSelector): Promise<PolicyTraceResult> {
    return this.#connection.call('GET', PATHS.policyResolve, selector);
  }

  /** Why does a flow pass, or not? */
  explainFlow(question: FlowQuestion): Promise<FlowExplanationModel> {
    return this.#connection.call('GET', PATHS.policyExplain, question);
  }

  /** What would an import or a deletion change? */
  simulatePolicy(request: SimulationRequest): Promise<SimulationModel> {
    return this.#connection.call('POST', PATHS.policySimulate, request);
  }

  /** Selectors of peers in use. */
  policySelectors(): Promise<SelectorMapping[]> {
    return this.#connection.call('GET', PATHS.policySelectors);
  }

  /** The rules' own selectors. */
  policySubjectSelectors(): Promise<SelectorMapping[]> {
    return this.#connection.call('GET', PATHS.policySubjectSelectors);
  }

  maps(): Promise<BpfMapList> {
    return this.#connection.call('GET', PATHS.maps);
  }

  map(name: string): Promise<BpfMap> {
    return this.#connection.call('GET', fill(PATHS.map, name));
  }

  /** Opens the event stream (monitor-frames.ts); it ends when the agent does or when `signal` aborts. */
  monitor(signal: AbortSignal): Promise<IncomingMessage> {
    return this.#connection.open('GET', PATHS.monitor, undefined, signal);
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
