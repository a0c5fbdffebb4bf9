// SPDX-License-Identifier: Apache-2.0
import { test } from 'node:test';
import assert from 'node:assert/strict';
import fc from 'fast-check';
import { LabelSet } from '../identity/label-set.ts';
import { numericIdentity, type NumericIdentity } from '../identity/numeric-identity.ts';
import { EndpointSelector } from '../identity/selector.ts';
import { endpointLabels, selectors } from '../tests/conformance/random-rules.ts';
import { SelectorCache } from './selector-cache.ts';

const ID = numericIdentity(300);

test('selectors that are spelled the same are one, until the last user leaves', () => {
  const cache = new SelectorCache<string>();
  const a = cache.use(EndpointSelector.fromJson({ matchLabels: { x: '1', y: '2' } }), 'a');
  const b = cache.use(EndpointSelector.fromJson({ matchLabels: { y: '2', 'any:x': '1' } }), 'b');
  assert.equal(a, b);
  cache.release(a.selector, 'a');
  assert.equal([...cache.selectors()].length, 1);
  cache.release(a.selector, 'b');
  assert.equal([...cache.selectors()].length, 0);
});

test('an identity that is known with the same labels changes nothing', () => {
  const cache = new SelectorCache<string>();
  cache.use(EndpointSelector.WILDCARD, 'user');
  assert.equal(cache.add(ID, LabelSet.fromTexts(['container:a'])).length, 1);
  assert.equal(cache.add(ID, LabelSet.fromTexts(['container:a'])).length, 0);
});

test('a prefix selects identities of prefixes inside it that come before or after', () => {
  const cache = new SelectorCache<string>();
  cache.add(ID, LabelSet.fromTexts(['cidr:10.1.0.0/16', 'reserved:world-ipv4']));
  const cached = cache.use(EndpointSelector.ofLabel('cidr', '10.0.0.0/8'), 'user');
  const later = numericIdentity(301);
  cache.add(later, LabelSet.fromTexts(['cidr:10.2.0.0/16', 'reserved:world-ipv4']));
  cache.add(numericIdentity(302), LabelSet.fromTexts(['cidr:11.0.0.0/8', 'reserved:world-ipv4']));
  assert.deepEqual([...cached.identities], [ID, later]);
});

test('every selector has exactly the identities that it matches, whatever came first', () => {
  const label = fc.oneof(
    endpointLabels,
    fc.constantFrom(['cidr:10.1.0.0/16', 'reserved:world-ipv4'], ['cidr:10.1.1.0/24']),
  );
  const selector = fc.oneof(
    selectors.map((json) => EndpointSelector.fromJson(json as Parameters<typeof EndpointSelector.fromJson>[0])),
    fc.constantFrom('10.0.0.0/8', '10.1.1.0/24').map((key) => EndpointSelector.ofLabel('cidr', key)),
  );
  const event = fc.oneof(
    fc.tuple(fc.constant('use' as const), selector, fc.nat(5)),
    fc.tuple(fc.constant('release' as const), selector, fc.nat(5)),
    fc.tuple(fc.constant('add' as const), label, fc.nat(5)),
    fc.tuple(fc.constant('remove' as const), label, fc.nat(5)),
  );
  fc.assert(
    fc.property(fc.array(event, { maxLength: 40, size: 'max' }), (events) => {
      const cache = new SelectorCache<number>();
      const identities = new Map<NumericIdentity, LabelSet>();
      const seen = new Map<string, Set<NumericIdentity>>();
      for (const event of events) {
        const [kind, what, n] = event;
        const id = numericIdentity(n);
        if (kind === 'use') {
          const cached = cache.use(what, n);
          seen.set(what.toString(), new Set(cached.identities));
        } else if (kind === 'release') {
          const cached = [...cache.selectors()].find(({ selector }) => selector.toString() === what.toString());
          if (cached?.users.has(n) === true) cache.release(what, n);
        } else {
          const changes = kind === 'add' ? cache.add(id, LabelSet.fromTexts(what)) : cache.remove(id);
          if (kind === 'add') identities.set(id, LabelSet.fromTexts(what));
          else identities.delete(id);
          for (const { selector, identity, selected } of changes) {
            const followed = seen.get(selector.selector.toString())!;
            assert.ok(selected ? !followed.has(identity) : followed.has(identity));
            if (selected) followed.add(identity);
            else followed.delete(identity);
          }
        }
      }
      for (const cached of cache.selectors()) {
        const expected = [...identities].filter(([, labels]) => cached.selector.matches(labels)).map(([id]) => id);
        assert.deepEqual([...cached.identities].sort(), expected.sort());
        assert.deepEqual([...seen.get(cached.selector.toString())!].sort(), expected);
      }
    }),
    { numRuns: 500 },
  );
});
