// SPDX-License-Identifier: Apache-2.0

/**
 * What nodes tell each other of an address, as Cilium keeps it in the kvstore:
 *
 *   cilium/state/ip/v1/default/<IP>   {"IP":"10.11.0.40","Mask":null,"HostIP":"192.168.60.11","ID":41022,"Key":0,"Metadata":""}
 *
 * with one member more, `Docker`, for the names that the container has on its network. Others pass over what they do not
 * know.
 */
import { CiliumError } from '../../errors/cilium-error.ts';
import { RESERVED_IDENTITIES } from '../../identity/numeric-identity.ts';
import { IpAddress } from '../../net/ip.ts';

export const ADDRESSES_PREFIX = 'cilium/state/ip/v1/default/';
/** Identities from here on mean something on one node only, and never leave it. */
const FIRST_NODE_LOCAL_IDENTITY = 1 << 24;
/** Never said of an address of the cluster. */
const WORLD: ReadonlySet<number> = new Set([
  RESERVED_IDENTITIES.world,
  RESERVED_IDENTITIES['world-ipv4'],
  RESERVED_IDENTITIES['world-ipv6'],
]);

/** What a container is called on a network. */
export interface DockerNames {
  /** The container's name first, then its aliases. */
  readonly names: readonly string[];
  /** The name of the Docker network. */
  readonly network: string;
}

export interface AddressValue {
  /** The node that has it: where tunnels end. */
  readonly host: IpAddress;
  /** 1 is the node itself, as it knows itself; for others it is 6. */
  readonly identity: number;
  readonly docker?: DockerNames | undefined;
}

/** Texts that many entries have in common are kept once. */
export interface SharedTexts {
  host(text: string): IpAddress;
  network(text: string): string;
}

const NOTHING_SHARED: SharedTexts = { host: (text) => IpAddress.parse(text), network: (text) => text };

/** Text of an address as a key: canonical, so that an address has one key. */
export function addressKey(address: IpAddress | string): string {
  return ADDRESSES_PREFIX + address.toString();
}

export function addressText(key: string): string {
  return key.slice(ADDRESSES_PREFIX.length);
}

export function encodeAddress(address: IpAddress, { host, identity, docker }: AddressValue): string {
  return JSON.stringify({
    IP: address.toString(),
    Mask: null,
    HostIP: host.toString(),
    ID: identity,
    Key: 0,
    Metadata: '',
    ...(docker && { Docker: { Names: docker.names, Network: docker.network } }),
  });
}

/**
 * Reads what a node wrote. `undefined` for prefixes (`<IP>/<length>`, which only old versions of Cilium write). Throws
 * `InvalidArgument` for what cannot be meant: a key and a value that differ, the identity of the world, or one that
 * means something on one node only.
 */
export function decodeAddress(
  key: string,
  value: string,
  shared: SharedTexts = NOTHING_SHARED,
): ({ readonly address: IpAddress } & AddressValue) | undefined {
  const text = addressText(key);
  if (text.includes('/')) return undefined;
  const fields = parseObject(value);
  const { IP, Mask, HostIP, ID } = fields;
  if (IP !== text) throw wrong('IP', IP, `${text}, as in its key`);
  if (Mask !== null && Mask !== undefined) throw wrong('Mask', Mask, 'null for a single address');
  if (typeof HostIP !== 'string') throw wrong('HostIP', HostIP, 'an address');
  if (!isClusterIdentity(ID)) throw wrong('ID', ID, `an identity that nodes share, below ${FIRST_NODE_LOCAL_IDENTITY}`);
  const address = IpAddress.parse(text);
  if (address.toString() !== text) throw wrong('IP', text, `${address.toString()}, the canonical form`);
  return { address, host: shared.host(HostIP), identity: ID, docker: dockerNames(fields['Docker'], shared) };
}

function parseObject(value: string): Record<string, unknown> {
  let parsed: unknown;
  try {
    parsed = JSON.parse(value);
  } catch (cause) {
    throw new CiliumError('InvalidArgument', 'the value of an address is not JSON', {}, cause);
  }
  if (typeof parsed === 'object' && parsed !== null) return parsed as Record<string, unknown>;
  throw new CiliumError('InvalidArgument', 'the value of an address is not a JSON object');
}

function isClusterIdentity(id: unknown): id is number {
  return (
    Number.isInteger(id) && (id as number) > 0 && (id as number) < FIRST_NODE_LOCAL_IDENTITY && !WORLD.has(id as number)
  );
}

/** Names are for convenience: what is wrong with them does not take the address away. */
function dockerNames(docker: unknown, shared: SharedTexts): DockerNames | undefined {
  if (typeof docker !== 'object' || docker === null) return undefined;
  const { Names, Network } = docker as Record<string, unknown>;
  if (!Array.isArray(Names) || typeof Network !== 'string') return undefined;
  const names = Names.every((name) => typeof name === 'string')
    ? Names
    : Names.filter((name) => typeof name === 'string');
  return { names, network: shared.network(Network) };
}

function wrong(field: string, found: unknown, expected: string): CiliumError {
  const shown = found === undefined ? 'nothing' : JSON.stringify(found);
  return new CiliumError(
    'InvalidArgument',
    `${field} of an address in the kvstore: expected ${expected}; found ${shown}`,
  );
}
