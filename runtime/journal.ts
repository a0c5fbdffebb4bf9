// SPDX-License-Identifier: Apache-2.0

/**
 * State that changes often, on disk: a snapshot and the journal of the changes that came after it, in one folder.
 *
 *   snapshot.json        the state when generation N began; replaced atomically
 *   journal-N.log        one line a batch: CRC-32 of the rest, a space, JSON; appended and synced
 *
 * A batch is on disk entirely or not at all: a line that is cut off at the end, by kill -9 or loss of power, was never
 * acknowledged and is taken away at the next start. A bad line with good ones behind it is damage, which is refused.
 * When the journal outgrows the state, generation N+1 begins: the rename of the snapshot is the moment it counts, and
 * what is left of other generations is cleared at the next start. So the folder holds at most about
 * three times the state, or 1 MiB.
 */
import { open, readdir, rm, type FileHandle } from 'node:fs/promises';
import { join } from 'node:path';
import { crc32 } from 'node:zlib';
import { z } from 'zod';
import { CiliumError } from '../errors/cilium-error.ts';
import {
  corruptFile,
  describeIssues,
  prepareStateFolder,
  readJsonFile,
  readTextFile,
  syncFolder,
  writeFileAtomic,
} from './state-file.ts';

/** A journal smaller than this is never compacted: reading it takes a few milliseconds. */
const MIN_COMPACTION_BYTES = 1 << 20;

export interface JournalOptions<Image, Change> {
  /** Of this journal alone; made if it does not exist. */
  readonly folder: string;
  /** What a snapshot holds. */
  readonly image: z.ZodType<Image>;
  readonly change: z.ZodType<Change>;
  /** @default 1 MiB: a smaller journal is not compacted. */
  readonly minCompactionBytes?: number | undefined;
}

/** The state as the disk has it. */
export interface Replay<Image, Change> {
  /** Called first; undefined: there is no snapshot. */
  readonly begin: (image: Image | undefined) => void;
  /** Called for each change, in order; answers what is wrong with one that does not fit the state. */
  readonly apply: (change: Change) => string | undefined;
}

export class Journal<Image, Change> {
  readonly #folder: string;
  readonly #snapshot: z.ZodType<{ format: 1; generation: number; state: Image }>;
  readonly #batch: z.ZodType<Change[]>;
  readonly #minCompactionBytes: number;
  #generation = 0;
  #isOpen = false;
  #file: FileHandle | undefined;
  /** Length of what is known to be on disk. */
  #length = 0;
  /** Whether something that does not count may stand behind that length. */
  #hasRest = false;
  #snapshotLength = 0;
  /** Bytes of an unfinished batch that the last `open` took away. */
  #tornBytes = 0;

  constructor({ folder, image, change, minCompactionBytes }: JournalOptions<Image, Change>) {
    this.#folder = folder;
    this.#snapshot = z.strictObject({ format: z.literal(1), generation: z.int().nonnegative(), state: image });
    this.#batch = z.array(change);
    this.#minCompactionBytes = minCompactionBytes ?? MIN_COMPACTION_BYTES;
  }

  get tornBytes(): number {
    return this.#tornBytes;
  }

  /** Reads the state back; also after a failed `append` or `compact`, which may leave it unknown what is on disk. */
  async open({ begin, apply }: Replay<Image, Change>): Promise<void> {
    await this.close();
    await prepareStateFolder(this.#folder);
    const snapshot = await readJsonFile(this.#snapshotPath, this.#snapshot);
    this.#generation = snapshot?.generation ?? 0;
    this.#snapshotLength = snapshot === undefined ? 0 : JSON.stringify(snapshot).length;
    begin(snapshot?.state);
    this.#length = await this.#replay(apply);
    await this.#openFile();
    this.#isOpen = true;
  }

  /** Resolves when the batch is on disk. When it throws, the batch is no part of the journal. One call at a time. */
  async append(batch: readonly Change[]): Promise<void> {
    if (!this.#isOpen) throw new CiliumError('System', `${this.#folder} is not open`);
    const file = this.#file ?? (await this.#openFile());
    const line = Buffer.from(formatLine(batch));
    try {
      if (this.#hasRest) await this.#cutBack(file);
      this.#hasRest = true;
      await file.appendFile(line);
      await file.datasync();
    } catch (cause) {
      await this.#cutBack(file).catch(() => undefined);
      throw new CiliumError('System', `write ${join(this.#folder, this.#journalName)}`, {}, cause);
    }
    this.#hasRest = false;
    this.#length += line.length;
  }

  /** True when a new generation would be worth its cost. */
  get isCompactionDue(): boolean {
    return this.#length > Math.max(this.#minCompactionBytes, 2 * this.#snapshotLength);
  }

  /** Begins a new generation with this state. One call at a time, none to `append` meanwhile. */
  async compact(state: Image): Promise<void> {
    const text = JSON.stringify({ format: 1, generation: this.#generation + 1, state });
    await writeFileAtomic(this.#snapshotPath, text);
    await this.#closeFile();
    this.#generation++;
    this.#snapshotLength = text.length;
    this.#length = 0;
    await this.#openFile();
  }

  async close(): Promise<void> {
    this.#isOpen = false;
    await this.#closeFile();
  }

  async #closeFile(): Promise<void> {
    const file = this.#file;
    this.#file = undefined;
    await file?.close();
  }

  get #snapshotPath(): string {
    return join(this.#folder, 'snapshot.json');
  }

  get #journalName(): string {
    return `journal-${this.#generation}.log`;
  }

  /** Takes away what a failed write left; while that fails, nothing can be written. */
  async #cutBack(file: FileHandle): Promise<void> {
    await file.truncate(this.#length);
    await file.sync();
    this.#hasRest = false;
  }

  /** Opens the journal of this generation, cut to its known length, and removes those of others. */
  async #openFile(): Promise<FileHandle> {
    const path = join(this.#folder, this.#journalName);
    try {
      const file = await open(path, 'a', 0o600);
      this.#file = file;
      this.#tornBytes = (await file.stat()).size - this.#length;
      await this.#cutBack(file);
      for (const name of await readdir(this.#folder)) {
        if (/^journal-\d+\.log$/.test(name) && name !== this.#journalName) await rm(join(this.#folder, name));
      }
      await syncFolder(this.#folder);
      return file;
    } catch (cause) {
      throw new CiliumError('System', `open ${path}`, { path }, cause);
    }
  }

  /** Applies the journal; returns the length of the part that is good. */
  async #replay(apply: (change: Change) => string | undefined): Promise<number> {
    const path = join(this.#folder, this.#journalName);
    const lines = ((await readTextFile(path)) ?? '').split('\n');
    lines.pop(); // what stands behind the last newline was never acknowledged, even if it is all there
    let length = 0;
    let bad: string | undefined;
    for (const [index, line] of lines.entries()) {
      const batch = this.#parseLine(line);
      if (typeof batch === 'string') {
        bad ??= `line ${index + 1} is damaged (${batch})`;
        continue;
      }
      if (bad !== undefined) throw corruptFile(path, bad);
      for (const change of batch) {
        const problem = apply(change);
        if (problem !== undefined) throw corruptFile(path, `line ${index + 1} ${problem}`);
      }
      length += Buffer.byteLength(line) + 1;
    }
    return length;
  }

  /** The batch, or what is wrong with the line. */
  #parseLine(line: string): Change[] | string {
    const json = line.slice(9);
    if (line.slice(0, 9) !== `${checksum(json)} `) return 'wrong checksum';
    const result = this.#batch.safeParse(JSON.parse(json));
    return result.success ? result.data : describeIssues(result.error.issues);
  }
}

function formatLine(batch: readonly unknown[]): string {
  const json = JSON.stringify(batch);
  return `${checksum(json)} ${json}\n`;
}

function checksum(json: string): string {
  return crc32(json).toString(16).padStart(8, '0');
}
