// SPDX-License-Identifier: Apache-2.0

/**
 * What the REST handlers need of the agent. The handlers read and check requests; everything else happens behind this.
 *
 * Methods throw CiliumError; its code decides the HTTP status. Answers are the models of the API as they go over the wire.
 */
import type {
  BpfMap,
  DaemonConfiguration,
  DaemonConfigurationSpec,
  Endpoint,
  Identity,
  LabelConfigurationSpec,
  PolicyPlan,
  StatusResponse,
  VersionInfo,
} from '../../api/models.ts';
import type { IpListEntry } from '../../api/cluster-models.ts';
import type { ClusterNodeStatus } from '../../api/node-models.ts';
import type { CheckedFlowQuestion, FlowExplanationModel } from '../../api/explain-models.ts';
import type { SimulationModel } from '../../api/simulation-models.ts';
import type { CheckedTraceSelector, PolicyTraceResult, SelectorMapping } from '../../api/policy-models.ts';
import type { ManualAccess } from '../../kvstore/manual-access.ts';
import type { Prefix } from '../../net/ip.ts';
import type { PolicySource } from '../../policy/resources/policy-item.ts';

/** Rules and CIDR groups as plain data, as they were imported and in that order, with the revision of the repository. */
export interface PolicyView {
  readonly revision: number;
  readonly rules: readonly unknown[];
}

export interface PolicyDeletion {
  readonly revision: number;
  /** How many went. */
  readonly deleted: number;
  /** Files that the agent watches and whose rules carry the labels, too. */
  readonly watchedFiles: readonly string[];
}

export interface PolicyImportOptions {
  /** Rules that carry the labels of an imported rule give way to it. */
  readonly replace: boolean;
  /** Rules that carry these labels (`source:key=value`) give way to the import. */
  readonly replaceWithLabels: readonly string[];
}

/** What happens inside the agent, as `cilium monitor` shows it: `>> Policy updated: {"revision":4}`. */
export interface AgentEvent {
  /** Such as `Policy updated`, `Endpoint created`, `Endpoint regenerated`, `IPCache entry upserted`. */
  readonly type: string;
  readonly message: Readonly<Record<string, unknown>>;
}

/** Receives what a monitor shows. Called for each event: must not throw, must not wait. */
export interface MonitorListener {
  /** A record of the event ring with its payload; the bytes may be reused after the call. */
  record(record: Uint8Array): void;
  agent(event: AgentEvent): void;
  /** So many records were lost before they reached the agent. */
  lost(count: number): void;
}

export type SimulatedChange =
  | { readonly sources: readonly PolicySource[]; readonly options: PolicyImportOptions }
  /** Of the rules to delete; none: all rules. */
  | { readonly delete: readonly string[] };

/** What people ask about the policy. */
export interface PolicyQuestions {
  /** Selectors of peers in use. */
  selectors(): readonly SelectorMapping[];
  /** Selectors of rules' subjects; of identities they name only those of endpoints here. */
  subjectSelectors(): readonly SelectorMapping[];
  /** Would a flow between these labels pass? Nobody needs to have them. */
  trace(selector: CheckedTraceSelector): PolicyTraceResult;
  /** Why a flow passes or not, in both directions, by the rules and in the kernel. */
  explain(question: CheckedFlowQuestion): FlowExplanationModel;
  /** What an import or a deletion would change; throws what it would throw. */
  simulate(change: SimulatedChange): SimulationModel;
}

export interface AgentServices {
  status(): StatusResponse | Promise<StatusResponse>;
  version(): VersionInfo;

  config(): DaemonConfiguration;
  /**
   * Changes options; a value that does not exist is refused and then nothing is changed. The names are among
   * `status.realized.options`, and where the present value is Enabled or Disabled, so is the new one.
   */
  changeConfig(change: DaemonConfigurationSpec): Promise<void>;

  endpoints(): readonly Endpoint[];
  /** Replaces the labels set by hand; answers when the new identity is in force. */
  setEndpointLabels(id: number, labels: LabelConfigurationSpec): Promise<void>;

  /** All identities known here, the reserved ones included. */
  identities(): readonly Identity[];
  labelsOf(identity: number): readonly string[] | undefined;

  /** All nodes of the cluster, this one first. */
  nodes(): ClusterNodeStatus;
  /** What ipcache knows, in ascending order; with a range only what is inside of it. */
  addresses(range?: Prefix): readonly IpListEntry[];
  /** The key-value store by hand. */
  readonly kvstore: Pick<ManualAccess, 'get' | 'list' | 'set' | 'delete' | 'deleteAll'>;

  /** The rules that carry all these labels (a label of source `any` stands for any source); no labels: all rules. */
  policy(labels: readonly string[]): PolicyView;
  /** Checks and adds rules, remembers them durably and answers the new revision; refuses them as a whole or not at all. */
  importPolicy(sources: readonly PolicySource[], options: PolicyImportOptions): Promise<number>;
  /** What the import would do, or throws what it would throw. Nothing is changed. */
  planPolicy(sources: readonly PolicySource[], options: PolicyImportOptions): PolicyPlan;
  /** Deletes the rules and CIDR groups that carry all these labels; no labels: all. Those of watched files stay. */
  deletePolicy(labels: readonly string[]): Promise<PolicyDeletion>;

  readonly questions: PolicyQuestions;

  maps(): readonly BpfMap[];
  /** One map with its entries, by its name such as `cilium_ipcache`; undefined when there is none. */
  map(name: string): BpfMap | undefined;

  /** Begins to call the listener; the answer ends that. */
  subscribeMonitor(listener: MonitorListener): () => void;
}
