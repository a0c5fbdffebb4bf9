// SPDX-License-Identifier: Apache-2.0

/** An identity that joins many: through the key-value store, until the kernel's policy maps know it. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { LabelSet } from '../../identity/label-set.ts';
import { GLOBAL_IDENTITY_MAX, GLOBAL_IDENTITY_MIN } from '../../identity/numeric-identity.ts';
import { IdentityAllocator } from '../../kvstore/allocator/identity-allocator.ts';
import { EmbeddedKvstore } from '../../kvstore/embedded/embedded-kvstore.ts';
import { EmbeddedEngine } from '../../kvstore/embedded/engine.ts';
import type { LabNode } from '../../lab/node.ts';
import type { IpAddress } from '../../net/ip.ts';
import { silentLogger } from '../../runtime/logger.ts';
import type { KernelWatch } from './kernel-watch.ts';
import { PROBE_PORT, peerName, rulesOf } from './policy-rules.ts';
import type { Series } from './statistics.ts';
import { timedCommand } from './timed-command.ts';

const TCP = 6;
const ALL_BITS = 24;
/** At once, so that they share the store's writes. */
const BATCH = 500;

/** Puts identities for so many peers into the store of a node whose agent is stopped, as those of another node. */
export async function fillIdentities(node: LabNode, count: number): Promise<void> {
  const engine = new EmbeddedEngine({ folder: join(node.machine.dir, 'cilium/kvstore'), log: silentLogger });
  const store = new EmbeddedKvstore(engine);
  const range = { min: GLOBAL_IDENTITY_MIN, max: GLOBAL_IDENTITY_MAX };
  const allocator = new IdentityAllocator({ store, node: 'another-node', range, log: silentLogger });
  for (const component of [engine, store, allocator]) await component.start(AbortSignal.timeout(30_000));
  for (let begin = 0; begin < count; begin += BATCH) {
    const numbers = Array.from({ length: Math.min(BATCH, count - begin) }, (_, n) => begin + n);
    await Promise.all(
      numbers.map((n) => allocator.allocate(LabelSet.fromTexts([`container:peer=${peerName(n)}`]).toString())),
    );
  }
  await allocator.stop();
  // The session is not ended, which would give the numbers back: it is as if the other node were away.
  await engine.stop();
}

export interface IdentityMeasurement {
  readonly rounds: number;
  /** Rules in force, each for another peer. */
  readonly rules: number;
  readonly servers: readonly IpAddress[];
  /** Container whose labels change. */
  readonly newcomer: { readonly endpoint: number; readonly address: IpAddress };
  readonly watch: KernelWatch;
  readonly onProgress: (step: string) => void;
}

/** Adds `identity joins` and `identity joins, agent` to `series`, in milliseconds. */
export async function measureJoiningIdentity(
  node: LabNode,
  series: Series,
  { rounds, rules, servers, newcomer, watch, onProgress }: IdentityMeasurement,
): Promise<void> {
  const file = join(node.machine.dir, 'bench-identity.json');
  writeFileSync(file, JSON.stringify(rulesOf('peers', rules)));
  await node.cilium(['policy', 'import', file]);
  const labels = (...words: string[]) => ['endpoint', 'labels', String(newcomer.endpoint), ...words];
  for (let round = 0; round < rounds; round++) {
    onProgress(`policy: a joining identity, round ${round + 1} of ${rounds}`);
    const before = watch.identityOf(newcomer.address);
    // One of the peers that the rules name, with a label that nobody has: nobody has its identity yet.
    const added = [`container:peer=${peerName(round)}`, `container:round=${round}`];
    const times = await timedCommand(node, labels('-a', added.join(',')), () =>
      watch.waitFor(servers, () => entryFor(watch.identityOf(newcomer.address), before), true),
    );
    series.add('identity joins', times.sentToInForce);
    series.add('identity joins, agent', times.agentCpu);
    await node.cilium(labels('-d', added.join(',')));
  }
  await node.cilium(['policy', 'delete', '--all']);
}

function entryFor(identity: number, before: number): ReturnType<Parameters<KernelWatch['waitFor']>[1]> {
  if (identity === before) return undefined;
  return { identity, egress: false, protocol: TCP, port: PROBE_PORT, bits: ALL_BITS };
}
