// SPDX-License-Identifier: Apache-2.0

/**
 * `policy simulate`: what an import or a deletion would change, without doing it. Whose policy changes, for which peers
 * and ports, and which flows would be judged differently.
 *
 * Only the subjects whose rules change are looked at, and of their policies only what overlaps with what comes and goes.
 * Cost: that, plus one walk through the filters of each policy that changes.
 */
import { CiliumError } from '../errors/cilium-error.ts';
import type { Label } from '../identity/label.ts';
import type { NumericIdentity } from '../identity/numeric-identity.ts';
import type { Prefix } from '../net/ip.ts';
import { findConflicts, mayConflict } from './conflicts.ts';
import { filtersOf } from './filter.ts';
import { usesGroups, type CidrGroup } from './peer-selectors.ts';
import { replacedRules, type ImportOptions } from './replacement.ts';
import type { PolicyRepository } from './repository.ts';
import type { RepositoryView } from './repository-view.ts';
import { DIRECTIONS, type Direction, type Rule } from './rule.ts';
import { ChangedPrefixes } from './why/changed-prefixes.ts';
import { changedSubjects, type ChangedSubjects } from './why/changed-subjects.ts';
import { settingsOf } from './why/claims.ts';
import { needsNoAuthentication, type OpenSetting } from './why/subject.ts';
import { SubjectChange, type FlowDifference, type PeerGroup, type SimulatedFlow } from './why/subject-change.ts';

export type PolicyChange =
  | {
      readonly add: readonly Rule[];
      readonly options?: ImportOptions;
      /** CIDR groups that come, change or (undefined) go with it. */
      readonly groups?: readonly (readonly [name: string, group: CidrGroup | undefined])[];
    }
  /** Rules that have all these labels; without any, all rules. */
  | { readonly deleteLabels: readonly Label[] };

export interface SimulationQuestions<F extends SimulatedFlow> {
  /** Default: all identities that the repository keeps a policy for. */
  readonly subjects?: Iterable<NumericIdentity>;
  readonly flows?: Iterable<F>;
}

export interface Simulation<F extends SimulatedFlow> {
  readonly added: readonly Rule[];
  readonly removed: readonly Rule[];
  /** Prefixes whose addresses get an identity of their own, and those that lose it. */
  readonly prefixes: { readonly added: readonly Prefix[]; readonly gone: readonly Prefix[] };
  /** Subjects and directions for which something changes. */
  readonly differences: readonly PolicyDifference[];
  /** Flows that are judged differently. */
  readonly flows: readonly FlowDifference<F>[];
}

export interface PolicyDifference {
  /** They have the same policy before and after. */
  readonly subjects: readonly NumericIdentity[];
  readonly direction: Direction;
  /** What lets everything through that no rule denies; undefined: what no rule allows is denied. */
  readonly setting: { readonly before: OpenSetting | undefined; readonly after: OpenSetting | undefined };
  readonly groups: readonly PeerGroup[];
}

/** Throws what the import itself would throw. */
export function simulateImport<F extends SimulatedFlow>(
  repository: PolicyRepository,
  change: PolicyChange,
  { subjects, flows = [] }: SimulationQuestions<F> = {},
): Simulation<F> {
  const now = repository.view();
  const { added, removed } = rulesOf(repository, change);
  const { view, regrouped } = withGroups(now, change, new Set(removed));
  // A rule whose groups change goes and comes again.
  const come = [...added, ...regrouped];
  const gone = [...removed, ...regrouped];
  refuseRedirects(view, added);
  const prefixes = new ChangedPrefixes(view, { rules: gone, groups: now.context.groups }, come);
  const all = changedSubjects(view, { added: come, removed: new Set(gone) }, prefixes);
  refuseConflicts(view, all);
  const asked = subjects && new Set(subjects);
  const byPlace = Map.groupBy(flows, ({ subject, direction }) => `${subject} ${direction}`);
  const differences: PolicyDifference[] = [];
  const judged: FlowDifference<F>[] = [];
  for (const group of all) {
    const concerned = [...group.subjects].filter((id) => asked?.has(id) ?? true);
    if (concerned.length === 0) continue;
    for (const direction of DIRECTIONS) {
      const here = concerned.flatMap((id) => byPlace.get(`${id} ${direction}`) ?? []);
      const setting = settingsOf(view, group, direction);
      const difference = new SubjectChange(view, prefixes, group, direction);
      for (const flow of here) {
        const found = difference.flow(flow);
        if (found !== undefined) judged.push(found);
      }
      const groups = difference.groups();
      if (groups.length > 0 || setting.before !== setting.after)
        differences.push({ subjects: concerned, direction, setting, groups });
    }
  }
  return {
    added,
    removed,
    prefixes: {
      added: Array.from(prefixes.added.values(), ({ prefix }) => prefix),
      gone: [...prefixes.gone.values()],
    },
    differences,
    flows: judged,
  };
}

function rulesOf(repository: PolicyRepository, change: PolicyChange): { added: readonly Rule[]; removed: Rule[] } {
  if ('deleteLabels' in change) return { added: [], removed: repository.rules(change.deleteLabels) };
  const { add, options = {} } = change;
  return { added: add, removed: [...replacedRules(repository.rules(), add, options)] };
}

/** The view with the groups of the change, and the rules that stay and use groups. */
function withGroups(
  view: RepositoryView,
  change: PolicyChange,
  removed: ReadonlySet<Rule>,
): { view: RepositoryView; regrouped: readonly Rule[] } {
  if (!('add' in change) || change.groups === undefined || change.groups.length === 0) return { view, regrouped: [] };
  const groups = new Map(view.context.groups);
  for (const [name, group] of change.groups) {
    if (group === undefined) groups.delete(name);
    else groups.set(name, group);
  }
  const regrouped = view.rules.filter((rule) => !removed.has(rule) && usesGroups(rule));
  return { view: { ...view, context: { ...view.context, groups } }, regrouped };
}

function refuseRedirects({ hasProxy, context }: RepositoryView, added: readonly Rule[]): void {
  if (hasProxy) return;
  for (const rule of added) {
    const redirect = filtersOf(rule, context).find((spec) => needsNoAuthentication(spec) && spec.redirect)?.redirect;
    if (redirect === undefined) continue;
    const message = `a rule needs a proxy (${redirect.parser}), and there is none`;
    throw new CiliumError('Unsupported', message, { ...redirect });
  }
}

function refuseConflicts({ context }: RepositoryView, groups: readonly ChangedSubjects[]): void {
  for (const { added, rules } of groups) {
    if (!added.some(mayConflict)) continue;
    const conflicts = findConflicts(rules, context);
    if (conflicts.length > 0) throw new CiliumError('InvalidArgument', conflicts.join('\n'), { conflicts });
  }
}
