// SPDX-License-Identifier: Apache-2.0

/**
 * Regular expressions of rules, in time linear in the text: all states are followed at once and nothing is ever tried
 * again, so no pattern can blow up.
 */
import { WORD_CHARACTERS, type CharacterClass } from './character-class.ts';
import { parseRegex, RegexSyntaxError, type Assertion, type RegexNode } from './syntax.ts';

/** Of an automaton, in instructions; a pattern that needs more is refused. */
const MAX_INSTRUCTIONS = 10_000;

type Instruction =
  | { readonly op: 'class'; readonly class: CharacterClass }
  | { readonly op: 'assert'; readonly assertion: Assertion }
  | { readonly op: 'split'; readonly targets: number[] }
  | { readonly op: 'accept' };

/** What is wrong with a pattern, if anything. */
export function regexProblem(pattern: string): string | undefined {
  try {
    new Regex(pattern);
    return undefined;
  } catch (error) {
    if (error instanceof RegexSyntaxError) return error.message;
    throw error;
  }
}

export class Regex {
  readonly #program: Instruction[] = [];

  /** Throws RegexSyntaxError. */
  constructor(pattern: string) {
    this.#compile(parseRegex(pattern));
    this.#emit({ op: 'accept' });
  }

  /** True when the whole text matches. */
  matches(text: string): boolean {
    const chars = Array.from(text, (char) => char.codePointAt(0)!);
    let states = this.#follow([0], chars, 0);
    for (const [at, char] of chars.entries()) {
      const next: number[] = [];
      for (const state of states) {
        const instruction = this.#program[state]!;
        if (instruction.op === 'class' && instruction.class.has(char)) next.push(state + 1);
      }
      if (next.length === 0) return false;
      states = this.#follow(next, chars, at + 1);
    }
    return [...states].some((state) => this.#program[state]!.op === 'accept');
  }

  /** All states that these lead to without a character. */
  #follow(from: readonly number[], chars: readonly number[], at: number): Set<number> {
    const found = new Set<number>();
    const stack = [...from];
    for (let state = stack.pop(); state !== undefined; state = stack.pop()) {
      if (found.has(state)) continue;
      found.add(state);
      const instruction = this.#program[state]!;
      if (instruction.op === 'split') stack.push(...instruction.targets);
      else if (instruction.op === 'assert' && holds(instruction.assertion, chars, at)) stack.push(state + 1);
    }
    return found;
  }

  #compile(node: RegexNode): void {
    switch (node.kind) {
      case 'class':
        this.#emit({ op: 'class', class: node.class });
        return;
      case 'assert':
        this.#emit({ op: 'assert', assertion: node.assertion });
        return;
      case 'sequence':
        for (const item of node.items) this.#compile(item);
        return;
      case 'choice':
        this.#compileChoice(node.options);
        return;
      case 'repeat':
        this.#compileRepeat(node.item, node.min, node.max);
        return;
    }
  }

  #compileChoice(options: readonly RegexNode[]): void {
    const fork = this.#split();
    const ends = options.map((option) => {
      fork.push(this.#program.length);
      this.#compile(option);
      return this.#split();
    });
    for (const end of ends) end.push(this.#program.length);
  }

  #compileRepeat(item: RegexNode, min: number, max: number): void {
    for (let i = 0; i < min; i++) {
      const before = this.#program.length;
      this.#compile(item);
      if (this.#program.length === before) return; // it matches the empty text only, and so does any number of it
    }
    if (max === Infinity) {
      const start = this.#program.length;
      const fork = this.#split();
      fork.push(this.#program.length);
      this.#compile(item);
      this.#split().push(start);
      fork.push(this.#program.length);
      return;
    }
    const skips: number[][] = [];
    for (let i = min; i < max; i++) {
      const skip = this.#split();
      skip.push(this.#program.length);
      skips.push(skip);
      this.#compile(item);
    }
    for (const skip of skips) skip.push(this.#program.length);
  }

  /** Its targets are to be filled in. */
  #split(): number[] {
    const targets: number[] = [];
    this.#emit({ op: 'split', targets });
    return targets;
  }

  #emit(instruction: Instruction): void {
    if (this.#program.length >= MAX_INSTRUCTIONS) throw new RegexSyntaxError('it is too large');
    this.#program.push(instruction);
  }
}

function holds(assertion: Assertion, chars: readonly number[], at: number): boolean {
  const newline = 10;
  switch (assertion) {
    case 'text-start':
      return at === 0;
    case 'text-end':
      return at === chars.length;
    case 'line-start':
      return at === 0 || chars[at - 1] === newline;
    case 'line-end':
      return at === chars.length || chars[at] === newline;
    case 'word':
      return isWord(chars[at - 1]) !== isWord(chars[at]);
    case 'no-word':
      return isWord(chars[at - 1]) === isWord(chars[at]);
  }
}

function isWord(char: number | undefined): boolean {
  return char !== undefined && WORD_CHARACTERS.has(char);
}
