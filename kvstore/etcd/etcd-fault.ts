// SPDX-License-Identifier: Apache-2.0

/**
 * What it means when a request to etcd fails, from the status and the words of gRPC and etcd.
 *
 * `away`: this member cannot serve now, another one may. `token`: ask for a new token, then again. `gone`: the lease
 * does not exist. `compacted`: the history does not reach back that far. `refused`: nobody else will say otherwise.
 */
import { CiliumError, isCiliumError, type ErrorCode } from '../../errors/cilium-error.ts';
import type { EtcdConfig } from './etcd-config.ts';

export type FaultKind = 'away' | 'token' | 'gone' | 'compacted' | 'refused';

export interface EtcdFault {
  readonly kind: FaultKind;
  /** The request has certainly not been carried out. */
  readonly isUndone: boolean;
  /** In which words and with which code a caller is told. */
  readonly code: ErrorCode;
  readonly reason: string;
  /** Of the configuration, ours or etcd's: waiting does not help. */
  readonly isMistake: boolean;
}

const fault = (kind: FaultKind, reason: string, others: Partial<EtcdFault> = {}): EtcdFault => ({
  kind,
  reason,
  code: 'KvstoreUnavailable',
  isUndone: kind !== 'away',
  isMistake: false,
  ...others,
});
const INVALID = { code: 'InvalidArgument' } as const;
const UNDONE = { isUndone: true } as const;
const MISTAKE = { isUndone: true, isMistake: true } as const;

/** Words of etcd and what they mean to us; the first that fits counts. */
const KNOWN: readonly [RegExp, (config: EtcdConfig) => EtcdFault][] = [
  [/requested lease not found/, () => fault('gone', 'the session has ended')],
  [/required revision has been compacted/, () => fault('compacted', 'the history has been compacted')],
  [/invalid auth token|revision of auth store is old/, () => fault('token', 'the token is not valid any more')],
  [
    /invalid user ID or password/,
    ({ username }) => fault('refused', `wrong user name or password (username ${username ?? 'is not set'})`, MISTAKE),
  ],
  [
    /authentication is not enabled/,
    () => fault('refused', 'authentication is not enabled there; leave username out', MISTAKE),
  ],
  [/user name is empty/, () => fault('refused', 'it asks for a user: set username and password', MISTAKE)],
  [
    /permission denied/,
    ({ username }) =>
      fault('refused', `user ${username ?? '(none)'} lacks permission for this key in etcd's roles`, MISTAKE),
  ],
  [
    /database space exceeded/,
    () => fault('refused', 'etcd is full: compact and defragment it, then etcdctl alarm disarm'),
  ],
  [/duplicate key given/, () => fault('refused', 'a transaction touches a key twice', INVALID)],
  [
    /too many operations in txn/,
    () => fault('refused', 'a transaction has more operations than etcd allows (--max-txn-ops)', INVALID),
  ],
  [
    /request is too large/,
    () => fault('refused', 'a request is larger than etcd allows (--max-request-bytes)', INVALID),
  ],
  [/no leader/, () => fault('away', 'it has no leader: most members are down or cut off', UNDONE)],
  [/too many requests/, () => fault('away', 'it has too much to do', UNDONE)],
  [/unable to (get|verify)|self[- ]signed|certificate has expired|altnames/i, tlsServerFault],
  [/alert (bad|unknown|certificate)|certificate required|alert number (42|46|48|116)/i, tlsClientFault],
  [
    /wrong version number|before secure TLS connection/,
    () => fault('away', 'it ended the connection before TLS; is http:// meant?', UNDONE),
  ],
  [/Failed to connect/, () => fault('away', 'it ended the connection at once; is https:// meant?', UNDONE)],
];

/** gRPC gave the request up before it left. */
const NOT_SENT = /No connection established|Name resolution failed|ECONNREFUSED/;
const AWAY_STATUS = new Set([
  1 /* cancelled */, 2 /* unknown */, 4 /* deadline */, 13 /* internal */, 14 /* unavailable */,
]);

export function toFault(error: unknown, config: EtcdConfig): EtcdFault {
  const { message = String(error), code } = error as { message?: string; code?: unknown };
  for (const [words, make] of KNOWN) if (words.test(message)) return make(config);
  const status = typeof code === 'number' ? code : Number(/^(\d+) [A-Z_]+:/.exec(message)?.[1]);
  const isAway = AWAY_STATUS.has(status) || Number.isNaN(status);
  return fault(isAway ? 'away' : 'refused', reasonOf(message), { isUndone: NOT_SENT.test(message) || !isAway });
}

/** The part of gRPC's message that says something. */
function reasonOf(message: string): string {
  const text = said(message);
  if (text === undefined) return 'nobody answers there';
  return /^Deadline exceeded/i.test(text) ? 'no answer in time' : text;
}

/** What whoever failed said, without what gRPC wraps around it; undefined when nobody said anything. */
function said(message: string): string | undefined {
  const last = /Last error: (.+?)(?:\. Resolution note.*)?$/s.exec(message)?.[1];
  if (last === 'null') return undefined;
  const text = last ?? message.replace(/^\d+ [A-Z_]+: /, '');
  return (text.split('\n', 1)[0] ?? text).replace(/^Error: /, '');
}

function tlsServerFault({ trustedCaFile }: EtcdConfig): EtcdFault {
  const file = trustedCaFile === undefined ? 'is not set' : trustedCaFile;
  return fault('away', `its certificate is not trusted for this name (trusted-ca-file ${file})`, MISTAKE);
}

function tlsClientFault({ certFile }: EtcdConfig): EtcdFault {
  const file = certFile === undefined ? 'is not set' : certFile;
  return fault('away', `it does not accept our certificate (cert-file ${file})`, MISTAKE);
}

export function toError(
  what: string,
  endpoint: string,
  { code, reason, kind, isMistake }: EtcdFault,
  cause: unknown,
): CiliumError {
  const message = `etcd ${what}: ${endpoint}: ${reason}`;
  return new CiliumError(code, message, { endpoint, reason, kind, isMistake }, readableCause(reason, cause));
}

/** What is not in our words yet; gRPC's message would say it twice more. */
function readableCause(reason: string, cause: unknown): Error | undefined {
  const text = said(cause instanceof Error ? cause.message : String(cause));
  if (text === undefined || text === reason || /^Deadline exceeded/i.test(text)) return undefined;
  return new Error(text);
}

/** Whether asking again may help. */
export function mayPass(error: unknown): boolean {
  return isCiliumError(error, 'KvstoreUnavailable') && error.details['isMistake'] !== true;
}

/** Whether an error that a caller is told stands for this kind. */
export function isKind(error: unknown, kind: FaultKind): boolean {
  return isCiliumError(error) && error.details['kind'] === kind;
}
