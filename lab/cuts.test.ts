// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseCuts } from './cuts.ts';

/** As nft 1.0.6 prints the set. */
function listing(elements: string): string {
  return `{"nftables": [{"metainfo": {"version": "1.0.6", "json_schema_version": 1}}, {"set": {"family": "bridge",
    "name": "cut", "table": "lab", "type": ["ifname", "ifname"], "handle": 2${elements}}}]}`;
}

test('a wire that is whole has no cuts', () => {
  assert.equal(parseCuts(listing('')).size, 0);
});

test('each machine is shown with all that it is cut from', () => {
  const pairs = [
    ['node2', 'etcd1'],
    ['etcd1', 'node2'],
    ['node1', 'node2'],
    ['node2', 'node1'],
  ];
  const elements = JSON.stringify(pairs.map((concat) => ({ concat })));
  assert.deepEqual(
    [...parseCuts(listing(`, "elem": ${elements}`))],
    [
      ['etcd1', ['node2']],
      ['node1', ['node2']],
      ['node2', ['etcd1', 'node1']],
    ],
  );
});
