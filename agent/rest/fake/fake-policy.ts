// SPDX-License-Identifier: Apache-2.0

/** The policy of a fake agent: a real repository that knows the fake endpoints, and real answers. */
import type { Endpoint } from '../../../api/models.ts';
import { LabelSet } from '../../../identity/label-set.ts';
import { LOCAL_IDENTITY_MIN, numericIdentity } from '../../../identity/numeric-identity.ts';
import { PolicyRepository } from '../../../policy/repository.ts';
import { PolicyAnswers } from '../../policy-answers.ts';

export class FakePolicy {
  readonly repository: PolicyRepository;
  readonly answers: PolicyAnswers;
  #lastLocal: number = LOCAL_IDENTITY_MIN;

  constructor(endpoints: readonly Endpoint[]) {
    this.repository = new PolicyRepository({
      enforcement: 'default',
      allowLocalhost: 'auto',
      cidrIdentities: { acquire: () => numericIdentity(this.#lastLocal++), release: () => undefined },
    });
    for (const { status } of endpoints) {
      const id = numericIdentity(status.identity!.id);
      this.repository.addIdentity(id, LabelSet.fromTexts(status.identity!.labels));
      this.repository.addSubject(id);
    }
    this.answers = new PolicyAnswers({ repository: this.repository });
  }
}
