// SPDX-License-Identifier: Apache-2.0

/**
 * A state file of JSON lines, one a change: appended while the daemon runs, rewritten when it has grown.
 *
 * An append is one `write`: it survives `kill -9` of the daemon as soon as it returns, and a power failure only when
 * `durable` is asked for. A last line without its newline is a write that never finished and is dropped.
 * All calls are synchronous, so that a change and its record are one step; an append takes some 10 µs.
 */
import { randomBytes } from 'node:crypto';
import { closeSync, fdatasyncSync, fstatSync, fsyncSync, ftruncateSync, openSync, renameSync, rmSync } from 'node:fs';
import { readFileSync, writeSync } from 'node:fs';
import { dirname } from 'node:path';
import type { z } from 'zod';
import { CiliumError } from '../errors/cilium-error.ts';
import { corruptFile, describeIssues } from '../runtime/state-file.ts';

/** State may name containers: readable by the agent's user only. */
const FILE_MODE = 0o600;

export class Journal<Entry> {
  readonly #path: string;
  readonly #schema: z.ZodType<Entry>;
  #fd: number | undefined;
  #bytes = 0;
  #lines = 0;

  constructor(path: string, schema: z.ZodType<Entry>) {
    this.#path = path;
    this.#schema = schema;
  }

  /** Opens the file, made if absent, and gives what it holds. A line that cannot be read is an error that names it. */
  open(): Entry[] {
    const fd = openSync(this.#path, 'a+', FILE_MODE);
    try {
      const text = readFileSync(fd, 'utf8');
      const end = text.lastIndexOf('\n') + 1;
      const whole = text.slice(0, end);
      if (end < text.length) ftruncateSync(fd, Buffer.byteLength(whole));
      const entries = whole
        .split('\n')
        .slice(0, -1)
        .map((line, index) => this.#parse(line, index + 1));
      this.#adopt(fd, entries.length);
      return entries;
    } catch (error) {
      closeSync(fd);
      throw error;
    }
  }

  /** How many lines the file has. */
  get lines(): number {
    return this.#lines;
  }

  /** Adds a line; when that fails (a full disk) the file is as it was. */
  append(entry: unknown, durable: boolean): void {
    const fd = this.#opened();
    const line = Buffer.from(`${JSON.stringify(entry)}\n`);
    try {
      for (let sent = 0; sent < line.length;) sent += writeSync(fd, line, sent);
      if (durable) fdatasyncSync(fd);
    } catch (cause) {
      ftruncateSync(fd, this.#bytes);
      throw new CiliumError('System', `append to ${this.#path}`, { path: this.#path }, cause);
    }
    this.#bytes += line.length;
    this.#lines++;
  }

  /** Replaces the whole content, atomically and durably. */
  rewrite(entries: readonly unknown[]): void {
    const temporary = `${this.#path}.${randomBytes(6).toString('hex')}.tmp`;
    const fd = openSync(temporary, 'ax', FILE_MODE);
    try {
      const text = Buffer.from(entries.map((entry) => `${JSON.stringify(entry)}\n`).join(''));
      for (let sent = 0; sent < text.length;) sent += writeSync(fd, text, sent);
      fsyncSync(fd);
      renameSync(temporary, this.#path);
    } catch (cause) {
      closeSync(fd);
      rmSync(temporary, { force: true });
      throw new CiliumError('System', `rewrite ${this.#path}`, { path: this.#path }, cause);
    }
    this.close();
    this.#adopt(fd, entries.length);
    syncFolder(dirname(this.#path));
  }

  /** May be called twice. */
  close(): void {
    if (this.#fd !== undefined) closeSync(this.#fd);
    this.#fd = undefined;
  }

  #adopt(fd: number, lines: number): void {
    this.#fd = fd;
    this.#lines = lines;
    this.#bytes = fstatSync(fd).size;
  }

  #opened(): number {
    if (this.#fd === undefined) throw new CiliumError('Internal', `${this.#path} is not open`);
    return this.#fd;
  }

  #parse(line: string, number: number): Entry {
    let value: unknown;
    try {
      value = JSON.parse(line);
    } catch (cause) {
      throw corruptFile(this.#path, `line ${number} is not JSON`, cause);
    }
    const result = this.#schema.safeParse(value);
    if (result.success) return result.data;
    throw corruptFile(this.#path, `line ${number}: ${describeIssues(result.error.issues)}`);
  }
}

function syncFolder(folder: string): void {
  const fd = openSync(folder, 'r');
  try {
    fsyncSync(fd);
  } finally {
    closeSync(fd);
  }
}
