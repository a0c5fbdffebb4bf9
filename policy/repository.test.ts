// SPDX-License-Identifier: Apache-2.0
import { test } from 'node:test';
import assert from 'node:assert/strict';
import { CiliumError, isCiliumError } from '../errors/cilium-error.ts';
import { LabelSet } from '../identity/label-set.ts';
import { parseSelectLabel } from '../identity/label.ts';
import {
  cidrLabels,
  numericIdentity,
  RESERVED_IDENTITIES,
  type NumericIdentity,
} from '../identity/numeric-identity.ts';
import { Prefix } from '../net/ip.ts';
import { WHOLE_LANGUAGE } from './language.ts';
import { lookupEntry } from './lookup.ts';
import type { PolicyEntry } from './map-entry.ts';
import { parseRules } from './parse/rule.ts';
import { fqdnLabel, type CidrGroup } from './peer-selectors.ts';
import { PolicyRepository, type PolicyRepositoryOptions } from './repository.ts';
import { re2 } from '../runtime/re2.ts';

const APP1 = numericIdentity(1001);
const APP2 = numericIdentity(1002);
const APP3 = numericIdentity(1003);
const TCP = 6;

class World {
  readonly repository: PolicyRepository;
  readonly prefixes = new Map<string, NumericIdentity>();
  #lastLocal = 0x0100_0000;

  constructor(options: Partial<PolicyRepositoryOptions> = {}) {
    this.repository = new PolicyRepository({
      enforcement: 'default',
      allowLocalhost: 'auto',
      cidrIdentities: {
        acquire: (prefix) => {
          const id = numericIdentity(++this.#lastLocal);
          this.prefixes.set(prefix.toString(), id);
          return id;
        },
        release: (prefix) => void this.prefixes.delete(prefix.toString()),
      },
      ...options,
    });
    for (const [n, id] of [APP1, APP2, APP3].entries()) {
      this.repository.addIdentity(id, LabelSet.fromTexts([`container:id=app${n + 1}`]));
    }
    this.repository.addSubject(APP1);
    this.repository.takeUpdates();
  }

  import(...rules: unknown[]): void {
    this.repository.import(parseRules(rules, { language: { ...WHOLE_LANGUAGE, requires: true }, regex: re2 }));
  }

  ingress(from: number, port: number, protocol = TCP): PolicyEntry | undefined {
    return lookupEntry(this.repository.entries(APP1), { identity: from, egress: false, protocol, port });
  }

  reaches(from: number, port: number, protocol = TCP): boolean {
    return this.ingress(from, port, protocol)?.deny === false;
  }

  /** Net changes of APP1 as texts. */
  changes(): string[] {
    return this.repository
      .takeUpdates()
      .flatMap(({ upserts, deletes }) => [
        ...upserts.map((e) => `+${e.deny ? 'deny ' : ''}${text(e)}`),
        ...deletes.map((e) => `-${text(e)}`),
      ]);
  }
}

function text(key: { identity: number; egress: boolean; protocol: number; port: number; bits: number }): string {
  return `${key.egress ? 'to' : 'from'} ${key.identity} ${key.protocol}/${key.port}/${key.bits}`;
}

const app = (n: number): object => ({ matchLabels: { id: `app${n}` } });
const port80 = [{ ports: [{ port: '80', protocol: 'TCP' }] }];
const classic = {
  endpointSelector: app(1),
  ingress: [{ fromEndpoints: [app(2)], toPorts: port80 }],
  labels: ['name=classic'],
};

test('without rules a subject is open in both directions', () => {
  const world = new World();
  assert.equal(world.reaches(APP3, 22), true);
  assert.deepEqual(world.repository.enforced(APP1), { ingress: false, egress: false });
});

test('the classic rule closes ingress but for its peer and port', () => {
  const world = new World();
  world.import(classic);
  assert.deepEqual(world.changes(), ['-from 0 0/0/0', `+from ${APP2} 6/80/24`].reverse());
  assert.equal(world.reaches(APP2, 80), true);
  assert.equal(world.reaches(APP2, 81), false);
  assert.equal(world.reaches(APP3, 80), false);
  assert.deepEqual(world.repository.enforced(APP1), { ingress: true, egress: false });
});

test('deleting by labels opens the subject again and raises the revision once', () => {
  const world = new World();
  assert.equal(world.repository.revision, 1);
  world.import(classic);
  assert.equal(world.repository.revision, 2);
  world.changes();
  assert.deepEqual(world.repository.deleteByLabels([parseSelectLabel('name=other')]), { revision: 2, deleted: 0 });
  assert.deepEqual(world.repository.deleteByLabels([parseSelectLabel('name=classic')]), { revision: 3, deleted: 1 });
  assert.deepEqual(world.changes().sort(), ['+from 0 0/0/0', `-from ${APP2} 6/80/24`]);
});

test('an identity that appears later is allowed by the selectors that match it', () => {
  const world = new World();
  world.import(classic);
  world.changes();
  const twin = numericIdentity(1004);
  world.repository.addIdentity(twin, LabelSet.fromTexts(['container:id=app2', 'container:tier=x']));
  assert.deepEqual(world.changes(), [`+from ${twin} 6/80/24`]);
  world.repository.addIdentity(twin, LabelSet.fromTexts(['container:id=app9']));
  assert.deepEqual(world.changes(), [`-from ${twin} 6/80/24`]);
  world.repository.removeIdentity(APP2);
  assert.deepEqual(world.changes(), [`-from ${APP2} 6/80/24`]);
});

test('a subject that is added later has the policy of the rules that are there', () => {
  const world = new World();
  world.import(classic, { endpointSelector: app(2), egress: [{ toEntities: ['host'] }] });
  world.changes();
  world.repository.addSubject(APP2);
  assert.deepEqual(world.changes().sort(), [`+from 0 0/0/0`, `+to ${RESERVED_IDENTITIES.host} 0/0/0`]);
});

test('the subject of an unknown identity is refused', () => {
  const { repository } = new World();
  assert.throws(
    () => repository.addSubject(numericIdentity(9999)),
    (error) => isCiliumError(error, 'NotFound'),
  );
});

test('a subject that gets other labels gets the other rules and loses the old entries', () => {
  const world = new World();
  world.import(classic);
  world.changes();
  world.repository.addIdentity(APP1, LabelSet.fromTexts(['container:id=other']));
  assert.deepEqual(world.changes().sort(), ['+from 0 0/0/0', `-from ${APP2} 6/80/24`]);
});

test('a prefix selects identities of narrower prefixes that other rules mention', () => {
  const world = new World();
  world.import({ endpointSelector: app(1), ingress: [{ fromCIDR: ['10.0.0.0/8'], toPorts: port80 }] });
  world.import({ endpointSelector: app(9), ingress: [{ fromCIDR: ['10.1.0.0/16'] }] });
  assert.equal(world.reaches(world.prefixes.get('10.1.0.0/16')!, 80), true);
  assert.equal(world.reaches(RESERVED_IDENTITIES['world-ipv4'], 80), false);
});

test('an exception is left out by its own item only', () => {
  const world = new World();
  world.import({
    endpointSelector: app(1),
    ingress: [{ fromCIDRSet: [{ cidr: '0.0.0.0/0', except: ['10.0.0.0/8'] }] }],
  });
  const excepted = world.prefixes.get('10.0.0.0/8')!;
  assert.equal(world.reaches(RESERVED_IDENTITIES['world-ipv4'], 80), true);
  assert.equal(world.reaches(RESERVED_IDENTITIES['world-ipv6'], 80), false);
  assert.equal(world.reaches(excepted, 80), false);
  world.import({ endpointSelector: app(1), ingress: [{ fromCIDR: ['10.0.0.0/8'] }] });
  assert.equal(world.reaches(excepted, 80), true);
});

test('identities of prefixes are held as long as a rule mentions the prefix', () => {
  const world = new World();
  const rule = { endpointSelector: app(1), ingress: [{ fromCIDR: ['10.0.0.0/8'] }], labels: ['a'] };
  world.import(rule, { ...rule, labels: ['b'] });
  assert.deepEqual([...world.prefixes.keys()], ['10.0.0.0/8']);
  world.repository.deleteByLabels([parseSelectLabel('a')]);
  assert.equal(world.prefixes.size, 1);
  world.repository.deleteByLabels([parseSelectLabel('b')]);
  assert.equal(world.prefixes.size, 0);
});

test('an import that gets no identity for a prefix changes nothing', () => {
  const released: string[] = [];
  const world = new World({
    cidrIdentities: {
      acquire: (prefix) => {
        if (prefix.toString() === '10.2.0.0/16') throw new CiliumError('PoolExhausted', 'no identities left');
        return numericIdentity(0x0100_0001);
      },
      release: (prefix) => void released.push(prefix.toString()),
    },
  });
  const rule = { endpointSelector: app(1), ingress: [{ fromCIDR: ['10.1.0.0/16', '10.2.0.0/16'] }] };
  assert.throws(
    () => world.import(rule),
    (error) => isCiliumError(error, 'PoolExhausted'),
  );
  assert.deepEqual(released, ['10.1.0.0/16']);
  assert.equal(world.repository.revision, 1);
  assert.deepEqual(world.changes(), []);
});

test('modes of enforcement are followed at run time', () => {
  const world = new World();
  world.import(classic);
  world.repository.setEnforcement('never');
  assert.equal(world.reaches(APP3, 22), true);
  assert.deepEqual(world.repository.enforced(APP1), { ingress: false, egress: false });
  world.repository.setEnforcement('always');
  assert.equal(world.reaches(APP3, 22), false);
  assert.equal(world.reaches(APP2, 80), true);
  assert.deepEqual(world.repository.enforced(APP1), { ingress: true, egress: true });
});

test('endpoints without labels are closed until a rule for them says otherwise', () => {
  const world = new World();
  world.repository.addSubject(RESERVED_IDENTITIES.init);
  const entries = (): PolicyEntry[] => [...world.repository.entries(RESERVED_IDENTITIES.init)];
  assert.deepEqual(entries(), []);
  world.import({ endpointSelector: { matchLabels: { 'reserved:init': '' } }, egress: [{ toEntities: ['all'] }] });
  assert.equal(entries().length, 1);
});

test('the host may always reach an endpoint if the node says so, unless it is denied', () => {
  const world = new World({ allowLocalhost: 'always' });
  world.import(classic);
  assert.equal(world.reaches(RESERVED_IDENTITIES.host, 22), true);
  world.import({ endpointSelector: app(1), ingressDeny: [{ fromEntities: ['host'], toPorts: port80 }] });
  assert.equal(world.reaches(RESERVED_IDENTITIES.host, 80), false);
  assert.equal(world.reaches(RESERVED_IDENTITIES.host, 22), true);
});

test('rules for hosts act on the host only, and only where policy acts on hosts', () => {
  for (const hostFirewall of [false, true]) {
    const world = new World({ hostFirewall });
    world.repository.addSubject(RESERVED_IDENTITIES.host);
    world.import({ nodeSelector: {}, ingress: [{}] }, { endpointSelector: {}, ingress: [{ fromEntities: ['world'] }] });
    assert.equal(
      [...world.repository.entries(RESERVED_IDENTITIES.host)].some((e) => !e.egress),
      !hostFirewall,
    );
    assert.equal(world.repository.enforced(RESERVED_IDENTITIES.host).ingress, hostFirewall);
    assert.equal(world.reaches(RESERVED_IDENTITIES['world-ipv4'], 1), true);
  }
});

test('replacing takes the rules with the labels of the new ones', () => {
  const world = new World();
  world.import(classic, { ...classic, labels: ['name=other'] }, { ...classic, labels: [] });
  const again = parseRules([classic, { ...classic, labels: [] }]);
  world.repository.import(again, { replace: true });
  assert.equal(world.repository.rules().length, 4);
  assert.equal(world.repository.rules([parseSelectLabel('name=classic')]).length, 1);
  world.repository.import([], { replaceWithLabels: [parseSelectLabel('name=other')] });
  assert.equal(world.repository.rules().length, 3);
});

test('replacing a rule by the same rule changes no verdict', () => {
  const world = new World();
  world.import(classic);
  world.changes();
  world.repository.import(parseRules([classic]), { replace: true });
  // Only the cookie is new.
  assert.deepEqual(world.changes(), [`+from ${APP2} 6/80/24`]);
});

test('an entry tells the rules it comes from', () => {
  const world = new World();
  world.import(classic, { ...classic, labels: ['name=second'] });
  const { cookie } = world.ingress(APP2, 80)!;
  const names = world.repository.rulesOfCookie(cookie).map(({ labels }) => labels[0]?.value);
  assert.deepEqual(names, ['classic', 'second']);
});

test('names of ports follow the endpoints that have them', () => {
  const world = new World();
  world.import({ endpointSelector: app(1), ingress: [{ toPorts: [{ ports: [{ port: 'web', protocol: 'TCP' }] }] }] });
  assert.equal(world.reaches(APP2, 8080), false);
  world.repository.setNamedPorts(APP1, new Map([['web', { port: 8080, protocol: TCP }]]));
  assert.equal(world.reaches(APP2, 8080), true);
  world.repository.setNamedPorts(APP1, new Map());
  assert.equal(world.reaches(APP2, 8080), false);
});

test('a name that endpoints disagree on opens nothing on egress', () => {
  const world = new World();
  world.import({ endpointSelector: app(1), egress: [{ toPorts: [{ ports: [{ port: 'web' }] }] }] });
  world.changes();
  world.repository.setNamedPorts(APP2, new Map([['web', { port: 80, protocol: TCP }]]));
  assert.deepEqual(world.changes(), ['+to 0 6/80/24']);
  world.repository.setNamedPorts(APP3, new Map([['web', { port: 81, protocol: TCP }]]));
  assert.deepEqual(world.changes(), ['-to 0 6/80/24']);
});

test('selectors that are spelled the same are listed once, with the rules that use them', () => {
  const world = new World();
  world.import(classic, { ...classic, ingress: [{ fromEndpoints: [app(2)] }, { fromEndpoints: [app(3)] }] });
  const [first, second] = world.repository.rules();
  assert.deepEqual(world.repository.selectors(), [
    { selector: 'any:id=app2', rules: [first, second], identities: [APP2] },
    { selector: 'any:id=app3', rules: [second], identities: [APP3] },
  ]);
  assert.deepEqual(world.repository.subjectSelectors(), [
    { selector: 'any:id=app1', rules: [first, second], identities: [APP1] },
  ]);
});

const http = (path: string): unknown => [{ ports: [{ port: '80', protocol: 'TCP' }], rules: { http: [{ path }] } }];

test('an L7 rule sends its port to the proxy, and a deny is stronger', () => {
  const world = new World({
    proxyPort: ({ parser }, direction) => (parser === 'http' && direction === 'ingress' ? 9000 : 1),
  });
  world.import({ endpointSelector: app(1), ingress: [{ fromEndpoints: [app(2)] }, { toPorts: http('/a') }] });
  assert.equal(world.ingress(APP3, 80)?.proxyPort, 9000);
  assert.equal(world.ingress(APP2, 80)?.proxyPort, 9000);
  assert.equal(world.ingress(APP2, 81)?.proxyPort, 0);
  world.import({ endpointSelector: app(1), ingressDeny: [{ fromEndpoints: [app(3)] }] });
  assert.equal(world.reaches(APP3, 80), false);
});

test('without a proxy an L7 rule is refused and nothing changes', () => {
  const world = new World();
  assert.throws(
    () => world.import(classic, { endpointSelector: app(1), ingress: [{ toPorts: http('/a') }] }),
    (error) => isCiliumError(error, 'Unsupported'),
  );
  assert.equal(world.repository.rules().length, 0);
  assert.deepEqual(world.changes(), []);
});

test('rules that contradict one another for a subject are refused together', () => {
  const world = new World({ proxyPort: () => 9000 });
  const kafka = [{ ports: [{ port: '80', protocol: 'TCP' }], rules: { kafka: [{ topic: 't' }] } }];
  world.import({ endpointSelector: app(1), ingress: [{ toPorts: http('/a') }] });
  assert.throws(
    () => world.import({ endpointSelector: app(1), ingress: [{ toPorts: kafka }] }),
    /conflicting L7 parsers/,
  );
  assert.equal(world.repository.rules().length, 1);
  world.import({ endpointSelector: { matchLabels: { role: 'r' } }, ingress: [{ toPorts: kafka }] });
  assert.deepEqual(world.repository.conflicts(APP1), []);
  world.repository.addIdentity(APP1, LabelSet.fromTexts(['container:id=app1', 'container:role=r']));
  assert.equal(world.repository.conflicts(APP1).length, 1);
});

test('a packet is explained by all rules that hit it', () => {
  const world = new World();
  world.import(classic, { endpointSelector: app(1), ingressDeny: [{}, { fromEntities: ['all'], toPorts: port80 }] });
  const packet = { identity: APP2, egress: false, protocol: TCP, port: 80 };
  const { reasons, allowedBySetting } = world.repository.explain(APP1, packet);
  assert.deepEqual(
    reasons.map(({ section, entry, deny, selectors }) => [section, entry, deny, selectors.map(String)]),
    [
      ['ingress', 0, false, ['any:id=app2']],
      ['ingressDeny', 1, true, []],
    ],
  );
  assert.equal(allowedBySetting, false);
  assert.equal(world.repository.explain(APP1, { ...packet, egress: true }).allowedBySetting, true);
});

test('a CIDR group that changes takes the rules that name it along', () => {
  const world = new World();
  const group = (...cidrs: string[]): CidrGroup => ({
    labels: LabelSet.fromTexts(['cidrgroup:tier=a']),
    prefixes: cidrs.map((cidr) => Prefix.parse(cidr)),
  });
  world.import({
    endpointSelector: app(1),
    ingress: [
      {
        fromCIDRSet: [
          { cidrGroupRef: 'g', except: ['10.1.1.0/24'] },
          { cidrGroupSelector: { matchLabels: { tier: 'b' } } },
        ],
      },
    ],
  });
  world.changes();
  world.repository.setCidrGroup('g', group('10.1.0.0/16'));
  const id = world.prefixes.get('10.1.0.0/16')!;
  assert.deepEqual(world.changes(), [`+from ${id} 0/0/0`]);
  assert.equal(world.reaches(world.prefixes.get('10.1.1.0/24')!, 80), false);
  world.repository.setCidrGroup('g', undefined);
  assert.deepEqual(world.changes(), [`-from ${id} 0/0/0`]);
  assert.deepEqual([...world.prefixes.keys()], ['10.1.1.0/24']);
});

test('names and patterns of toFQDNs select the addresses that have their label', () => {
  const world = new World();
  const pattern = { matchPattern: '*.shop.example' };
  world.import({ endpointSelector: app(1), egress: [{ toFQDNs: [pattern] }] });
  world.changes();
  const [peer] = world.repository.fqdnPeers();
  const id = numericIdentity(0x0100_7777);
  world.repository.addIdentity(id, LabelSet.of([fqdnLabel(peer!), ...cidrLabels(Prefix.parse('192.0.2.1'))]));
  assert.deepEqual(world.changes(), [`+to ${id} 0/0/0`]);
});

test('what is required of peers narrows rules that come later, also those for some subjects only', () => {
  const world = new World();
  world.repository.addSubject(APP3);
  const prod = { matchLabels: { env: 'prod' } };
  world.import({ endpointSelector: {}, ingress: [{ fromRequires: [prod] }] });
  world.import(classic);
  assert.equal(world.reaches(APP2, 80), false);
  world.repository.addIdentity(APP2, LabelSet.fromTexts(['container:id=app2', 'container:env=prod']));
  assert.equal(world.reaches(APP2, 80), true);
});

test('subjects that the same rules select get the same changes, until a rule tells them apart', () => {
  const world = new World();
  world.repository.addSubject(APP3);
  world.changes();
  world.import({ endpointSelector: {}, ingress: [{ fromEndpoints: [app(2)] }] });
  const [first, second] = world.repository.takeUpdates();
  assert.deepEqual([first?.subject, second?.subject], [APP1, APP3]);
  assert.deepEqual(first?.upserts, second?.upserts);
  world.import(classic);
  const [only, none] = world.repository.takeUpdates();
  assert.deepEqual([only?.subject, none], [APP1, undefined]);
  world.repository.deleteByLabels([parseSelectLabel('name=classic')]);
  world.repository.takeUpdates();
  world.repository.setEnforcement('always');
  assert.deepEqual(
    world.repository
      .takeUpdates()
      .map(({ subject }) => subject)
      .sort(),
    [APP1, APP3],
  );
});

test('the entity cluster means containers too, unless a label puts them in another cluster', () => {
  const world = new World();
  const other = numericIdentity(1004);
  world.repository.addIdentity(other, LabelSet.fromTexts(['container:a', 'k8s:io.cilium.k8s.policy.cluster=other']));
  world.import({ endpointSelector: app(1), ingress: [{ fromEntities: ['cluster'] }] });
  assert.equal(world.reaches(APP2, 80), true);
  assert.equal(world.reaches(RESERVED_IDENTITIES.host, 80), true);
  assert.equal(world.reaches(other, 80), false);
  assert.equal(world.reaches(RESERVED_IDENTITIES['world-ipv4'], 80), false);
});
