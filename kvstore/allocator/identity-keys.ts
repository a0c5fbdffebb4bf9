// SPDX-License-Identifier: Apache-2.0

/**
 * Where identities stand in the kvstore; the layout is Cilium's.
 *
 *   cilium/state/identities/v1/id/<number>                 master key: the labels; stays until it is collected
 *   cilium/state/identities/v1/value/<labels>/<node>       slave key: the number; leased, one a node that uses it
 *   cilium/state/identities/v1/locks/<labels>              lock of an allocation; agents of Cilium take it
 *   cilium/.identity-collector                             the node that collects unused numbers; leased
 */
export const COLLECTOR_KEY = 'cilium/.identity-collector';
export const IDENTITIES_PATH = 'cilium/state/identities/v1/';
export const MASTER_PREFIX = `${IDENTITIES_PATH}id/`;
export const SLAVE_PREFIX = `${IDENTITIES_PATH}value/`;

export function masterKey(id: number): string {
  return MASTER_PREFIX + String(id);
}

/** `node`: an address of the node; it must not hold a slash. */
export function slaveKey(labels: string, node: string): string {
  return `${SLAVE_PREFIX}${labels}/${node}`;
}

export function lockPath(labels: string): string {
  return `${IDENTITIES_PATH}locks/${labels}`;
}

/** The labels of a slave key. Labels may hold slashes, a node's address does not. */
export function labelsOfSlave(key: string): string {
  return key.slice(SLAVE_PREFIX.length, Math.max(SLAVE_PREFIX.length, key.lastIndexOf('/')));
}

/** "container:id=app1, container:tier" of the labels in a key, as `LabelSet` writes them. */
export function labelsForPeople(labels: string): string {
  return labels
    .replace(/;$/, '')
    .split(';')
    .map((label) => label.replace(/=$/, '').replaceAll('%3B', ';').replaceAll('%25', '%'))
    .join(', ');
}

/** The number in a master key or a slave's value; `undefined` for what is none. */
export function parseIdentity(text: string): number | undefined {
  return /^[1-9][0-9]{0,7}$/.test(text) ? Number(text) : undefined;
}
