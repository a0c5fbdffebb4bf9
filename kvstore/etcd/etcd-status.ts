// SPDX-License-Identifier: Apache-2.0

/** The line about etcd in `cilium status`, in the form that users of Cilium know. */
import type { IStatusResponse } from 'etcd3';
import { CiliumError, describeError } from '../../errors/cilium-error.ts';
import type { KvstoreStatus } from '../kvstore.ts';
import type { EtcdConnection } from './etcd-connection.ts';
import type { EtcdEndpoint } from './etcd-endpoint.ts';
import { toFault } from './etcd-fault.ts';

interface Member {
  readonly isConnected: boolean;
  readonly text: string;
  /** Alarms, such as a store that is full. */
  readonly alarms: readonly string[];
}

/** `readRevision`: a read that only a majority can answer. */
export async function etcdStatus(
  connection: EtcdConnection,
  leases: { readonly session: number; readonly locks: number },
  readRevision: () => Promise<number>,
): Promise<KvstoreStatus> {
  const [quorum, ...members] = await Promise.all([
    readRevision().then(
      () => undefined,
      (error: unknown) => describeError(error),
    ),
    ...connection.endpoints.map((endpoint) => describeMember(connection, endpoint)),
  ]);
  const connected = members.filter(({ isConnected }) => isConnected).length;
  const alarms = [...new Set(members.flatMap((member) => member.alarms))];
  const facts = [
    `${connected}/${members.length} connected`,
    `leases=${leases.session}`,
    `lock leases=${leases.locks}`,
    `has-quorum=${quorum ?? 'true'}`,
    ...alarms,
  ];
  const message = `etcd: ${facts.join(', ')}: ${members.map(({ text }) => text).join('; ')}`;
  return { healthy: quorum === undefined && alarms.length === 0, message };
}

async function describeMember(connection: EtcdConnection, endpoint: EtcdEndpoint): Promise<Member> {
  try {
    const status = await endpoint.request<IStatusResponse>('Maintenance', 'status', {});
    const role = status.leader === status.header.member_id ? ' (Leader)' : '';
    return {
      isConnected: true,
      text: `${endpoint.url} - ${status.version}${role}`,
      alarms: status.errors.map((text) => /alarm:(\w+)/.exec(text)?.[1] ?? text),
    };
  } catch (error) {
    const reason = error instanceof CiliumError ? error.message : toFault(error, connection.config).reason;
    return { isConnected: false, text: `${endpoint.url} - ${reason}`, alarms: [] };
  }
}
