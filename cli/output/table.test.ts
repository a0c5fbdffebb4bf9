// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { alignTabs, table } from './table.ts';

const dots = (text: string) => text.replaceAll(' ', '.');

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
