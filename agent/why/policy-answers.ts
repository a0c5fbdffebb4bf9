// SPDX-License-Identifier: Apache-2.0

/** Answers what people ask about the policy, as models of the API; changes nothing. */
import type { CheckedFlowQuestion, FlowExplanationModel } from '../../api/explain-models.ts';
import type { CheckedTraceSelector, PolicyTraceResult, SelectorMapping } from '../../api/policy-models.ts';
import type { SimulationModel } from '../../api/simulation-models.ts';
import { LabelSet } from '../../identity/label-set.ts';
import { parseSelectLabel } from '../../identity/label.ts';
import { RESERVED_IDENTITIES, type NumericIdentity } from '../../identity/numeric-identity.ts';
import { IpAddress } from '../../net/ip.ts';
import { explainFlow } from '../../policy/explain-flow.ts';
import { IP_PROTOCOL, type PolicyEntry } from '../../policy/map-entry.ts';
import type { CidrGroup } from '../../policy/peer-selectors.ts';
import type { ImportOptions } from '../../policy/replacement.ts';
import type { PolicyRepository, SelectorInfo } from '../../policy/repository.ts';
import { simulateImport } from '../../policy/simulation.ts';
import { tracePolicy } from '../../policy/trace.ts';
import { closedModel, explanationModel, referencesTo } from './explanation-model.ts';
import { flowPairs } from './flow-pairs.ts';
import { containerLabel, FlowEnds, type FlowEndsDeps, type NamedEnd } from './flow-ends.ts';
import type { PolicyService } from '../policy/policy-service.ts';
import type { PolicyImportOptions, PolicyQuestions, SimulatedChange } from '../rest/services.ts';
import type { SeenFlows } from './seen-flows.ts';
import { flowDifferences, policyDifferences, sidesOf } from './simulation.ts';
import { placeText, type Places } from './places.ts';
import { traceText } from './trace-text.ts';

export interface PolicyAnswersDeps extends FlowEndsDeps {
  readonly repository: PolicyRepository;
  readonly places: Pick<Places, 'nodeOf' | 'nameAt' | 'addressOf' | 'nodesWith'>;
  readonly policy: Pick<PolicyService, 'planImport' | 'planDeletion'>;
  readonly flows: Pick<SeenFlows, 'list' | 'skipped' | 'since'>;
  /** How many events of the kernel never came here. */
  readonly lostEvents: () => number;
  /** What the kernel holds for an endpoint; undefined when that is nothing yet. */
  readonly kernelEntries: (endpoint: number) => readonly PolicyEntry[] | undefined;
}

const PROTOCOL_NUMBERS: Readonly<Record<CheckedFlowQuestion['protocol'], number>> = { ANY: 0, ...IP_PROTOCOL };

/** So many nodes are named. */
const MAX_NODES = 5;

export class PolicyAnswers implements PolicyQuestions {
  readonly #deps: PolicyAnswersDeps;
  readonly #ends: FlowEnds;

  constructor(deps: PolicyAnswersDeps) {
    this.#deps = deps;
    this.#ends = new FlowEnds(deps);
  }

  selectors(): SelectorMapping[] {
    return this.#deps.repository.selectors().map(selectorMapping);
  }

  subjectSelectors(): SelectorMapping[] {
    return this.#deps.repository.subjectSelectors().map(selectorMapping);
  }

  trace({ from, to, verbose }: CheckedTraceSelector): PolicyTraceResult {
    const trace = tracePolicy(this.#deps.repository, {
      from: LabelSet.of(from.labels.map(containerLabel)),
      to: LabelSet.of(to.labels.map(containerLabel)),
      ports: to.dports,
    });
    const elsewhere = { egress: this.#elsewhere(trace.from), ingress: this.#elsewhere(trace.to) };
    return { verdict: trace.verdict, log: traceText(trace, { verbose, elsewhere }) };
  }

  explain(question: CheckedFlowQuestion): FlowExplanationModel {
    const { repository, endpoints, kernelEntries } = this.#deps;
    const [from, to] = this.#endsOf(question);
    const packet = { protocol: PROTOCOL_NUMBERS[question.protocol], port: question.port };
    if (isNobodysAddress(from) || isNobodysAddress(to)) return closedModel(packet, from, to);
    const listed = endpoints();
    return explanationModel(explainFlow(repository, { from, to, ...packet }), {
      rules: repository.rules(),
      from,
      to,
      endpoint: (id) => listed.find((endpoint) => endpoint.id === id),
      kernelEntries,
    });
  }

  simulate(change: SimulatedChange): SimulationModel {
    const { repository, policy, flows } = this.#deps;
    const view = repository.view();
    const context = {
      repository,
      endpoints: this.#deps.endpoints(),
      identityOfAddress: this.#deps.identityOfAddress,
      hasPolicy: (id: NumericIdentity) => view.policyOf(id) !== undefined,
      dropsRedirects: view.dropsRedirects,
    };
    const { added, removed } =
      'delete' in change
        ? policy.planDeletion(change.delete.map(parseSelectLabel))
        : policy.planImport(change.sources, importOptions(change.options));
    const groups = new Map<string, CidrGroup | undefined>(removed.groups.map(({ name }) => [name, undefined]));
    for (const { name, group } of added.groups) groups.set(name, group);
    const identities = new Map(context.endpoints.map(({ id, status }) => [id, status.identity?.id]));
    const pairs = flowPairs(flows.list(), (endpoint) => identities.get(endpoint));
    const simulation = simulateImport(
      repository,
      { add: added.rules, options: { replaceRules: new Set(removed.rules) }, groups: [...groups] },
      { flows: pairs.flatMap((pair) => sidesOf(pair, context)) },
    );
    return {
      revision: repository.revision,
      rules: { added: simulation.added.length, removed: referencesTo(simulation.removed, repository.rules()) },
      policies: policyDifferences(simulation, context),
      flows: {
        seen: pairs.length,
        since: new Date(flows.since).toISOString(),
        missed: flows.skipped + this.#deps.lostEvents(),
        changed: flowDifferences(simulation, context),
      },
    };
  }

  /** Nodes of those with these labels, where none of them is here. */
  #elsewhere(labels: LabelSet): string | undefined {
    const { endpoints, places } = this.#deps;
    const id = this.#ends.identityWith(labels);
    if (id === undefined || endpoints().some(({ status }) => status.identity?.id === id)) return undefined;
    const nodes = places.nodesWith(id).map(placeText);
    const more = nodes.length > MAX_NODES ? ` and ${nodes.length - MAX_NODES} more nodes` : '';
    return nodes.length === 0 ? undefined : `${nodes.slice(0, MAX_NODES).join(', ')}${more}`;
  }

  /** The world is that of the family of the other end's address, or of the ICMP asked for. */
  #endsOf({ from, to, protocol }: CheckedFlowQuestion): [NamedEnd, NamedEnd] {
    const ipv6 = protocol === 'ICMPv6' || [from, to].some((name) => IpAddress.isValid(name) && name.includes(':'));
    return [this.#ends.find(from, ipv6 ? 6 : 4), this.#ends.find(to, ipv6 ? 6 : 4)];
  }
}

function isNobodysAddress({ identity, address }: NamedEnd): boolean {
  return address !== undefined && identity === RESERVED_IDENTITIES.unknown;
}

function importOptions({ replace, replaceWithLabels }: PolicyImportOptions): ImportOptions {
  return {
    replace,
    ...(replaceWithLabels.length > 0 && { replaceWithLabels: replaceWithLabels.map(parseSelectLabel) }),
  };
}

function selectorMapping({ selector, rules, identities }: SelectorInfo): SelectorMapping {
  return {
    selector: selector === '' ? '*' : selector,
    labels: rules.flatMap(({ labels }) => labels.map(({ key, value, source }) => ({ key, value, source }))),
    users: rules.length,
    identities: [...identities],
  };
}
