// SPDX-License-Identifier: Apache-2.0

/**
 * What the policy engine needs of one CPU, without the kernel: rules from JSON to deltas, and single changes on top of
 * them, for growing numbers of rules and endpoints. CPU time, so other work on the machine counts little.
 */
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { LabelSet } from '../../identity/label-set.ts';
import { LOCAL_IDENTITY_MIN, numericIdentity } from '../../identity/numeric-identity.ts';
import { parseRules } from '../../policy/parse/rule.ts';
import { PolicyRepository } from '../../policy/repository.ts';
import { Series } from './statistics.ts';

setFlagsFromString('--expose-gc');
const collectGarbage = runInNewContext('gc') as () => void;

export const ENGINE_IDENTITIES = 10_000;
const FIRST_IDENTITY = 1000;

const endpointSelector = { matchLabels: { role: 'server' } };
const onPort80 = [{ ports: [{ port: '80', protocol: 'TCP' }] }];

/** Rules by what tells them apart. */
const RULES = {
  ports: (n) => ({
    endpointSelector,
    ingress: [{ toPorts: [{ ports: [{ port: String(1000 + n), protocol: 'TCP' }] }] }],
  }),
  CIDRs: (n) => ({ endpointSelector, egress: [{ toCIDR: [`10.${n >> 8}.${n & 255}.0/24`] }] }),
  peers: (n) => ({
    endpointSelector,
    ingress: [{ fromEndpoints: [{ matchLabels: { id: `app${n}` } }], toPorts: onPort80 }],
  }),
  // Each names one of 100 groups, by what its members are not and by what they have.
  'peers by NotIn, Exists': (n) => ({
    endpointSelector,
    ingress: [
      {
        fromEndpoints: [
          {
            matchExpressions: [
              { key: 'group', operator: 'NotIn', values: [`g${n % 100}`, `other${n}`] },
              { key: `team${n % 100}`, operator: 'Exists' },
            ],
          },
        ],
        toPorts: onPort80,
      },
    ],
  }),
  'peers by NotIn alone': (n) => ({
    endpointSelector: { matchLabels: { id: 'app1' } },
    ingressDeny: [
      { fromEndpoints: [{ matchExpressions: [{ key: 'role', operator: 'NotIn', values: ['server', `o${n}`] }] }] },
    ],
  }),
} satisfies Record<string, (n: number) => object>;
export type EngineRules = keyof typeof RULES;

const NEWCOMER = ['container:id=app7', 'container:group=new', 'container:team7', 'container:role=server'];
const ONE_RULE = {
  endpointSelector,
  ingress: [{ fromEndpoints: [{ matchLabels: { id: 'app1' } }] }],
  labels: ['bench=one'],
};

export type EngineFigure = 'import' | 'deltas' | '+ rule' | '- rule' | '+ identity' | 'heap';

export interface EngineCase {
  readonly rules: EngineRules;
  readonly count: number;
  readonly endpoints: number;
}

export function engineSeries({ rules, count, endpoints }: EngineCase, figure: EngineFigure): string {
  return `${rules} ${count} ${endpoints} ${figure}`;
}

/** Milliseconds of CPU, and bytes of heap that the rules take. */
export function measureEngine(
  cases: readonly EngineCase[],
  rounds: number,
  onProgress: (step: string) => void,
): Series {
  const series = new Series();
  for (let round = 0; round < rounds; round++) {
    onProgress(`policy engine: round ${round + 1} of ${rounds}`);
    for (const one of cases) measureOnce(one, series);
  }
  return series;
}

function measureOnce(one: EngineCase, series: Series): void {
  const repository = repositoryWith(one.endpoints);
  const before = heapBytes();
  const json = Array.from({ length: one.count }, (_, n) => RULES[one.rules](n));
  const take = (): unknown => repository.takePolicyUpdates();
  const add = (figure: EngineFigure, value: number): void => series.add(engineSeries(one, figure), value);
  add(
    'import',
    cpuOf(() => repository.import(parseRules(json))),
  );
  add('deltas', cpuOf(take));
  const after = heapBytes();
  const changes: readonly [EngineFigure, () => unknown][] = [
    ['+ rule', () => repository.import(parseRules([ONE_RULE]))],
    ['- rule', () => repository.deleteByLabels([{ source: 'any', key: 'bench', value: 'one' }])],
    [
      '+ identity',
      () => repository.addIdentity(numericIdentity(FIRST_IDENTITY + ENGINE_IDENTITIES), LabelSet.fromTexts(NEWCOMER)),
    ],
  ];
  for (const [figure, change] of changes) {
    add(
      figure,
      cpuOf(() => {
        change();
        take();
      }),
    );
  }
  add('heap', after - before);
}

function repositoryWith(endpoints: number): PolicyRepository {
  let last = LOCAL_IDENTITY_MIN;
  const repository = new PolicyRepository({
    enforcement: 'default',
    allowLocalhost: 'auto',
    cidrIdentities: { acquire: () => numericIdentity(last++), release: () => undefined },
  });
  for (let i = 0; i < ENGINE_IDENTITIES; i++) {
    const texts = [`container:id=app${i}`, `container:group=g${i % 100}`, `container:team${i % 100}`];
    repository.addIdentity(
      numericIdentity(FIRST_IDENTITY + i),
      LabelSet.fromTexts([...texts, 'container:role=server']),
    );
  }
  for (let i = 0; i < endpoints; i++) repository.addSubject(numericIdentity(FIRST_IDENTITY + i));
  repository.takePolicyUpdates();
  return repository;
}

/** Milliseconds of CPU, this process' helpers included. */
function cpuOf(work: () => unknown): number {
  const begin = process.cpuUsage();
  work();
  const { user, system } = process.cpuUsage(begin);
  return (user + system) / 1000;
}

/** What is in use after a collection. */
function heapBytes(): number {
  collectGarbage();
  return process.memoryUsage().heapUsed;
}
