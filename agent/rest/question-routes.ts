// SPDX-License-Identifier: Apache-2.0

/** Paths of the REST API below /policy that change nothing: who is selected, what would happen, and why. */
import type { Router } from 'express';
import { flowQuestion } from '../../api/explain-models.ts';
import { PATHS } from '../../api/paths.ts';
import { traceSelector } from '../../api/policy-models.ts';
import { simulationRequest, type CheckedSimulationRequest } from '../../api/simulation-models.ts';
import { answer, bodyOf, sourcesOf } from './answer.ts';
import type { PolicyQuestions, SimulatedChange } from './services.ts';

export function addQuestionRoutes(router: Router, questions: PolicyQuestions): void {
  router.get(
    PATHS.policySelectors,
    answer(() => questions.selectors()),
  );
  router.get(
    PATHS.policySubjectSelectors,
    answer(() => questions.subjectSelectors()),
  );
  router.get(
    PATHS.policyResolve,
    answer((request) => questions.trace(bodyOf(request, traceSelector))),
  );
  router.get(
    PATHS.policyExplain,
    answer((request) => questions.explain(bodyOf(request, flowQuestion))),
  );
  router.post(
    PATHS.policySimulate,
    answer((request) => questions.simulate(changeOf(bodyOf<CheckedSimulationRequest>(request, simulationRequest)))),
  );
}

function changeOf(request: CheckedSimulationRequest): SimulatedChange {
  if ('delete' in request) return request;
  return {
    sources: sourcesOf(request),
    options: { replace: request.replace, replaceWithLabels: request['replace-with-labels'] },
  };
}
