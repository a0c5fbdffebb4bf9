// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { CiliumError, isCiliumError } from '../../errors/cilium-error.ts';
import { LabelSet } from '../../identity/label-set.ts';
import { parseLabel, parseSelectLabel } from '../../identity/label.ts';
import { numericIdentity } from '../../identity/numeric-identity.ts';
import { WHOLE_LANGUAGE } from '../../policy/language.ts';
import { PolicyRepository } from '../../policy/repository.ts';
import { Journal } from '../../runtime/journal.ts';
import { silentLogger } from '../../runtime/logger.ts';
import { re2 } from '../../runtime/re2.ts';
import { importLanguage, RESTORED_LANGUAGE } from './policy-language.ts';
import { PolicyService } from './policy-service.ts';

const RULE = { endpointSelector: { matchLabels: { id: 'app1' } }, ingress: [{}], labels: ['unit=shop'] };
const OTHER = { ...RULE, labels: ['unit=other'] };
const L7_RULE = {
  ...RULE,
  ingress: [{ toPorts: [{ ports: [{ port: '80', protocol: 'TCP' }], rules: { http: [{ method: 'GET' }] } }] }],
};
const group = (name: string, ...externalCIDRs: string[]) => ({
  apiVersion: 'cilium.io/v2',
  kind: 'CiliumCIDRGroup',
  metadata: { name, labels: { tier: 'a' } },
  spec: { externalCIDRs },
});
const toGroup = (name: string) => ({ endpointSelector: {}, egress: [{ toCIDRSet: [{ cidrGroupRef: name }] }] });

/** As if a node had no more identities to give. */
const MAX_PREFIXES = 3;

interface World {
  readonly repository: PolicyRepository;
  readonly policy: PolicyService;
  readonly enforced: number[];
  /** The prefixes that have an identity. */
  readonly prefixes: Set<string>;
}

const folders: string[] = [];
const services: PolicyService[] = [];
after(async () => {
  for (const service of services) await service.stop();
  for (const path of folders) rmSync(path, { recursive: true, force: true });
});

function folder(): string {
  const path = mkdtempSync(join(tmpdir(), 'policy-'));
  folders.push(path);
  return path;
}

async function start(stateDir: string, minCompactionBytes?: number, l7Rules?: 'refuse' | 'drop'): Promise<World> {
  const prefixes = new Set<string>();
  let last = 0x01000000;
  const repository = new PolicyRepository({
    enforcement: 'default',
    allowLocalhost: 'auto',
    cidrIdentities: {
      acquire: (prefix) => {
        if (prefixes.size >= MAX_PREFIXES) throw new CiliumError('PoolExhausted', 'no identity is left');
        prefixes.add(prefix.toString());
        return numericIdentity(++last);
      },
      release: (prefix) => void prefixes.delete(prefix.toString()),
    },
    proxyPort: () => 1,
  });
  const enforced: number[] = [];
  const policy = new PolicyService({
    repository,
    enforce: () => void enforced.push(repository.revision),
    stateDir,
    parse: { language: l7Rules ? importLanguage({ l7Rules }) : WHOLE_LANGUAGE, regex: re2 },
    ...(l7Rules && { remembered: RESTORED_LANGUAGE }),
    watching: true,
    log: silentLogger,
    ...(minCompactionBytes !== undefined && { minCompactionBytes }),
  });
  services.push(policy);
  await policy.restore();
  return { repository, policy, enforced, prefixes };
}

const plain = (...values: object[]) => [{ items: values.map((value) => ({ value })) }];

test('imported rules are enforced, and are there again after a restart with their origin', async () => {
  const stateDir = folder();
  const { policy, enforced, repository } = await start(stateDir);
  const sources = [
    { file: '/p.yaml', items: [{ value: RULE, lines: [3] }] },
    ...plain(OTHER, group('g', '10.0.0.0/8')),
  ];
  const revision = await policy.import(sources, {});
  assert.deepEqual(enforced, [revision]);
  const again = await start(stateDir);
  assert.deepEqual(again.policy.rules(), policy.rules());
  assert.deepEqual(again.repository.rules(), repository.rules());
  assert.deepEqual(again.repository.rules()[0]?.origin, { source: '/p.yaml', line: 3, index: 0 });
});

test('what comes back is what the changes have left, in its order', async () => {
  const stateDir = folder();
  const { policy } = await start(stateDir);
  await policy.import(plain(RULE, OTHER), {});
  await policy.import(plain({ ...RULE, description: 'new' }), { replace: true });
  await policy.import(plain(group('g', '10.0.0.0/8'), group('h', '192.0.2.0/24')), {});
  await policy.import(plain(group('g', '10.1.0.0/16')), { replaceWithLabels: [parseLabel('cidrgroup:tier=a')] });
  await policy.delete([parseSelectLabel('unit=other')]);
  assert.deepEqual((await start(stateDir)).policy.rules(), policy.rules());
  assert.deepEqual(
    policy
      .rules()
      .map((value) => ('kind' in value ? value : (value as typeof RULE & { description: string }).description)),
    [group('g', '10.1.0.0/16'), 'new'],
  );
});

test('a refused import changes nothing, in memory and on disk', async () => {
  const stateDir = folder();
  const { policy, enforced, repository } = await start(stateDir);
  await policy.import(plain(RULE), {});
  const journal = () => readFileSync(join(stateDir, 'policy/journal-0.log'), 'utf8');
  const before = journal();
  await assert.rejects(policy.import(plain({ ...RULE, ingres: [] }, group('g', 'x')), {}), /ingres[^]*externalCIDRs/);
  repository.addIdentity(numericIdentity(1000), LabelSet.fromTexts(['container:id=app1']));
  repository.addSubject(numericIdentity(1000));
  const kafka = { ports: [{ port: '80', protocol: 'TCP' }], rules: { kafka: [{ topic: 't' }] } };
  await assert.rejects(
    policy.import(plain(L7_RULE, { ...RULE, ingress: [{ toPorts: [kafka] }] }), {}),
    /conflicting L7/,
  );
  assert.equal(policy.rules().length, 1);
  assert.deepEqual([enforced.length, journal()], [1, before]);
});

test('rules that cannot be remembered are refused, and the next ones are taken', async (t) => {
  const stateDir = folder();
  const { policy, enforced } = await start(stateDir);
  await policy.import(plain(RULE), {});
  const before = policy.rules();
  const append = t.mock.method(Journal.prototype, 'append', () => Promise.reject(new Error('ENOSPC: no space left')));
  await assert.rejects(policy.import(plain(OTHER, group('g', '10.0.0.0/8')), {}), (error) => {
    assert.ok(isCiliumError(error, 'System'));
    assert.match(error.message, /cannot be remembered and was not made/);
    return true;
  });
  await assert.rejects(policy.delete([]), /cannot be remembered/);
  append.mock.restore();
  assert.deepEqual([policy.rules(), enforced.length], [before, 1]);
  await policy.import(plain(OTHER), {});
  assert.equal((await start(stateDir)).policy.rules().length, 2);
});

test('deletion by labels takes what has them all, groups too', async () => {
  const { policy } = await start(folder());
  const labels = (...texts: string[]) => texts.map(parseSelectLabel);
  await policy.import(plain(RULE, { ...RULE, labels: ['unit=shop', 'team=a'] }, group('g'), group('h')), {});
  assert.equal((await policy.delete(labels('unit=shop', 'team=a'))).deleted, 1);
  const revision = await policy.import(plain(OTHER), {});
  assert.equal((await policy.delete(labels('unit=none'))).deleted, 0);
  const derived = 'io.cilium.k8s.policy.';
  assert.equal((await policy.delete(labels(`${derived}name=g`, `${derived}derived-from=CiliumCIDRGroup`))).deleted, 1);
  assert.equal((await policy.delete(labels('tier=a'))).deleted, 1);
  assert.equal((await policy.delete([])).deleted, 2);
  assert.deepEqual([policy.rules(), revision], [[], 4]);
});

test('a group that is imported again replaces the old one, and its prefixes get identities as rules use it', async () => {
  const { policy, prefixes } = await start(folder());
  await policy.import(plain(group('g', '10.0.0.0/8', '192.0.2.0/24', '0.0.0.0/0')), {});
  assert.deepEqual([...prefixes], []);
  await policy.import(plain(toGroup('g')), {});
  assert.deepEqual([...prefixes], ['10.0.0.0/8', '192.0.2.0/24']);
  await policy.import(plain(group('g', '192.0.2.0/24', '2001:db8::/32')), {});
  assert.deepEqual([...prefixes], ['192.0.2.0/24', '2001:db8::/32']);
  await policy.delete([parseSelectLabel('tier=a')]);
  assert.deepEqual([...prefixes], []);
});

test('without identities for its prefixes an import is refused, and does not come back with a restart', async () => {
  const stateDir = folder();
  const { policy, prefixes, repository } = await start(stateDir);
  await policy.import(plain(toGroup('g'), group('g', '10.0.0.0/8', '192.0.2.0/24')), {});
  const [before, { revision }] = [policy.rules(), repository];
  const cidrs = { endpointSelector: {}, egress: [{ toCIDR: ['10.1.0.0/16', '10.2.0.0/16'] }] };
  await assert.rejects(policy.import(plain(cidrs, group('h')), {}), /no identity is left/);
  await assert.rejects(policy.import(plain(group('g', '10.1.0.0/16', '10.2.0.0/16')), {}), /no identity is left/);
  assert.deepEqual([policy.rules(), repository.revision], [before, revision]);
  assert.deepEqual([...prefixes].sort(), ['10.0.0.0/8', '192.0.2.0/24']);
  assert.deepEqual((await start(stateDir)).policy.rules(), before);
});

test('the file of an earlier agent is taken over', async () => {
  const stateDir = folder();
  const path = join(stateDir, 'policy.json');
  writeFileSync(path, JSON.stringify({ version: 1, rules: [RULE, OTHER] }));
  const { policy } = await start(stateDir);
  assert.deepEqual([policy.rules().length, existsSync(path)], [2, false]);
  await policy.delete([parseSelectLabel('unit=other')]);
  writeFileSync(path, JSON.stringify({ version: 1, rules: [RULE, OTHER] })); // died before it was removed
  assert.deepEqual((await start(stateDir)).policy.rules(), policy.rules());
});

test('files that are not ours stop the start and stay as they are', async () => {
  for (const [name, text, message] of [
    ['policy.json', '{"version":1', /policy\.json cannot be used: it is not valid JSON/],
    ['policy/snapshot.json', '{"format":2}', /snapshot\.json cannot be used: format/],
  ] as const) {
    const stateDir = folder();
    await (await start(stateDir)).policy.stop();
    const path = join(stateDir, name);
    writeFileSync(path, text);
    await assert.rejects(start(stateDir), message);
    assert.equal(readFileSync(path, 'utf8'), text);
  }
});

test('rules that the options of this agent do not allow any more stop the start with their place', async () => {
  const stateDir = folder();
  const { policy } = await start(stateDir);
  await policy.import([{ file: '/p.yaml', items: [{ value: L7_RULE, lines: [7] }] }], {});
  const repository = new PolicyRepository({
    enforcement: 'default',
    allowLocalhost: 'auto',
    cidrIdentities: { acquire: () => numericIdentity(1), release: () => undefined },
  });
  const deps = { repository, enforce: () => undefined, stateDir, log: silentLogger, watching: false };
  const later = new PolicyService({ ...deps, parse: { regex: re2 } });
  services.push(later);
  await assert.rejects(
    later.restore(),
    /a rule in it \(\/p\.yaml:7: .*\) is not accepted by this agent with its options/,
  );
});

test('a journal that has grown is written anew, and nothing is lost', async () => {
  const stateDir = folder();
  const { policy } = await start(stateDir, 1_000);
  for (let i = 0; i < 20; i++) await policy.import(plain({ ...RULE, description: String(i) }), { replace: true });
  await policy.compact();
  assert.ok(existsSync(join(stateDir, 'policy/snapshot.json')));
  await policy.import(plain(OTHER), {});
  assert.deepEqual((await start(stateDir)).policy.rules(), policy.rules());
});

test('rules that need a proxy are taken in or refused as the option says, and stay once they are in', async () => {
  const stateDir = folder();
  const dropping = await start(stateDir, undefined, 'drop');
  await dropping.policy.import([{ items: [{ value: L7_RULE }] }], {});
  await dropping.policy.stop();
  const refusing = await start(stateDir, undefined, 'refuse');
  assert.equal(refusing.policy.rules().length, 1);
  const again = refusing.policy.import([{ items: [{ value: L7_RULE }] }], {});
  await assert.rejects(again, {
    code: 'Unsupported',
    message: /toPorts\[0\]\.rules: this needs a proxy.*--l7-rules=drop/,
  });
  assert.equal(refusing.policy.rules().length, 1);
});
