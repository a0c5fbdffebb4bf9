// SPDX-License-Identifier: Apache-2.0

/** The line about etcd in `cilium status`, in the form that users of Cilium know. */
import type { IStatusResponse } from 'etcd3';
import { CiliumError } from '../../errors/cilium-error.ts';
import type { KvstoreStatus } from '../kvstore.ts';
import type { EtcdConnection } from './etcd-connection.ts';
import type { EtcdEndpoint } from './etcd-endpoint.ts';
import { toFault } from './etcd-fault.ts';

/** Whoever asks how it is does not wait longer, whatever etcd does: `cilium status` is what one looks at then. */
const PATIENCE_MS = 1_000;

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
    soon(readRevision()).then(
      () => undefined,
      (error: unknown) => reasonOf(error, connection),
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
    const status = await soon(endpoint.request<IStatusResponse>('Maintenance', 'status', {}));
    const role = status.leader === status.header.member_id ? ' (Leader)' : '';
    return {
      isConnected: true,
      text: `${endpoint.url} - ${status.version}${role}`,
      alarms: status.errors.map((text) => /alarm:(\w+)/.exec(text)?.[1] ?? text),
    };
  } catch (error) {
    return { isConnected: false, text: `${endpoint.url} - ${reasonOf(error, connection)}`, alarms: [] };
  }
}

async function soon<T>(answer: Promise<T>): Promise<T> {
  const late = Promise.withResolvers<never>();
  const reason = `no answer within ${PATIENCE_MS / 1_000} s`;
  const timer = setTimeout(() => late.reject(new CiliumError('Timeout', 'ask etcd', { reason })), PATIENCE_MS);
  answer.catch(() => undefined); // may come when nobody waits any more
  try {
    return await Promise.race([answer, late.promise]);
  } finally {
    clearTimeout(timer);
  }
}

/** In few words; which endpoint it is stands beside it. */
function reasonOf(error: unknown, { config }: EtcdConnection): string {
  if (!(error instanceof CiliumError)) return toFault(error, config).reason;
  const { reason, reasons } = error.details as { reason?: string; reasons?: readonly string[] };
  return reason ?? reasons?.join('; ') ?? error.message;
}
