// SPDX-License-Identifier: Apache-2.0

/** Flows and ports of policy entries as `cilium bpf … list` shows them; the forms are Cilium's where the maps allow. */
import type { IpAddress } from '../../net/ip.ts';
import {
  CT_F_INITIATOR_CLOSED,
  CT_F_INITIATOR_LOCAL,
  CT_F_RESPONDER_CLOSED,
  CT_F_RESPONDER_LOCAL,
  CT_F_SEEN_NON_SYN,
  type ConntrackEntry,
} from './conntrack-map.ts';
import type { PolicyKey } from './policy-map.ts';
import { SNAT_FORWARD, type SnatEntry } from './snat-map.ts';

const PROTOCOL_NAMES: Readonly<Record<number, string>> = { 1: 'ICMP', 6: 'TCP', 17: 'UDP', 58: 'ICMPv6', 132: 'SCTP' };

const FLAG_NAMES = [
  [CT_F_INITIATOR_CLOSED, 'InitiatorClosing'],
  [CT_F_RESPONDER_CLOSED, 'ResponderClosing'],
  [CT_F_SEEN_NON_SYN, 'SeenNonSyn'],
  [CT_F_INITIATOR_LOCAL, 'InitiatorLocal'],
  [CT_F_RESPONDER_LOCAL, 'ResponderLocal'],
] as const;

/** Ports are exact from so many bits of protocol and port on; below, a prefix of the port. */
const EXACT_PORT_BITS = 24;
const PROTOCOL_BITS = 8;

/** `80/TCP`, `1024-2047/TCP`, `TCP`, `ANY`; for ICMP the type of message stands in the place of the port. */
export function portText({ protocol, port, bits }: PolicyKey): string {
  if (bits === 0) return 'ANY';
  const name = protocolName(protocol);
  if (bits <= PROTOCOL_BITS) return name;
  const last = port + 2 ** (EXACT_PORT_BITS - bits) - 1;
  return `${last === port ? port : `${port}-${last}`}/${name}`;
}

/** Who talks to whom, from the one who began. */
export function connectionKeyText(connection: ConntrackEntry): string {
  const { protocol, initiator, initiatorPort, responder, responderPort } = connection;
  const ends = `${end(initiator, initiatorPort)} -> ${end(responder, responderPort)}`;
  return `${protocolName(protocol)} ${isOut(connection) ? 'OUT' : 'IN'} ${ends}`;
}

/**
 * Received and sent are seen from the container: from the initiator when that is one. With `nowS`, seconds of
 * CLOCK_MONOTONIC, also how long the entry has to live.
 */
export function connectionText(connection: ConntrackEntry, nowS?: number): string {
  const { expires, flags } = connection;
  const initiator = { seen: connection.initiatorTcpFlags, report: connection.initiatorReport };
  const responder = { seen: connection.responderTcpFlags, report: connection.responderReport };
  const [rx, tx] = isOut(connection) ? [responder, initiator] : [initiator, responder];
  const names = FLAG_NAMES.filter(([bit]) => (flags & bit) !== 0).map(([, name]) => `${name} `);
  return [
    `expires=${expires}${nowS === undefined ? '' : ` (remaining: ${expires - nowS}s)`}`,
    `RxFlagsSeen=${hex(rx.seen, 2)} LastRxReport=${rx.report}`,
    `TxFlagsSeen=${hex(tx.seen, 2)} LastTxReport=${tx.report}`,
    `Flags=${hex(flags, 4)} [ ${names.join('')}]`,
    `SourceSecurityID=${connection.initiatorIdentity} ProxyPort=${connection.proxyPort}`,
  ].join(' ');
}

function isOut({ flags }: ConntrackEntry): boolean {
  return (flags & CT_F_INITIATOR_LOCAL) !== 0;
}

export function snatKeyText(entry: SnatEntry): string {
  const ends = `${end(entry.source, entry.sourcePort)} -> ${end(entry.destination, entry.destinationPort)}`;
  return `${protocolName(entry.protocol)} ${entry.direction === SNAT_FORWARD ? 'OUT' : 'IN'} ${ends}`;
}

/** `nowS`: seconds of CLOCK_MONOTONIC. */
export function snatText({ direction, to, toPort, created }: SnatEntry, nowS: number): string {
  const what = direction === SNAT_FORWARD ? 'SRC' : 'DST';
  return `XLATE_${what} ${end(to, toPort)} Created=${Math.max(0, nowS - created)}sec ago`;
}

export function protocolName(protocol: number): string {
  return PROTOCOL_NAMES[protocol] ?? String(protocol);
}

function end(address: IpAddress, port: number): string {
  return address.family === 4 ? `${address.toString()}:${port}` : `[${address.toString()}]:${port}`;
}

function hex(value: number, digits: number): string {
  return `0x${value.toString(16).padStart(digits, '0')}`;
}
