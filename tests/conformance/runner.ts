// SPDX-License-Identifier: Apache-2.0

/** Runs one case; the result is a list of differences, each with expected and found. */
import { isDeepStrictEqual } from 'node:util';
import { isCiliumError } from '../../errors/cilium-error.ts';
import { LabelFilter } from '../../identity/label-filter.ts';
import { LabelSet } from '../../identity/label-set.ts';
import { parseLabel, parseSelectLabel, parseSelectorKey } from '../../identity/label.ts';
import { dnsRuleMatches } from '../../policy/l7/dns.ts';
import { portRangeToBlocks } from '../../net/port-range.ts';
import type { PolicyEntry } from '../../policy/map-entry.ts';
import type { ImportOptions } from '../../policy/repository.ts';
import type { Rule } from '../../policy/rule.ts';
import { re2 } from '../../runtime/re2.ts';
import type { Case, Check, EvaluateCase, LabelFilterCase, RepositoryCase, Step, ValidationCase } from './case.ts';
import { ConformanceEngine, type Side } from './engine.ts';

export interface Difference {
  readonly what: string;
  readonly expected: unknown;
  readonly found: unknown;
}

/** A second opinion on packets; undefined where it has none. */
export type PacketJudge = (
  side: Side,
  entries: readonly PolicyEntry[],
) => 'allowed' | 'denied' | 'redirect' | undefined;

/** What breaks while the case runs is a difference too. */
export function runCase(test: Case, kernel?: PacketJudge): Difference[] {
  try {
    return runKind(test, kernel);
  } catch (error) {
    return [{ what: 'the run', expected: 'a verdict', found: String(error) }];
  }
}

function runKind(test: Case, kernel: PacketJudge | undefined): Difference[] {
  switch (test.kind) {
    case 'evaluate':
      return runEvaluate(test, kernel);
    case 'repository':
      return runRepository(test, kernel);
    case 'valid':
    case 'invalid':
      return runValidation(test);
    case 'label-parse': {
      const { source, key, value = '' } = test;
      return compare('label', { source, key, value }, parseLabel(test.input));
    }
    case 'selector-key':
      return compare('key', { source: test.source, key: test.key }, parseSelectorKey(test.input));
    case 'label-filter':
      return runLabelFilter(test);
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
    default:
      return compare('kind', KINDS, (test as { kind?: unknown }).kind ?? null);
  }
}

const KINDS: readonly Case['kind'][] = [
  'evaluate',
  'repository',
  'invalid',
  'valid',
  'label-parse',
  'selector-key',
  'label-filter',
  'dns-pattern',
  'port-range',
];

function runLabelFilter({ labels, identity, information, prefixes, prefixFile }: LabelFilterCase): Difference[] {
  const filter = new LabelFilter({ patterns: prefixes ?? [], prefixFile, regex: re2 });
  const texts = (list: Iterable<string>): string[] => LabelSet.fromTexts(list).toTexts().sort();
  const found = filter.split(LabelSet.fromTexts(labels));
  return [
    ...compare('identity labels', texts(identity), found.identity.toTexts().sort()),
    ...compare('information labels', texts(information), found.information.toTexts().sort()),
  ];
}

function runEvaluate(test: EvaluateCase, kernel: PacketJudge | undefined): Difference[] {
  const engine = new ConformanceEngine(test, test.config);
  engine.import(rulesOf(engine, test));
  return runChecks(engine, test.checks, kernel);
}

/** The rules of a case or step, and those that its resources mean. */
function rulesOf(
  engine: ConformanceEngine,
  { rules, resources = [] }: Pick<EvaluateCase, 'rules' | 'resources'>,
  ignoreUnknown = true,
): Rule[] {
  const written = rules === undefined && resources.length > 0 ? [] : engine.parse(rules, { ignoreUnknown });
  return [...written, ...engine.translate(resources)];
}

function runChecks(engine: ConformanceEngine, checks: readonly Check[], kernel: PacketJudge | undefined): Difference[] {
  return checks.flatMap((check) => {
    const { verdict, forwardedHeaders = {}, ...what } = check;
    const text = JSON.stringify(what);
    const headers = Object.keys(forwardedHeaders).length === 0 ? undefined : engine.forwardedHeaders(check);
    return [
      ...compare(text, verdict, engine.verdict(check)),
      ...Object.entries(forwardedHeaders).flatMap(([name, value]) =>
        compareHeader(`${text} forwards ${name}`, value, headers?.get(name.toLowerCase()) ?? []),
      ),
      ...engine.sidesOf(check).flatMap((side) => {
        const found = kernel?.(side, engine.entriesOf(side.subject));
        const expected = engine.packetVerdict(side);
        return compare(`kernel, ${side.packet.egress ? 'egress' : 'ingress'}: ${text}`, expected, found ?? expected);
      }),
    ];
  });
}

/** Several values may be written in one text, with a comma and perhaps a blank between them. */
function compareHeader(what: string, expected: unknown, found: readonly string[]): Difference[] {
  if (Array.isArray(expected)) return compare(what, expected, found);
  if (expected === null) return compare(what, null, found.length === 0 ? null : found);
  return [found.join(','), found.join(', ')].some((text) => text === expected && found.length > 0)
    ? []
    : compare(what, expected, found);
}

function runRepository(test: RepositoryCase, kernel: PacketJudge | undefined): Difference[] {
  const engine = new ConformanceEngine(test, test.config);
  return test.steps.flatMap((step, index) => runStep(engine, step, `steps[${index}] ${step.op}`, kernel));
}

function runStep(engine: ConformanceEngine, step: Step, where: string, kernel: PacketJudge | undefined): Difference[] {
  const { repository } = engine;
  const before = repository.revision;
  const found: Record<string, unknown> = { ok: true };
  const labels = (step.labels ?? []).map(parseSelectLabel);
  switch (step.op) {
    case 'import':
      found['ok'] = accepts(() => engine.import(rulesOf(engine, step), importOptions(step)));
      break;
    case 'delete': {
      const deleted = engine.deleteByLabels(labels);
      found['deleted'] = deleted;
      found['ok'] = deleted > 0 || labels.length === 0;
      break;
    }
    case 'get':
      found['found'] = repository.rules(labels).length;
      break;
    case 'check':
      break;
    default:
      return compare(where, ['import', 'delete', 'get', 'check'], (step as { op?: unknown }).op ?? null);
  }
  found['revisionDelta'] = repository.revision - before;
  found['count'] = repository.rules().length;
  return [
    ...Object.entries(step.expect ?? {}).flatMap(([name, value]) => compare(`${where} ${name}`, value, found[name])),
    ...runChecks(engine, step.checks ?? [], kernel),
  ];
}

function importOptions({ replace, replaceWithLabels }: Step): ImportOptions {
  return {
    ...(replace === undefined ? {} : { replace }),
    ...(replaceWithLabels === undefined ? {} : { replaceWithLabels: replaceWithLabels.map(parseSelectLabel) }),
  };
}

/** What must be refused is given to the product as it is; what must be accepted is read as Cilium reads it. */
function runValidation(test: ValidationCase): Difference[] {
  const engine = new ConformanceEngine(
    test.endpoint === undefined ? {} : { endpoints: { subject: test.endpoint } },
    test.config,
  );
  const accepted = accepts(() => engine.import(rulesOf(engine, test, test.kind === 'valid')));
  return compare('accepted', test.kind === 'valid', accepted);
}

function accepts(action: () => void): boolean {
  try {
    action();
    return true;
  } catch (error) {
    if (isCiliumError(error) && error.code !== 'Internal') return false;
    throw error;
  }
}

function compare(what: string, expected: unknown, found: unknown): Difference[] {
  return isDeepStrictEqual(expected, found) ? [] : [{ what, expected, found }];
}
