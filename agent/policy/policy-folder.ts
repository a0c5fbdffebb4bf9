// SPDX-License-Identifier: Apache-2.0

/**
 * The watched directory (`--static-cnp-path`): its files are rules, and stay so.
 *
 * What is in the files is compared with what is in force after every change that the kernel tells, and now and then
 * without. All changes of one look are one change of the policy. A file with errors keeps its last rules; a directory
 * that cannot be read, or that is suddenly another one and empty, changes nothing. The remembered rules say which file
 * they are from, so the same holds across restarts.
 */
import { once } from 'node:events';
import { watch, type FSWatcher } from 'node:fs';
import { readFile, stat } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { z } from 'zod';
import { sourceOf, describeProblems } from '../../api/policy-document.ts';
import { BODY_LIMIT_BYTES } from '../../api/paths.ts';
import { parsePolicyText } from '../../api/policy-text.ts';
import { CiliumError, describeError } from '../../errors/cilium-error.ts';
import type { ResourceOptions } from '../../policy/resources/metadata.ts';
import { parseSources, type PolicyContent } from '../../policy/resources/policy-source.ts';
import { PolicyValidationError } from '../../policy/validation-error.ts';
import type { Clock } from '../../runtime/clock.ts';
import type { Component } from '../../runtime/component.ts';
import { Controller, type ControllerStatus } from '../../runtime/controller.ts';
import type { Logger } from '../../runtime/logger.ts';
import { readJsonFile, writeJsonFile } from '../../runtime/state-file.ts';
import { listPolicyFiles, type PolicyFileEntry } from './policy-files.ts';
import type { PolicyService } from './policy-service.ts';
import { asWatched } from './watched-content.ts';

/** Safety net: some file systems tell of no changes. */
const RESCAN_MS = 10_000;
/** An editor's write is several changes; they are taken together. */
const SETTLE_MS = 100;
const SETTLE_LIMIT_MS = 1_000;
/** In the status. */
const SHOWN_PROBLEMS = 10;

const memorySchema = z.strictObject({ path: z.string(), identity: z.string() });

export interface PolicyFolderDeps {
  readonly path: string;
  readonly stateDir: string;
  readonly parse: ResourceOptions;
  readonly policy: Pick<PolicyService, 'watchedFiles' | 'followFiles' | 'loseFiles'>;
  /** Called when the rules of files have changed. */
  readonly onChange: (files: readonly string[]) => void;
  readonly log: Logger;
  readonly clock: Clock;
}

/** A file as it was when it was last read. */
interface KnownFile {
  readonly signature: string;
  /** What is in it, or what is wrong with it. */
  readonly content: PolicyContent | readonly string[];
}

export class PolicyFolder implements Component {
  readonly name = 'policy-folder';
  readonly #deps: PolicyFolderDeps;
  readonly #controller: Controller;
  readonly #watchers = new Map<string, FSWatcher>();
  #known = new Map<string, KnownFile>();
  /** What was told of each file that is not accepted. */
  #told = new Map<string, string>();
  #settling: NodeJS.Timeout | undefined;
  #settlingSince = 0;
  readonly #scanned = new AbortController();

  constructor(deps: PolicyFolderDeps) {
    this.#deps = deps;
    this.#controller = new Controller({
      name: 'static-cnp-path',
      run: () => this.#scan().finally(() => this.#scanned.abort()),
      intervalMs: RESCAN_MS,
      maxBackoffMs: RESCAN_MS,
      log: deps.log,
      clock: deps.clock,
    });
  }

  get status(): ControllerStatus {
    return this.#controller.status;
  }

  /** Resolves when the files have been looked at once; what is wrong with them stops nothing. */
  async start(): Promise<void> {
    this.#controller.start();
    const { signal } = this.#scanned;
    if (!signal.aborted) await once(signal, 'abort');
  }

  async stop(): Promise<void> {
    await this.#controller.stop();
    for (const watcher of this.#watchers.values()) watcher.close();
    this.#watchers.clear();
    clearTimeout(this.#settling); // until then a watcher may have started it anew
  }

  async #scan(): Promise<void> {
    const { path, policy } = this.#deps;
    const listing = await listPolicyFiles(path).catch((cause: unknown) => {
      this.#watch(new Map()); // it may come back
      policy.loseFiles();
      const count = policy.watchedFiles().size;
      throw new CiliumError('System', `${path} cannot be read, the rules of ${count} files of it stay`, {}, cause);
    });
    this.#watch(listing.folders);
    await this.#refuseStrangeEmptiness(listing.identity, listing.files.length === 0);
    this.#known = new Map(await Promise.all(listing.files.map((file) => this.#look(file))));

    const good = new Map<string, PolicyContent>();
    const bad = new Map<string, readonly string[]>();
    for (const [file, { content }] of this.#known) {
      if ('rules' in content) good.set(file, content);
      else bad.set(file, content);
    }
    const { changed, problems } = await policy.followFiles(good, new Set(bad.keys()));
    if (changed.length > 0) this.#deps.onChange(changed);
    for (const [file, problem] of problems) bad.set(file, [problem]);
    this.#tell(bad);
  }

  /** An empty folder that was another one before is a volume that is not mounted rather than the end of all rules. */
  async #refuseStrangeEmptiness(identity: string, isEmpty: boolean): Promise<void> {
    const { path, stateDir, policy } = this.#deps;
    const file = join(stateDir, 'policy-folder.json');
    const memory = await readJsonFile(file, memorySchema);
    if (memory?.path === path && memory.identity === identity) return;
    const files = [...policy.watchedFiles()].filter((name) => name.startsWith(`${path}/`));
    if (memory?.path === path && isEmpty && files.length > 0) {
      policy.loseFiles();
      throw new CiliumError(
        'Precondition',
        `${path} is another directory than before and empty: the rules of ${files.slice(0, SHOWN_PROBLEMS).join(', ')} stay. ` +
          'Mount or fill it, or delete the rules with `cilium policy delete`',
      );
    }
    await writeJsonFile(file, { path, identity });
  }

  async #look({ path, signature }: PolicyFileEntry): Promise<[string, KnownFile]> {
    if (signature === undefined)
      return [path, { signature: '', content: [`${path}: not a file, or a link to nothing`] }];
    const known = this.#known.get(path);
    if (known?.signature === signature) return [path, known];
    return [path, { signature, content: await this.#read(path).catch((error: unknown) => [describeError(error)]) }];
  }

  /** The content, or what is wrong with it. */
  async #read(path: string): Promise<KnownFile['content']> {
    if ((await stat(path)).size > BODY_LIMIT_BYTES) return [`${path}: too large; split it`];
    const text = await readFile(path, 'utf8');
    const document = await parsePolicyText(path, text);
    try {
      const { rules, groups } = parseSources([sourceOf(document, path)], this.#deps.parse);
      const isEmpty = rules.length + groups.length === 0;
      if (isEmpty) return [`${path}: no rule in it; remove the file to remove its rules`];
      return { rules: rules.map(asWatched), groups: groups.map(asWatched) };
    } catch (error) {
      if (!(error instanceof PolicyValidationError)) throw error;
      return describeProblems(error.problems, [document]);
    }
  }

  /** What is wrong with a file is logged once; together that is the error of this look. */
  #tell(problems: ReadonlyMap<string, readonly string[]>): void {
    const { log } = this.#deps;
    const reasons = new Map(Array.from(problems, ([path, texts]) => [path, texts.join('\n')]));
    for (const [path, reason] of reasons) {
      if (this.#told.get(path) !== reason) log.warn('Policy file not accepted, its last rules stay', { path, reason });
    }
    for (const path of this.#told.keys()) if (!reasons.has(path)) log.info('Policy file accepted again', { path });
    this.#told = reasons;
    const lines = [...problems.values()].flat().map((text) => text.split('\n')[0]!);
    if (lines.length === 0) return;
    const more = lines.length > SHOWN_PROBLEMS ? [`and ${lines.length - SHOWN_PROBLEMS} more`] : [];
    throw new CiliumError('InvalidArgument', [...lines.slice(0, SHOWN_PROBLEMS), ...more].join('; '));
  }

  /** Watches exactly these folders, and the name of the directory itself. */
  #watch(folders: ReadonlyMap<string, string>): void {
    const { path } = this.#deps;
    const wanted = new Map([...folders].map(([identity, folder]) => [`${identity} ${folder}`, folder]));
    wanted.set('parent', dirname(path));
    for (const [key, watcher] of this.#watchers) {
      if (wanted.has(key)) continue;
      watcher.close();
      this.#watchers.delete(key);
    }
    for (const [key, folder] of wanted) {
      if (this.#watchers.has(key)) continue;
      try {
        const watcher = watch(folder, { persistent: false }, (_event, name) => {
          if (key !== 'parent' || name === basename(path)) this.#touched();
        });
        watcher.on('error', () => this.#touched());
        this.#watchers.set(key, watcher);
      } catch (error) {
        // The folder went, or the kernel has no watch to give: the next look comes by itself.
        this.#deps.log.debug('Folder cannot be watched', { path: folder, error });
      }
    }
  }

  #touched(): void {
    const now = performance.now();
    if (this.#settling === undefined) this.#settlingSince = now;
    clearTimeout(this.#settling);
    const delay = Math.min(SETTLE_MS, Math.max(0, this.#settlingSince + SETTLE_LIMIT_MS - now));
    this.#settling = setTimeout(() => {
      this.#settling = undefined;
      this.#controller.trigger();
    }, delay);
  }
}
