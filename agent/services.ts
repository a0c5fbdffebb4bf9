// SPDX-License-Identifier: Apache-2.0

/** What the REST API offers, put together from the parts of the agent. */
import type {
  BpfMap,
  DaemonConfiguration,
  DaemonConfigurationSpec,
  Endpoint as EndpointModel,
  Identity,
  LabelConfigurationSpec,
  PolicyPlan,
  StatusResponse,
  VersionInfo,
} from '../api/models.ts';
import type { IpListEntry } from '../api/cluster-models.ts';
import type { ClusterNodeStatus } from '../api/node-models.ts';
import { ownVersion } from '../api/version.ts';
import type { Endpoint } from '../endpoint/endpoint.ts';
import type { EndpointManager } from '../endpoint/endpoint-manager.ts';
import { CiliumError } from '../errors/cilium-error.ts';
import { parseLabel, parseSelectLabel } from '../identity/label.ts';
import { LabelSet } from '../identity/label-set.ts';
import { numericIdentity } from '../identity/numeric-identity.ts';
import type { ImportOptions } from '../policy/replacement.ts';
import type { PolicyRepository } from '../policy/repository.ts';
import type { PolicySource } from '../policy/resources/policy-item.ts';
import type { ManualAccess } from '../kvstore/manual-access.ts';
import type { Prefix } from '../net/ip.ts';
import type { ClusterView } from './cluster-view.ts';
import { endpointModel } from './endpoint-model.ts';
import type { Identities } from './identities.ts';
import type { MonitorHub } from './monitor-hub.ts';
import { planOf } from './policy/policy-plan.ts';
import type { PolicyService } from './policy/policy-service.ts';
import type {
  AgentServices,
  PolicyDeletion,
  PolicyQuestions,
  MonitorListener,
  PolicyImportOptions,
  PolicyView,
} from './rest/services.ts';

const NOTHING_ENFORCED = { ingress: false, egress: false };

export interface ServicesDeps {
  readonly options: Readonly<Record<string, unknown>>;
  readonly endpoints: EndpointManager;
  readonly identities: Identities;
  readonly repository: PolicyRepository;
  /** Identities that mean something on this node only, with the text of their labels. */
  readonly localIdentities: () => Iterable<{ readonly id: number; readonly labels: string }>;
  readonly cluster: ClusterView;
  readonly kvstore: ManualAccess;
  readonly policy: PolicyService;
  readonly questions: PolicyQuestions;
  readonly monitor: MonitorHub;
  /** Brings a change of the repository into the kernel. */
  readonly enforce: () => void;
  readonly status: () => Promise<StatusResponse>;
  /** How many entries one policy may have. */
  readonly maxPolicyEntries: () => number;
  readonly maps: () => readonly BpfMap[];
  readonly map: (name: string) => BpfMap | undefined;
}

export class Services implements AgentServices {
  readonly #deps: ServicesDeps;

  constructor(deps: ServicesDeps) {
    this.#deps = deps;
  }

  status(): Promise<StatusResponse> {
    return this.#deps.status();
  }

  version(): VersionInfo {
    return ownVersion();
  }

  config(): DaemonConfiguration {
    const enforcement = this.#deps.repository.enforcement;
    return {
      spec: { options: {}, 'policy-enforcement': enforcement },
      status: {
        realized: { options: {}, 'policy-enforcement': enforcement },
        daemonConfigurationMap: { ...this.#deps.options },
      },
    };
  }

  changeConfig(change: DaemonConfigurationSpec): Promise<void> {
    const unknown = Object.keys(change.options ?? {});
    if (unknown.length > 0) {
      throw new CiliumError(
        'InvalidArgument',
        `options ${unknown.join(', ')} cannot be changed while the agent runs; PolicyEnforcement can`,
      );
    }
    const mode = change['policy-enforcement'];
    if (mode !== undefined && mode !== this.#deps.repository.enforcement) {
      this.#deps.repository.setEnforcement(mode);
      this.#deps.enforce();
      this.#deps.monitor.publish({ type: 'Policy enforcement changed', message: { mode } });
    }
    return Promise.resolve();
  }

  endpoints(): EndpointModel[] {
    return this.#deps.endpoints.list().map((endpoint) => this.#model(endpoint));
  }

  async setEndpointLabels(id: number, { user, disabled }: LabelConfigurationSpec): Promise<void> {
    user.forEach(parseLabel);
    disabled.forEach(parseSelectLabel);
    await this.#deps.endpoints.changeLabels(id, { added: user, disabled });
  }

  identities(): Identity[] {
    const shared = this.#deps.identities.list().map(({ id, labels }) => ({ id, labels: labels.toTexts() }));
    const local = Array.from(this.#deps.localIdentities(), ({ id, labels }) => {
      return { id, labels: LabelSet.parse(labels).toTexts() };
    });
    return [...shared, ...local.sort((a, b) => a.id - b.id)];
  }

  labelsOf(identity: number): string[] | undefined {
    return this.#deps.repository.labelsOf(numericIdentity(identity))?.toTexts();
  }

  nodes(): ClusterNodeStatus {
    return this.#deps.cluster.nodes();
  }

  addresses(range?: Prefix): IpListEntry[] {
    return this.#deps.cluster.addresses(range);
  }

  get kvstore(): ManualAccess {
    return this.#deps.kvstore;
  }

  policy(labels: readonly string[]): PolicyView {
    return {
      revision: this.#deps.repository.revision,
      rules: this.#deps.policy.rules(labels.map(parseSelectLabel)),
    };
  }

  async importPolicy(sources: readonly PolicySource[], options: PolicyImportOptions): Promise<number> {
    const revision = await this.#deps.policy.import(sources, importOptions(options));
    this.#deps.monitor.publish({
      type: 'Policy updated',
      message: { rules: sources.flatMap(({ items }) => items).length, revision },
    });
    return revision;
  }

  planPolicy(sources: readonly PolicySource[], options: PolicyImportOptions): PolicyPlan {
    const { policy, repository } = this.#deps;
    return planOf(repository, policy.planImport(sources, importOptions(options)), this.#deps.maxPolicyEntries());
  }

  async deletePolicy(labels: readonly string[]): Promise<PolicyDeletion> {
    const { deleted, watchedFiles } = await this.#deps.policy.delete(labels.map(parseSelectLabel));
    const { revision } = this.#deps.repository;
    this.#deps.monitor.publish({ type: 'Policy deleted', message: { rules: deleted, labels: [...labels], revision } });
    return { revision, deleted, watchedFiles };
  }

  get questions(): PolicyQuestions {
    return this.#deps.questions;
  }

  maps(): readonly BpfMap[] {
    return this.#deps.maps();
  }

  map(name: string): BpfMap | undefined {
    return this.#deps.map(name);
  }

  subscribeMonitor(listener: MonitorListener): () => void {
    return this.#deps.monitor.subscribe(listener);
  }

  #model(endpoint: Endpoint): EndpointModel {
    const { repository, identities } = this.#deps;
    const id = endpoint.identity?.identity;
    const enforced =
      id !== undefined && endpoint.policySlot !== 0 ? repository.enforced(numericIdentity(id)) : NOTHING_ENFORCED;
    const derived = endpoint.identity ? identities.informationLabels(endpoint.identity.container) : [];
    return endpointModel(endpoint, { revision: repository.revision, enforced }, derived);
  }
}

function importOptions({ replace, replaceWithLabels }: PolicyImportOptions): ImportOptions {
  return {
    replace,
    ...(replaceWithLabels.length > 0 && { replaceWithLabels: replaceWithLabels.map(parseSelectLabel) }),
  };
}
