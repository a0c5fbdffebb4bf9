// SPDX-License-Identifier: Apache-2.0

/** Tables and goals of the cluster benchmark. */
import { joinSeries, type JoinFigure } from './cluster-join-section.ts';
import { ENDPOINTS_PER_NODE, identityCount } from './cluster-simulation.ts';
import { STORM_ENDPOINTS, STORM_IDENTITIES, stormSeries, type StormFigure } from './cluster-storm-section.ts';
import type { Goal } from './goals.ts';
import { spread, table } from './report.ts';
import { quantile, type Series } from './statistics.ts';

export function joinTable(series: Series, counts: readonly number[]): string {
  const rows = counts.map((nodes) => {
    const of = (figure: JoinFigure) => series.of(joinSeries({ nodes }, figure));
    const endpoints = nodes * ENDPOINTS_PER_NODE;
    const requests = quantile(of('requests'), 0.5);
    return [
      nodes.toLocaleString('en'),
      endpoints.toLocaleString('en'),
      identityCount({ nodes }).toLocaleString('en'),
      spread(of('complete'), 1e-3, 2),
      spread(of('settled cpu'), 1e-3, 2),
      spread(of('resident'), 1e-6, 0),
      spread(of('peak'), 1e-6, 0),
      requests.toFixed(0),
      (requests / endpoints).toFixed(3),
      spread(of('megabytes'), 1, 1),
      spread(of('addition'), 1, 1),
    ];
  });
  const head = [
    ...['nodes', 'endpoints', 'identities', 'complete after, s', 'CPU of the agent, s', 'agent, MB', 'peak, MB'],
    ...['requests to etcd', 'a request per endpoint', 'from etcd, MB', 'one endpoint more, ms'],
  ];
  return `An agent joins\n\n${table(head, rows)}`;
}

export function stormTable(series: Series): string {
  const rows = STORM_IDENTITIES.map((identities) => {
    const of = (figure: StormFigure) => series.of(stormSeries(identities, figure));
    const requests = quantile(of('requests'), 0.5);
    return [
      identities.toLocaleString('en'),
      spread(of('slowest'), 1, 0),
      spread(of('whole'), 1, 0),
      requests.toFixed(0),
      (requests / STORM_ENDPOINTS).toFixed(2),
      spread(of('disk'), 1, 0),
    ];
  });
  const head = [
    ...['new identities', 'until the last has its identity, ms', 'until etcd has all, ms', 'requests to etcd'],
    ...['requests per endpoint', 'etcd writes to disk'],
  ];
  const title = `${STORM_ENDPOINTS.toLocaleString('en')} endpoints of one node start at once`;
  return `${title}\n\n${table(head, rows)}`;
}

export function clusterGoals(series: Series, counts: readonly number[]): Goal[] {
  const nodes = Math.max(...counts);
  const of = (figure: JoinFigure) => quantile(series.of(joinSeries({ nodes }, figure)), 0.5);
  const endpoints = (nodes * ENDPOINTS_PER_NODE).toLocaleString('en');
  return [
    { what: `${endpoints} entries in the kernel after joining, s`, measured: of('complete') / 1e3, most: 5, digits: 2 },
    { what: `agent that knows ${endpoints} endpoints, MB`, measured: of('resident') / 1e6, most: 250, digits: 0 },
    { what: `the same, at its peak, MB`, measured: of('peak') / 1e6, most: 250, digits: 0 },
  ].filter(({ measured }) => !Number.isNaN(measured));
}
