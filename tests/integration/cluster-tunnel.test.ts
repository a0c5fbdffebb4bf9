// SPDX-License-Identifier: Apache-2.0

/** Three nodes that reach each other through tunnels, with an etcd of three members, and what that etcd can come to. */
import { testCluster } from './cluster-cases.ts';
import { testCommands } from './cluster-commands.ts';
import { testExplanations } from './cluster-explain.ts';
import { FaultWorld } from './cluster-faults.ts';
import { testTakenIdentities } from './cluster-identities.ts';
import { testOutages } from './cluster-outages.ts';
import { ClusterWorld } from './cluster-world.ts';
import { labForTests } from './support.ts';

const world = new ClusterWorld(labForTests({ nodes: 3, etcd: 3, agentArgs: ['--kvstore-lease-ttl=25'] }));

testCluster(world, { tunnel: true });
testCommands(world);
testExplanations(world);
const faults = new FaultWorld(world);
testOutages(world, faults);
testTakenIdentities(world, faults);
