// SPDX-License-Identifier: Apache-2.0

/**
 * Tab-aligned text as Go's text/tabwriter makes it, so that tables look as those of Cilium and scripts that cut them go on.
 *
 * A tab ends a cell; text behind the last tab of a line is no cell and is not padded. A column is as wide as its widest cell
 * plus the padding, over the lines that follow each other and have that cell.
 */

import { printableCell } from './printable.ts';

export interface AlignOptions {
  /** Of every column. */
  readonly minWidth?: number;
  /** Blanks behind the widest cell of a column. */
  readonly padding?: number;
}

/** Aligns the lines of a text. */
export function alignTabs(text: string, { minWidth = 5, padding = 3 }: AlignOptions = {}): string {
  const lines = text.split('\n').map((line) => line.split('\t'));
  const widths = columnWidths(lines, minWidth, padding);
  const aligned = lines.map((cells, i) => {
    return cells.map((cell, column) => (column < cells.length - 1 ? pad(cell, widths[i]![column]!) : cell)).join('');
  });
  return aligned.join('\n');
}

/** Aligned rows, each ended by a line feed. With `trailingTab` the last column is padded too. */
export function table(
  rows: readonly (readonly string[])[],
  options: AlignOptions & { trailingTab?: boolean } = {},
): string {
  const end = options.trailingTab === true ? '\t\n' : '\n';
  return alignTabs(rows.map((row) => row.map(printableCell).join('\t') + end).join(''), options);
}

/** For each line the width of each of its columns. */
function columnWidths(lines: readonly string[][], minWidth: number, padding: number): number[][] {
  const widths: number[][] = lines.map(() => []);
  const fill = (from: number, to: number, column: number): void => {
    for (let begin = from; begin < to; begin++) {
      if (!hasCell(lines[begin]!, column)) continue;
      let end = begin;
      let width = minWidth;
      for (; end < to && hasCell(lines[end]!, column); end++) {
        width = Math.max(width, lengthOf(lines[end]![column]!) + padding);
      }
      for (let i = begin; i < end; i++) widths[i]!.push(width);
      fill(begin, end, column + 1);
      begin = end;
    }
  };
  fill(0, lines.length, 0);
  return widths;
}

function hasCell(cells: readonly string[], column: number): boolean {
  return column < cells.length - 1;
}

function pad(cell: string, width: number): string {
  return cell + ' '.repeat(Math.max(0, width - lengthOf(cell)));
}

/** In code points. */
function lengthOf(text: string): number {
  return /^[\x20-\x7e]*$/.test(text) ? text.length : Array.from(text).length;
}
