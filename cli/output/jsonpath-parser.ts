// SPDX-License-Identifier: Apache-2.0

/** Reads the text of a JSONPath template into nodes; jsonpath.ts says what they mean. */
import { CiliumError } from '../../errors/cilium-error.ts';

export type Node =
  | { readonly kind: 'text'; readonly text: string }
  | { readonly kind: 'path'; readonly steps: readonly Step[] }
  | { readonly kind: 'range'; readonly steps: readonly Step[]; readonly body: readonly Node[] };

export type Step =
  | { readonly kind: 'key'; readonly key: string }
  | { readonly kind: 'index'; readonly index: number }
  | { readonly kind: 'slice'; readonly from?: number; readonly to?: number; readonly by: number }
  | { readonly kind: 'all' }
  | { readonly kind: 'descend' }
  | { readonly kind: 'union'; readonly steps: readonly Step[] }
  | { readonly kind: 'filter'; readonly filter: Filter };

export type Operand =
  | { readonly kind: 'literal'; readonly value: string | number | boolean | null }
  | { readonly kind: 'path'; readonly steps: readonly Step[] };

/** Without an operator: the left side exists. */
export interface Filter {
  readonly left: Operand;
  readonly operator?: '==' | '!=' | '<' | '<=' | '>' | '>=';
  readonly right?: Operand;
}

export function parseTemplate(template: string): Node[] {
  const parser = new Parser(template);
  return parser.nodes();
}

const ESCAPES: Readonly<Record<string, string>> = { n: '\n', t: '\t', r: '\r' };

class Parser {
  readonly #text: string;
  #at = 0;
  #openRanges = 0;

  constructor(text: string) {
    this.#text = text;
  }

  nodes(): Node[] {
    const nodes: Node[] = [];
    while (this.#at < this.#text.length) {
      const text = this.#match(/[^{]+/y);
      if (text !== undefined) {
        nodes.push({ kind: 'text', text });
        continue;
      }
      this.#at += 1; // the brace
      if (this.#match(/\s*end\s*\}/y) !== undefined) {
        if (this.#openRanges === 0) this.#fail('"end" without "range"');
        this.#openRanges -= 1;
        return nodes;
      }
      nodes.push(...this.#expression());
    }
    if (this.#openRanges > 0) this.#fail('"range" without "end"');
    return nodes;
  }

  /** What stands between braces. */
  #expression(): Node[] {
    if (this.#match(/\s*range\b/y) !== undefined) {
      const steps = this.#path();
      this.#expect(/\s*\}/y, '"}"');
      this.#openRanges += 1;
      return [{ kind: 'range', steps, body: this.nodes() }];
    }
    const nodes: Node[] = [];
    while (this.#match(/\s*\}/y) === undefined) {
      const literal = this.#quoted();
      nodes.push(literal === undefined ? { kind: 'path', steps: this.#path() } : { kind: 'text', text: literal });
    }
    return nodes;
  }

  #path(): Step[] {
    const steps: Step[] = [];
    const begin = this.#at;
    this.#match(/\s*[$@]?/y);
    for (;;) {
      if (this.#match(/\.\.(?=[^.])/y) !== undefined) {
        steps.push({ kind: 'descend' });
        if (this.#peek() !== '[') steps.push(this.#name());
      } else if (this.#match(/\.(?=\[)/y) !== undefined || this.#peek() === '[') {
        steps.push(this.#brackets());
      } else if (this.#match(/\.(?=[^.\s}\])=!<>])/y) !== undefined) {
        steps.push(this.#name());
      } else {
        break;
      }
    }
    this.#match(/\.(?=[\s}\])=!<>])/y); // `{.}` is the value itself
    if (this.#at === begin) this.#fail('expected a path such as .status.state');
    return steps;
  }

  #name(): Step {
    if (this.#match(/\*/y) !== undefined) return { kind: 'all' };
    const name = this.#expect(/(?:\\.|[^\s.[\]{}()=!<>'",\\])+/y, 'a key');
    return { kind: 'key', key: name.replace(/\\(.)/g, '$1') };
  }

  #brackets(): Step {
    this.#at += 1;
    if (this.#match(/\s*\?\(/y) !== undefined) {
      const filter = this.#filter();
      this.#expect(/\s*\)\s*\]/y, '")]"');
      return { kind: 'filter', filter };
    }
    const steps: Step[] = [];
    do steps.push(this.#subscript());
    while (this.#match(/\s*,/y) !== undefined);
    this.#expect(/\s*\]/y, '"]"');
    return steps.length === 1 ? steps[0]! : { kind: 'union', steps };
  }

  #subscript(): Step {
    if (this.#match(/\s*\*/y) !== undefined) return { kind: 'all' };
    const key = this.#quoted();
    if (key !== undefined) return { kind: 'key', key };
    const range = this.#match(/\s*-?\d*\s*:\s*-?\d*\s*(?::\s*-?\d*)?/y);
    if (range !== undefined) {
      const [from, to, by] = range.split(':').map((part) => (part.trim() === '' ? undefined : Number(part)));
      return { kind: 'slice', ...(from !== undefined && { from }), ...(to !== undefined && { to }), by: by ?? 1 };
    }
    return { kind: 'index', index: Number(this.#expect(/\s*-?\d+/y, 'an index, a slice, "*" or a quoted key')) };
  }

  #filter(): Filter {
    const left = this.#operand();
    const operator = this.#match(/\s*(?:==|!=|<=|>=|<|>)/y)?.trim() as Filter['operator'];
    return operator === undefined ? { left } : { left, operator, right: this.#operand() };
  }

  #operand(): Operand {
    const text = this.#quoted();
    if (text !== undefined) return { kind: 'literal', value: text };
    const literal = this.#match(/\s*(?:true|false|null|-?\d+(?:\.\d+)?)(?![\w.])/y);
    if (literal !== undefined) return { kind: 'literal', value: JSON.parse(literal) as number | boolean | null };
    return { kind: 'path', steps: this.#path() };
  }

  #quoted(): string | undefined {
    const quoted = this.#match(/\s*(?:"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')/y)?.trim();
    return quoted?.slice(1, -1).replace(/\\(.)/g, (_, char: string) => ESCAPES[char] ?? char);
  }

  #peek(): string | undefined {
    return this.#text[this.#at];
  }

  #match(token: RegExp): string | undefined {
    token.lastIndex = this.#at;
    const found = token.exec(this.#text)?.[0];
    this.#at += found?.length ?? 0;
    return found;
  }

  #expect(token: RegExp, what: string): string {
    return this.#match(token) ?? this.#fail(`expected ${what}`);
  }

  #fail(message: string): never {
    throw new CiliumError('InvalidArgument', `jsonpath ${this.#text}: ${message} at character ${this.#at + 1}`);
  }
}
