// SPDX-License-Identifier: Apache-2.0

/**
 * Walks JSON text and tells where each value stands, which JSON.parse does not; also finds what JSON.parse lets pass: a key
 * given twice in one object.
 *
 * Used only to say where a problem is and to look for such keys, never to make values.
 */

import type { PathSegment } from './policy-document.ts';

/** A place in JSON text that breaks its grammar (RFC 8259), or a key given twice. */
export class JsonProblem extends Error {
  readonly offset: number;
  constructor(message: string, offset: number) {
    super(message);
    this.name = 'JsonProblem';
    this.offset = offset;
  }
}

/** Called for each value: its path (valid during the call) and the offset of its key, or of itself in an array. */
export type Visit = (path: readonly PathSegment[], offset: number) => void;

/** No policy nests deeper; the walk recurses. */
const MAX_DEPTH = 200;

const CODE = { tab: 9, newline: 10, return: 13, blank: 32, quote: 34, backslash: 92 } as const;
/** Objects with more keys remember them in a set. */
const FEW_KEYS = 16;

/** Only for what is not plain: strings with escapes, and numbers. */
const STRING = /"(?:[^"\\\u0000-\u001f]|\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4}))*"/y;
const LITERAL = /(?:true|false|null|-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?)(?![0-9A-Za-z_.+-])/y;

/** Walks the whole text; throws JsonProblem at the first place that is wrong. */
export function walkJson(text: string, visit: Visit = () => undefined): void {
  new Scanner(text, visit).document();
}

class Scanner {
  readonly #text: string;
  readonly #visit: Visit;
  readonly #path: PathSegment[] = [];
  #at = 0;

  constructor(text: string, visit: Visit) {
    this.#text = text;
    this.#visit = visit;
  }

  document(): void {
    this.#blanks();
    this.#visit(this.#path, this.#at);
    this.#value();
    if (this.#at < this.#text.length) this.#fail('nothing may follow the value');
  }

  #value(): void {
    const first = this.#text[this.#at];
    if (first === '{') this.#object();
    else if (first === '[') this.#array();
    else if (first === '"') this.#string();
    else if (this.#take(LITERAL) === undefined) this.#fail('expected a value');
    this.#blanks();
  }

  #object(): void {
    const few: string[] = [];
    let many: Set<string> | undefined;
    this.#members('}', () => {
      const offset = this.#at;
      const key = this.#key();
      if (few.includes(key) || many?.has(key) === true)
        throw new JsonProblem(`the key "${key}" is given twice`, offset);
      if (few.length < FEW_KEYS) few.push(key);
      else (many ??= new Set()).add(key);
      this.#blanks();
      if (!this.#takeMark(':')) this.#fail('expected ":" after the key');
      return { segment: key, offset };
    });
  }

  #array(): void {
    let index = 0;
    this.#members(']', () => ({ segment: index++, offset: this.#at }));
  }

  /** The inside of an object or array: `begin` takes what stands before each value. */
  #members(end: '}' | ']', begin: () => { segment: PathSegment; offset: number }): void {
    if (this.#path.length >= MAX_DEPTH) this.#fail(`nested deeper than ${MAX_DEPTH}`);
    this.#at += 1;
    this.#blanks();
    if (this.#takeMark(end)) return;
    for (;;) {
      const { segment, offset } = begin();
      this.#path.push(segment);
      this.#visit(this.#path, offset);
      this.#value();
      this.#path.pop();
      if (this.#takeMark(end)) return;
      if (!this.#takeMark(',')) this.#fail(`expected "," or "${end}"`);
      if (this.#text[this.#at] === end) this.#fail(`a comma may not stand before "${end}"`);
    }
  }

  #key(): string {
    const begin = this.#at + 1;
    if (this.#takePlainString()) return this.#text.slice(begin, this.#at - 1);
    return JSON.parse(this.#escapedString('a key in double quotes')) as string;
  }

  /** Passes a string without escapes, and says whether there was one. */
  #takePlainString(): boolean {
    const text = this.#text;
    if (text.charCodeAt(this.#at) !== CODE.quote) return false;
    for (let at = this.#at + 1; at < text.length; at++) {
      const code = text.charCodeAt(at);
      if (code === CODE.quote) {
        this.#at = at + 1;
        return true;
      }
      if (code === CODE.backslash || code < CODE.blank) return false;
    }
    return false;
  }

  #string(): void {
    if (!this.#takePlainString()) this.#escapedString('a string');
  }

  #escapedString(what: string): string {
    const text = this.#take(STRING);
    if (text !== undefined) return text;
    return this.#fail(this.#text[this.#at] === '"' ? 'string without end or with a bad escape' : `expected ${what}`);
  }

  #takeMark(mark: string): boolean {
    if (this.#text[this.#at] !== mark) return false;
    this.#at += 1;
    this.#blanks();
    return true;
  }

  #blanks(): void {
    for (;;) {
      const code = this.#text.charCodeAt(this.#at);
      if (code !== CODE.blank && code !== CODE.newline && code !== CODE.return && code !== CODE.tab) return;
      this.#at++;
    }
  }

  #take(token: RegExp): string | undefined {
    token.lastIndex = this.#at;
    const match = token.exec(this.#text);
    if (match === null) return undefined;
    this.#at = token.lastIndex;
    return match[0];
  }

  #fail(message: string): never {
    const atEnd = this.#at >= this.#text.length;
    throw new JsonProblem(atEnd ? `${message}, but the text ends` : message, this.#at);
  }
}
