// SPDX-License-Identifier: Apache-2.0

/** The policy of the paths "with policy": the client may reach the server on one port, enforced where it leaves and arrives. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { LabNode } from '../../lab/node.ts';
import { Traffic } from '../traffic/traffic.ts';
import type { ContainerPathOptions, Path } from './paths.ts';

const PORT = '7000';
const FORBIDDEN_PORT = 7005;
const CLIENT = 'bench-client';
const SERVER = 'bench-server';
const toPorts = [{ ports: [{ port: PORT, protocol: 'TCP' }] }];

const POLICY = [
  {
    endpointSelector: { matchLabels: { id: SERVER } },
    ingress: [{ fromEndpoints: [{ matchLabels: { id: CLIENT } }], toPorts }],
  },
  {
    endpointSelector: { matchLabels: { id: CLIENT } },
    egress: [{ toEndpoints: [{ matchLabels: { id: SERVER } }], toPorts }],
  },
];

/** The ends that the policy is about. */
export function policyEnds(network: string): ContainerPathOptions {
  return { network, clientLabel: `id=${CLIENT}`, serverLabel: `id=${SERVER}` };
}

export async function importPolicy(node: LabNode): Promise<void> {
  const file = join(node.machine.dir, 'bench-policy.json');
  writeFileSync(file, JSON.stringify(POLICY));
  await node.cilium(['policy', 'import', file]);
}

/** A benchmark of a policy that does not hold would be worth nothing. */
export async function mustBeEnforced(path: Path): Promise<void> {
  const listening = await Traffic.start(path.server, 'server', { port: FORBIDDEN_PORT });
  for (const addr of [path.addresses.ipv4, path.addresses.ipv6]) {
    if (addr === undefined) throw new Error(`${path.name}: the server has no IPv6 address`);
    const probe = await Traffic.run(path.client, 'probe', { addr, port: FORBIDDEN_PORT, duration: 0.5 });
    if (probe.through > 0) throw new Error(`${path.name}: the policy is not enforced: ${JSON.stringify(probe)}`);
  }
  await listening.stop();
}
