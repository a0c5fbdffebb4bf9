// SPDX-License-Identifier: Apache-2.0

/** Answers what people ask about the policy, as models of the API; changes nothing. */
import type { CheckedTraceSelector, PolicyTraceResult, SelectorMapping } from '../api/policy-models.ts';
import { LabelSet } from '../identity/label-set.ts';
import { LABEL_SOURCE, parseLabel } from '../identity/label.ts';
import type { PolicyRepository, SelectorInfo } from '../policy/repository.ts';
import { tracePolicy } from '../policy/trace.ts';
import type { PolicyQuestions } from './rest/services.ts';
import { traceText } from './trace-text.ts';

export interface PolicyAnswersDeps {
  readonly repository: PolicyRepository;
}

export class PolicyAnswers implements PolicyQuestions {
  readonly #deps: PolicyAnswersDeps;

  constructor(deps: PolicyAnswersDeps) {
    this.#deps = deps;
  }

  selectors(): SelectorMapping[] {
    return this.#deps.repository.selectors().map(selectorMapping);
  }

  subjectSelectors(): SelectorMapping[] {
    return this.#deps.repository.subjectSelectors().map(selectorMapping);
  }

  trace({ from, to, verbose }: CheckedTraceSelector): PolicyTraceResult {
    const trace = tracePolicy(this.#deps.repository, {
      from: labelSet(from.labels),
      to: labelSet(to.labels),
      ports: to.dports,
    });
    return { verdict: trace.verdict, log: traceText(trace, verbose) };
  }
}

/** Labels as people write them: without a source they are a container's. */
function labelSet(texts: readonly string[]): LabelSet {
  const labels = texts.map(parseLabel);
  return LabelSet.of(
    labels.map((label) =>
      label.source === LABEL_SOURCE.unspec ? { ...label, source: LABEL_SOURCE.container } : label,
    ),
  );
}

function selectorMapping({ selector, rules, identities }: SelectorInfo): SelectorMapping {
  return {
    selector: selector === '' ? '*' : selector,
    labels: rules.flatMap(({ labels }) => labels.map(({ key, value, source }) => ({ key, value, source }))),
    users: rules.length,
    identities: [...identities],
  };
}
