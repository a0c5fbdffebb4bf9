// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict';
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { runCommand, startNode, type FakeNode } from '../../tests/support/fake-node.ts';

const RULE = {
  endpointSelector: { matchLabels: { id: 'app1' } },
  ingress: [
    { fromEndpoints: [{ matchLabels: { id: 'app2' } }], toPorts: [{ ports: [{ port: '80', protocol: 'TCP' }] }] },
  ],
  labels: [{ key: 'name', value: 'web', source: 'unspec' }],
};
const GOOD = JSON.stringify([RULE], undefined, 2);

async function file(node: FakeNode, name: string, text: string): Promise<string> {
  const path = join(node.folder, name);
  await mkdir(join(path, '..'), { recursive: true });
  await writeFile(path, text);
  return path;
}

test('policy import answers the revision, and the rules are there', async (t) => {
  const node = await startNode(t);
  const path = await file(node, 'good.json', GOOD);
  assert.deepEqual(await node.run('policy', 'import', path), { stdout: 'Revision: 2\n', stderr: '', status: 0 });
  assert.equal((await node.run('policy', 'get')).stdout, `${GOOD}\nRevision: 2\n`);
  assert.equal((await node.run('policy', 'get', 'name=web', '-o', 'jsonpath={.revision}')).stdout, '2\n');
  assert.match(
    (await node.run('policy', 'get', 'name=none')).stderr,
    /^Error: no rule carries all of the labels any:name=none\n$/,
  );
});

test('policy import takes several files, folders and standard input as one import', async (t) => {
  const node = await startNode(t);
  await file(node, 'p/b.yaml', '- endpointSelector: {}\n  ingress: [{}]\n');
  await file(node, 'p/a.json', GOOD);
  await file(node, 'p/deep/c.yml', 'endpointSelector: {matchLabels: {c: "1"}}\negress: [{}]\n');
  await file(node, 'p/.git/d.json', 'not policy');
  await file(node, 'p/notes.txt', 'not policy');
  const { stdout } = await node.runWith(GOOD, 'policy', 'import', join(node.folder, 'p'), '-');
  assert.equal(stdout, 'Revision: 2\n');
  assert.equal(node.services.imports.length, 1);
  assert.deepEqual(node.services.rules, [
    RULE,
    { endpointSelector: {}, ingress: [{}] },
    { endpointSelector: { matchLabels: { c: '1' } }, egress: [{}] },
    RULE,
  ]);
});

const RESOURCES = `apiVersion: v1
kind: List
items:
  - apiVersion: cilium.io/v2
    kind: CiliumNetworkPolicy
    metadata: {name: cart, namespace: shop}
    specs:
      - endpointSelector: {}
        ingress: [{}]
      - endpointSelector: {}
        egress: [{}]
---
apiVersion: cilium.io/v2
kind: CiliumCIDRGroup
metadata: {name: office}
spec: {externalCIDRs: [192.0.2.0/24]}
`;

test('policy import sends resources as they are, with the file and the lines of their rules', async (t) => {
  const node = await startNode(t);
  const path = await file(node, 'r.yaml', RESOURCES);
  assert.equal((await node.run('policy', 'import', path)).stdout, 'Revision: 2\n');
  const sources = node.services.imports[0]?.sources;
  assert.deepEqual(
    sources?.map((source) => [source.file, source.items.map(({ lines }) => lines)]),
    [[path, [[8, 10], [13]]]],
  );
  const bad = await file(
    node,
    'bad.yaml',
    RESOURCES.replace('egress: [{}]', 'egres: [{}]').replace('2.0/24', '2.0/240'),
  );
  const { stderr } = await node.run('policy', 'import', path, bad);
  assert.match(stderr, /bad\.yaml:10:9: items\[0\]\.specs\[1\]: /);
  assert.match(stderr, /bad\.yaml:11:9: items\[0\]\.specs\[1\]\.egres: unknown field/);
  assert.match(stderr, /bad\.yaml:16:24: spec\.externalCIDRs\[0\]: /);
});

test('policy import says when a policy is for a namespace without containers', async (t) => {
  const node = await startNode(t);
  const spec = { endpointSelector: {}, ingress: [{}] };
  const policy = (namespace: string): string =>
    JSON.stringify({
      apiVersion: 'cilium.io/v2',
      kind: 'CiliumNetworkPolicy',
      metadata: { name: 'p', namespace },
      spec,
    });
  const path = await file(node, 'p.json', policy('shop'));
  assert.match(
    (await node.run('policy', 'import', path)).stderr,
    /^Note: no container of this node is in namespace shop,/,
  );
  node.services.endpointList[0]!.status.identity!.labels.push('k8s:io.kubernetes.pod.namespace=shop');
  assert.equal((await node.run('policy', 'import', path)).stderr, '');
});

test('policy import hands its options on', async (t) => {
  const node = await startNode(t);
  await node.runWith(GOOD, 'policy', 'import', '-', '--replace', '--replace-with-labels', 'unspec:a,unspec:b=c');
  assert.deepEqual(node.services.imports[0]?.options, { replace: true, replaceWithLabels: ['unspec:a', 'unspec:b=c'] });
  assert.match((await node.runWith(GOOD, 'policy', 'import', '-', '--print')).stdout, /^\[\n[^]*\]\nRevision: 3\n$/);
});

test('policy import --dry-run shows what would come and go, and changes nothing', async (t) => {
  const node = await startNode(t);
  const path = await file(node, 'good.json', GOOD);
  await node.run('policy', 'import', path);
  const { stdout, status } = await node.run('policy', 'import', path, '--replace', '--dry-run');
  assert.match(stdout, /^add +rule +\/.*\/good\.json:2 +unspec:name=web\nremove +rule +unspec:name=web\n/);
  assert.match(stdout, /\nNothing was changed\. Revision: 2\n$/);
  assert.deepEqual([status, node.services.imports.length], [0, 1]);
  const bad = await file(node, 'bad.json', GOOD.replace('"TCP"', '"TPC"'));
  assert.match((await node.run('policy', 'import', bad, '--dry-run')).stderr, /bad\.json:22:17: .*protocol/);
  node.services.maxPolicyEntries = 0;
  const large = await node.run('policy', 'import', path, '--dry-run');
  assert.match(large.stdout, /^The policy of \d+ \(container:id=app1.*\) would need \d+ map entries, and 0 fit/m);
  assert.equal(large.status, 1);
  const { stdout: json } = await node.run('policy', 'import', path, '--dry-run', '-o', 'json');
  assert.deepEqual((JSON.parse(json) as { added: unknown }).added, [
    { file: path, line: 2, labels: ['unspec:name=web'] },
  ]);
});

test('policy import waits until the endpoints enforce the rules, unless told not to', async (t) => {
  const node = await startNode(t);
  node.services.realizes = false;
  let done = false;
  const waiting = node.runWith(GOOD, 'policy', 'import', '-').then((result) => {
    done = true;
    return result;
  });
  while (node.services.imports.length === 0) await new Promise(setImmediate);
  assert.equal((await node.runWith(GOOD, 'policy', 'import', '-', '--no-wait')).stdout, 'Revision: 3\n');
  assert.equal(done, false);
  for (const { status } of node.services.endpointList) status.policy.realized['policy-revision'] = 2;
  assert.equal((await waiting).stdout, 'Revision: 2\n');
});

test('a refused import names file, line, column and field of each problem, and changes nothing', async (t) => {
  const node = await startNode(t);
  const good = await file(node, 'good.json', GOOD);
  const bad = await file(
    node,
    'bad.yaml',
    'endpointSelector: {}\ningress:\n  - toPorts:\n      - ports:\n          - port: "99999"\n    fromCIDR: [300.0.0.0/8]\n',
  );
  const { stdout, stderr, status } = await node.run('policy', 'import', good, bad);
  assert.deepEqual([stdout, status], ['', 1]);
  assert.match(stderr, /bad\.yaml:5:13: rules\[0\]\.ingress\[0\]\.toPorts\[0\]\.ports\[0\]\.port: .*99999/);
  assert.match(stderr, / {10}- port: "99999"\n {12}\^\n/);
  assert.match(stderr, /bad\.yaml:6:16: rules\[0\]\.ingress\[0\]\.fromCIDR\[0\]: /);
  assert.deepEqual([node.services.revision, node.services.rules], [1, []]);
});

test('files that cannot be read as policy are all named', async (t) => {
  const node = await startNode(t);
  const one = await file(node, 'one.json', '[{]');
  const two = await file(node, 'two.yaml', 'a: [1\n');
  const { stderr, status } = await node.run('policy', 'import', one, two);
  assert.equal(status, 1);
  assert.match(stderr, /^Error: .*one\.json:1: syntax error at offset 2: expected a key in double quotes/);
  assert.match(stderr, /^.*two\.yaml:/m);
  const three = await file(node, 'three.json', GOOD.replace('"TCP"', '"TPC"'));
  const all = await node.run('policy', 'import', one, three);
  assert.match(all.stderr, /one\.json:1: syntax error[^]*three\.json:22:17: rules\[0\].*protocol: /);
  assert.match(
    (await node.runWith('{"kind": "List", "items": []}', 'policy', 'import', '-')).stderr,
    /No policy specified/,
  );
  assert.match(
    (await node.run('policy', 'import', '/nonexistent.json')).stderr,
    /^Error: cannot read \/nonexistent\.json: ENOENT/,
  );
  assert.match((await node.runWith('[]', 'policy', 'import', '-')).stderr, /^Error: No policy specified/);
  await mkdir(join(node.folder, 'empty'));
  assert.match((await node.run('policy', 'import', join(node.folder, 'empty'))).stderr, /no \.json or \.yaml file in/);
});

test('policy validate needs no agent', async (t) => {
  const node = await startNode(t);
  const path = await file(node, 'good.json', GOOD);
  const nowhere = { env: { CILIUM_SOCK: '/none' } };
  assert.deepEqual(await runCommand(['policy', 'validate', path], nowhere), {
    stdout: 'All policy elements are valid.\n',
    stderr: '',
    status: 0,
  });
  const bad = await file(node, 'bad.json', GOOD.replace('"TCP"', '"TPC"'));
  const { stderr, status } = await runCommand(['policy', 'validate', bad], nowhere);
  assert.equal(status, 1);
  assert.match(stderr, /^Error: Validation of policy has failed:\n/);
  assert.match(
    stderr,
    /bad\.json:22:17: rules\[0\]\.ingress\[0\]\.toPorts\[0\]\.ports\[0\]\.protocol: .*\n.*"protocol": "TPC"\n +\^\n$/,
  );
});

test('policy validate tells which rules an agent may refuse', async (t) => {
  const node = await startNode(t);
  const l7 = '"protocol": "TCP" }], "rules": { "http": [{ "path": "/v1/.*" }] }';
  const path = await file(node, 'l7.json', GOOD.replace(/"protocol": "TCP"\s*\}\s*\]/, l7));
  const { stdout, stderr, status } = await runCommand(['policy', 'validate', path], { env: { CILIUM_SOCK: '/none' } });
  assert.equal(status, 0);
  assert.match(stdout, /are valid/);
  assert.match(stderr, /^Warning: valid, but refused .*\n.*l7\.json:\d+:\d+: rules\[0\].*\.rules: .*--l7-rules=drop/);
  const wrong = await file(node, 'wrong.json', GOOD.replace(/"protocol": "TCP"\s*\}\s*\]/, l7.replace('.*', '(')));
  assert.match(
    (await runCommand(['policy', 'validate', wrong], { env: { CILIUM_SOCK: '/none' } })).stderr,
    /http\[0\]\.path: expected a regular expression \(RE2\), found "\/v1\/\(": missing closing \)/,
  );
});

test('policy delete wants labels or --all, and answers the revision', async (t) => {
  const node = await startNode(t);
  await node.runWith(GOOD, 'policy', 'import', '-');
  assert.deepEqual(await node.run('policy', 'delete'), {
    stdout: '',
    stderr: 'Error: Please use --all flag to delete all policies\n',
    status: 1,
  });
  assert.match((await node.run('policy', 'delete', '--all', 'a')).stderr, /either labels or --all/);
  assert.match((await node.run('policy', 'delete', 'name=none')).stderr, /no rule carries all of the labels/);
  assert.equal((await node.run('policy', 'delete', 'name=web')).stdout, 'Revision: 3\n');
  assert.equal((await node.run('policy', 'delete', '--all')).status, 0);
});

test('policy wait shows how far the endpoints are, and gives up with their names', async (t) => {
  const node = await startNode(t);
  assert.equal(
    (await node.run('policy', 'wait', '1')).stdout,
    '\rWaiting for endpoints to run policy revision 1: 2/2\n',
  );
  node.services.endpointList[0]!.status.state = 'not-ready';
  const failed = await node.run('policy', 'wait', '1', '--fail-wait-time', '0');
  assert.match(failed.stdout, /revision 1: 1\/2\n$/);
  const { realized } = node.services.endpointList[0]!.status.policy;
  const revision = realized['policy-revision'];
  assert.match(failed.stderr, /^Error: policy revision 1 is not in force on endpoints 173 \(it keeps revision /);
  const log = { code: 'Failure', message: 'the policy needs 17003 map entries', state: 'not-ready' } as const;
  node.services.endpointList[0]!.status.log = [{ ...log, timestamp: '2026-11-21T05:57:23.106Z' }];
  const told = await node.run('policy', 'wait', '1', '--fail-wait-time', '0');
  assert.ok(
    told.stderr.endsWith(`173 (it keeps revision ${revision}, complete: the policy needs 17003 map entries)\n`),
  );
  node.services.endpointList[0]!.status.state = 'creating'; // nothing passes there yet
  assert.match((await node.run('policy', 'wait', '1')).stdout, /: 1\/1\n$/);
  const late = await node.run('policy', 'wait', '2', '--max-wait-time', '0');
  assert.match(late.stderr, /revision 2 yet: 29 \(ready\)\n$/);
  node.services.endpointList[0]!.status.state = 'not-ready';
  const imported = await node.runWith(GOOD, 'policy', 'import', '-');
  assert.match(imported.stderr, /^Error: policy revision \d+ is not in force on endpoints 173 /, 'without waiting');
  assert.equal(imported.status, 1);
});
