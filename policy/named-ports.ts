// SPDX-License-Identifier: Apache-2.0

/**
 * Names of ports that containers have by their labels: `io.cilium.port.http=8080/tcp`. As labels they are part of the
 * identity, so every node knows them.
 */
import type { LabelSet } from '../identity/label-set.ts';
import { formatLabel } from '../identity/label.ts';
import { IP_PROTOCOL } from './map-entry.ts';
import { isPortName, MAX_NAME_CHARS, MAX_PORT } from './parse/ports.ts';
import type { NumberedPort } from './subject-policy.ts';

const PREFIX = 'io.cilium.port.';

/** For the label filter: these labels count even if the user's patterns name others only. */
export const PORT_LABEL_PATTERN = 'io\\.cilium\\.port\\.';

export interface LabelledPorts {
  /** By name, in lower case. */
  readonly ports: ReadonlyMap<string, NumberedPort>;
  /** One sentence for each label that names a port and cannot be understood. */
  readonly problems: readonly string[];
}

export function portsOfLabels(labels: LabelSet): LabelledPorts {
  const ports = new Map<string, NumberedPort>();
  const problems: string[] = [];
  for (const label of labels) {
    if (!label.key.startsWith(PREFIX)) continue;
    const name = label.key.slice(PREFIX.length);
    const port = parsePort(label.value);
    const fail = (expected: string): void => void problems.push(`label "${formatLabel(label)}": expected ${expected}`);
    if (!isPortName(name)) {
      fail(
        `a port name of up to ${MAX_NAME_CHARS} letters, digits and single dashes, a letter among them, after ${PREFIX}`,
      );
    } else if (port === undefined) {
      fail(`a port from 1 to ${MAX_PORT}, and /tcp, /udp or /sctp if it is not TCP, such as ${PREFIX}http=8080`);
    } else if (ports.has(name.toLowerCase())) {
      fail('one label for a name; case does not matter');
    } else {
      ports.set(name.toLowerCase(), port);
    }
  }
  return { ports, problems };
}

function parsePort(text: string): NumberedPort | undefined {
  const match = /^([1-9][0-9]{0,4})(?:\/(tcp|udp|sctp))?$/i.exec(text);
  if (match === null || Number(match[1]) > MAX_PORT) return undefined;
  const protocol = (match[2] ?? 'tcp').toUpperCase() as 'TCP' | 'UDP' | 'SCTP';
  return { protocol: IP_PROTOCOL[protocol], port: Number(match[1]) };
}
