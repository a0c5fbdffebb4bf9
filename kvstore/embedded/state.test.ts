// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { StoreState, type Change } from './state.ts';

/** A change that fits the state, made from random numbers. */
function nextChange(state: StoreState, picks: readonly number[]): Change {
  const keys = picks.map((pick) => `key/${pick % 7}`).filter((key, index, all) => all.indexOf(key) === index);
  const [deleted, written] = [keys.filter((_, i) => picks[i]! % 3 === 0), keys.filter((_, i) => picks[i]! % 3 !== 0)];
  const deletes = deleted.filter((key) => state.get(key) !== undefined);
  const grants = state.leases.has('lease') ? undefined : ([['lease', 1000]] as [string, number][]);
  return {
    revision: state.revision + (deletes.length + written.length > 0 ? 1 : 0),
    puts: written.map((key, i) => [key, `value ${picks[i]! % 100} "é"`, picks[i]! % 2 === 0 ? 'lease' : null]),
    deletes,
    ...(grants && { grants }),
  };
}

test('an image of the state gives the same state', () => {
  fc.assert(
    fc.property(fc.array(fc.array(fc.nat(1000), { maxLength: 4 }), { maxLength: 20 }), (plan) => {
      const state = new StoreState();
      for (const picks of plan) state.apply(nextChange(state, picks));
      const copy = StoreState.fromImage(state.toImage());
      assert.deepEqual(copy.toImage(), state.toImage());
      assert.deepEqual(copy.list('key/'), state.list('key/'));
      assert.deepEqual(
        [...(copy.leases.get('lease')?.keys ?? [])].sort(),
        [...(state.leases.get('lease')?.keys ?? [])].sort(),
      );
    }),
  );
});

test('a change that does not come next is told', () => {
  const state = new StoreState();
  const change = (revision: number): Change => ({ revision, puts: [['a', '1', null]], deletes: [] });
  assert.equal(state.applyInOrder(change(1)), undefined);
  assert.equal(state.applyInOrder(change(3)), 'goes from revision 1 to 3');
  assert.equal(state.revision, 1);
});
