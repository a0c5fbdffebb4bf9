// SPDX-License-Identifier: Apache-2.0
import { test } from 'node:test';
import assert from 'node:assert/strict';
import fc from 'fast-check';
import { LabelSet } from '../identity/label-set.ts';
import { cidrLabels, numericIdentity, type NumericIdentity } from '../identity/numeric-identity.ts';
import { IpAddress, Prefix } from '../net/ip.ts';
import { PrefixTrie } from '../net/prefix-trie.ts';
import { re2 } from '../runtime/re2.ts';
import { FqdnIdentities } from './fqdn-identities.ts';
import { dnsRuleMatches } from './l7/dns.ts';
import type { DnsRule } from './l7/rules.ts';
import { WHOLE_LANGUAGE } from './language.ts';
import { lookupEntry } from './lookup.ts';
import { parseRules } from './parse/rule.ts';
import { fqdnLabel } from './peer-selectors.ts';
import { PolicyRepository } from './repository.ts';

const APP = numericIdentity(1000);
const TCP = 6;

/** One subject, and a proxy that has learned names. */
class World {
  readonly ipcache = new Map<string, number>();
  readonly fqdns: FqdnIdentities;
  readonly repository: PolicyRepository;
  readonly #cidrs = new PrefixTrie<NumericIdentity>();
  #lastCidr = 0x0100_0000;
  readonly numbers = new Map<string, NumericIdentity>();
  #lastNumber = 0x0110_0000;

  constructor() {
    this.repository = new PolicyRepository({
      enforcement: 'default',
      allowLocalhost: 'policy',
      cidrIdentities: {
        acquire: (prefix) => {
          this.fqdns.addPrefix(prefix);
          const identity = numericIdentity(this.#lastCidr++);
          this.#cidrs.set(prefix, identity);
          return identity;
        },
        release: (prefix) => {
          this.fqdns.removePrefix(prefix);
          this.#cidrs.delete(prefix);
        },
      },
    });
    this.fqdns = new FqdnIdentities({
      selectors: () => this.repository.fqdnPeers(),
      policy: this.repository,
      numbers: {
        acquire: (labels) => {
          assert.ok(!this.numbers.has(labels), `${labels} has a number already`);
          const id = numericIdentity(this.#lastNumber++);
          this.numbers.set(labels, id);
          return id;
        },
        release: (labels) => assert.ok(this.numbers.delete(labels)),
      },
      ipcache: {
        upsert: (prefix, { identity }) => void this.ipcache.set(prefix.toString(), identity),
        delete: (prefix) => assert.ok(this.ipcache.delete(prefix.toString())),
      },
    });
    this.repository.addIdentity(APP, LabelSet.fromTexts(['container:id=app']));
    this.repository.addSubject(APP);
    this.repository.takeUpdates();
  }

  import(label: string, ...egress: object[]): void {
    const rule = { endpointSelector: {}, egress, labels: [label] };
    this.repository.import(parseRules([rule], { language: WHOLE_LANGUAGE, regex: re2 }), { replace: true });
  }

  delete(label: string): void {
    this.repository.deleteByLabels([{ source: 'any', key: label, value: '' }]);
  }

  learn(name: string, ...addresses: string[]): void {
    this.fqdns.setAddresses(
      name,
      addresses.map((text) => IpAddress.parse(text)),
    );
  }

  /** Both steps; answers how many entries and addresses they wrote. */
  settle(): { entries: number; addresses: number } {
    const before = new Map(this.ipcache);
    this.fqdns.settle();
    let entries = this.#takeChanges();
    const ids = new Set([...this.ipcache.values(), ...this.numbers.values()]);
    for (const id of ids) assert.ok(this.repository.labelsOf(numericIdentity(id)), 'known before an address has it');
    this.fqdns.publish();
    entries += this.#takeChanges();
    for (const id of this.ipcache.values()) assert.ok(this.repository.labelsOf(numericIdentity(id)));
    const keys = new Set([...before.keys(), ...this.ipcache.keys()]);
    return { entries, addresses: [...keys].filter((key) => before.get(key) !== this.ipcache.get(key)).length };
  }

  reaches(text: string, port = 443): boolean {
    const address = IpAddress.parse(text);
    const cidr = this.#cidrs.longest(address) ?? numericIdentity(address.family === 4 ? 9 : 10);
    const identity = this.ipcache.get(Prefix.of(address).toString()) ?? cidr;
    const entry = lookupEntry(this.repository.entries(APP), { identity, egress: true, protocol: TCP, port });
    return entry !== undefined && !entry.deny;
  }

  #takeChanges(): number {
    const updates = this.repository.takeUpdates();
    return updates.reduce((sum, { upserts, deletes }) => sum + upserts.length + deletes.length, 0);
  }
}

const shop = { toFQDNs: [{ matchPattern: '*.shop.example' }] };
const pay = { toFQDNs: [{ matchName: 'pay.shop.example' }], toPorts: [{ ports: [{ port: '80', protocol: 'TCP' }] }] };

test('an answer opens what it says, and another address of the name changes no policy', () => {
  const world = new World();
  world.import('shop', shop);
  world.settle();
  assert.equal(world.reaches('192.0.2.1'), false);
  world.learn('www.shop.example', '192.0.2.1');
  assert.deepEqual(world.settle(), { entries: 1, addresses: 1 });
  world.learn('WWW.shop.example.', '192.0.2.1', '192.0.2.2', '192.0.2.3');
  assert.deepEqual(world.settle(), { entries: 0, addresses: 2 });
  world.learn('cdn.shop.example', '192.0.2.9');
  assert.deepEqual(world.settle(), { entries: 0, addresses: 1 }, 'other names of the pattern share the identity');
  world.learn('other.example', '192.0.2.77');
  assert.deepEqual(world.settle(), { entries: 0, addresses: 0 });
  assert.deepEqual(
    ['192.0.2.1', '192.0.2.3', '192.0.2.9', '192.0.2.77'].map((ip) => world.reaches(ip)),
    [true, true, true, false],
  );
  assert.deepEqual(world.settle(), { entries: 0, addresses: 0 });
});

test('addresses that a name has no more are closed, and identities go with the last of them', () => {
  const world = new World();
  world.import('shop', shop);
  world.learn('a.shop.example', '192.0.2.1', '2001:db8::1');
  world.learn('b.shop.example', '192.0.2.1');
  world.settle();
  assert.equal(world.numbers.size, 2, 'one for each family');
  world.learn('a.shop.example');
  assert.deepEqual(world.settle(), { entries: 1, addresses: 1 });
  assert.deepEqual(
    ['192.0.2.1', '2001:db8::1'].map((ip) => world.reaches(ip)),
    [true, false],
  );
  world.learn('b.shop.example');
  world.settle();
  assert.deepEqual([world.ipcache.size, world.numbers.size], [0, 0]);
});

test('a name that several items match has all their labels, and follows the rules', () => {
  const world = new World();
  world.learn('pay.shop.example', '192.0.2.1');
  assert.deepEqual(world.settle(), { entries: 0, addresses: 0 }, 'no rule speaks of it');
  world.import('pay', pay);
  world.settle();
  assert.deepEqual(
    [80, 443].map((port) => world.reaches('192.0.2.1', port)),
    [true, false],
  );
  world.import('shop', shop);
  world.settle();
  assert.deepEqual(
    [80, 443].map((port) => world.reaches('192.0.2.1', port)),
    [true, true],
  );
  assert.equal(world.numbers.size, 1);
  assert.match([...world.numbers.keys()][0]!, /fqdn:\*\.shop\.example=;fqdn:pay\.shop\.example=;/);
  world.delete('shop');
  world.settle();
  assert.deepEqual(
    [80, 443].map((port) => world.reaches('192.0.2.1', port)),
    [true, false],
  );
  world.delete('pay');
  world.settle();
  assert.deepEqual([world.ipcache.size, world.numbers.size], [0, 0]);
});

test('prefixes that rules mention go on to select the addresses of names, denies too', () => {
  const world = new World();
  world.import('shop', shop);
  world.learn('www.shop.example', '198.51.100.1', '203.0.113.1');
  world.settle();
  const rule = { endpointSelector: {}, egressDeny: [{ toCIDR: ['198.51.100.0/24'] }], labels: ['deny'] };
  world.repository.import(parseRules([rule]));
  assert.deepEqual(world.settle().addresses, 1, 'only the address inside');
  assert.deepEqual(
    ['198.51.100.1', '203.0.113.1'].map((ip) => world.reaches(ip)),
    [false, true],
  );
  world.delete('deny');
  assert.deepEqual(world.settle().addresses, 1);
  assert.equal(world.reaches('198.51.100.1'), true);
});

test('when no number can be had the rest is left for the next time', () => {
  const world = new World();
  world.import('shop', shop);
  const { numbers } = world;
  const acquire = numbers.set.bind(numbers);
  numbers.set = () => {
    throw new Error('none left');
  };
  world.learn('a.shop.example', '192.0.2.1', '2001:db8::1');
  assert.throws(() => world.fqdns.settle(), /none left/);
  numbers.set = acquire;
  world.settle();
  assert.deepEqual(
    ['192.0.2.1', '2001:db8::1'].map((ip) => world.reaches(ip)),
    [true, true],
  );
});

test('the end is the same whatever the order of answers, rules and steps', () => {
  const names = ['a.shop.example', 'pay.shop.example', 'shop.example'];
  const addresses = ['192.0.2.1', '192.0.2.2', '198.51.100.1', '2001:db8::1'];
  const rules: Record<string, object[]> = {
    shop: [shop],
    pay: [pay],
    wide: [{ toCIDR: ['192.0.2.0/24'], toPorts: pay.toPorts }],
    narrow: [{ toCIDRSet: [{ cidr: '192.0.2.0/28', except: ['192.0.2.2/32'] }] }],
  };
  const event = fc.oneof(
    fc.record({ name: fc.constantFrom(...names), ips: fc.subarray(addresses) }),
    fc.record({ rule: fc.constantFrom(...Object.keys(rules)), present: fc.boolean() }),
    fc.constant('settle' as const),
  );
  fc.assert(
    fc.property(fc.array(event, { maxLength: 25 }), (events) => {
      const world = new World();
      const known = new Map<string, string[]>();
      const present = new Set<string>();
      for (const what of events) {
        if (what === 'settle') world.settle();
        else if ('name' in what) {
          known.set(what.name, what.ips);
          world.learn(what.name, ...what.ips);
        } else if (what.present) {
          present.add(what.rule);
          world.import(what.rule, ...rules[what.rule]!);
        } else {
          present.delete(what.rule);
          world.delete(what.rule);
        }
      }
      world.settle();
      const items = [...present].flatMap((rule): DnsRule[] => {
        if (rule === 'shop') return shop.toFQDNs;
        return rule === 'pay' ? pay.toFQDNs : [];
      });
      for (const ip of addresses) {
        const mine = [...known].filter(([, ips]) => ips.includes(ip)).map(([name]) => name);
        const labels = items
          .filter((item) => mine.some((name) => dnsRuleMatches(item, name)))
          .map((item) => fqdnLabel({ kind: 'fqdns', ...item }));
        const id = world.ipcache.get(Prefix.of(IpAddress.parse(ip)).toString());
        assert.equal(id !== undefined, labels.length > 0, ip);
        if (id === undefined) continue;
        // The plain way: each address by itself, with the label of its own prefix.
        const plain = numericIdentity(0x0120_0000);
        world.repository.addIdentity(plain, LabelSet.of([...cidrLabels(Prefix.of(IpAddress.parse(ip))), ...labels]));
        for (const port of [80, 443]) {
          const packet = { identity: plain, egress: true, protocol: TCP, port };
          const entry = lookupEntry(world.repository.entries(APP), packet);
          assert.equal(world.reaches(ip, port), entry !== undefined && !entry.deny, `${ip} ${port}`);
        }
        world.repository.removeIdentity(plain);
      }
      const used = new Set(world.ipcache.values());
      assert.equal(world.numbers.size, used.size, 'no identity without an address');
    }),
    { numRuns: 300 },
  );
});
