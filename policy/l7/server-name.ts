// SPDX-License-Identifier: Apache-2.0

/** Server names of TLS: exact, or with `*` for one label and `**` for one or more at the left (policy-language 7). */
export function serverNameMatches(wanted: string, name: string): boolean {
  const labels = name.toLowerCase().split('.');
  const [first, ...rest] = wanted.toLowerCase().split('.');
  if (first !== '*' && first !== '**') return wanted.toLowerCase() === name.toLowerCase();
  const extra = labels.length - rest.length;
  return (first === '*' ? extra === 1 : extra >= 1) && labels.slice(extra).join('.') === rest.join('.');
}
