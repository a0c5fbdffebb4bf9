// SPDX-License-Identifier: Apache-2.0

/** One label: where it comes from, a key and a value; and its text forms. */

export interface Label {
  readonly source: string;
  readonly key: string;
  readonly value: string;
}

export const LABEL_SOURCE = {
  /** In a selector: whatever the source. */
  any: 'any',
  /** Docker's labels. */
  container: 'container',
  reserved: 'reserved',
  cidr: 'cidr',
  cidrGroup: 'cidrgroup',
  fqdn: 'fqdn',
  k8s: 'k8s',
  /** Written without a source. */
  unspec: 'unspec',
} as const;

/**
 * Parses `[SOURCE:]KEY[=VALUE]`. The source ends at the first colon, the key at the first equals sign after it;
 * `$host` and `reserved.host` mean `reserved:host`. Every text is a label.
 */
export function parseLabel(text: string): Label {
  const [source, rest] = splitSource(text);
  const equals = rest.indexOf('=');
  if (equals < 0) return { source: source || LABEL_SOURCE.unspec, key: rest, value: '' };
  if (equals === 0 && source === LABEL_SOURCE.reserved) return { source, key: rest.slice(1), value: '' };
  return { source: source || LABEL_SOURCE.unspec, key: rest.slice(0, equals), value: rest.slice(equals + 1) };
}

/** Parses a label that selects others (`policy get`, `policy delete`): without a source it matches every source. */
export function parseSelectLabel(text: string): Label {
  const label = parseLabel(text);
  return label.source === LABEL_SOURCE.unspec ? { ...label, source: LABEL_SOURCE.any } : label;
}

/** Splits a selector's key into source (without one: any) and key; from an equals sign on it is cut off. */
export function parseSelectorKey(text: string): { source: string; key: string } {
  const [source, rest] = splitSource(text);
  const equals = rest.indexOf('=');
  return { source: source || LABEL_SOURCE.any, key: equals < 0 ? rest : rest.slice(0, equals) };
}

/** `source:key=value`, without what is empty of it but the key. */
export function formatLabel({ source, key, value }: Label): string {
  return `${source === '' ? '' : `${source}:`}${key}${value === '' ? '' : `=${value}`}`;
}

/** True when `select` (source `any`: every source) picks `label`; keys and values must be equal. */
export function selectsLabel(select: Label, label: Label): boolean {
  return (
    select.key === label.key &&
    select.value === label.value &&
    (select.source === LABEL_SOURCE.any || select.source === label.source)
  );
}

function splitSource(text: string): [source: string, rest: string] {
  if (text.startsWith('$')) return [LABEL_SOURCE.reserved, text.slice(1)];
  const colon = text.indexOf(':');
  if (colon >= 0) return [text.slice(0, colon), text.slice(colon + 1)];
  const dotted = `${LABEL_SOURCE.reserved}.`;
  return text.startsWith(dotted) ? [LABEL_SOURCE.reserved, text.slice(dotted.length)] : ['', text];
}
