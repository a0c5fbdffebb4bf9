// SPDX-License-Identifier: Apache-2.0

/** Answers what people ask about the policy, as models of the API; changes nothing. */
import type { SelectorMapping } from '../api/policy-models.ts';
import type { PolicyRepository, SelectorInfo } from '../policy/repository.ts';
import type { PolicyQuestions } from './rest/services.ts';

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
}

function selectorMapping({ selector, rules, identities }: SelectorInfo): SelectorMapping {
  return {
    selector: selector === '' ? '*' : selector,
    labels: rules.flatMap(({ labels }) => labels.map(({ key, value, source }) => ({ key, value, source }))),
    users: rules.length,
    identities: [...identities],
  };
}
