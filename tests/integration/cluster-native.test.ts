// SPDX-License-Identifier: Apache-2.0

/** Three nodes that route to each other, with an etcd of one member, and what can come between them. */
import { testCluster } from './cluster-cases.ts';
import { FaultWorld } from './cluster-faults.ts';
import { testPartitions } from './cluster-partitions.ts';
import { ClusterWorld } from './cluster-world.ts';
import { labForTests } from './support.ts';

const agentArgs = ['--kvstore-lease-ttl=25', '--routing-mode=native'];
const world = new ClusterWorld(labForTests({ nodes: 3, etcd: 1, agentArgs }));

testCluster(world, { tunnel: false });
testPartitions(world, new FaultWorld(world));
