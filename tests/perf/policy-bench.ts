// SPDX-License-Identifier: Apache-2.0

/**
 * What the policy engine needs of one CPU, without the kernel: rules from JSON to deltas, and single changes on top of
 * them, for growing numbers of rules and endpoints. `make bench-policy` prints the table.
 */
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { LabelSet } from '../../identity/label-set.ts';
import { LOCAL_IDENTITY_MIN, numericIdentity } from '../../identity/numeric-identity.ts';
import { parseRules } from '../../policy/parse/rule.ts';
import { PolicyRepository } from '../../policy/repository.ts';

setFlagsFromString('--expose-gc');
const collectGarbage = runInNewContext('gc') as () => void;

const IDENTITIES = 10_000;
const ROUNDS = 3;
const FIRST_IDENTITY = 1000;

const endpointSelector = { matchLabels: { role: 'server' } };
const RULES: Readonly<Record<string, (n: number) => object>> = {
  ports: (n) => ({
    endpointSelector,
    ingress: [{ toPorts: [{ ports: [{ port: String(1000 + n), protocol: 'TCP' }] }] }],
  }),
  prefixes: (n) => ({ endpointSelector, egress: [{ toCIDR: [`10.${n >> 8}.${n & 255}.0/24`] }] }),
  peers: (n) => ({
    endpointSelector,
    ingress: [
      { fromEndpoints: [{ matchLabels: { id: `app${n}` } }], toPorts: [{ ports: [{ port: '80', protocol: 'TCP' }] }] },
    ],
  }),
};
const NEWCOMER = ['container:id=app7', 'container:new', 'container:role=server'];
const ONE_RULE = {
  endpointSelector,
  ingress: [{ fromEndpoints: [{ matchLabels: { id: 'app1' } }] }],
  labels: ['bench=one'],
};

function repositoryWith(endpoints: number): PolicyRepository {
  let last = LOCAL_IDENTITY_MIN;
  const repository = new PolicyRepository({
    enforcement: 'default',
    allowLocalhost: 'auto',
    cidrIdentities: { acquire: () => numericIdentity(last++), release: () => undefined },
  });
  for (let i = 0; i < IDENTITIES; i++) {
    const texts = [`container:id=app${i}`, `container:group=g${i % 100}`, 'container:role=server'];
    repository.addIdentity(numericIdentity(FIRST_IDENTITY + i), LabelSet.fromTexts(texts));
  }
  for (let i = 0; i < endpoints; i++) repository.addSubject(numericIdentity(FIRST_IDENTITY + i));
  repository.takeUpdates();
  return repository;
}

/** Milliseconds of CPU, this process' helpers included. */
function cpuOf(work: () => unknown): number {
  const begin = process.cpuUsage();
  work();
  const { user, system } = process.cpuUsage(begin);
  return (user + system) / 1000;
}

function median(values: readonly number[]): string {
  return [...values].sort((a, b) => a - b)[values.length >> 1]!.toFixed(2);
}

function measure(kind: string, rules: number, endpoints: number): void {
  const rounds = Array.from({ length: ROUNDS }, () => measureOnce(kind, rules, endpoints));
  const columns = rounds[0]!.map((_, column) => median(rounds.map((values) => values[column]!)));
  console.log([kind, rules, endpoints, ...columns].map((cell) => String(cell).padStart(11)).join(''));
}

function measureOnce(kind: string, rules: number, endpoints: number): number[] {
  const repository = repositoryWith(endpoints);
  const before = heapMegabytes();
  const json = Array.from({ length: rules }, (_, n) => RULES[kind]!(n));
  const take = (): unknown => repository.takeUpdates();
  const times = [cpuOf(() => repository.import(parseRules(json))), cpuOf(take)];
  const after = heapMegabytes();
  const changes: (() => unknown)[] = [
    () => repository.import(parseRules([ONE_RULE])),
    () => repository.deleteByLabels([{ source: 'any', key: 'bench', value: 'one' }]),
    () => repository.addIdentity(numericIdentity(FIRST_IDENTITY + IDENTITIES), LabelSet.fromTexts(NEWCOMER)),
  ];
  for (const change of changes) {
    times.push(
      cpuOf(() => {
        change();
        take();
      }),
    );
  }
  return [...times, after - before];
}

/** What is in use after a collection. */
function heapMegabytes(): number {
  collectGarbage();
  return process.memoryUsage().heapUsed / 1e6;
}

console.log(`${IDENTITIES} identities; medians of ${ROUNDS}: milliseconds of CPU, and MB of heap that the rules take`);
const heads = ['rules', 'number', 'endpoints', 'import', 'deltas', '+ rule', '- rule', '+ identity', 'heap'];
console.log(heads.map((head) => head.padStart(11)).join(''));
for (const kind of Object.keys(RULES)) {
  for (const rules of [1, 1000, 5000, 10_000]) {
    for (const endpoints of [1, 100, 300]) measure(kind, rules, endpoints);
  }
}
