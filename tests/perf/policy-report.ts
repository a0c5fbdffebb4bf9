// SPDX-License-Identifier: Apache-2.0

/** Tables and goals of the policy benchmark. */
import type { Goal } from './goals.ts';
import { ENGINE_IDENTITIES, engineSeries, type EngineCase, type EngineFigure } from './policy-engine-section.ts';
import { importSeries, type ImportFigure } from './policy-import-section.ts';
import { RULE_KINDS, type RuleKind } from './policy-rules.ts';
import { spread, table } from './report.ts';
import { quantile, type Series } from './statistics.ts';

/** What was measured on so many endpoints. */
export interface ImportRuns {
  readonly endpoints: number;
  readonly sizes: readonly number[];
}

export function importTable(series: Series, { endpoints, sizes }: ImportRuns): string {
  const rows = RULE_KINDS.flatMap((kind) =>
    sizes.map((size) => {
      const of = (figure: ImportFigure) => series.of(importSeries(kind, size, endpoints, figure));
      const median = (figure: ImportFigure) => quantile(of(figure), 0.5);
      return [
        `${size.toLocaleString('en')} ${kind}`,
        spread(of('whole'), 1, 0),
        spread(of('untilInForce'), 1, 0),
        spread(of('sentToInForce'), 1, 1),
        ((median('untilInForce') * 1000) / size).toFixed(0),
        median('agentCpu').toFixed(0),
        median('stall').toFixed(0),
        spread(of('one more'), 1, 1),
        spread(of('one less'), 1, 1),
        (median('resident') / 1e6).toFixed(0),
      ];
    }),
  );
  const head = [
    ...['rules', 'whole command, ms', 'until in force, ms', 'request to in force, ms', 'µs a rule'],
    ...['CPU of the agent, ms', 'others wait, ms', '+ 1 rule, ms', '− 1 rule, ms', 'agent, MB'],
  ];
  return `${endpoints === 1 ? '1 endpoint' : `${endpoints} endpoints`}\n\n${table(head, rows)}`;
}

export function startTable(series: Series): string {
  return table(
    ['', 'ms'],
    [
      ['first rule: whole command', spread(series.of('first whole'), 1, 0)],
      ['first rule: start-up of the command', spread(series.of('first start-up'), 1, 0)],
      ['first rule: from then on until in force', spread(series.of('first'), 1, 1)],
      ['identity that joins: request to in force, through the store', spread(series.of('identity joins'), 1, 1)],
      ['identity that joins: CPU of the agent for it', spread(series.of('identity joins, agent'), 1, 1)],
    ],
  );
}

export function engineTable(series: Series, cases: readonly EngineCase[]): string {
  const rows = cases.map((one) => {
    const figure = (name: EngineFigure, scale = 1) => quantile(series.of(engineSeries(one, name)), 0.5) * scale;
    return [
      `${one.count.toLocaleString('en')} ${one.rules}`,
      one.endpoints,
      figure('import').toFixed(1),
      ((figure('import') * 1000) / one.count).toFixed(0),
      ...(['deltas', '+ rule', '- rule', '+ identity'] as const).map((name) => figure(name).toFixed(2)),
      figure('heap', 1e-6).toFixed(1),
    ];
  });
  const head = [
    ...[
      'rules',
      'endpoints',
      'import, ms',
      'µs a rule',
      'deltas, ms',
      '+ 1 rule, ms',
      '− 1 rule, ms',
      '+ 1 identity, ms',
    ],
    'heap, MB',
  ];
  return `The engine alone, ${ENGINE_IDENTITIES.toLocaleString('en')} identities, CPU time\n\n${table(head, rows)}`;
}

const SIZE = 5000;

export function importGoals(series: Series, { endpoints, sizes }: ImportRuns, most: number): Goal[] {
  if (!sizes.includes(SIZE)) return [];
  const median = (kind: RuleKind, figure: ImportFigure): number =>
    quantile(series.of(importSeries(kind, SIZE, endpoints, figure)), 0.5);
  const where = endpoints === 1 ? '1 endpoint' : `${endpoints} endpoints`;
  return RULE_KINDS.flatMap((kind) => [
    {
      what: `5,000 rules, distinct ${kind}: command to in force on ${where}, s`,
      measured: median(kind, 'untilInForce') / 1000,
      most,
      digits: 2,
    },
    {
      what: `one rule on top of 5,000 ${kind}, on ${where}: request to in force, ms`,
      measured: median(kind, 'one more'),
      most: 5,
      digits: 1,
    },
  ]);
}

export function firstRuleGoal(series: Series): Goal {
  const measured = quantile(series.of('first'), 0.5);
  return { what: "first rule: from the command's start-up to in force, ms", measured, most: 10, digits: 1 };
}

export function identityGoals(series: Series, cases: readonly EngineCase[]): Goal[] {
  return cases
    .filter(({ count, endpoints }) => count === 1000 && endpoints === 1)
    .map((one) => ({
      what: `an identity joins ${ENGINE_IDENTITIES.toLocaleString('en')}, rules: 1,000 ${one.rules}; CPU to all deltas, ms`,
      measured: quantile(series.of(engineSeries(one, '+ identity')), 0.5),
      most: 2,
      digits: 2,
    }));
}
