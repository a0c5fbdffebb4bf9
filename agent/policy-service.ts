// SPDX-License-Identifier: Apache-2.0

/**
 * Rules on their way in and out: checked, remembered on disk, resolved, in force; in this order, one change at a time.
 *
 * A change that cannot be remembered is taken back, so what is in force is always what a restart would bring back.
 */
import { join } from 'node:path';
import { z } from 'zod';
import { CiliumError } from '../errors/cilium-error.ts';
import type { Label } from '../identity/label.ts';
import { parseRules } from '../policy/parse/rule.ts';
import type { ImportOptions, PolicyRepository } from '../policy/repository.ts';
import type { PolicySource } from '../policy/resources/policy-item.ts';
import { parseSources } from '../policy/resources/policy-source.ts';
import { ruleToJson } from '../policy/rule-json.ts';
import { re2 } from '../runtime/re2.ts';
import { SerialQueue } from '../runtime/serial-queue.ts';
import { readJsonFile, writeJsonFile } from '../runtime/state-file.ts';

const PolicyFile = z.strictObject({ version: z.literal(1), rules: z.array(z.unknown()) });

export interface PolicyServiceDeps {
  readonly repository: PolicyRepository;
  /** Brings what changed into the kernel. */
  readonly enforce: () => void;
  readonly stateDir: string;
}

export class PolicyService {
  readonly #repository: PolicyRepository;
  readonly #enforce: () => void;
  readonly #path: string;
  readonly #changes = new SerialQueue('policy');

  constructor({ repository, enforce, stateDir }: PolicyServiceDeps) {
    this.#repository = repository;
    this.#enforce = enforce;
    this.#path = join(stateDir, 'policy.json');
  }

  /** Reads the remembered rules, before anything is enforced; answers how many. Throws when the file is not ours. */
  async restore(): Promise<number> {
    const rules = (await readJsonFile(this.#path, PolicyFile))?.rules ?? [];
    if (rules.length > 0) this.#repository.import(parseRules(rules, { regex: re2 }));
    return rules.length;
  }

  /** Rules as plain data, in the order of import; with labels, those that carry them all. */
  rules(labels: readonly Label[] = []): object[] {
    return this.#repository.rules(labels).map(ruleToJson);
  }

  /** Checks all rules, then adds them; answers the revision they are in force with. */
  async import(sources: readonly PolicySource[], options: ImportOptions): Promise<number> {
    const { rules: parsed, groups } = parseSources(sources, { regex: re2 });
    if (groups.length > 0) throw new CiliumError('Unsupported', 'CIDR groups are not supported yet');
    return this.#change(() => this.#repository.import(parsed, options));
  }

  /** Deletes the rules that carry all the labels, without labels all rules; answers how many went. */
  async delete(labels: readonly Label[]): Promise<number> {
    return this.#change(() => this.#repository.deleteByLabels(labels).deleted);
  }

  #change<T>(change: () => T): Promise<T> {
    return this.#changes.run(async () => {
      const before = this.#repository.rules();
      const answer = change();
      try {
        await writeJsonFile(this.#path, { version: 1, rules: this.rules() });
      } catch (error) {
        this.#repository.deleteAll();
        this.#repository.import(before);
        this.#enforce();
        throw error;
      }
      this.#enforce();
      return answer;
    });
  }
}
