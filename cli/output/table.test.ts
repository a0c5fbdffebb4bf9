// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { alignTabs, table } from './table.ts';
import { printable } from './printable.ts';

const dots = (text: string) => text.replaceAll(' ', '.');

test('labels that would steer the terminal, or leave their cell, are shown as escapes', () => {
  const label = 'container:a=\x1b[2J\u009b0m\u202e\nb\tc\rd';
  const text = table([
    ['1', label, 'ready'],
    ['2', 'container:b', 'ready'],
  ]);
  assert.equal(text.split('\n')[0], '1    container:a=\\u001b[2J\\u009b0m\\u202e\\nb\\tc\\rd   ready');
  assert.equal(printable(`one\n\ttwo: ${label}`), 'one\n\ttwo: container:a=\\u001b[2J\\u009b0m\\u202e\nb\tc\rd');
});

test('columns are as wide as their widest cell plus three', () => {
  assert.equal(
    dots(
      table(
        [
          ['ID', 'LABELS'],
          ['41022', 'container:id=a'],
          ['', 'x'],
        ],
        { minWidth: 2 },
      ),
    ),
    'ID......LABELS\n41022...container:id=a\n........x\n',
  );
});

test('a column is never narrower than the minimum', () => {
  assert.equal(dots(table([['a', 'b']], { minWidth: 8 })), 'a.......b\n');
});

test('a trailing tab pads the last column too', () => {
  assert.equal(
    dots(
      table(
        [
          ['k', 'value'],
          ['key', 'v'],
        ],
        { trailingTab: true },
      ),
    ),
    'k.....value...\nkey...v.......\n',
  );
});

test('a line without a cell ends the column: what follows is aligned anew', () => {
  assert.equal(dots(alignTabs('long cell\tx\nno cell\na\tb\n')), 'long.cell...x\nno.cell\na....b\n');
});

test('inner columns are aligned only over lines that have them', () => {
  assert.equal(dots(alignTabs('a\tbbbb\tc\na\tx\na\tb\td\n')), 'a....bbbb...c\na....x\na....b....d\n');
});

test('length is counted in characters, not in code units', () => {
  assert.equal(dots(alignTabs('😀😀😀\tx\nabc\ty\n')), '😀😀😀...x\nabc...y\n');
});

test('empty text stays empty', () => {
  assert.equal(alignTabs(''), '');
  assert.equal(table([]), '');
});
