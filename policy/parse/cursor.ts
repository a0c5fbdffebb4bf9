// SPDX-License-Identifier: Apache-2.0

/**
 * Reading of plain JSON data that collects every fault instead of stopping at the first.
 *
 * A method that finds a fault records it and gives undefined; readers go on with what is left.
 */
import type { RegexEngine } from '../../identity/regex.ts';
import type { Language } from '../language.ts';
import type { Path, Problem } from '../validation-error.ts';

/** What is the same for a whole document. */
export interface ParseContext {
  readonly language: Language;
  /** Without it rules with regular expressions are refused. */
  readonly regex?: RegexEngine | undefined;
  /** Regular expressions that the engine has taken; rules repeat few of them often. */
  readonly goodPatterns: Set<string>;
  /** Unknown members are passed over, as Cilium does with them; else each is a fault. */
  readonly ignoreUnknown?: boolean | undefined;
  readonly problems: Problem[];
}

/** A value and the place where it stands. */
export class Cursor {
  readonly value: unknown;
  readonly context: ParseContext;
  /** The path of the document, or what this is a part of and which: a path is made when it is asked for. */
  readonly #place: Path | Cursor;
  readonly #segment: string | number | undefined;

  constructor(value: unknown, path: Path, context: ParseContext);
  constructor(value: unknown, parent: Cursor, context: ParseContext, segment: string | number);
  constructor(value: unknown, place: Path | Cursor, context: ParseContext, segment?: string | number) {
    this.value = value;
    this.context = context;
    this.#place = place;
    this.#segment = segment;
  }

  get path(): Path {
    const place = this.#place;
    return place instanceof Cursor ? [...place.path, this.#segment!] : place;
  }

  fail(message: string): undefined {
    this.context.problems.push({ path: this.path, message });
  }

  /** Records a fault with what was found in place of what was expected, and why that will not do if it needs saying. */
  expected(what: string, why?: string): undefined {
    return this.fail(`expected ${what}, found ${describe(this.value)}${why === undefined ? '' : `: ${why}`}`);
  }

  unsupported(message: string): undefined {
    this.context.problems.push({ path: this.path, message, unsupported: true });
  }

  string(): string | undefined {
    return typeof this.value === 'string' ? this.value : this.expected('a text');
  }

  nonEmptyString(): string | undefined {
    return this.value === '' ? this.expected('a text that is not empty') : this.string();
  }

  boolean(): boolean | undefined {
    return typeof this.value === 'boolean' ? this.value : this.expected('true or false');
  }

  integer(min: number, max: number): number | undefined {
    const { value } = this;
    if (typeof value === 'number' && Number.isInteger(value) && value >= min && value <= max) return value;
    return this.expected(`a whole number from ${min} to ${max}`);
  }

  oneOf<T extends string>(choices: readonly T[]): T | undefined {
    const found = choices.find((choice) => choice === this.value);
    return found ?? this.expected(`one of ${choices.join(', ')}`);
  }

  /** The items that could be read; undefined when this is no list. */
  list<T>(read: (item: Cursor) => T | undefined): T[] | undefined {
    if (!Array.isArray(this.value)) return this.expected('a list');
    const items: T[] = [];
    for (const [index, value] of this.value.entries()) {
      const item = read(new Cursor(value, this, this.context, index));
      if (item !== undefined) items.push(item);
    }
    return items;
  }

  /** Reads an object; `read` asks for the members it knows, and all others are faults. */
  object<T>(read: (members: Members) => T): T | undefined {
    return this.openObject((members) => {
      const result = read(members);
      members.refuseUnknown();
      return result;
    });
  }

  /** Reads an object that may have members which are none of our business. */
  openObject<T>(read: (members: Members) => T): T | undefined {
    return isObject(this.value) ? read(new Members(this, this.value)) : this.expected('an object');
  }

  /** Reads an object whose members' names are data. */
  record<T>(read: (item: Cursor, name: string) => T | undefined): Record<string, T> | undefined {
    if (!isObject(this.value)) return this.expected('an object');
    const entries: [string, T][] = [];
    for (const [name, value] of Object.entries(this.value)) {
      const item = read(new Cursor(value, this, this.context, name), name);
      if (item !== undefined) entries.push([name, item]);
    }
    return Object.fromEntries(entries);
  }
}

/** The members of an object that is being read. */
export class Members {
  readonly cursor: Cursor;
  readonly #object: Readonly<Record<string, unknown>>;
  /** A few names, some of them twice: cheaper than a set. */
  readonly #known: string[] = [];

  constructor(cursor: Cursor, object: Readonly<Record<string, unknown>>) {
    this.cursor = cursor;
    this.#object = object;
  }

  /** What `read` makes of the member; undefined when it is absent or faulty. */
  read<T>(name: string, read: (member: Cursor) => T | undefined): T | undefined {
    const member = this.get(name);
    return member === undefined ? undefined : read(member);
  }

  /** Like `read`, and absence is a fault. */
  required<T>(name: string, read: (member: Cursor) => T | undefined): T | undefined {
    const member = this.get(name);
    return member === undefined ? this.cursor.fail(`${name} is missing`) : read(member);
  }

  /** The member, or undefined when it is absent. */
  get(name: string): Cursor | undefined {
    this.#known.push(name);
    if (!Object.hasOwn(this.#object, name)) return undefined;
    return new Cursor(this.#object[name], this.cursor, this.cursor.context, name);
  }

  /** Members that belong to the language but are off here; each that is there is a fault. */
  unsupported(names: readonly string[], why: string): void {
    for (const name of names) this.get(name)?.unsupported(why);
  }

  refuseUnknown(): void {
    if (this.cursor.context.ignoreUnknown === true) return;
    for (const name of Object.keys(this.#object)) {
      if (this.#known.includes(name)) continue;
      const alike = this.#known.find((known) => known.toLowerCase() === name.toLowerCase());
      const hint = alike === undefined ? `expected ${[...new Set(this.#known)].join(', ')}` : `did you mean ${alike}?`;
      new Cursor(undefined, this.cursor, this.cursor.context, name).fail(`unknown field; ${hint}`);
    }
  }
}

const MAX_SHOWN_CHARS = 80;

/** A value as a message shows it: short. */
export function describe(value: unknown): string {
  if (Array.isArray(value)) return 'a list';
  if (isObject(value)) return 'an object';
  const text = JSON.stringify(value) as string | undefined;
  if (text === undefined) return 'nothing';
  return text.length > MAX_SHOWN_CHARS ? `${text.slice(0, MAX_SHOWN_CHARS)}…` : text;
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
