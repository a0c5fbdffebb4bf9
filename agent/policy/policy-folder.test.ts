// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict';
import { mkdirSync, renameSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test, type TestContext } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { parseSelectLabel } from '../../identity/label.ts';
import { numericIdentity } from '../../identity/numeric-identity.ts';
import { PolicyRepository } from '../../policy/repository.ts';
import { systemClock } from '../../runtime/clock.ts';
import { silentLogger } from '../../runtime/logger.ts';
import { re2 } from '../../runtime/re2.ts';
import { temporaryFolder } from '../../tests/support/temporary-folder.ts';
import { PolicyFolder } from './policy-folder.ts';
import { PolicyService } from './policy-service.ts';

const rule = (id: string) => `- {endpointSelector: {matchLabels: {id: ${id}}}, ingress: [{}]}\n`;
const group = (name: string) =>
  JSON.stringify({
    apiVersion: 'cilium.io/v2',
    kind: 'CiliumCIDRGroup',
    metadata: { name },
    spec: { externalCIDRs: ['10.0.0.0/8'] },
  });
const BAD = '- {endpointSelector: {}, ingres: [{}]}\n';

/** A node with a watched directory; its agent may be stopped and started again. */
class Node {
  readonly root: string;
  readonly changes: string[][] = [];
  repository!: PolicyRepository;
  policy!: PolicyService;
  folder!: PolicyFolder;

  constructor(root: string) {
    this.root = root;
    mkdirSync(join(root, 'state'));
    mkdirSync(this.path());
  }

  path(...names: string[]): string {
    return join(this.root, 'watched', ...names);
  }

  write(name: string, text: string): void {
    writeFileSync(this.path(name), text);
  }

  async start(): Promise<void> {
    this.repository = new PolicyRepository({
      enforcement: 'default',
      allowLocalhost: 'auto',
      cidrIdentities: { acquire: () => numericIdentity(0x01000001), release: () => undefined },
    });
    const shared = { stateDir: join(this.root, 'state'), parse: { regex: re2 }, log: silentLogger };
    this.policy = new PolicyService({
      ...shared,
      repository: this.repository,
      enforce: () => undefined,
      watching: true,
    });
    await this.policy.restore();
    this.folder = new PolicyFolder({
      ...shared,
      path: this.path(),
      policy: this.policy,
      onChange: (files) => this.changes.push(files.map((file) => file.slice(this.path().length + 1))),
      clock: systemClock,
    });
    await this.folder.start();
  }

  async stop(): Promise<void> {
    await this.folder.stop();
    await this.policy.stop();
  }

  /** Whom the rules are for. */
  get subjects(): string {
    const keys = this.repository.rules().map(({ subject }) => subject.selector.toString().replace('any:id=', ''));
    return keys.sort().join(' ');
  }

  async see(subjects: string): Promise<void> {
    await eventually(() => assert.equal(this.subjects, subjects));
  }

  async hear(problem: RegExp): Promise<void> {
    await eventually(() => {
      assert.ok(this.folder.status.consecutiveFailures > 0);
      assert.match(this.folder.status.lastError ?? '', problem);
    });
  }
}

async function eventually(check: () => void): Promise<void> {
  for (let left = 500; ; left--) {
    try {
      check();
      return;
    } catch (error) {
      if (left === 0) throw error;
      await delay(20);
    }
  }
}

async function startNode(t: TestContext, files: Record<string, string> = {}): Promise<Node> {
  const root = await temporaryFolder('policy-folder');
  const node = new Node(root);
  for (const [name, text] of Object.entries(files)) node.write(name, text);
  await node.start();
  t.after(async () => {
    await node.stop();
    rmSync(root, { recursive: true });
  });
  return node;
}

test('files are rules: made, edited, renamed over, linked and removed', async (t) => {
  const node = await startNode(t, { 'a.yaml': rule('a'), '.hidden.yaml': rule('h'), 'notes.txt': 'no policy' });
  assert.equal(node.subjects, 'a');
  mkdirSync(node.path('deep'));
  node.write('deep/b.json', JSON.stringify({ endpointSelector: { matchLabels: { id: 'b' } }, egress: [{}] }));
  await node.see('a b');
  node.write('a.yaml', rule('a1') + rule('a2'));
  await node.see('a1 a2 b');
  node.write('a.yaml.tmp', rule('a3'));
  renameSync(node.path('a.yaml.tmp'), node.path('a.yaml'));
  await node.see('a3 b');
  mkdirSync(node.path('.v1'));
  mkdirSync(node.path('.v2'));
  node.write('.v1/c.yaml', rule('c1'));
  node.write('.v2/c.yaml', rule('c2'));
  symlinkSync('.v1', node.path('.data'));
  symlinkSync('.data/c.yaml', node.path('c.yaml'));
  await node.see('a3 b c1');
  symlinkSync('.v2', node.path('.new'));
  renameSync(node.path('.new'), node.path('.data'));
  await node.see('a3 b c2');
  rmSync(node.path('deep'), { recursive: true });
  await node.see('a3 c2');
  const { origin, labels } = node.repository
    .rules()
    .find(({ subject }) => subject.selector.toString() === 'any:id=a3')!;
  assert.deepEqual(origin, { source: node.path('a.yaml'), line: 1, index: 0, watched: true });
  assert.deepEqual(labels, [{ source: 'directory', key: 'policy-derived-from', value: 'Rule' }]);
});

test('a file with errors keeps its last rules, also across a restart, and says what is wrong', async (t) => {
  const node = await startNode(t, { 'a.yaml': rule('a'), 'b.yaml': rule('b') });
  node.write('a.yaml', rule('x') + BAD);
  await node.hear(/a\.yaml:2:26: rules\[1\]\.ingres: unknown field/);
  node.write('b.yaml', '');
  await node.hear(/a\.yaml:2:26.*b\.yaml: no rule in it; remove the file/);
  assert.equal(node.subjects, 'a b');
  await node.stop();
  await node.start();
  assert.equal(node.subjects, 'a b');
  await node.hear(/a\.yaml:2:26/);
  node.write('a.yaml', rule('a4'));
  node.write('b.yaml', rule('b'));
  await node.see('a4 b');
  await eventually(() => assert.equal(node.folder.status.consecutiveFailures, 0));
});

test('what happened to files while the agent was down is made up for, and what did not change is no change', async (t) => {
  const node = await startNode(t, { 'a.yaml': rule('a'), 'b.yaml': rule('b'), 'g.json': group('g') });
  await node.stop();
  node.changes.length = 0;
  await node.start();
  const { revision } = node.repository;
  assert.deepEqual([node.subjects, node.changes, revision], ['a b', [], 2]);
  await node.stop();
  rmSync(node.path('a.yaml'));
  rmSync(node.path('g.json'));
  node.write('b.yaml', rule('b2'));
  await node.start();
  assert.deepEqual([node.subjects, node.changes], ['b2', [['b.yaml', 'a.yaml', 'g.json']]]);
  assert.deepEqual(node.policy.rules().length, 1);
  rmSync(node.path('b.yaml'));
  await node.see('');
});

test('all files of one look are one change; if that is refused, only those at fault stay behind', async (t) => {
  const node = await startNode(t, { 'a.yaml': rule('a'), 'g.json': group('g'), 'h.json': group('g') });
  await node.hear(/h\.json: CIDR group g is in .*g\.json already/);
  assert.deepEqual(node.changes, [['a.yaml', 'g.json']]);
  await assert.rejects(
    node.policy.import([{ items: [{ value: JSON.parse(group('g')) }] }], {}),
    /g\.json, which the agent/,
  );
  rmSync(node.path('g.json'));
  await eventually(() => assert.equal(node.folder.status.consecutiveFailures, 0));
  assert.equal(node.policy.rules().length, 2);
});

test('a directory that goes, or comes back as another one and empty, opens nothing', async (t) => {
  const node = await startNode(t, { 'a.yaml': rule('a') });
  renameSync(node.path(), `${node.path()}.away`);
  await node.hear(/watched cannot be read, the rules of 1 files of it stay: ENOENT/);
  mkdirSync(node.path());
  await node.hear(/another directory than before and empty: the rules of .*a\.yaml stay/);
  await node.stop();
  await node.start();
  await node.hear(/another directory than before and empty/);
  assert.equal(node.subjects, 'a');
  assert.deepEqual((await node.policy.delete([])).deleted, 1);
  node.write('b.yaml', rule('b'));
  await node.see('b');
  renameSync(node.path(), `${node.path()}.again`);
  await node.hear(/cannot be read/);
  await node.policy.delete([]);
  renameSync(`${node.path()}.again`, node.path());
  await node.see('b');
});

test('rules of files that are there cannot be deleted or replaced by hand', async (t) => {
  const node = await startNode(t, { 'a.yaml': rule('a') });
  const own = { endpointSelector: {}, ingress: [{}], labels: ['own'] };
  await node.policy.import([{ items: [{ value: own }] }], {});
  const label = parseSelectLabel('policy-derived-from=Rule');
  assert.deepEqual(await node.policy.delete([label]), { deleted: 0, watchedFiles: [node.path('a.yaml')] });
  await node.policy.import([{ items: [{ value: own }] }], { replaceWithLabels: [label] });
  assert.deepEqual(await node.policy.delete([]), { deleted: 2, watchedFiles: [node.path('a.yaml')] });
  assert.equal(node.subjects, 'a');
});
