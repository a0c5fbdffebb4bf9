// SPDX-License-Identifier: Apache-2.0

/** Selectors and labels of rules. */
import {
  EndpointSelector,
  qualifiedNameProblem,
  SELECTOR_OPERATORS,
  selectorKeyProblem,
  selectorValueProblem,
  type Requirement,
} from '../../identity/selector.ts';
import { parseLabel, parseSelectorKey, type Label } from '../../identity/label.ts';
import { describe, type Cursor } from './cursor.ts';

/** `{ matchLabels?, matchExpressions? }`; an empty object selects everything. */
export function readSelector(cursor: Cursor): EndpointSelector | undefined {
  return readSelectorWith(cursor, selectorKeyProblem);
}

/** Over the labels of CIDR groups, whose keys have no source. */
export function readGroupSelector(cursor: Cursor): EndpointSelector | undefined {
  return readSelectorWith(cursor, qualifiedNameProblem);
}

type KeyProblem = (key: string) => string | undefined;

function readSelectorWith(cursor: Cursor, keyProblem: KeyProblem): EndpointSelector | undefined {
  return cursor.object((members) => {
    const labels = members.read('matchLabels', (labels) =>
      labels.record((value, key) => readMatchLabel(value, key, keyProblem)),
    );
    const expressions = members.read('matchExpressions', (list) =>
      list.list((item) => readExpression(item, keyProblem)),
    );
    return new EndpointSelector([...Object.values(labels ?? {}), ...(expressions ?? [])]);
  });
}

/** A label of a rule: `source:key=value`, or an object with these members. */
export function readLabel(cursor: Cursor): Label | undefined {
  if (typeof cursor.value === 'string') {
    const label = parseLabel(cursor.value);
    return label.key === '' ? cursor.expected('a label with a key') : label;
  }
  return cursor.object((members) => {
    const key = members.required('key', (member) => member.nonEmptyString()) ?? '';
    const value = members.read('value', (member) => member.string()) ?? '';
    const source = members.read('source', (member) => member.string()) ?? '';
    return { key, value, source };
  });
}

function readMatchLabel(cursor: Cursor, key: string, keyProblem: KeyProblem): Requirement | undefined {
  checkKey(cursor, key, keyProblem);
  const value = readValue(cursor);
  return value === undefined ? undefined : { ...parseSelectorKey(key), operator: 'Equals', values: [value] };
}

function readExpression(cursor: Cursor, keyProblem: KeyProblem): Requirement | undefined {
  return cursor.object((members) => {
    const key = members.required('key', (member) => readKey(member, keyProblem));
    const operator = members.required('operator', (member) => member.oneOf(SELECTOR_OPERATORS));
    const list = members.get('values');
    const values = list?.list(readValue) ?? [];
    const given = Array.isArray(list?.value) ? list.value.length : 0;
    if (operator === 'In' || operator === 'NotIn') {
      if (given === 0) (list ?? cursor).fail(`${operator} needs at least one value`);
    } else if (operator !== undefined && given > 0) {
      list?.fail(`${operator} takes no values`);
    }
    if (key === undefined || operator === undefined) return undefined;
    return { ...parseSelectorKey(key), operator, values };
  });
}

function readKey(cursor: Cursor, keyProblem: KeyProblem): string | undefined {
  const key = cursor.string();
  if (key !== undefined) checkKey(cursor, key, keyProblem);
  return key;
}

function checkKey(cursor: Cursor, key: string, keyProblem: KeyProblem): void {
  const problem = keyProblem(key);
  if (problem !== undefined) cursor.fail(`${describe(key)} is not a label key: ${problem}`);
}

function readValue(cursor: Cursor): string | undefined {
  const value = cursor.string();
  if (value === undefined) return undefined;
  const problem = selectorValueProblem(value);
  return problem === undefined ? value : cursor.fail(`${describe(value)} is not a label value: ${problem}`);
}
