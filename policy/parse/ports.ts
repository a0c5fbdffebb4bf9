// SPDX-License-Identifier: Apache-2.0

/** toPorts and icmps. */
import type { IcmpField, PortRule, PortSpec, Protocol } from '../rule.ts';
import { PROTOCOLS, type Direction } from '../rule.ts';
import { ICMP_TYPES } from './icmp-types.ts';
import type { Cursor, Members } from './cursor.ts';

export const MAX_PORT = 65_535;
const MAX_PORTS = 40;
const MAX_ICMP_FIELDS = 40;
export const MAX_NAME_CHARS = 15;
const FAMILIES = ['IPv4', 'IPv6'] as const;

/** Where a port rule stands; the proxy's members differ by it. */
export interface PortRulePlace {
  readonly direction: Direction;
  readonly deny: boolean;
  /** The subject is a host. */
  readonly node: boolean;
}

/** What the proxy has to do with these ports; reads the members besides `ports`. */
export type ReadProxyMembers = (
  members: Members,
  ports: readonly PortSpec[],
  place: PortRulePlace,
) => Omit<PortRule, 'ports'>;

export function readPortRule(cursor: Cursor, place: PortRulePlace, readProxy: ReadProxyMembers): PortRule | undefined {
  return cursor.object((members) => {
    const ports = members.read('ports', readPorts) ?? [];
    return { ports, ...(place.deny ? {} : readProxy(members, ports, place)) };
  });
}

/** One item of `icmps`: its fields. */
export function readIcmpFields(cursor: Cursor): IcmpField[] | undefined {
  return cursor.object((members) => {
    const list = members.get('fields');
    if (Array.isArray(list?.value) && list.value.length > MAX_ICMP_FIELDS) {
      list.fail(`at most ${MAX_ICMP_FIELDS} fields, found ${list.value.length}`);
    }
    return list?.list(readIcmpField) ?? [];
  });
}

function readPorts(list: Cursor): PortSpec[] | undefined {
  if (Array.isArray(list.value) && list.value.length > MAX_PORTS) {
    list.fail(`at most ${MAX_PORTS} ports, found ${list.value.length}`);
  }
  return list.list(readPort);
}

function readPort(cursor: Cursor): PortSpec | undefined {
  const { language } = cursor.context;
  return cursor.object((members) => {
    const protocol = readProtocol(members.get('protocol'), language.extendedProtocols);
    const portMember = members.get('port');
    const port = readPortText(portMember ?? cursor, portMember === undefined ? '' : portMember.string());
    const endPort = members.read('endPort', (member) => member.integer(0, MAX_PORT));
    if (protocol === undefined || port === undefined) return undefined;
    if ((protocol === 'VRRP' || protocol === 'IGMP') && port !== 0) {
      return (portMember ?? cursor).fail(`${protocol} has no ports; leave the port out or write "0"`);
    }
    if (typeof port === 'string' && !language.namedPorts) {
      return portMember?.unsupported('port names are not supported; write the number');
    }
    const isRange = typeof port === 'number' && endPort !== undefined && endPort > port;
    return { port, protocol, ...(isRange ? { endPort } : {}) };
  });
}

function readProtocol(cursor: Cursor | undefined, extended: boolean): Protocol | undefined {
  if (cursor === undefined || cursor.value === '') return 'ANY';
  const text = cursor.string()?.toUpperCase();
  if (text === undefined) return undefined;
  const protocol = PROTOCOLS.find((name) => name === text);
  if (protocol === undefined) {
    const hint = text.startsWith('ICMP') ? ' (ICMP is written in icmps)' : '';
    return cursor.expected(`one of ${PROTOCOLS.join(', ')}${hint}`);
  }
  if ((protocol === 'VRRP' || protocol === 'IGMP') && !extended) {
    return cursor.unsupported(`${protocol} needs extended IP protocols, which are off`);
  }
  return protocol;
}

/** A number (decimal, or octal after a zero as Go reads it) or a service name. */
function readPortText(cursor: Cursor, text: string | undefined): number | string | undefined {
  if (text === undefined) return undefined;
  if (text === '' && cursor.context.language.extendedProtocols) return 0;
  if (/^(0|[1-9][0-9]*|0[0-7]+)$/.test(text)) {
    const port = Number.parseInt(text, text.startsWith('0') ? 8 : 10);
    if (port <= MAX_PORT) return port;
  } else if (isPortName(text)) {
    return text.toLowerCase();
  }
  const what = `a port: a number from 0 to ${MAX_PORT} as a text, or a name of up to ${MAX_NAME_CHARS} characters`;
  return text === '' && cursor.value !== '' ? cursor.fail(`port is missing; expected ${what}`) : cursor.expected(what);
}

/** A service name: letters, digits and single dashes, with a letter among them. */
export function isPortName(text: string): boolean {
  return (
    text.length <= MAX_NAME_CHARS &&
    /^[a-zA-Z0-9]([a-zA-Z0-9-]*[a-zA-Z0-9])?$/.test(text) &&
    /[a-zA-Z]/.test(text) &&
    !text.includes('--')
  );
}

function readIcmpField(cursor: Cursor): IcmpField | undefined {
  return cursor.object((members) => {
    const familyName = members.read('family', (member) => (member.value === '' ? undefined : member.oneOf(FAMILIES)));
    const family = familyName === 'IPv6' ? 6 : 4;
    const type = members.required('type', (member) =>
      typeof member.value === 'string'
        ? (ICMP_TYPES[family].get(member.value) ?? member.expected(`the name of an ICMP type of IPv${family}`))
        : member.integer(0, 255),
    );
    return type === undefined ? undefined : { family, type };
  });
}
