// SPDX-License-Identifier: Apache-2.0

/** Answers what people ask about the policy, as models of the API; changes nothing. */
import type { CheckedFlowQuestion, FlowExplanationModel } from '../api/explain-models.ts';
import type { CheckedTraceSelector, PolicyTraceResult, SelectorMapping } from '../api/policy-models.ts';
import { LabelSet } from '../identity/label-set.ts';
import { IpAddress } from '../net/ip.ts';
import { explainFlow } from '../policy/explain-flow.ts';
import { IP_PROTOCOL, type PolicyEntry } from '../policy/map-entry.ts';
import type { PolicyRepository, SelectorInfo } from '../policy/repository.ts';
import { tracePolicy } from '../policy/trace.ts';
import { explanationModel } from './explanation-model.ts';
import { containerLabel, FlowEnds, type FlowEndsDeps, type NamedEnd } from './flow-ends.ts';
import type { PolicyQuestions } from './rest/services.ts';
import { traceText } from './trace-text.ts';

export interface PolicyAnswersDeps extends FlowEndsDeps {
  readonly repository: PolicyRepository;
  /** What the kernel holds for an endpoint; undefined when that is nothing yet. */
  readonly kernelEntries: (endpoint: number) => readonly PolicyEntry[] | undefined;
}

const PROTOCOL_NUMBERS: Readonly<Record<CheckedFlowQuestion['protocol'], number>> = { ANY: 0, ...IP_PROTOCOL };

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
    return { verdict: trace.verdict, log: traceText(trace, verbose) };
  }

  explain(question: CheckedFlowQuestion): FlowExplanationModel {
    const { repository, endpoints, kernelEntries } = this.#deps;
    const [from, to] = this.#endsOf(question);
    const packet = { protocol: PROTOCOL_NUMBERS[question.protocol], port: question.port };
    const listed = endpoints();
    return explanationModel(explainFlow(repository, { from, to, ...packet }), {
      rules: repository.rules(),
      from,
      to,
      endpoint: (id) => listed.find((endpoint) => endpoint.id === id),
      kernelEntries,
    });
  }

  /** The world is that of the family of the other end's address, or of the ICMP asked for. */
  #endsOf({ from, to, protocol }: CheckedFlowQuestion): [NamedEnd, NamedEnd] {
    const ipv6 = protocol === 'ICMPv6' || [from, to].some((name) => IpAddress.isValid(name) && name.includes(':'));
    return [this.#ends.find(from, ipv6 ? 6 : 4), this.#ends.find(to, ipv6 ? 6 : 4)];
  }
}

function selectorMapping({ selector, rules, identities }: SelectorInfo): SelectorMapping {
  return {
    selector: selector === '' ? '*' : selector,
    labels: rules.flatMap(({ labels }) => labels.map(({ key, value, source }) => ({ key, value, source }))),
    users: rules.length,
    identities: [...identities],
  };
}
