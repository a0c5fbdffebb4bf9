// SPDX-License-Identifier: Apache-2.0

/**
 * The agent put together: what there is, who gets what, and the order in which it starts. Stopping is the reverse.
 *
 * The order of a start keeps traffic whole after an agent died: programs are replaced and maps adopted first; then rules
 * and identities are what they were; then endpoints get their policy, by differences; then ipcache follows; and only then
 * may Docker and people ask for anything.
 */
import { join } from 'node:path';
import { healthSocketBeside } from '../api/paths.ts';
import { Datapath } from '../datapath/datapath.ts';
import { NodeLock } from '../datapath/node-lock.ts';
import { DriverServer } from '../driver/driver-server.ts';
import { Networks } from '../driver/networks.ts';
import { EndpointManager } from '../endpoint/endpoint-manager.ts';
import { EndpointStore } from '../endpoint/store.ts';
import {
  cidrLabels,
  GLOBAL_IDENTITY_MAX,
  GLOBAL_IDENTITY_MIN,
  RESERVED_IDENTITIES,
} from '../identity/numeric-identity.ts';
import { IpcacheWriter } from '../ipcache/ipcache-writer.ts';
import { Ipcache } from '../ipcache/ipcache.ts';
import { LocalIdentityAllocator } from '../ipcache/local-identity-allocator.ts';
import { Ipam } from '../ipam/ipam.ts';
import { IdentityAllocator } from '../kvstore/allocator/identity-allocator.ts';
import { IdentityCollector } from '../kvstore/allocator/identity-collector.ts';
import type { Kvstore } from '../kvstore/kvstore.ts';
import { ManualAccess } from '../kvstore/manual-access.ts';
import { type IpAddress, Prefix } from '../net/ip.ts';
import { systemClock } from '../runtime/clock.ts';
import { Lifecycle, type Component } from '../runtime/component.ts';
import type { Logger } from '../runtime/logger.ts';
import { prepareStateFolder } from '../runtime/state-file.ts';
import { Cluster } from './cluster.ts';
import { ClusterAddresses } from './cluster-addresses.ts';
import { ClusterView, containerNames, standaloneNode } from './cluster-view.ts';
import { ClusterDns } from './cluster-dns.ts';
import { Collector } from './collector.ts';
import { ConnectionPurger } from './connection-purger.ts';
import { DockerEngine } from './docker.ts';
import { DockerEndpoints } from './endpoint-hooks.ts';
import { Health } from './health.ts';
import { HostRoutes } from './host-routes.ts';
import { isIdentityLabels } from './identities.ts';
import type { AgentKvstore } from './kvstore.ts';
import { MonitorHub } from './monitor-hub.ts';
import { NodeAddresses } from './node-addresses.ts';
import { defaultMtu, monotonicMs, monotonicSeconds, objectFolder, takenRanges } from './node-facts.ts';
import type { AgentOptions } from './options.ts';
import { Places } from './why/places.ts';
import { PolicyAnswers } from './why/policy-answers.ts';
import { buildPolicy } from './policy/policy-parts.ts';
import { agentApi } from './rest/routes.ts';
import { RestServer } from './rest/server.ts';
import { SeenFlows } from './why/seen-flows.ts';
import { Services } from './services.ts';
import { StatusReport } from './status.ts';
import { step } from './step.ts';
import { StrandedContainers } from './stranded-containers.ts';

const IDENTITY_RANGE = { min: GLOBAL_IDENTITY_MIN, max: GLOBAL_IDENTITY_MAX };
/** Policy slots made ahead, so that a container's start does not wait for the kernel. */
const SPARE_SLOTS = 64;
const REPORT_LOST_MS = 1_000;

export class Daemon {
  readonly #lifecycle: Lifecycle;
  readonly #kvstore: Kvstore;
  readonly #log: Logger;

  constructor(options: AgentOptions, kvstore: AgentKvstore, log: Logger) {
    this.#kvstore = kvstore.store;
    this.#log = log;
    this.#lifecycle = new Lifecycle(components(options, kvstore, log), log);
  }

  /** Resolves when Docker and people are served. */
  async start(signal: AbortSignal): Promise<void> {
    const begin = performance.now();
    await this.#lifecycle.start(signal);
    this.#log.info('Ready', { durationMs: Math.round(performance.now() - begin) });
  }

  /** Containers keep their network and their policy. */
  async stop(): Promise<void> {
    this.#kvstore.leave();
    await this.#lifecycle.stop();
  }
}

/** Everything that starts and stops, in the order of starting. */
function components(
  options: AgentOptions,
  { store: kvstore, foundation, nodeKey, identityMemory }: AgentKvstore,
  log: Logger,
): Component[] {
  const clock = systemClock;
  const { stateDir } = options;
  const subsystem = (subsys: string): Logger => log.child({ subsys });
  const ipcache = new Ipcache();
  const cluster =
    options.kvstore === 'etcd'
      ? new Cluster({ options, store: kvstore, ipcache, datapath: () => datapath, clock, log: subsystem })
      : undefined;
  const mtu = options.mtu === 0 ? (cluster?.mtu.inside ?? defaultMtu()) : options.mtu;

  // The kernel.
  const datapath: Datapath = new Datapath({
    bpfRoot: options.bpfRoot,
    objectDir: objectFolder(),
    aggregation: options.monitorAggregation,
    mtu,
    log: subsystem('datapath'),
    ...cluster?.datapathOptions,
  });
  const flows = new SeenFlows({ now: () => clock.now(), monotonic: monotonicMs });
  const monitor = new MonitorHub({
    source: {
      start: (onRecords) => datapath.events.start(onRecords, 'oldest'),
      stop: () => datapath.events.stop(),
      drain: () => void datapath.events.drain(),
      setPace: (pace) => datapath.events.setPace(pace),
    },
    lostCount: () => datapath.metrics.eventsLost(),
    flows,
  });

  // Identities and policy.
  const allocator = new IdentityAllocator({
    store: kvstore,
    node: nodeKey,
    range: IDENTITY_RANGE,
    isLabels: isIdentityLabels,
    ...(identityMemory && { memory: identityMemory }),
    log: subsystem('identity'),
    clock,
  });
  const localIdentities = new LocalIdentityAllocator({
    path: join(stateDir, 'local-identities.json'),
    log: subsystem('identity'),
    clock,
  });
  const docker = new DockerEngine(options.dockerHost.replace('unix://', ''), clock);
  const policyParts = buildPolicy({
    ...{ options, allocator, localIdentities, ipcache, docker, clock },
    datapath: () => datapath,
    onFolderChange: (files, revision) => {
      monitor.publish({ type: 'Policy updated', message: { files, revision } });
    },
    log: subsystem('policy'),
  });
  const { repository, identities, policyIdentities, realizer, enforce, policy, policyFolder, memory } = policyParts;

  // Endpoints, networks and addresses.
  const purger = new ConnectionPurger(
    { purgeAddresses: (addresses) => datapath.conntrack.purgeAddresses(addresses) },
    subsystem('datapath'),
  );
  const endpoints: EndpointManager = new EndpointManager({
    links: {
      createVeth: (veth) => datapath.links.createVeth(veth),
      deleteLink: (name) => datapath.links.deleteLink(name),
      getLink: (name) => datapath.links.getLink(name),
    },
    records: {
      update: (address, record) => datapath.endpoints.update(address, record),
      delete: (address) => void datapath.endpoints.delete(address),
      get: (address) => datapath.endpoints.get(address),
      entries: () => datapath.endpoints.entries(),
    },
    ipcache: ipcache.as('agent-local'),
    identities,
    policy: realizer,
    containers: docker,
    connections: purger,
    takeOver: (taken, identity) => addresses?.shared.takeOver(taken, identity) ?? Promise.resolve(),
    store: new EndpointStore(stateDir, subsystem('endpoint')),
    clock,
    log: subsystem('endpoint'),
  });
  identities.onMove((labels, identity) => endpoints.renumber(labels, identity));
  endpoints.onChange((event, { id, identity }) => {
    if (event === 'renamed') return;
    monitor.publish({ type: `Endpoint ${event}`, message: { id, ...(identity && { labels: identity.labels }) } });
    if (event === 'deleted') {
      monitor.drain(); // what it did at last is not to be counted after it is forgotten
      flows.forget(id);
    }
  });
  const addresses =
    cluster &&
    new ClusterAddresses({
      store: kvstore,
      ipcache,
      claims: cluster.claims,
      nodes: cluster.nodes,
      underlay: cluster.underlay,
      identities: policyIdentities,
      endpoints,
      kernelEntries: () => datapath.ipcache.entries(),
      purge: (gone) => purger.purge(gone),
      onNews: () => memory.touch(),
      clock,
      log: subsystem('ipcache'),
    });
  const dns =
    addresses &&
    new ClusterDns({
      routers: () => Object.values(cluster.routers),
      nodeAddresses: () => cluster.nodes.local.addresses.map(({ ip }) => ip),
      links: () => datapath.links,
      endpoints,
      remote: addresses.remote,
      dockerSocket: options.dockerHost.replace('unix://', ''),
      log: subsystem('dns'),
      clock,
    });
  const nodeAddresses = new NodeAddresses({
    links: { listAddresses: () => datapath.links.listAddresses() },
    endpoints: {
      update: (address, record) => datapath.endpoints.update(address, record),
      delete: (address) => datapath.endpoints.delete(address),
      get: (address) => datapath.endpoints.get(address),
      entries: () => datapath.endpoints.entries(),
    },
    ipcache: ipcache.as('agent-local'),
  });
  const hostRoutes = new HostRoutes({
    links: () => datapath.links,
    hostIfindex: () => datapath.hostIfindex,
    onAddressesChanged: () => nodeAddresses.refresh(),
    kept: cluster?.network,
  });
  const ipam = new Ipam({
    stateDir,
    get ipv4Range() {
      return cluster?.local.range(4) ?? Prefix.parse(options.ipv4Range);
    },
    get ipv6Range() {
      return cluster?.local.range(6) ?? Prefix.parse(options.ipv6Range);
    },
    reserved: () => (cluster ? Object.values(cluster.routers) : []),
    nodeRanges: () => takenRanges(datapath.links),
    clock,
    log: subsystem('ipam'),
  });
  if (cluster) ipam.addTakenRanges(() => cluster.takenRanges());
  const networks = new Networks({
    stateDir,
    mtu,
    ipam,
    hooks: cluster?.networkHooks(hostRoutes, ipam) ?? hostRoutes,
    inspect: (id) => docker.network(id),
    log: subsystem('driver'),
  });
  const collector = new Collector({
    docker,
    networks,
    endpoints,
    ipam,
    links: { list: () => datapath.links.list(), deleteLink: (name) => datapath.links.deleteLink(name) },
    collectConnections: () => datapath.conntrack.collect(monotonicSeconds()),
    intervalS: options.collectInterval,
    clock,
    log: subsystem('collector'),
  });

  const writer = new IpcacheWriter({
    ipcache,
    map: {
      update: (prefix, entry) => datapath.ipcache.update(prefix, entry),
      delete: (prefix) => datapath.ipcache.delete(prefix),
      entries: () => datapath.ipcache.entries(),
    },
    log: subsystem('ipcache'),
    clock,
  });

  // What people and Docker talk to.
  const agentSocket = join(options.runDir, 'cilium.sock');
  const view = new ClusterView({
    nodes: () => cluster?.nodes.list() ?? [standaloneNode(options)],
    ipcache,
    names: () => containerNames(endpoints.list(), addresses?.remote.entries()),
  });
  const health = new Health({
    nodes: cluster?.nodes,
    port: options.healthPort,
    socketPath: healthSocketBeside(agentSocket),
    clock,
    log: subsystem('health'),
  });
  const status = new StatusReport({
    options,
    datapath,
    kvstore,
    docker,
    ipam,
    collector,
    endpoints,
    policyFolder,
    cluster,
    view,
    health,
    ipcacheWriter: writer,
    dns,
  });
  const answers = new PolicyAnswers({
    repository,
    policy,
    flows,
    lostEvents: () => monitor.lost,
    endpoints: () => services.endpoints(),
    identityOfAddress: (address) => ipcache.lookup(address)?.entry.identity,
    places: new Places({
      nodes: () => cluster?.nodes.list() ?? [],
      remote: () => addresses?.remote.entries() ?? [],
    }),
    kernelEntries: (id) => {
      const slot = endpoints.get(id)?.policySlot ?? 0;
      return slot === 0 ? undefined : datapath.policy.entries(slot);
    },
  });
  const services: Services = new Services({
    options,
    endpoints,
    identities,
    localIdentities: () => localIdentities.list(),
    repository,
    cluster: view,
    kvstore: new ManualAccess(kvstore),
    policy,
    questions: answers,
    monitor,
    enforce,
    status: () => status.report(),
    maxPolicyEntries: () => datapath.policy.maxEntries,
    maps: () => status.maps(),
    map: (name) => status.map(name),
  });
  const stranded = new StrandedContainers({ docker, clock, log: subsystem('docker') });
  const driver = new DriverServer({
    socketPath: options.pluginSocket,
    ipam,
    networks,
    endpoints: new DockerEndpoints(endpoints),
    scope: options.networkScope,
    onDockerStarted: () => stranded.dockerStarted(),
    clock,
    log: subsystem('driver'),
    ...(cluster && { checkAddress: (address: IpAddress) => cluster.checkAddress(address) }),
  });
  const rest = new RestServer({ socketPath: agentSocket, api: agentApi(services), log: subsystem('api') });
  let subscription: { close(): void } | undefined;
  let lostTimer: NodeJS.Timeout | undefined;
  return [
    // Before anything is written, here or for others to read: a second agent on the node leaves no trace.
    new NodeLock(options.bpfRoot),
    step('state-folder', () => prepareStateFolder(stateDir)),
    // Before anything in the kernel is touched: the first start on a node fails without it.
    ...foundation,
    kvstore,
    ...(cluster ? [cluster.early] : []),
    datapath,
    step('policy-slots', async () => {
      const used = datapath.endpoints.entries().map(({ info }) => info.policySlot);
      datapath.policy.adopt(used.filter((slot) => slot !== 0));
      datapath.policy.onSpares(enforce);
      await datapath.policy.prepare(SPARE_SLOTS);
    }),
    allocator,
    new IdentityCollector({ store: kvstore, node: nodeKey, range: IDENTITY_RANGE, log: subsystem('identity'), clock }),
    step('known-prefixes', () => {
      // What the kernel knows keeps its number, even if the last agent died before it had written that down.
      for (const { prefix, info } of datapath.ipcache.entries()) {
        localIdentities.reserve(info.identity, cidrLabels(prefix).toString());
      }
    }),
    localIdentities,
    ipam,
    step(
      'policy',
      async () => {
        identities.follow();
        await policy.restore();
        await policyFolder?.start();
      },
      async () => {
        await policyFolder?.stop();
        await policy.stop();
      },
    ),
    step(
      'endpoints',
      async () => {
        for (const [prefix, identity] of WORLD) ipcache.upsert(prefix, { identity }, 'agent-local');
        policyIdentities.adopt();
        const { adopted, collected } = await endpoints.restore();
        if (adopted + collected > 0) subsystem('endpoint').info('Endpoints restored', { adopted, collected });
        policyIdentities.open();
        enforce();
        datapath.policy.retain(new Set(endpoints.list().map(({ policySlot }) => policySlot)));
      },
      () => endpoints.stop(),
    ),
    ...(cluster?.components ?? []),
    ...(addresses ? [addresses] : []),
    ...(dns ? [dns] : []),
    step(
      'node-addresses',
      () => {
        nodeAddresses.start();
        subscription = datapath.links.onAddressChange(() => {
          nodeAddresses.refresh();
          cluster?.refreshAddresses();
        });
      },
      () => subscription?.close(),
    ),
    networks,
    step('host-routes', async () => {
      hostRoutes.collect(networks.list());
      await cluster?.nodes.retainNetworks(networks.list().map(({ id }) => id));
    }),
    writer,
    collector,
    step(
      'memory',
      () => undefined,
      () => memory.stop(),
    ),
    step(
      'monitor',
      () => {
        monitor.start();
        lostTimer = setInterval(() => monitor.reportLost(), REPORT_LOST_MS).unref();
      },
      () => {
        clearInterval(lostTimer);
        monitor.stop();
      },
    ),
    step(
      'connections',
      () => undefined,
      () => purger.idle(),
    ),
    health,
    rest,
    driver,
    stranded,
  ];
}

/** Longest-prefix look-ups always find something: the world. */
const WORLD: readonly [Prefix, number][] = [
  [Prefix.parse('0.0.0.0/0'), RESERVED_IDENTITIES['world-ipv4']],
  [Prefix.parse('::/0'), RESERVED_IDENTITIES['world-ipv6']],
];
