// SPDX-License-Identifier: Apache-2.0

/**
 * Rules and CIDR groups on their way in and out: checked, remembered on disk, resolved, in force; in this order, one
 * change at a time. What cannot be remembered is refused, so what is in force is always what a restart would bring back.
 */
import { CiliumError } from '../errors/cilium-error.ts';
import type { Label } from '../identity/label.ts';
import type { Language } from '../policy/language.ts';
import { hasLabels, replacedRules, type ImportOptions } from '../policy/replacement.ts';
import type { PolicyRepository } from '../policy/repository.ts';
import { cidrGroupToJson, type NamedCidrGroup } from '../policy/resources/cidr-group.ts';
import type { ResourceOptions } from '../policy/resources/metadata.ts';
import type { PolicySource } from '../policy/resources/policy-item.ts';
import { parseSources, type PolicyContent } from '../policy/resources/policy-source.ts';
import { ruleToJson } from '../policy/rule-json.ts';
import type { Logger } from '../runtime/logger.ts';
import { SerialQueue } from '../runtime/serial-queue.ts';
import { PolicyStore, type PolicyElement } from './policy-store.ts';

/** After the last change: then the journal may be written anew without anybody waiting for it. */
const COMPACTION_DELAY_MS = 2_000;

export interface PolicyServiceDeps {
  readonly repository: PolicyRepository;
  /** Brings what changed into the kernel. */
  readonly enforce: () => void;
  readonly stateDir: string;
  /** What rules may say. */
  readonly parse: ResourceOptions;
  /** What rules that are remembered may say; default: the same. */
  readonly remembered?: Language;
  readonly log: Logger;
  /** Whether rules of watched files belong to their files; without a watcher they are as all others. */
  readonly watching: boolean;
  readonly minCompactionBytes?: number;
}

/** What comes and what goes in one step. */
export interface PolicyChange {
  readonly removed: PolicyContent;
  readonly added: PolicyContent;
}

export class PolicyService {
  readonly #repository: PolicyRepository;
  readonly #enforce: () => void;
  readonly #parse: ResourceOptions;
  readonly #log: Logger;
  readonly #watching: boolean;
  readonly #store: PolicyStore;
  readonly #changes = new SerialQueue('policy');
  readonly #groups = new Map<string, NamedCidrGroup>();
  #compaction: NodeJS.Timeout | undefined;

  constructor({ repository, enforce, log, watching, remembered, ...storage }: PolicyServiceDeps) {
    this.#repository = repository;
    this.#enforce = enforce;
    this.#parse = storage.parse;
    this.#log = log;
    this.#watching = watching;
    const { parse } = storage;
    this.#store = new PolicyStore({ ...storage, parse: { ...parse, ...(remembered && { language: remembered }) } });
  }

  /** Reads what is remembered, before anything is enforced; answers how many rules. Throws when it cannot be used. */
  async restore(): Promise<number> {
    const content = await this.#store.open();
    if (elementsOf(content).length > 0) this.#apply({ removed: NOTHING, added: content });
    return content.rules.length;
  }

  /** Waits for what was asked for. */
  async stop(): Promise<void> {
    clearTimeout(this.#compaction);
    await this.#changes.drain();
    clearTimeout(this.#compaction);
    await this.#store.close();
  }

  /** Writes what is remembered anew, without what was in between. */
  async compact(): Promise<void> {
    await this.#changes.run(() => this.#store.compact());
  }

  /** Rules and CIDR groups as plain data that can be imported; with labels, those that carry them all. */
  rules(labels: readonly Label[] = []): object[] {
    const { rules, groups } = this.#having(labels);
    return [...groups.map(cidrGroupToJson), ...rules.map(ruleToJson)];
  }

  /** What an import would bring and take away now. */
  planImport(sources: readonly PolicySource[], options: ImportOptions): PolicyChange {
    return this.#importing(parseSources(sources, this.#parse), options);
  }

  /** What a deletion would take away now. */
  planDeletion(labels: readonly Label[]): PolicyChange {
    return { removed: this.#free(this.#having(labels)), added: NOTHING };
  }

  /** Checks everything, then adds it; answers the revision it is in force with. */
  async import(sources: readonly PolicySource[], options: ImportOptions): Promise<number> {
    const added = parseSources(sources, this.#parse);
    return this.#changes.run(() => this.#make(this.#importing(added, options)));
  }

  /** Deletes what carries all the labels, without labels everything. */
  async delete(labels: readonly Label[]): Promise<PolicyDeletion> {
    return this.#changes.run(async () => {
      const { rules, groups } = this.#having(labels);
      const removed = this.#free({ rules, groups });
      const kept = new Set([...rules, ...groups].filter((element) => this.#isOfFile(element)).map(fileOf));
      const deleted = removed.rules.length + removed.groups.length;
      if (deleted > 0) await this.#make({ removed, added: NOTHING });
      return { deleted, watchedFiles: [...kept].sort() };
    });
  }

  #having(labels: readonly Label[]): PolicyContent {
    const groups = [...this.#groups.values()].filter((group) => hasLabels(group, labels));
    return { rules: this.#repository.rules(labels), groups };
  }

  /** Watched files keep what is theirs. */
  #importing(added: PolicyContent, options: ImportOptions): PolicyChange {
    const { replaceWithLabels } = options;
    const names = new Set(added.groups.map(({ name }) => name));
    const groups = [...this.#groups.values()].filter((group) => {
      if (!names.has(group.name)) return replaceWithLabels !== undefined && hasLabels(group, replaceWithLabels);
      if (!this.#isOfFile(group)) return true;
      const place = `it comes from ${fileOf(group)}, which the agent watches; change it there`;
      throw new CiliumError('InUse', `CIDR group ${group.name} cannot be imported: ${place}`);
    });
    const rules = [...replacedRules(this.#repository.rules(), added.rules, options)];
    return { removed: this.#free({ rules, groups }), added };
  }

  #free({ rules, groups }: PolicyContent): PolicyContent {
    const isFree = (element: PolicyElement): boolean => !this.#isOfFile(element);
    return { rules: rules.filter(isFree), groups: groups.filter(isFree) };
  }

  #isOfFile({ origin }: PolicyElement): boolean {
    return this.#watching && origin.watched === true;
  }

  async #make(change: PolicyChange): Promise<number> {
    const { removed, added } = change;
    this.#repository.check(added.rules, { replaceRules: new Set(removed.rules) });
    await this.#store.change(elementsOf(removed), elementsOf(added));
    try {
      this.#apply(change);
    } catch (error) {
      await this.#store.change(elementsOf(added), elementsOf(removed));
      throw error;
    }
    this.#enforce();
    this.#compactLater();
    return this.#repository.revision;
  }

  #apply({ removed, added }: PolicyChange): void {
    const before = new Map(this.#groups);
    for (const { name } of removed.groups) this.#groups.delete(name);
    for (const group of added.groups) this.#groups.set(group.name, group);
    const names = new Set([...removed.groups, ...added.groups].map(({ name }) => name));
    const set = (groups: ReadonlyMap<string, NamedCidrGroup>): void => {
      if (names.size > 0) this.#repository.setCidrGroups(Array.from(names, (name) => [name, groups.get(name)?.group]));
    };
    try {
      set(this.#groups);
      this.#repository.import(added.rules, { replaceRules: new Set(removed.rules) });
    } catch (error) {
      this.#groups.clear();
      for (const [name, group] of before) this.#groups.set(name, group);
      set(before);
      throw error;
    }
  }

  #compactLater(): void {
    clearTimeout(this.#compaction);
    if (!this.#store.isCompactionDue) return;
    this.#compaction = setTimeout(() => {
      void this.compact().catch((error: unknown) => this.#log.warn('Rules cannot be written anew', { error }));
    }, COMPACTION_DELAY_MS).unref();
  }
}

export interface PolicyDeletion {
  readonly deleted: number;
  /** Files that the agent watches and whose rules were meant, too: they stay. */
  readonly watchedFiles: readonly string[];
}

const NOTHING: PolicyContent = { rules: [], groups: [] };

function fileOf({ origin }: PolicyElement): string {
  return origin.source ?? 'a watched file';
}

function elementsOf({ rules, groups }: PolicyContent): PolicyElement[] {
  return [...groups, ...rules];
}
