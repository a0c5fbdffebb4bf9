// SPDX-License-Identifier: Apache-2.0

/** The headers of a captured packet, a line each, and its bytes as a dump: what `cilium monitor -vv` and `-j` add to an event. */
import { dissectPacket, tcpFlagNames, type Packet } from '../../datapath/events/packet.ts';

/** Text of each header that was captured, by the name of its layer; and the ends on each layer. */
export interface Dissection {
  readonly layers: Readonly<Record<string, string>>;
  readonly ends: Readonly<Record<'l2' | 'l3' | 'l4', { readonly src: string; readonly dst: string } | undefined>>;
}

const ETHERTYPES: Readonly<Record<number, string>> = { 0x0800: 'IPv4', 0x0806: 'ARP', 0x86dd: 'IPv6' };
const PROTOCOLS: Readonly<Record<number, string>> = {
  1: 'ICMPv4',
  2: 'IGMP',
  6: 'TCP',
  17: 'UDP',
  58: 'ICMPv6',
  132: 'SCTP',
};

export function dissection(bytes: Uint8Array): Dissection {
  const packet = dissectPacket(bytes);
  if (packet === undefined) return { layers: {}, ends: { l2: undefined, l3: undefined, l4: undefined } };
  const { ethernet, ip } = packet;
  const ports = packet.tcp ?? packet.ports;
  return {
    layers: layersOf(packet),
    ends: {
      l2: { src: ethernet.source.toString(), dst: ethernet.destination.toString() },
      l3: ip && { src: ip.source.toString(), dst: ip.destination.toString() },
      l4: ports && { src: String(ports.sourcePort), dst: String(ports.destinationPort) },
    },
  };
}

function layersOf({ ethernet, ip, tcp, ports, icmp }: Packet): Record<string, string> {
  const type = ETHERTYPES[ethernet.type] ?? `0x${ethernet.type.toString(16).padStart(4, '0')}`;
  const layers: Record<string, string> = {
    Ethernet: `SrcMAC=${ethernet.source.toString()} DstMAC=${ethernet.destination.toString()} EthernetType=${type}`,
  };
  if (ip === undefined) return layers;
  const protocol = PROTOCOLS[ip.protocol] ?? String(ip.protocol);
  const rest = `TTL=${ip.ttl} Protocol=${protocol} SrcIP=${ip.source.toString()} DstIP=${ip.destination.toString()}`;
  layers[ip.version === 4 ? 'IPv4' : 'IPv6'] = ip.laterFragment ? `${rest} LaterFragment=true` : rest;
  if (tcp !== undefined) {
    layers.TCP = `SrcPort=${tcp.sourcePort} DstPort=${tcp.destinationPort} Flags=[${tcpFlagNames(tcp.flags)}]`;
  }
  if (ports !== undefined) layers[protocol] = `SrcPort=${ports.sourcePort} DstPort=${ports.destinationPort}`;
  if (icmp !== undefined) layers[protocol] = `Type=${icmp.type} Code=${icmp.code}`;
  return layers;
}

/** `00000000  aa bb …  |ascii|`, 16 bytes a line, as hexdump -C prints it. */
export function hexDump(bytes: Uint8Array): string {
  const lines: string[] = [];
  for (let at = 0; at < bytes.length; at += 16) {
    const row = bytes.subarray(at, at + 16);
    const hex = Array.from({ length: 16 }, (_, i) => row[i]?.toString(16).padStart(2, '0') ?? '  ');
    const ascii = Array.from(row, (byte) => (byte >= 0x20 && byte < 0x7f ? String.fromCharCode(byte) : '.')).join('');
    const columns = `${hex.slice(0, 8).join(' ')}  ${hex.slice(8).join(' ')}`;
    lines.push(`${at.toString(16).padStart(8, '0')}  ${columns}  |${ascii}|`);
  }
  return lines.join('\n');
}
