// SPDX-License-Identifier: Apache-2.0

/** The policy of a fake agent: a real repository that knows the fake endpoints, and real answers. */
import type { Endpoint } from '../../../api/models.ts';
import { LabelSet } from '../../../identity/label-set.ts';
import { LOCAL_IDENTITY_MIN, numericIdentity, RESERVED_IDENTITIES } from '../../../identity/numeric-identity.ts';
import { Ipcache } from '../../../ipcache/ipcache.ts';
import { Prefix } from '../../../net/ip.ts';
import type { PolicyEntry } from '../../../policy/map-entry.ts';
import { replacedRules } from '../../../policy/replacement.ts';
import { PolicyRepository } from '../../../policy/repository.ts';
import { parseSources } from '../../../policy/resources/policy-source.ts';
import type { ClusterNode } from '../../../node/node.ts';
import type { RemoteAddress } from '../../../ipcache/shared/remote-addresses.ts';
import { Places } from '../../why/places.ts';
import { PolicyAnswers } from '../../why/policy-answers.ts';
import { NO_PROXY_PORT } from '../../policy/policy-language.ts';
import { SeenFlows } from '../../why/seen-flows.ts';

export class FakePolicy {
  readonly repository: PolicyRepository;
  readonly answers: PolicyAnswers;
  readonly flows = new SeenFlows({ now: () => Date.UTC(2026, 0, 5), monotonic: () => 0 });
  readonly ipcache = new Ipcache();
  /** Of the cluster, this one first. */
  nodes: readonly ClusterNode[] = [];
  remote: readonly RemoteAddress[] = [];
  #lastLocal: number = LOCAL_IDENTITY_MIN;

  /** Entries that an endpoint's kernel map holds in place of those that the rules make. */
  readonly kernel = new Map<number, readonly PolicyEntry[]>();

  constructor(endpoints: readonly Endpoint[]) {
    const { ipcache } = this;
    ipcache.upsert(Prefix.parse('0.0.0.0/0'), { identity: RESERVED_IDENTITIES['world-ipv4'] }, 'agent-local');
    ipcache.upsert(Prefix.parse('::/0'), { identity: RESERVED_IDENTITIES['world-ipv6'] }, 'agent-local');
    this.repository = new PolicyRepository({
      enforcement: 'default',
      allowLocalhost: 'auto',
      proxyPort: () => NO_PROXY_PORT,
      dropsRedirects: true,
      cidrIdentities: {
        acquire: (prefix) => {
          const identity = numericIdentity(this.#lastLocal++);
          ipcache.upsert(prefix, { identity }, 'generated');
          return identity;
        },
        release: (prefix) => ipcache.delete(prefix, 'generated'),
      },
    });
    for (const { status } of endpoints) {
      const id = numericIdentity(status.identity!.id);
      this.repository.addIdentity(id, LabelSet.fromTexts(status.identity!.labels));
      this.repository.addSubject(id);
    }
    this.answers = new PolicyAnswers({
      repository: this.repository,
      policy: {
        planImport: (sources, options) => {
          const added = parseSources(sources);
          const rules = [...replacedRules(this.repository.rules(), added.rules, options)];
          return { added, removed: { rules, groups: [] } };
        },
        planDeletion: (labels) => ({
          added: { rules: [], groups: [] },
          removed: { rules: this.repository.rules(labels), groups: [] },
        }),
      },
      flows: this.flows,
      lostEvents: () => 0,
      endpoints: () => endpoints,
      identityOfAddress: (address) => ipcache.lookup(address)?.entry.identity,
      places: new Places({ nodes: () => this.nodes, remote: () => this.remote }),
      kernelEntries: (id) => this.kernel.get(id) ?? this.#entriesOf(endpoints.find((endpoint) => endpoint.id === id)),
    });
  }

  #entriesOf(endpoint: Endpoint | undefined): PolicyEntry[] | undefined {
    const id = endpoint?.status.identity?.id;
    return id === undefined ? undefined : [...this.repository.entries(numericIdentity(id))];
  }
}
