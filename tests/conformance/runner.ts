// SPDX-License-Identifier: Apache-2.0

/** Runs one case; the result is a list of differences, each with expected and found. */
import { isDeepStrictEqual } from 'node:util';
import { isCiliumError } from '../../errors/cilium-error.ts';
import { LabelFilter } from '../../identity/label-filter.ts';
import { LabelSet } from '../../identity/label-set.ts';
import { parseLabel, parseSelectLabel, parseSelectorKey } from '../../identity/label.ts';
import { dnsRuleMatches } from '../../policy/l7/dns.ts';
import { portRangeToBlocks } from '../../net/port-range.ts';
import type { Rule } from '../../policy/rule.ts';
import { re2 } from '../../runtime/re2.ts';
import type { Case, Check, EvaluateCase, RepositoryCase, Step, ValidationCase } from './case.ts';
import { ConformanceEngine } from './engine.ts';

export interface Difference {
  readonly what: string;
  readonly expected: unknown;
  readonly found: unknown;
}

export function runCase(test: Case): Difference[] {
  switch (test.kind) {
    case 'evaluate':
      return runEvaluate(test);
    case 'repository':
      return runRepository(test);
    case 'valid':
    case 'invalid':
      return runValidation(test);
    case 'label-parse':
      return compare('label', { source: test.source, key: test.key, value: test.value }, parseLabel(test.input));
    case 'selector-key':
      return compare('key', { source: test.source, key: test.key }, parseSelectorKey(test.input));
    case 'label-filter': {
      const { identity, information } = new LabelFilter({ patterns: test.prefixes, prefixFile: test.prefixFile, regex: re2 }).split(
        LabelSet.fromTexts(test.labels),
      );
      return [
        ...compare('identity labels', [...test.identity].sort(), identity.toTexts().sort()),
        ...compare('information labels', [...test.information].sort(), information.toTexts().sort()),
      ];
    }
    case 'port-range': {
      const blocks = portRangeToBlocks(test.start, test.end).map(({ port, bits }) => ({ port, prefix: bits }));
      return compare('blocks', test.blocks, blocks);
    }
    case 'dns-pattern': {
      const matches = (name: string): boolean => dnsRuleMatches({ matchPattern: test.pattern }, name);
      return [
        ...test.accept.flatMap((name) => compare(name, true, matches(name))),
        ...test.reject.flatMap((name) => compare(name, false, matches(name))),
      ];
    }
  }
}

function runEvaluate(test: EvaluateCase): Difference[] {
  const engine = new ConformanceEngine(test, test.config);
  engine.import(rulesOf(engine, test));
  return runChecks(engine, test.checks);
}

/** The rules of a case, translated from resources if that is what it has. */
export function rulesOf(engine: ConformanceEngine, { rules, resources }: EvaluateCase | ValidationCase): Rule[] {
  return resources === undefined ? engine.parse(rules) : engine.translate(resources);
}

function runChecks(engine: ConformanceEngine, checks: readonly Check[]): Difference[] {
  return checks.flatMap((check) => {
    const { verdict, forwardedHeaders, ...what } = check;
    const text = JSON.stringify(what);
    const headers = forwardedHeaders === undefined ? undefined : engine.forwardedHeaders(check);
    return [
      ...compare(text, verdict, engine.verdict(check)),
      ...Object.entries(forwardedHeaders ?? {}).flatMap(([name, value]) =>
        compare(`${text} forwards ${name}`, value, headers?.get(name.toLowerCase())?.join() ?? null),
      ),
    ];
  });
}

function runRepository(test: RepositoryCase): Difference[] {
  const engine = new ConformanceEngine(test, test.config);
  return test.steps.flatMap((step, index) => runStep(engine, step, `steps[${index}] ${step.op}`));
}

function runStep(engine: ConformanceEngine, step: Step, where: string): Difference[] {
  const { repository } = engine;
  const labels = (step.labels ?? []).map(parseSelectLabel);
  const before = repository.revision;
  const found: Record<string, unknown> = { ok: true };
  if (step.op === 'import') found['ok'] = accepts(() => engine.import(engine.parse(step.rules)));
  if (step.op === 'delete') {
    const { deleted } = repository.deleteByLabels(labels);
    found['deleted'] = deleted;
    found['ok'] = deleted > 0 || labels.length === 0;
  }
  if (step.op === 'get') found['found'] = repository.rules(labels).length;
  found['revisionDelta'] = repository.revision - before;
  found['count'] = repository.rules().length;
  return [
    ...Object.entries(step.expect ?? {}).flatMap(([name, value]) => compare(`${where} ${name}`, value, found[name])),
    ...runChecks(engine, step.checks ?? []),
  ];
}

function runValidation(test: ValidationCase): Difference[] {
  const engine = new ConformanceEngine(
    test.endpoint === undefined ? {} : { endpoints: { subject: test.endpoint } },
    test.config,
  );
  const accepted = accepts(() => engine.repository.import(rulesOf(engine, test)));
  return compare('accepted', test.kind === 'valid', accepted);
}

function accepts(action: () => void): boolean {
  try {
    action();
    return true;
  } catch (error) {
    if (isCiliumError(error)) return false;
    throw error;
  }
}

function compare(what: string, expected: unknown, found: unknown): Difference[] {
  return isDeepStrictEqual(expected, found) ? [] : [{ what, expected, found }];
}
