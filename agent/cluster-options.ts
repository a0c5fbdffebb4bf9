// SPDX-License-Identifier: Apache-2.0

/** Options that speak of other nodes are of no use to a node that is alone: whoever gives them expects something else. */
import { CiliumError } from '../errors/cilium-error.ts';
import { describeOptions } from '../runtime/config.ts';
import { AGENT_OPTIONS, type AgentOptions } from './options.ts';

const OF_CLUSTERS: ReadonlySet<string> = new Set<keyof AgentOptions>([
  'clusterName',
  'routingMode',
  'tunnelPort',
  'healthPort',
  'underlayProtocol',
  'ipv4Node',
  'ipv6Node',
  'clusterPoolIpv4Cidr',
  'clusterPoolIpv4MaskSize',
  'clusterPoolIpv6Cidr',
  'clusterPoolIpv6MaskSize',
  'kvstoreConnectivityTimeout',
]);

/** Throws `InvalidArgument` for options of clusters, with other values than their defaults, on a node without one. */
export function checkClusterOptions(options: AgentOptions): void {
  if (options.kvstore === 'etcd') return;
  const given = describeOptions(AGENT_OPTIONS)
    .filter(({ key, default: value }) => OF_CLUSTERS.has(key) && options[key as keyof AgentOptions] !== value)
    .map(({ key, flag }) => `${flag}=${String(options[key as keyof AgentOptions])}`);
  if (given.length === 0) return;
  throw new CiliumError(
    'InvalidArgument',
    `${given.join(', ')} ${given.length === 1 ? 'needs' : 'need'} --kvstore=etcd: with --kvstore=embedded there are no other nodes`,
  );
}
