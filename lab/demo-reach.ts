// SPDX-License-Identifier: Apache-2.0

/** Who reaches whom in the demo: asking, what should come out, and the table. */
import { formatTable } from './table.ts';

export interface App {
  name: string;
  ipv4: string;
  ipv6: string;
  identity: number;
}

export type Family = 'IPv4' | 'IPv6';

export interface Probe {
  from: App;
  to: App;
  family: Family;
  port: number;
  /** The web server of `to` answered with its name. */
  reached: boolean;
}

export const PORTS: readonly number[] = [80, 8080];
const FAMILIES: readonly Family[] = ['IPv4', 'IPv6'];
// By timeout and not by wget's own -T, with which Debian's busybox 1.35 crashes.
/** A dropped SYN is sent again after one second; one that is let through is answered in a millisecond. */
const ANSWER_LIMIT_S = 2;

export function addressOf(app: App, family: Family): string {
  return family === 'IPv4' ? app.ipv4 : app.ipv6;
}

/** A script for a container's shell that asks all others at once and prints "URL answer" for each. */
export function probeScript(from: App, apps: readonly App[]): string {
  const lines = questions(from, apps).map(
    ({ url }) => `(echo "${url} $(timeout ${ANSWER_LIMIT_S} wget -q -O - ${url} 2>/dev/null)") &`,
  );
  return [...lines, 'wait'].join('\n');
}

export function readProbes(from: App, apps: readonly App[], said: string): Probe[] {
  const answers = new Map(said.split('\n').map((line) => line.split(' ') as [string, string | undefined]));
  return questions(from, apps).map(({ url, to, family, port }) => {
    return { from, to, family, port, reached: answers.get(url) === to.name };
  });
}

function questions(from: App, apps: readonly App[]): { url: string; to: App; family: Family; port: number }[] {
  return apps
    .filter((to) => to !== from)
    .flatMap((to) =>
      FAMILIES.flatMap((family) => {
        const host = family === 'IPv4' ? to.ipv4 : `[${to.ipv6}]`;
        return PORTS.map((port) => ({ url: `http://${host}:${port}/`, to, family, port }));
      }),
    );
}

type Expectation = (probe: Pick<Probe, 'from' | 'to' | 'port'>) => boolean;

export const everybody: Expectation = () => true;

/** What examples/policies/l3-l4.json says: app1 is closed but for app2 on port 80; the others are not selected. */
export const allowedByPolicy: Expectation = ({ from, to, port }) =>
  to.name !== 'app1' || (from.name === 'app2' && port === 80);

/** One row for each pair; `good` when every cell is as expected. */
export function reachTable(probes: readonly Probe[], expected: Expectation): { text: string; good: boolean } {
  const columns = FAMILIES.flatMap((family) => PORTS.map((port) => ({ family, port })));
  const rows = [['FROM', 'TO', ...columns.map(({ family, port }) => `${family} :${port}`)]];
  let good = probes.length > 0;
  for (const pair of new Set(probes.map(({ from, to }) => `${from.name} ${to.name}`))) {
    const cells = columns.map(({ family, port }) => {
      const probe = probes.find(
        (one) => `${one.from.name} ${one.to.name}` === pair && one.family === family && one.port === port,
      );
      const right = probe?.reached === (probe && expected(probe));
      good &&= right;
      return `${probe?.reached ? 'yes' : '-'}${right ? '' : ' WRONG'}`;
    });
    rows.push([...pair.split(' '), ...cells]);
  }
  return { text: formatTable(rows), good };
}
