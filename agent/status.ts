// SPDX-License-Identifier: Apache-2.0

/** How the agent is: what `cilium status` and `cilium map` show. */
import type { BpfMap, Status, StatusResponse } from '../api/models.ts';
import type { Datapath } from '../datapath/datapath.ts';
import { endpointText, ipcacheText } from '../datapath/maps/entry-text.ts';
import { connectionKeyText, connectionText, snatKeyText, snatText } from '../datapath/maps/flow-text.ts';
import { describeError } from '../errors/cilium-error.ts';
import { GLOBAL_IDENTITY_MAX, GLOBAL_IDENTITY_MIN } from '../identity/numeric-identity.ts';
import type { Ipam } from '../ipam/ipam.ts';
import type { IpcacheWriter } from '../ipcache/ipcache-writer.ts';
import type { Kvstore, KvstoreStatus } from '../kvstore/kvstore.ts';
import type { ControllerStatus } from '../runtime/controller.ts';
import type { Cluster } from './cluster.ts';
import type { ClusterDns } from './cluster-dns.ts';
import type { ClusterView } from './cluster-view.ts';
import type { Collector } from './collector.ts';
import type { DockerEngine } from './docker.ts';
import type { Health } from './health.ts';
import { monotonicSeconds } from './node-facts.ts';
import type { AgentOptions } from './options.ts';
import type { PolicyFolder } from './policy/policy-folder.ts';

const PAGE_BYTES = 4096;
const TCP = 6;

export interface StatusReportDeps {
  readonly options: AgentOptions;
  readonly datapath: Datapath;
  readonly kvstore: Kvstore;
  readonly docker: DockerEngine;
  readonly ipam: Ipam;
  readonly collector: Collector;
  /** Absent when no directory is watched. */
  /** Which tries again what could not be restored. */
  readonly endpoints: { readonly status: ControllerStatus };
  readonly policyFolder: PolicyFolder | undefined;
  /** Absent when the node is alone. */
  readonly cluster: Pick<Cluster, 'nodes' | 'network' | 'routing'> | undefined;
  readonly dns: Pick<ClusterDns, 'parts'> | undefined;
  readonly view: Pick<ClusterView, 'nodes'>;
  readonly health: Pick<Health, 'state' | 'controllers'>;
  readonly ipcacheWriter: Pick<IpcacheWriter, 'failed'>;
}

export class StatusReport {
  readonly #deps: StatusReportDeps;

  constructor(deps: StatusReportDeps) {
    this.#deps = deps;
  }

  async report(): Promise<StatusResponse> {
    const { datapath, kvstore, docker, collector, endpoints, policyFolder, cluster, dns, health, view, options } =
      this.#deps;
    const nodes = view.nodes();
    const [store, engine] = await Promise.all([
      kvstore.status(),
      docker.version().then(
        (version) => ({ state: 'Ok' as const, msg: `docker ${version}: ${options.dockerHost}` }),
        (error: unknown) => ({ state: 'Failure' as const, msg: describeError(error) }),
      ),
    ]);
    const needs = { Kvstore: storeStatus(store), 'Container runtime': engine };
    const maps = datapath.describeMaps();
    const ring = maps.find(({ name }) => name === 'cilium_events');
    const devices = datapath.devices.entries();
    const names = new Map(datapath.links.list().map(({ ifindex, name }) => [ifindex, name]));
    return {
      cilium: this.#health(needs),
      kvstore: needs.Kvstore,
      'container-runtime': engine,
      nodeMonitor: {
        cpus: 1,
        npages: (ring?.maxEntries ?? 0) / PAGE_BYTES,
        pagesize: PAGE_BYTES,
        lost: datapath.metrics.eventsLost(),
        unknown: 0,
      },
      ipam: this.#ipam(),
      cluster: { ciliumHealth: health.state, self: nodes.self, nodes: nodes['nodes-added'] },
      routing:
        cluster === undefined || options.routingMode === 'native'
          ? { 'inter-host-routing-mode': 'Native', 'intra-host-routing-mode': 'BPF' }
          : { 'inter-host-routing-mode': 'Tunnel', 'intra-host-routing-mode': 'BPF', 'tunnel-protocol': 'vxlan' },
      'attach-mode': 'tc',
      'datapath-mode': 'veth',
      masquerading: {
        enabled: true,
        mode: 'BPF',
        devices: devices.map(({ ifindex }) => names.get(ifindex) ?? String(ifindex)).sort(),
        enabledProtocols: {
          ipv4: devices.some(({ info }) => info.ipv4 !== undefined),
          ipv6: devices.some(({ info }) => info.ipv6 !== undefined),
        },
      },
      'clock-source': { mode: 'ktime' },
      controllers: [
        collector,
        endpoints,
        ...(policyFolder ? [policyFolder] : []),
        ...(cluster ? [cluster.nodes, cluster.network] : []),
        ...(dns ? dns.parts : []),
        ...health.controllers,
      ].map(({ status }) => controllerModel(status)),
      'identity-range': { 'min-identity': GLOBAL_IDENTITY_MIN, 'max-identity': GLOBAL_IDENTITY_MAX },
      'bpf-maps': { maps: maps.map(({ name, maxEntries }) => ({ name, size: maxEntries })) },
    };
  }

  /** The agent is as well as the first of what it needs that is not. */
  #health(needs: Readonly<Record<string, Status>>): Status {
    const problem = this.#deps.cluster?.nodes.problem;
    if (problem !== undefined) return { state: 'Failure', msg: describeError(problem) };
    for (const [name, { state, msg }] of Object.entries(needs)) {
      if (state !== 'Ok') return { state, msg: `${name} service is not ready: ${msg ?? state}` };
    }
    const difference = this.#deps.cluster?.routing.problem;
    if (difference !== undefined) return { state: 'Warning', msg: difference };
    const [first, ...others] = this.#deps.ipcacheWriter.failed;
    if (first === undefined) return { state: 'Ok', msg: 'OK' };
    const [prefix, reason] = first;
    return { state: 'Warning', msg: `${prefix} and ${others.length} more without identity: ${describeError(reason)}` };
  }

  maps(): BpfMap[] {
    const mapDir = `${this.#deps.options.bpfRoot}/tc/globals`;
    return this.#deps.datapath.describeMaps().map(({ name, type, maxEntries, entries, memoryBytes }) => ({
      path: `${mapDir}/${name}`,
      type,
      'max-entries': maxEntries,
      ...(entries !== undefined && { 'num-entries': entries }),
      memory: memoryBytes,
    }));
  }

  map(name: string): BpfMap | undefined {
    const map = this.maps().find(({ path }) => path.endsWith(`/${name}`));
    const cache = this.#entries(name);
    return map && { ...map, ...(cache && { cache }) };
  }

  #ipam(): NonNullable<StatusResponse['ipam']> {
    const { ipam } = this.#deps;
    const pools = [...ipam.pools()];
    const leases = pools.flatMap((pool) => [...pool.leases()]);
    const ranges = [ipam.range(4), ipam.range(6)].filter((range) => range !== undefined);
    const parts = ranges.map((range) => {
      const used = leases.filter(({ address }) => range.contains(address)).length;
      return `IPv${range.family}: ${used}/${range.size - 2n} allocated from ${range.toString()}`;
    });
    return {
      status: parts.join(', '),
      allocations: Object.fromEntries(
        leases.map(({ address, gateway, owner }) => [address.toString(), gateway ? 'gateway' : (owner ?? 'container')]),
      ),
    };
  }

  #entries(name: string): { key: string; value: string }[] | undefined {
    const { endpoints, ipcache, conntrack } = this.#deps.datapath;
    const entry = (key: string, value: string) => ({ key, value });
    switch (name) {
      case 'cilium_lxc':
        return endpoints.entries().map(({ address, info }) => entry(address.toString(), endpointText(info)));
      case 'cilium_ipcache':
        return ipcache.entries().map(({ prefix, info }) => entry(prefix.toString(), ipcacheText(info)));
      case 'cilium_snat4':
      case 'cilium_snat6':
        return conntrack
          .snatEntries()
          .filter(({ source }) => name.endsWith(String(source.family)))
          .map((snat) => entry(snatKeyText(snat), snatText(snat, monotonicSeconds())));
      default:
        break;
    }
    const [, family, kind] = /^cilium_ct([46])_(tcp|any)$/.exec(name) ?? [];
    if (family === undefined) return undefined;
    return conntrack
      .entries()
      .filter(
        ({ initiator, protocol }) => initiator.family === Number(family) && (protocol === TCP) === (kind === 'tcp'),
      )
      .map((connection) => entry(connectionKeyText(connection), connectionText(connection)));
  }
}

function storeStatus({ healthy, message }: KvstoreStatus): Status {
  return { state: healthy ? 'Ok' : 'Failure', msg: message };
}

function controllerModel(status: ControllerStatus): NonNullable<StatusResponse['controllers']>[number] {
  const time = (ms: number): string => new Date(ms).toISOString();
  return {
    name: status.name,
    status: {
      'success-count': status.successCount,
      'failure-count': status.failureCount,
      'consecutive-failure-count': status.consecutiveFailures,
      ...(status.lastSuccess !== undefined && { 'last-success-timestamp': time(status.lastSuccess) }),
      ...(status.lastFailure !== undefined && { 'last-failure-timestamp': time(status.lastFailure) }),
      ...(status.lastError !== undefined && { 'last-failure-msg': status.lastError }),
    },
  };
}
