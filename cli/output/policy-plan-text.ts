// SPDX-License-Identifier: Apache-2.0

/** The text of `policy import --dry-run`. */
import type { PolicyElementModel, PolicyPlan } from '../../api/models.ts';
import { alignTabs } from './table.ts';

/** Of each kind; a person reads no more. */
const MAX_SHOWN = 100;

export function planText(plan: PolicyPlan): string {
  const lines = [...elementLines('add', plan.added), ...elementLines('remove', plan.removed)];
  const tooLarge = plan['too-large'].map(({ identities, entries, 'max-entries': fit }) => {
    const whose = identities.map(({ id, labels }) => `${id} (${labels.join(' ')})`).join(', ');
    return `The policy of ${whose} would need ${entries} map entries, and ${fit} fit: the old one would stay in force\n`;
  });
  return `${alignTabs(lines.join(''), { minWidth: 2 })}${tooLarge.join('')}Nothing was changed. Revision: ${plan.revision}\n`;
}

function elementLines(what: string, elements: readonly PolicyElementModel[]): string[] {
  const lines = elements.slice(0, MAX_SHOWN).map(({ 'cidr-group': group, file, line, labels }) => {
    const place = file === undefined ? '' : line === undefined ? file : `${file}:${line}`;
    return `${what}\t${group === undefined ? 'rule' : `CIDR group ${group}`}\t${place}\t${labels.join(' ')}\n`;
  });
  return elements.length > MAX_SHOWN ? [...lines, `${what}\t… and ${elements.length - MAX_SHOWN} more\n`] : lines;
}
