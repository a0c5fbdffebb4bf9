// SPDX-License-Identifier: Apache-2.0

/**
 * The syntax of RE2, in which rules are written: no look-around, no back-references. Follows Go's regexp/syntax with
 * the Perl flags, which is what refuses a pattern at import.
 */
import { ANY_CHARACTER, CharacterClass, NEWLINE, perlClass, posixClass } from './character-class.ts';

export type RegexNode =
  | { readonly kind: 'class'; readonly class: CharacterClass }
  | { readonly kind: 'assert'; readonly assertion: Assertion }
  | { readonly kind: 'sequence'; readonly items: readonly RegexNode[] }
  | { readonly kind: 'choice'; readonly options: readonly RegexNode[] }
  | { readonly kind: 'repeat'; readonly item: RegexNode; readonly min: number; readonly max: number };

export type Assertion = 'text-start' | 'text-end' | 'line-start' | 'line-end' | 'word' | 'no-word';

/** Says what is wrong, in words that fit after "not a regular expression: ". */
export class RegexSyntaxError extends Error {}

interface Flags {
  readonly ignoreCase: boolean;
  readonly dotAll: boolean;
  readonly multiLine: boolean;
}

const MAX_REPEAT = 1000;
const MAX_DEPTH = 1000;
const CONTROL_ESCAPES: Readonly<Record<string, number>> = { a: 7, f: 12, n: 10, r: 13, t: 9, v: 11 };

export function parseRegex(pattern: string): RegexNode {
  return new Parser(pattern).parse();
}

class Parser {
  readonly #chars: readonly string[];
  #at = 0;
  #depth = 0;
  #flags: Flags = { ignoreCase: false, dotAll: false, multiLine: false };

  constructor(pattern: string) {
    this.#chars = Array.from(pattern);
  }

  parse(): RegexNode {
    const node = this.#choice();
    return this.#at < this.#chars.length ? fail('a ) closes nothing') : node;
  }

  #choice(): RegexNode {
    if (++this.#depth > MAX_DEPTH) fail('it nests too deeply');
    const options = [this.#sequence()];
    while (this.#take('|')) options.push(this.#sequence());
    this.#depth--;
    return options.length === 1 ? options[0]! : { kind: 'choice', options };
  }

  #sequence(): RegexNode {
    const items: RegexNode[] = [];
    for (let next = this.#peek(); next !== undefined && next !== '|' && next !== ')'; next = this.#peek()) {
      const atoms = this.#atom();
      const repetition = this.#repetition();
      const last = repetition === undefined ? undefined : atoms.pop();
      items.push(...atoms);
      if (repetition === undefined) continue;
      if (last === undefined) return fail('a repetition has nothing to repeat');
      this.#take('?'); // lazy or greedy matches the same texts
      if (this.#repetition() !== undefined) fail('a repetition follows a repetition');
      items.push({ kind: 'repeat', item: last, ...repetition });
    }
    return items.length === 1 ? items[0]! : { kind: 'sequence', items };
  }

  /** Takes one of * + ? {n} {n,} {n,m}; a brace that is none of these is a character. */
  #repetition(): { min: number; max: number } | undefined {
    if (this.#take('*')) return { min: 0, max: Infinity };
    if (this.#take('+')) return { min: 1, max: Infinity };
    if (this.#take('?')) return { min: 0, max: 1 };
    const match = /^\{([0-9]+)(,([0-9]*))?\}/.exec(this.#ahead(16));
    if (match === null) return undefined;
    const min = Number(match[1]);
    const max = match[2] === undefined ? min : match[3] === '' ? Infinity : Number(match[3]);
    if (min > MAX_REPEAT || (max !== Infinity && max > MAX_REPEAT) || min > max) fail(`${match[0]} is out of range`);
    this.#at += match[0].length;
    return { min, max };
  }

  /** One thing that can be repeated; several for quoted text, none for a change of flags. */
  #atom(): RegexNode[] {
    if (this.#repetition() !== undefined) return fail('a repetition has nothing to repeat');
    const char = this.#next();
    const { dotAll, multiLine } = this.#flags;
    switch (char) {
      case '(':
        return this.#group();
      case '[':
        return [this.#bracket()];
      case '.':
        return [{ kind: 'class', class: dotAll ? ANY_CHARACTER : NEWLINE.negated() }];
      case '^':
        return [{ kind: 'assert', assertion: multiLine ? 'line-start' : 'text-start' }];
      case '$':
        return [{ kind: 'assert', assertion: multiLine ? 'line-end' : 'text-end' }];
      case '\\':
        return this.#escape();
      default:
        return [this.#literal(char.codePointAt(0)!)];
    }
  }

  #literal(char: number): RegexNode {
    return this.#class(CharacterClass.ofChar(char));
  }

  #class(found: CharacterClass): RegexNode {
    return { kind: 'class', class: this.#flags.ignoreCase ? found.ignoringCase() : found };
  }

  #group(): RegexNode[] {
    const before = this.#flags;
    if (this.#take('?')) {
      const name = /^P?<([A-Za-z0-9_]+)>/.exec(this.#ahead(256));
      if (name !== null) {
        this.#at += name[0].length;
      } else if (this.#flagGroup() === 'rest of the group') {
        return [];
      }
    }
    const node = this.#choice();
    if (!this.#take(')')) fail('a ( is not closed');
    this.#flags = before;
    // Wrapped, so that a repetition takes all of it.
    return [{ kind: 'sequence', items: [node] }];
  }

  /** `i`, `m`, `s`, `U` and, after a dash, those to turn off; then `:` for this group or `)` for the rest around it. */
  #flagGroup(): 'this group' | 'rest of the group' {
    const match = /^([imsU]*)(-[imsU]+)?([:)])/.exec(this.#ahead(16));
    if (match === null) return fail('(? is followed by no flag or name of RE2 (it has no look-around)');
    this.#at += match[0].length;
    const on = match[1]!;
    const off = match[2] ?? '';
    const flag = (letter: string, before: boolean): boolean => !off.includes(letter) && (before || on.includes(letter));
    const { ignoreCase, dotAll, multiLine } = this.#flags;
    this.#flags = { ignoreCase: flag('i', ignoreCase), dotAll: flag('s', dotAll), multiLine: flag('m', multiLine) };
    return match[3] === ':' ? 'this group' : 'rest of the group';
  }

  #escape(): RegexNode[] {
    const char = this.#next('a \\ ends it');
    switch (char) {
      case 'A':
        return [{ kind: 'assert', assertion: 'text-start' }];
      case 'z':
        return [{ kind: 'assert', assertion: 'text-end' }];
      case 'b':
        return [{ kind: 'assert', assertion: 'word' }];
      case 'B':
        return [{ kind: 'assert', assertion: 'no-word' }];
      case 'Q':
        return this.#quotation();
      default: {
        const found = this.#escapedClass(char);
        return [found === undefined ? this.#literal(this.#escapedChar(char)) : this.#class(found)];
      }
    }
  }

  #quotation(): RegexNode[] {
    const rest = this.#chars.slice(this.#at).join('');
    const end = rest.indexOf('\\E');
    const quoted = Array.from(end < 0 ? rest : rest.slice(0, end));
    this.#at += quoted.length + (end < 0 ? 0 : 2);
    return quoted.map((char) => this.#literal(char.codePointAt(0)!));
  }

  /** `\d` and its like, or a Unicode property. */
  #escapedClass(char: string): CharacterClass | undefined {
    if (char !== 'p' && char !== 'P') return perlClass(char);
    const match = /^(?:\{(\^?)([A-Za-z_]+)\}|([A-Z]))/.exec(this.#ahead(64));
    const found = match === null ? undefined : CharacterClass.ofProperty(match[2] ?? match[3]!);
    if (match === null || found === undefined) return fail(`\\${char} is followed by no Unicode class`);
    this.#at += match[0].length;
    return (char === 'P') === (match[1] === '^') ? found : found.negated();
  }

  #escapedChar(char: string): number {
    const control = CONTROL_ESCAPES[char];
    if (control !== undefined) return control;
    if (/^[!-/:-@[-`{-~]$/.test(char)) return char.codePointAt(0)!;
    const hex = char === 'x' ? /^(?:\{([0-9A-Fa-f]{1,6})\}|([0-9A-Fa-f]{2}))/.exec(this.#ahead(10)) : null;
    // A digit above zero is octal only with another one behind it; alone it would be a back-reference.
    const octal = /^(?:0[0-7]{0,2}|[1-7][0-7]{1,2})/.exec(char + this.#ahead(2));
    if (hex !== null) {
      this.#at += hex[0].length;
      const value = Number.parseInt(hex[1] ?? hex[2]!, 16);
      return value <= 0x10_ffff ? value : fail(`\\x${hex[0]} is no character`);
    }
    if (octal === null) return fail(`\\${char} is not an escape of RE2`);
    this.#at += octal[0].length - 1;
    return Number.parseInt(octal[0], 8);
  }

  #bracket(): RegexNode {
    const negated = this.#take('^');
    const parts: CharacterClass[] = [];
    // A ] that comes first is a character.
    for (let first = true; first || this.#peek() !== ']'; first = false) {
      if (this.#peek() === undefined) fail('a [ is not closed');
      parts.push(this.#bracketItem());
    }
    this.#at++;
    const union = CharacterClass.union(parts);
    const cased = this.#flags.ignoreCase ? union.ignoringCase() : union;
    return { kind: 'class', class: negated ? cased.negated() : cased };
  }

  #bracketItem(): CharacterClass {
    const posix = /^\[:(\^?[a-z]+):\]/.exec(this.#ahead(16));
    if (posix !== null) {
      this.#at += posix[0].length;
      return posixClass(posix[1]!) ?? fail(`${posix[0]} is no class`);
    }
    const low = this.#bracketChar();
    if (low instanceof CharacterClass) return low;
    const isRange = this.#peek() === '-' && this.#chars[this.#at + 1] !== ']' && this.#at + 1 < this.#chars.length;
    if (!isRange) return CharacterClass.ofChar(low);
    this.#at++;
    const high = this.#bracketChar();
    if (high instanceof CharacterClass || high < low) return fail('a range in [ ] ends before it begins');
    return CharacterClass.ofRanges([[low, high]]);
  }

  #bracketChar(): number | CharacterClass {
    const char = this.#next('a [ is not closed');
    if (char !== '\\') return char.codePointAt(0)!;
    const escaped = this.#next('a \\ ends it');
    return this.#escapedClass(escaped) ?? this.#escapedChar(escaped);
  }

  #peek(): string | undefined {
    return this.#chars[this.#at];
  }

  #next(otherwise = 'it ends too early'): string {
    return this.#chars[this.#at++] ?? fail(otherwise);
  }

  #take(char: string): boolean {
    if (this.#peek() !== char) return false;
    this.#at++;
    return true;
  }

  #ahead(count: number): string {
    return this.#chars.slice(this.#at, this.#at + count).join('');
  }
}

function fail(message: string): never {
  throw new RegexSyntaxError(message);
}
