// SPDX-License-Identifier: Apache-2.0

/** Sets of characters, by code point. */

type Range = readonly [first: number, last: number];

export class CharacterClass {
  readonly #test: (char: number) => boolean;

  private constructor(test: (char: number) => boolean) {
    this.#test = test;
  }

  static ofRanges(ranges: readonly Range[]): CharacterClass {
    return new CharacterClass((char) => ranges.some(([first, last]) => char >= first && char <= last));
  }

  static ofChar(char: number): CharacterClass {
    return new CharacterClass((other) => other === char);
  }

  static union(parts: readonly CharacterClass[]): CharacterClass {
    return new CharacterClass((char) => parts.some((part) => part.has(char)));
  }

  /** By a Unicode property, as `\p{…}` names it; undefined when there is none of that name. */
  static ofProperty(name: string): CharacterClass | undefined {
    for (const property of [name, `Script=${name}`]) {
      try {
        const regex = new RegExp(`^\\p{${property}}$`, 'u');
        return new CharacterClass((char) => regex.test(String.fromCodePoint(char)));
      } catch {
        continue; // no such property
      }
    }
    return undefined;
  }

  has(char: number): boolean {
    return this.#test(char);
  }

  negated(): CharacterClass {
    return new CharacterClass((char) => !this.has(char));
  }

  /** With both cases of every letter. */
  ignoringCase(): CharacterClass {
    return new CharacterClass((char) => {
      const text = String.fromCodePoint(char);
      return [text, text.toLowerCase(), text.toUpperCase()].some((form) => this.has(form.codePointAt(0)!));
    });
  }
}

const range = (first: string, last: string): Range => [first.codePointAt(0)!, last.codePointAt(0)!];
const DIGITS = [range('0', '9')];
const LOWER = [range('a', 'z')];
const UPPER = [range('A', 'Z')];
const SPACES: Range[] = [range('\t', '\n'), range('\f', '\r'), range(' ', ' ')];
const WORD = [...DIGITS, ...UPPER, range('_', '_'), ...LOWER];

const POSIX: Readonly<Record<string, readonly Range[]>> = {
  alnum: [...DIGITS, ...UPPER, ...LOWER],
  alpha: [...UPPER, ...LOWER],
  ascii: [range('\0', '\x7f')],
  blank: [range('\t', '\t'), range(' ', ' ')],
  cntrl: [range('\0', '\x1f'), range('\x7f', '\x7f')],
  digit: DIGITS,
  graph: [range('!', '~')],
  lower: LOWER,
  print: [range(' ', '~')],
  punct: [range('!', '/'), range(':', '@'), range('[', '`'), range('{', '~')],
  space: [range('\t', '\r'), range(' ', ' ')],
  upper: UPPER,
  word: WORD,
  xdigit: [...DIGITS, range('A', 'F'), range('a', 'f')],
};

export const WORD_CHARACTERS = CharacterClass.ofRanges(WORD);
export const ANY_CHARACTER = CharacterClass.ofRanges([[0, 0x10_ffff]]);
export const NEWLINE = CharacterClass.ofChar(10);

/** `\d`, `\s`, `\w` and, in upper case, what is not in them. */
export function perlClass(letter: string): CharacterClass | undefined {
  const ranges = { d: DIGITS, s: SPACES, w: WORD }[letter.toLowerCase()];
  if (ranges === undefined) return undefined;
  const positive = CharacterClass.ofRanges(ranges);
  return letter === letter.toLowerCase() ? positive : positive.negated();
}

/** The name inside `[:…:]`, with `^` in front for what is not in it. */
export function posixClass(name: string): CharacterClass | undefined {
  const negated = name.startsWith('^');
  const ranges = Object.hasOwn(POSIX, negated ? name.slice(1) : name)
    ? POSIX[negated ? name.slice(1) : name]
    : undefined;
  if (ranges === undefined) return undefined;
  const positive = CharacterClass.ofRanges(ranges);
  return negated ? positive.negated() : positive;
}
