// SPDX-License-Identifier: Apache-2.0

/**
 * Rules and CIDR groups on disk: each change is appended to a journal before it is in force, so one rule more costs the
 * same however many there are. The whole is written anew only when nothing else is to be done.
 */
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import { CiliumError } from '../../errors/cilium-error.ts';
import { cidrGroupToJson, type NamedCidrGroup } from '../../policy/resources/cidr-group.ts';
import type { ResourceOptions } from '../../policy/resources/metadata.ts';
import { parseSources, type PolicyContent } from '../../policy/resources/policy-source.ts';
import { ruleToJson } from '../../policy/rule-json.ts';
import type { Rule, RuleOrigin } from '../../policy/rule.ts';
import { formatPath, PolicyValidationError } from '../../policy/validation-error.ts';
import { Journal } from '../../runtime/journal.ts';
import { corruptFile, readJsonFile, syncFolder } from '../../runtime/state-file.ts';
import { asWatched } from './watched-content.ts';

/** What is stored, got and deleted one by one. */
export type PolicyElement = Rule | NamedCidrGroup;

const originSchema = z.strictObject({
  source: z.string().optional(),
  line: z.int().positive().optional(),
  index: z.int().nonnegative(),
  watched: z.literal(true).optional(),
});
/** `value` is the rule or resource as it can be imported. */
const recordSchema = z.strictObject({ id: z.int().positive(), value: z.looseObject({}), origin: originSchema });
const changeSchema = z.strictObject({ removed: z.array(z.int()), added: z.array(recordSchema) });
const imageSchema = z.array(recordSchema);
type Image = z.infer<typeof imageSchema>;
type Change = z.infer<typeof changeSchema>;

/** What the agent wrote before there was a journal: one file. */
const oldFileSchema = z.strictObject({ version: z.literal(1), rules: z.array(z.looseObject({})) });

export interface PolicyStoreOptions {
  readonly stateDir: string;
  readonly parse: ResourceOptions;
  readonly minCompactionBytes?: number | undefined;
}

export class PolicyStore {
  readonly #folder: string;
  readonly #oldFile: string;
  readonly #parse: ResourceOptions;
  readonly #journal: Journal<Image, Change>;
  /** In the order of their import. */
  readonly #ids = new Map<PolicyElement, number>();
  #lastId = 0;

  constructor({ stateDir, parse, minCompactionBytes }: PolicyStoreOptions) {
    this.#folder = join(stateDir, 'policy');
    this.#oldFile = join(stateDir, 'policy.json');
    this.#parse = parse;
    this.#journal = new Journal({ folder: this.#folder, image: imageSchema, change: changeSchema, minCompactionBytes });
  }

  /** Reads everything back. Throws when something is there that cannot be used; nothing is changed then. */
  async open(): Promise<PolicyContent> {
    const records = new Map<number, Image[number]>();
    await this.#journal.open({
      begin(image = []) {
        for (const record of image) records.set(record.id, record);
      },
      apply(change) {
        const unknown = change.removed.find((id) => !records.delete(id));
        for (const record of change.added) records.set(record.id, record);
        return unknown === undefined ? undefined : `takes away ${unknown}, which is not there`;
      },
    });
    const old = await readJsonFile(this.#oldFile, oldFileSchema);
    const isTakenOver = records.size > 0;
    if (old !== undefined && !isTakenOver) {
      old.rules.forEach((value, index) => records.set(index + 1, { id: index + 1, value, origin: { index } }));
    }
    const content = this.#restore([...records.values()]);
    if (old !== undefined) {
      if (!isTakenOver) await this.#journal.compact(this.#image());
      await rm(this.#oldFile);
      await syncFolder(join(this.#folder, '..'));
    }
    return content;
  }

  /** Resolves when the change is on disk; when it throws, nothing has changed. One call at a time. */
  async change(removed: Iterable<PolicyElement>, added: readonly PolicyElement[]): Promise<void> {
    const gone = [...removed];
    const records = added.map((element, index) => recordOf(this.#lastId + 1 + index, element));
    try {
      await this.#journal.append([{ removed: gone.map((element) => this.#ids.get(element)!), added: records }]);
    } catch (cause) {
      throw new CiliumError('System', 'the change cannot be remembered and was not made', {}, cause);
    }
    for (const element of gone) this.#ids.delete(element);
    for (const element of added) this.#ids.set(element, ++this.#lastId);
  }

  get isCompactionDue(): boolean {
    return this.#journal.isCompactionDue;
  }

  /** Writes the whole anew. No other call meanwhile. */
  async compact(): Promise<void> {
    await this.#journal.compact(this.#image());
  }

  async close(): Promise<void> {
    await this.#journal.close();
  }

  #image(): Image {
    return Array.from(this.#ids, ([element, id]) => recordOf(id, element));
  }

  #restore(records: readonly Image[number][]): PolicyContent {
    const isGroup = ({ value }: Image[number]): boolean => 'kind' in value;
    const ordered = [...records.filter((record) => !isGroup(record)), ...records.filter(isGroup)];
    const { rules, groups } = this.#parseRecords(ordered);
    const elements = [...rules, ...groups].map((element, index) => {
      const restored = { ...element, origin: ordered[index]!.origin as RuleOrigin };
      // Unlike that of a rule, the label of a group is not among what its resource says.
      return 'entries' in restored || restored.origin.watched !== true ? restored : asWatched(restored);
    });
    const idOf = new Map(ordered.map(({ id }, index) => [id, elements[index]!]));
    for (const { id } of records) this.#ids.set(idOf.get(id)!, id);
    this.#lastId = records.reduce((last, { id }) => Math.max(last, id), 0);
    return {
      rules: elements.slice(0, rules.length) as Rule[],
      groups: elements.slice(rules.length) as NamedCidrGroup[],
    };
  }

  #parseRecords(records: readonly Image[number][]): PolicyContent {
    try {
      return parseSources([{ items: records }], this.#parse);
    } catch (error) {
      if (!(error instanceof PolicyValidationError)) throw error;
      const [{ path, message } = { path: [], message: '' }] = error.problems;
      const { source = 'imported', line } = records[Number(path[0])]?.origin ?? {};
      const place = `${source}${line === undefined ? '' : `:${line}`}`;
      const more = error.problems.length > 1 ? `, and ${error.problems.length - 1} more problems` : '';
      throw corruptFile(
        this.#folder,
        `a rule in it (${place}: ${formatPath(path.slice(1))}) is not accepted by this agent with its options: ${message}${more}`,
        error,
      );
    }
  }
}

function recordOf(id: number, element: PolicyElement): Image[number] {
  const value = 'entries' in element ? ruleToJson(element) : cidrGroupToJson(element);
  return { id, value: value as Record<string, unknown>, origin: { ...element.origin } };
}
