// SPDX-License-Identifier: Apache-2.0

/** The drops that `cilium monitor` shows in the demo: reading them and comparing them with what was refused. */
import { addressOf, type App, type Probe } from './demo-reach.ts';
import { formatTable } from './table.ts';

export interface Drop {
  reason: string;
  /** As printed: a number, or a name of a reserved identity. */
  fromIdentity: string;
  toIdentity: string;
  source: string;
  destination: string;
  port: number;
}

const DROP_LINE =
  /^xx drop \((?<reason>[^)]*)\).* identity (?<from>\S+?)->(?<to>\S+): (?<source>\S+):\d+ -> (?<destination>\S+):(?<port>\d+) tcp SYN$/;

/** Reads a line of `cilium monitor --type drop`; undefined when it is not about a TCP connection attempt. */
export function parseDrop(line: string): Drop | undefined {
  const found = DROP_LINE.exec(line.trim())?.groups;
  if (found === undefined) return undefined;
  return {
    reason: found.reason!,
    fromIdentity: found.from!,
    toIdentity: found.to!,
    source: found.source!.replace(/^\[|\]$/g, ''),
    destination: found.destination!.replace(/^\[|\]$/g, ''),
    port: Number(found.port),
  };
}

/** Every refused attempt needs a drop event, with the right identities and reason; no other attempt may have one. */
export function checkDrops(
  drops: readonly Drop[],
  refused: readonly Probe[],
  apps: readonly App[],
): { missing: string[]; wrong: string[] } {
  const matches = (drop: Drop, { from, to, family, port }: Probe): boolean =>
    drop.source === addressOf(from, family) && drop.destination === addressOf(to, family) && drop.port === port;
  const missing = refused
    .filter((probe) => !drops.some((drop) => matches(drop, probe)))
    .map(({ from, to, family, port }) => `no drop event for ${from.name} -> ${to.name} :${port} over ${family}`);
  const wrong = drops
    .filter((drop) => {
      const probe = refused.find((one) => matches(drop, one));
      return (
        probe === undefined ||
        drop.reason !== 'Policy denied' ||
        drop.fromIdentity !== String(probe.from.identity) ||
        drop.toIdentity !== String(probe.to.identity)
      );
    })
    .map((drop) => `unexpected drop: ${describe(drop, apps).join(' ')}`);
  return { missing, wrong };
}

/** One row for each different drop; an attempt is repeated after a second, and so is its drop. */
export function dropTable(drops: readonly Drop[], apps: readonly App[]): string {
  const rows = new Map(drops.map((drop) => [JSON.stringify(drop), describe(drop, apps)]));
  return formatTable([['FROM (IDENTITY)', 'TO (IDENTITY)', 'ADDRESSES', 'REASON'], ...rows.values()]);
}

function describe(drop: Drop, apps: readonly App[]): string[] {
  const nameOf = (address: string): string =>
    apps.find(({ ipv4, ipv6 }) => address === ipv4 || address === ipv6)?.name ?? '?';
  const port = drop.destination.includes(':')
    ? `[${drop.destination}]:${drop.port}`
    : `${drop.destination}:${drop.port}`;
  return [
    `${nameOf(drop.source)} (${drop.fromIdentity})`,
    `${nameOf(drop.destination)} (${drop.toIdentity})`,
    `${drop.source} -> ${port}`,
    drop.reason,
  ];
}
