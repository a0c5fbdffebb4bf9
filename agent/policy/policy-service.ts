// SPDX-License-Identifier: Apache-2.0

/**
 * Rules and CIDR groups on their way in and out: checked, remembered on disk, resolved, in force; in this order, one
 * change at a time. What cannot be remembered is refused, so what is in force is always what a restart would bring back.
 */
import { CiliumError, describeError } from '../../errors/cilium-error.ts';
import type { Label } from '../../identity/label.ts';
import type { Language } from '../../policy/language.ts';
import { hasLabels, replacedRules, type ImportOptions } from '../../policy/replacement.ts';
import type { PolicyRepository } from '../../policy/repository.ts';
import { cidrGroupToJson, type NamedCidrGroup } from '../../policy/resources/cidr-group.ts';
import type { ResourceOptions } from '../../policy/resources/metadata.ts';
import type { PolicySource } from '../../policy/resources/policy-item.ts';
import { parseSources, type PolicyContent } from '../../policy/resources/policy-source.ts';
import { ruleToJson } from '../../policy/rule-json.ts';
import type { Logger } from '../../runtime/logger.ts';
import { SerialQueue } from '../../runtime/serial-queue.ts';
import { PolicyStore, type PolicyElement } from './policy-store.ts';
import { changesOfFiles, contentByFile, fileOf, joinedChange, NOTHING, type PolicyChange } from './policy-change.ts';

/** From the change that makes it due: whoever waits for that one has his answer by then. */
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

export class PolicyService {
  readonly #repository: PolicyRepository;
  readonly #enforce: () => void;
  readonly #parse: ResourceOptions;
  readonly #log: Logger;
  readonly #watching: boolean;
  readonly #store: PolicyStore;
  readonly #changes = new SerialQueue('policy');
  readonly #groups = new Map<string, NamedCidrGroup>();
  /** The files that are there; unknown before the first look. */
  #presentFiles: ReadonlySet<string> | undefined;
  /** What was taken in of each file. */
  readonly #followed = new Map<string, PolicyContent>();
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
    const files = [...this.watchedFiles()];
    if (!this.#watching && files.length > 0) {
      this.#log.warn('Rules of files that are not watched any more stay until they are deleted', { files });
    }
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

  /** The files of the watched directory whose rules are in force. */
  watchedFiles(): ReadonlySet<string> {
    return new Set(this.#ofFiles().keys());
  }

  /** None of the watched files is there, and not because it was removed: their rules stay until they are deleted. */
  loseFiles(): void {
    this.#presentFiles = new Set();
    this.#followed.clear();
  }

  /**
   * Makes what these files hold what is in force of them; files in `unreadable` keep what they have, all others lose it.
   * One change if possible; where that is refused, one for each file, so that only those at fault stay behind.
   */
  async followFiles(
    files: ReadonlyMap<string, PolicyContent>,
    unreadable: ReadonlySet<string>,
  ): Promise<FollowedFiles> {
    return this.#changes.run(async () => {
      this.#presentFiles = new Set([...files.keys(), ...unreadable]);
      for (const file of this.#followed.keys()) if (!files.has(file)) this.#followed.delete(file);
      const changed = new Map([...files].filter(([file, content]) => this.#followed.get(file) !== content));
      const current = this.#ofFiles();
      const kept = new Set([...files.keys(), ...unreadable].filter((file) => !changed.has(file)));
      const changes = changesOfFiles(current, changed, kept);
      for (const [file, content] of changed) if (!changes.has(file)) this.#followed.set(file, content);
      const problems = new Map<string, string>();
      if (changes.size === 0) return { changed: [], problems };
      const make = async (some: ReadonlyMap<string, PolicyChange>): Promise<void> => {
        await this.#make(joinedChange([...some.values()], this.#groups));
        for (const file of some.keys()) this.#followed.set(file, files.get(file) ?? NOTHING);
      };
      try {
        await make(changes);
      } catch {
        for (const [file, change] of changes) {
          await make(new Map([[file, change]])).catch((error: unknown) => {
            problems.set(file, `${file}: ${describeError(error)}`);
          });
        }
      }
      return { changed: [...changes.keys()].filter((file) => !problems.has(file)), problems };
    });
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

  #ofFiles(): ReadonlyMap<string, PolicyContent> {
    return contentByFile(this.#repository.eachRule(), this.#groups.values());
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
    const rules = [...replacedRules(this.#repository.eachRule(), added.rules, options)];
    return { removed: this.#free({ rules, groups }), added };
  }

  #free({ rules, groups }: PolicyContent): PolicyContent {
    const isFree = (element: PolicyElement): boolean => !this.#isOfFile(element);
    return { rules: rules.filter(isFree), groups: groups.filter(isFree) };
  }

  /** Rules of a file that is not there, because its directory went, can be deleted. */
  #isOfFile({ origin }: PolicyElement): boolean {
    if (!this.#watching || origin.watched !== true) return false;
    return this.#presentFiles?.has(origin.source ?? '') ?? true;
  }

  async #make(change: PolicyChange): Promise<number> {
    const { removed, added } = change;
    this.#repository.checkConflicts(added.rules, { replaceRules: new Set(removed.rules) });
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
    if (this.#compaction !== undefined || !this.#store.isCompactionDue) return;
    this.#compaction = setTimeout(() => {
      this.#compaction = undefined;
      void this.compact().catch((error: unknown) => this.#log.warn('Rules cannot be written anew', { error }));
    }, COMPACTION_DELAY_MS).unref();
  }
}

export interface FollowedFiles {
  readonly changed: readonly string[];
  /** What is wrong with files that could not be taken in. */
  readonly problems: ReadonlyMap<string, string>;
}

export interface PolicyDeletion {
  readonly deleted: number;
  /** Files that the agent watches and whose rules were meant, too: they stay. */
  readonly watchedFiles: readonly string[];
}

function elementsOf({ rules, groups }: PolicyContent): PolicyElement[] {
  return [...groups, ...rules];
}
