// SPDX-License-Identifier: Apache-2.0

/** An event of the datapath as lines for people and as JSON for programs, in the forms of Cilium's monitor. */
import { summarizePacket } from '../../datapath/events/packet.ts';
import type { DatapathEvent, DropEvent, PolicyVerdictEvent, TraceEvent } from '../../datapath/events/records.ts';
import {
  dropReasonText,
  policyMatchName,
  sourceFileName,
  tracePointName,
  traceReasonName,
} from '../../datapath/events/texts.ts';
import { identityName } from '../../identity/numeric-identity.ts';
import { dissection, hexDump } from './dissection.ts';

export interface EventStyle {
  /** Identities as numbers, also the reserved ones. */
  readonly numeric: boolean;
  /** With the headers of the packet. */
  readonly dissect: boolean;
  /** With the bytes of the packet instead. */
  readonly hex: boolean;
  /** The name of a network device of this node, or its number. */
  readonly interfaceName: (ifindex: number) => string;
}

const SEPARATOR = '-'.repeat(78);

/** Beginning of a trace line for each trace point; to and from endpoint tell which. */
const ARROWS: Readonly<Record<string, string>> = {
  'to-proxy': '-> proxy',
  'to-host': '-> host from',
  'to-stack': '-> stack',
  'to-overlay': '-> overlay',
  'from-proxy': '<- proxy',
  'from-host': '<- host',
  'from-stack': '<- stack',
  'from-overlay': '<- overlay',
  'from-network': '<- network',
  'to-network': '-> network',
};

/** One line, or several with `dissect` or `hex`; without the final line feed. */
export function eventText(event: DatapathEvent, style: EventStyle): string {
  if (event.type === 'policy-verdict') return verdictText(event, style);
  if (!style.dissect) return event.type === 'drop' ? dropText(event, style) : traceText(event, style);
  const head = event.type === 'drop' ? dropDetails(event, style) : traceDetails(event, style);
  return `${SEPARATOR}\nMARK ${flow(event)} FROM ${event.source} ${head}\n${packetText(event, style)}`;
}

function dropText(event: DropEvent, style: EventStyle): string {
  const place = `${sourceFileName(event.file)}:${event.line}`;
  const where = `to endpoint ${event.destination}, ifindex ${event.ifindex}, file ${place}, `;
  return `xx drop (${reasonText(event)}) flow ${flow(event)} ${where}, identity ${identities(event, style)}: ${summary(event)}`;
}

function traceText(event: TraceEvent, style: EventStyle): string {
  const state = `state ${traceReasonName(event.reason)} ifindex ${interfaceOf(event, style)}`;
  const from = `identity ${identities(event, style)} ${state} orig-ip ${unspecified(event)}`;
  return `${arrow(event)} flow ${flow(event)} , ${from}: ${summary(event)}`;
}

function verdictText(event: PolicyVerdictEvent, style: EventStyle): string {
  const remote = identity(event.remoteIdentity, style);
  const ends = `local EP ID ${event.source}, remote ID ${remote}, proto ${event.protocol}, ${direction(event)}`;
  const decision = `action ${action(event)}, auth: disabled, match ${policyMatchName(event.match)}`;
  return `Policy verdict log: flow ${flow(event)} ${ends}, ${decision}, ${summary(event)}`;
}

function dropDetails(event: DropEvent, style: EventStyle): string {
  return `DROP: ${event.packetBytes} bytes, reason ${reasonText(event)}${endsOf(event, style)}`;
}

function traceDetails(event: TraceEvent, style: EventStyle): string {
  const size = `${event.packetBytes} bytes (${event.payload.length} captured)`;
  const device = event.ifindex === 0 ? '' : `, interface ${style.interfaceName(event.ifindex)}`;
  return `${tracePointName(event.point)}: ${size}, state ${traceReasonName(event.reason)}${device}, ${endsOf(event, style)}`;
}

function endsOf(event: DropEvent | TraceEvent, style: EventStyle): string {
  const known = event.sourceIdentity !== 0 || event.destinationIdentity !== 0;
  const ids = known ? `, identity ${identities(event, style)}` : '';
  return event.destination === 0 ? ids : `${ids}, to endpoint ${event.destination}`;
}

function packetText({ payload }: DatapathEvent, style: EventStyle): string {
  if (style.hex) return hexDump(payload);
  const layers = Object.entries(dissection(payload).layers);
  return layers.map(([name, text]) => `${name}\t{${text}}`).join('\n');
}

/** The event as one JSON object; the members of Cilium's monitor, and JSON for policy verdicts too. */
export function eventJson(event: DatapathEvent, style: EventStyle): string {
  const head = { type: event.type, mark: flow(event) };
  const ends = { source: event.source, bytes: event.packetBytes };
  const labels = { srcLabel: event.sourceIdentity, dstLabel: event.destinationIdentity, dstID: event.destination };
  const packet = { summary: packetJson(event.payload) };
  switch (event.type) {
    case 'drop': {
      const place = { Line: event.line, File: event.file, ExtError: event.extendedError, Ifindex: event.ifindex };
      return JSON.stringify({ ...head, reason: dropReasonText(event.reason), ...ends, ...labels, ...place, ...packet });
    }
    case 'trace': {
      const what = {
        ifindex: interfaceOf(event, style),
        state: traceReasonName(event.reason),
        observationPoint: tracePointName(event.point),
        traceSummary: arrow(event),
      };
      return JSON.stringify({ ...head, ...what, ...ends, ...labels, ...packet });
    }
    case 'policy-verdict': {
      const what = {
        remoteID: event.remoteIdentity,
        protocol: event.protocol,
        dport: event.port,
        direction: direction(event),
        action: action(event),
        match: policyMatchName(event.match),
        cookie: event.cookie,
      };
      return JSON.stringify({ ...head, ...what, ...ends, ...labels, ...packet });
    }
  }
}

function packetJson(payload: Uint8Array): Record<string, unknown> {
  const { layers, ends } = dissection(payload);
  const texts = Object.entries(layers).map(([name, text]) => [name.toLowerCase(), `${name}\t{${text}}`] as const);
  return { ...Object.fromEntries(texts), ...ends };
}

function arrow(event: TraceEvent): string {
  const point = tracePointName(event.point);
  if (point === 'to-endpoint') return `-> endpoint ${event.destination}`;
  if (point === 'from-endpoint') return `<- endpoint ${event.source}`;
  return ARROWS[point] ?? point;
}

function reasonText({ reason, extendedError }: DropEvent): string {
  return extendedError === 0 ? dropReasonText(reason) : `${dropReasonText(reason)}, ${extendedError}`;
}

function action({ verdict }: PolicyVerdictEvent): string {
  if (verdict < 0) return 'deny';
  return verdict === 0 ? 'allow' : 'redirect';
}

function direction({ egress }: PolicyVerdictEvent): string {
  return egress ? 'egress' : 'ingress';
}

function flow({ hash }: DatapathEvent): string {
  return `0x${hash.toString(16)}`;
}

function identities(event: DatapathEvent, style: EventStyle): string {
  return `${identity(event.sourceIdentity, style)}->${identity(event.destinationIdentity, style)}`;
}

function identity(id: number, { numeric }: EventStyle): string {
  return numeric ? String(id) : identityName(id);
}

function interfaceOf({ ifindex }: TraceEvent, style: EventStyle): string {
  return ifindex === 0 ? '0' : style.interfaceName(ifindex);
}

/** The address before a translation: none is known here. */
function unspecified({ ipv6 }: DatapathEvent): string {
  return ipv6 ? '::' : '0.0.0.0';
}

function summary({ payload }: DatapathEvent): string {
  return summarizePacket(payload);
}
