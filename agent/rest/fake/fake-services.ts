// SPDX-License-Identifier: Apache-2.0

/** An agent of two endpoints and no kernel, for tests of the handlers and of the command line. */
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
} from '../../../api/models.ts';
import type { IpListEntry } from '../../../api/cluster-models.ts';
import type { ClusterNodeStatus, NodeElement } from '../../../api/node-models.ts';
import { CiliumError } from '../../../errors/cilium-error.ts';
import { parseLabel, selectsLabel } from '../../../identity/label.ts';
import type { PolicySource } from '../../../policy/resources/policy-item.ts';
import { parseSources } from '../../../policy/resources/policy-source.ts';
import { planOf } from '../../policy/policy-plan.ts';
import type { KvEntry } from '../../../kvstore/kvstore.ts';
import { ManualAccess } from '../../../kvstore/manual-access.ts';
import { Prefix } from '../../../net/ip.ts';
import { fakeAddresses, FakeKeys, fakeNodes } from './fake-cluster.ts';
import { FakePolicy } from './fake-policy.ts';
import type { AgentServices, MonitorListener, PolicyDeletion, PolicyImportOptions, PolicyView } from '../services.ts';

export class FakeServices implements AgentServices {
  readonly listeners = new Set<MonitorListener>();
  readonly imports: { sources: readonly PolicySource[]; options: PolicyImportOptions }[] = [];
  statusResponse: StatusResponse = fakeStatus();
  endpointList: Endpoint[] = [
    fakeEndpoint(173, { ipv4: '10.11.0.40', ipv6: 'f00d::b2f1', labels: ['container:id=app1', 'container:tier=web'] }),
    fakeEndpoint(29, { ipv4: '10.11.0.87', ipv6: 'f00d::b08c', labels: ['container:id=app2'] }),
  ];
  readonly world = new FakePolicy(this.endpointList);
  readonly questions = this.world.answers;
  nodeList: NodeElement[] = fakeNodes();
  addressList: IpListEntry[] = fakeAddresses();
  /** What the store holds. */
  readonly keys = new Map<string, KvEntry>();
  readonly kvstore = new ManualAccess(new FakeKeys(this.keys));
  mapList: BpfMap[] = [];
  rules: unknown[] = [];
  watchedFiles: string[] = [];
  maxPolicyEntries = 16_384;
  revision = 1;
  /** Whether the endpoints enforce what is imported. */
  realizes = true;
  configuration: DaemonConfiguration = fakeConfiguration();

  status(): StatusResponse | Promise<StatusResponse> {
    return this.statusResponse;
  }

  version(): VersionInfo {
    return { Version: '7.8.9', Runtime: 'node v24.0.0', Arch: 'linux/x64' };
  }

  config(): DaemonConfiguration {
    return this.configuration;
  }

  changeConfig(change: DaemonConfigurationSpec): Promise<void> {
    const { realized } = this.configuration.status;
    if (change.options?.MonitorAggregationLevel === 'Sometimes') {
      return Promise.reject(new CiliumError('InvalidArgument', 'MonitorAggregationLevel cannot be "Sometimes"'));
    }
    Object.assign(realized.options, change.options);
    realized['policy-enforcement'] = change['policy-enforcement'] ?? realized['policy-enforcement'];
    return Promise.resolve();
  }

  endpoints(): readonly Endpoint[] {
    return this.endpointList;
  }

  setEndpointLabels(id: number, labels: LabelConfigurationSpec): Promise<void> {
    const found = this.endpointList.find((endpoint) => endpoint.id === id)!;
    const { status } = found;
    const kept = status.labels['security-relevant'].filter((label) => !labels.disabled.includes(label));
    status.labels = { realized: labels, derived: [], 'security-relevant': [...kept, ...labels.user].sort() };
    return Promise.resolve();
  }

  identities(): readonly Identity[] {
    const reserved = [
      { id: 1, labels: ['reserved:host'] },
      { id: 2, labels: ['reserved:world'] },
    ];
    return [...reserved, ...this.endpointList.flatMap(({ status }) => status.identity ?? [])];
  }

  labelsOf(id: number): readonly string[] | undefined {
    return this.identities().find((identity) => identity.id === id)?.labels;
  }

  nodes(): ClusterNodeStatus {
    return { self: this.nodeList[0]!.name, 'nodes-added': this.nodeList, 'nodes-removed': [] };
  }

  addresses(range?: Prefix): readonly IpListEntry[] {
    return this.addressList.filter(({ cidr }) => range?.contains(Prefix.parse(cidr)) !== false);
  }

  policy(labels: readonly string[]): PolicyView {
    return { revision: this.revision, rules: this.rules.filter((rule) => carries(rule, labels)) };
  }

  importPolicy(sources: readonly PolicySource[], options: PolicyImportOptions): Promise<number> {
    return Promise.resolve().then(() => {
      this.world.repository.import(parseSources(sources).rules);
      this.imports.push({ sources, options });
      this.rules.push(...sources.flatMap(({ items }) => items.map(({ value }) => value)));
      this.revision += 1;
      for (const { status } of this.realizes ? this.endpointList : []) {
        status.policy.realized['policy-revision'] = this.revision;
      }
      return this.revision;
    });
  }

  planPolicy(sources: readonly PolicySource[], options: PolicyImportOptions): PolicyPlan {
    const added = parseSources(sources);
    const replaced = options.replace ? this.rules : [];
    const plan = planOf(this.world.repository, { added, removed: { rules: [], groups: [] } }, this.maxPolicyEntries);
    return { ...plan, revision: this.revision, removed: replaced.map(() => ({ labels: ['unspec:name=web'] })) };
  }

  deletePolicy(labels: readonly string[]): Promise<PolicyDeletion> {
    const kept = this.rules.filter((rule) => !carries(rule, labels));
    const deleted = this.rules.length - kept.length;
    this.rules = kept;
    if (deleted > 0) this.revision += 1;
    return Promise.resolve({ revision: this.revision, deleted, watchedFiles: this.watchedFiles });
  }

  maps(): readonly BpfMap[] {
    return this.mapList;
  }

  map(name: string): BpfMap | undefined {
    return this.mapList.find((map) => map.path.endsWith(`/${name}`));
  }

  subscribeMonitor(listener: MonitorListener): () => void {
    this.listeners.add(listener);
    return () => this.listeners.delete(listener);
  }
}

export function fakeEndpoint(
  id: number,
  facts: { ipv4: string; ipv6: string; labels: string[]; enabled?: 'none' | 'ingress' | 'egress' | 'both' },
): Endpoint {
  const policy = { 'policy-revision': 1, 'policy-enabled': facts.enabled ?? 'none' };
  return {
    id,
    status: {
      state: 'ready',
      'external-identifiers': {
        'container-id': `c0ffee${id}`,
        'container-name': `box${id}`,
        'docker-endpoint-id': `d0c${id}`,
        'docker-network-id': 'n1',
      },
      identity: { id: 41_000 + id, labels: facts.labels },
      labels: { realized: { user: [], disabled: [] }, 'security-relevant': facts.labels, derived: [] },
      networking: {
        addressing: [{ ipv4: facts.ipv4, ipv6: facts.ipv6 }],
        'host-mac': '02:00:00:00:00:01',
        mac: '02:00:00:00:00:02',
        'interface-name': `lxc${id}`,
        'interface-index': id,
      },
      policy: { spec: { ...policy }, realized: { ...policy } },
      health: { overallHealth: 'OK', connected: true },
      log: [{ timestamp: '2026-01-05T10:01:12Z', code: 'OK', state: 'ready', message: 'Policy is in force' }],
    },
  };
}

function fakeStatus(): StatusResponse {
  return {
    cilium: { state: 'Ok', msg: '7.8.9' },
    kvstore: { state: 'Ok', msg: 'embedded: revision 12' },
    nodeMonitor: { cpus: 2, npages: 512, pagesize: 4096, lost: 0, unknown: 0 },
  };
}

function fakeConfiguration(): DaemonConfiguration {
  return {
    spec: {},
    status: {
      realized: { options: { Debug: 'Disabled', MonitorAggregationLevel: 'Medium' }, 'policy-enforcement': 'default' },
      daemonConfigurationMap: { 'enable-ipv4': true, 'label-ignore': ['container:com.docker.compose.*'] },
    },
  };
}

function carries(rule: unknown, labels: readonly string[]): boolean {
  const own = (rule as { labels?: { source?: string; key: string; value?: string }[] }).labels ?? [];
  const full = own.map(({ source, key, value }) => ({ source: source ?? 'unspec', key, value: value ?? '' }));
  return labels.every((label) => full.some((candidate) => selectsLabel(parseLabel(label), candidate)));
}
