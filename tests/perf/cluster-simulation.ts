// SPDX-License-Identifier: Apache-2.0

/** Nodes that exist only as keys in etcd: their ranges, endpoints and identities, written as real agents write them. */
import { LabelSet } from '../../identity/label-set.ts';
import { GLOBAL_IDENTITY_MIN } from '../../identity/numeric-identity.ts';
import { addressKey, encodeAddress } from '../../ipcache/shared/address-value.ts';
import { masterKey, slaveKey } from '../../kvstore/allocator/identity-keys.ts';
import type { KvOperation } from '../../kvstore/kvstore.ts';
import { IpAddress, Prefix } from '../../net/ip.ts';
import { encodeNode, lastUsable, nodeKey, type ClusterNode } from '../../node/node.ts';

const CLUSTER = 'default';
export const ENDPOINTS_PER_NODE = 50;
/** How many endpoints share an identity, on as many nodes. */
export const ENDPOINTS_PER_IDENTITY = 10;

export interface SimulatedSize {
  readonly nodes: number;
}

export function identityCount({ nodes }: SimulatedSize): number {
  return (nodes * ENDPOINTS_PER_NODE) / ENDPOINTS_PER_IDENTITY;
}

export function identityLabels(n: number): LabelSet {
  const env = n % 2 === 0 ? 'prod' : 'test';
  return LabelSet.fromTexts([`container:app=app${n}`, `container:env=${env}`, `container:team=team${n % 50}`]);
}

/** 10.64.0.0/10, a /24 each. */
function rangeOf(node: number): Prefix {
  return Prefix.parse(`10.${64 + (node >> 8)}.${node & 255}.0/24`);
}

export function hostOf(node: number): IpAddress {
  return IpAddress.parse(`172.30.${node >> 8}.${node & 255}`);
}

export function addressOf(node: number, endpoint: number): IpAddress {
  return rangeOf(node).address.add(BigInt(endpoint + 1));
}

export function identityOf(size: SimulatedSize, node: number, endpoint: number): number {
  return GLOBAL_IDENTITY_MIN + ((node * ENDPOINTS_PER_NODE + endpoint) % identityCount(size));
}

function simulatedNode(node: number): ClusterNode {
  const ipv6 = Prefix.parse(`fd64:0:0:${node.toString(16)}::/64`);
  return {
    name: `sim${node}`,
    cluster: CLUSTER,
    addresses: [
      { type: 'InternalIP', ip: hostOf(node) },
      { type: 'CiliumInternalIP', ip: lastUsable(rangeOf(node)) },
      { type: 'CiliumInternalIP', ip: lastUsable(ipv6) },
    ],
    ipv4AllocCidr: rangeOf(node),
    ipv6AllocCidr: ipv6,
    ipv4SecondaryAllocCidrs: [],
    ipv6SecondaryAllocCidrs: [],
    ipv4HealthIp: undefined,
    ipv6HealthIp: undefined,
    bootId: `boot-${node}`,
  };
}

export function endpointPut(size: SimulatedSize, node: number, endpoint: number): KvOperation {
  const address = addressOf(node, endpoint);
  const docker = { names: [`app-${node}-${endpoint}`, `${node}${endpoint}`.padStart(12, '0')], network: 'net' };
  const value = encodeAddress(address, { host: hostOf(node), identity: identityOf(size, node, endpoint), docker });
  return { put: addressKey(address), value, leased: true };
}

/** All keys of such a cluster, in the order in which it would have come to be. */
export function* clusterPuts(size: SimulatedSize): Generator<KvOperation> {
  for (let n = 0; n < identityCount(size); n++) {
    yield { put: masterKey(GLOBAL_IDENTITY_MIN + n), value: identityLabels(n).toString() };
  }
  for (let node = 0; node < size.nodes; node++) {
    const simulated = simulatedNode(node);
    yield { put: nodeKey(CLUSTER, simulated.name), value: encodeNode(simulated), leased: true };
    for (let endpoint = 0; endpoint < ENDPOINTS_PER_NODE; endpoint++) {
      const identity = identityOf(size, node, endpoint);
      const labels = identityLabels(identity - GLOBAL_IDENTITY_MIN).toString();
      yield { put: slaveKey(labels, hostOf(node).toString()), value: String(identity), leased: true };
      yield endpointPut(size, node, endpoint);
    }
  }
}
