// SPDX-License-Identifier: Apache-2.0

/** A named text and its lines: where something stands in it, and how a problem there is shown. */
import { CiliumError } from '../errors/cilium-error.ts';

/** Both count from 1. */
export interface TextPosition {
  readonly line: number;
  readonly column: number;
}

/** Longer lines are not repeated in errors. */
const MAX_SHOWN_CHARS = 120;

export class TextLines {
  /** As the person gave it: the name of a file, or "stdin". */
  readonly name: string;
  readonly text: string;
  #starts: readonly number[] | undefined;

  constructor(name: string, text: string) {
    this.name = name;
    this.text = text;
  }

  positionAt(offset: number): TextPosition {
    const starts = this.#lineStarts();
    let low = 0;
    let high = starts.length - 1;
    while (low < high) {
      const middle = (low + high + 1) >>> 1;
      if (starts[middle]! <= offset) low = middle;
      else high = middle - 1;
    }
    return { line: low + 1, column: offset - starts[low]! + 1 };
  }

  /** The error for a problem at a place, with the line it is in and a mark below. */
  problemAt(position: TextPosition, message: string): CiliumError {
    const place = `${this.name}:${position.line}:${position.column}`;
    return new CiliumError('InvalidArgument', `${place}: ${message}${this.#mark(position)}`, { ...position });
  }

  /** The error for text that breaks the grammar of JSON. */
  syntaxError(offset: number, message: string): CiliumError {
    const position = this.positionAt(offset);
    const place = `${this.name}:${position.line}: syntax error at offset ${offset}`;
    return new CiliumError('InvalidArgument', `${place}: ${message}${this.#mark(position)}`, { ...position });
  }

  #mark({ line, column }: TextPosition): string {
    const starts = this.#lineStarts();
    const text = this.text.slice(starts[line - 1], starts[line]).replace(/\r?\n$/, '');
    if (text.length > MAX_SHOWN_CHARS) return '';
    return `\n${text}\n${text.slice(0, column - 1).replace(/[^\t]/g, ' ')}^`;
  }

  #lineStarts(): readonly number[] {
    if (this.#starts === undefined) {
      const starts = [0];
      for (let at = this.text.indexOf('\n'); at >= 0; at = this.text.indexOf('\n', at + 1)) starts.push(at + 1);
      this.#starts = starts;
    }
    return this.#starts;
  }
}
