// SPDX-License-Identifier: Apache-2.0

/**
 * The life of the endpoints of this node, from Docker's CreateEndpoint to its DeleteEndpoint and across restarts.
 *
 *   create   veth pair with its programs attached; the kernel has no record of it, so nothing passes
 *   join     labels -> identity -> policy in the kernel -> record and ipcache; only then Docker is answered
 *   delete   record and ipcache go first, then the identity, the veth pair and the connections of its addresses
 *
 * Every call may be repeated, and each change is on disk before it is answered. Calls for one Docker endpoint run one
 * after the other.
 */
import { CiliumError, describeError } from '../errors/cilium-error.ts';
import { Prefix } from '../net/ip.ts';
import type { ControllerStatus } from '../runtime/controller.ts';
import { KeyedQueue } from '../runtime/serial-queue.ts';
import { ClosedEndpoints } from './closed-endpoints.ts';
import { peerNameOf, randomMac, repeated } from './creation.ts';
import { EndpointIndex } from './endpoint-index.ts';
import type { CreateRequest, EndpointManagerDeps } from './endpoint-manager-deps.ts';
import {
  Endpoint,
  hasNames,
  type ContainerInfo,
  type ContainerNames,
  type EndpointFacts,
  type EndpointIdentity,
} from './endpoint.ts';
import type { RealizedPolicy } from './policy-realizer.ts';

/** How long Join waits for Docker to say which container an endpoint belongs to. */
const LABELS_TIMEOUT_MS = 1_000;

/** `renamed`: only what the container is called has changed. */
export type EndpointListener = (event: 'created' | 'deleted' | 'changed' | 'renamed', endpoint: Endpoint) => void;

export class EndpointManager {
  readonly #deps: EndpointManagerDeps;
  readonly #index = new EndpointIndex();
  readonly #queue = new KeyedQueue<string>('endpoints');
  readonly #listeners = new Set<EndpointListener>();
  /** What could not be restored. */
  readonly #closed: ClosedEndpoints;

  constructor(deps: EndpointManagerDeps) {
    this.#deps = deps;
    this.#closed = new ClosedEndpoints({ reopen: (endpoint) => this.#reopen(endpoint), ...deps });
    deps.policy.onSlotChange((identities, slot) => this.#moveToSlot(identities, slot));
    deps.policy.onRealized((realized) => this.#noteRealized(realized));
  }

  onChange(listener: EndpointListener): void {
    this.#listeners.add(listener);
  }

  /** How it stands with endpoints that could not be restored. */
  get status(): ControllerStatus {
    return this.#closed.status;
  }

  /** Begins no more work of its own; endpoints stay as they are. */
  stop(): Promise<void> {
    return this.#closed.stop();
  }

  list(): Endpoint[] {
    return [...this.#index].sort((a, b) => a.id - b.id);
  }

  get(id: number): Endpoint | undefined {
    return this.#index.get(id);
  }

  getByDockerId(dockerEndpointId: string): Endpoint | undefined {
    return this.#index.getByDockerId(dockerEndpointId);
  }

  /** Makes the interface of an endpoint. Repeated with the same addresses it answers the same again. */
  create(request: CreateRequest): Promise<Endpoint> {
    return this.#queue.run(request.dockerEndpointId, async () => {
      const known = this.#index.getByDockerId(request.dockerEndpointId);
      if (known) return repeated(known, request);
      const { networkId, dockerEndpointId, internal, mtu, ipv4, ipv6 } = request;
      const ifName = `lxc${dockerEndpointId.slice(0, 12)}`;
      this.#deps.containers.foresee(dockerEndpointId);
      await this.#deps.connections.purged([ipv4, ipv6].filter((address) => address !== undefined));
      // A pair of this name is what a killed agent left of the same call.
      if (this.#deps.links.getLink(ifName)) await this.#deps.links.deleteLink(ifName);
      // From here until the endpoint is known nothing waits: nobody else takes the address or the ID.
      this.#index.refuseTaken(
        [request.ipv4, request.ipv6],
        (address) => this.#deps.records.get(address)?.host === true,
      );
      const id = this.#index.nextId();
      const mac = request.mac ?? randomMac();
      const hostMac = randomMac();
      const { hostIfindex: ifindex } = this.#deps.links.createVeth({
        hostName: ifName,
        peerName: peerNameOf(dockerEndpointId),
        hostMac,
        peerMac: mac,
        mtu,
      });
      const facts: EndpointFacts = {
        id,
        dockerEndpointId,
        networkId,
        ifName,
        ifindex,
        hostMac,
        mac,
        mtu,
        internal,
        ipv4,
        ipv6,
      };
      const endpoint = new Endpoint(facts, 'creating', this.#deps.clock.now());
      this.#index.insert(endpoint);
      try {
        await this.#deps.store.save(endpoint);
      } catch (error) {
        this.#forget(endpoint);
        await this.#deps.links.deleteLink(ifName);
        throw error;
      }
      return endpoint;
    });
  }

  /** Finds out who the container is and lets it into the network under its policy. */
  join(dockerEndpointId: string): Promise<{ endpoint: Endpoint; peerName: string }> {
    return this.#queue.run(dockerEndpointId, async () => {
      const endpoint = this.#index.getByDockerId(dockerEndpointId);
      if (!endpoint) {
        throw new CiliumError(
          'NotFound',
          `endpoint ${dockerEndpointId.slice(0, 12)} is not known; start the container again`,
        );
      }
      if (endpoint.identity) return { endpoint, peerName: peerNameOf(dockerEndpointId) }; // Docker repeats itself
      endpoint.become('waiting-for-identity', 'Docker starts the container', this.#deps.clock.now());
      try {
        const container = await this.#containerOf(endpoint);
        await this.#enter(endpoint, container);
      } catch (error) {
        endpoint.become(
          endpoint.state === 'regenerating' ? 'not-ready' : 'creating',
          describeError(error),
          this.#deps.clock.now(),
        );
        throw error;
      }
      this.#notify('created', endpoint);
      return { endpoint, peerName: peerNameOf(dockerEndpointId) };
    });
  }

  /** Forgets an endpoint; resolves when that is on disk. The veth pair goes in the background. */
  delete(dockerEndpointId: string, reason = 'Docker let go of it'): Promise<void> {
    return this.#queue.run(dockerEndpointId, async () => {
      const endpoint = this.#index.getByDockerId(dockerEndpointId);
      if (!endpoint) return;
      endpoint.become('disconnecting', reason, this.#deps.clock.now());
      await this.#leaveNetwork(endpoint);
      this.#deps.links.deleteLink(endpoint.facts.ifName).catch((error: unknown) => {
        this.#deps.log.warn('Cannot delete veth pair; it is tried again at the next collection', {
          interface: endpoint.facts.ifName,
          error,
        });
      });
      await this.#deps.store.remove(endpoint.id);
      this.#forget(endpoint);
      this.#notify('deleted', endpoint);
    });
  }

  /** Remembers what Docker calls the container now; does nothing when that is known, or the endpoint is not. */
  rename(dockerEndpointId: string, names: ContainerNames): Promise<void> {
    return this.#queue.run(dockerEndpointId, async () => {
      const endpoint = this.#index.getByDockerId(dockerEndpointId);
      const before = endpoint?.identity;
      if (!endpoint || !before || hasNames(before.container, names)) return;
      endpoint.identify({ ...before, container: { ...before.container, ...names } });
      try {
        await this.#deps.store.save(endpoint);
      } catch (error) {
        endpoint.identify(before);
        throw error;
      }
      this.#notify('renamed', endpoint);
    });
  }

  /** Adds labels to, or disables labels of, an endpoint, which gets the identity of what it has then. */
  changeLabels(id: number, changes: Endpoint['labelChanges']): Promise<Endpoint> {
    const missing = new CiliumError('NotFound', `endpoint ${id} does not exist`);
    const endpoint = this.#index.get(id);
    if (!endpoint) return Promise.reject(missing);
    return this.#queue.run(endpoint.facts.dockerEndpointId, async () => {
      if (this.#index.get(id) !== endpoint) throw missing; // deleted meanwhile
      const before = endpoint.identity;
      if (!before) throw new CiliumError('Precondition', `endpoint ${id} has no identity yet`);
      if (this.#closed.has(endpoint)) {
        const why = `it could not be restored (${endpoint.policyError ?? ''}) and is tried again from time to time`;
        throw new CiliumError('Precondition', `endpoint ${id} is closed: ${why}`);
      }
      const old = endpoint.labelChanges;
      endpoint.labelChanges = changes;
      try {
        endpoint.become('waiting-for-identity', 'labels changed by hand', this.#deps.clock.now());
        await this.#enter(endpoint, before.container);
      } catch (error) {
        endpoint.labelChanges = old;
        endpoint.become('regenerating', `labels not changed: ${describeError(error)}`, this.#deps.clock.now());
        this.#enforce(endpoint, before.identity, this.#deps.policy.get(before.identity)!);
        throw error;
      }
      this.#deps.policy.release(before.identity);
      await this.#deps.identities.release(before.labels);
      this.#notify('changed', endpoint);
      return endpoint;
    });
  }

  /**
   * The identity of these labels has another number from now on, which policy maps know: endpoints that have it get that
   * one. Resolves when all have it, or are closed because they cannot.
   */
  async renumber(labels: string, identity: number): Promise<void> {
    const users = this.list().filter((endpoint) => endpoint.identity?.labels === labels);
    await Promise.all(
      users.map((endpoint) =>
        this.#queue.run(endpoint.facts.dockerEndpointId, () => this.#renumber(endpoint, labels, identity)),
      ),
    );
  }

  async #renumber(endpoint: Endpoint, labels: string, identity: number): Promise<void> {
    const before = endpoint.identity;
    const isThere = this.#index.get(endpoint.id) === endpoint && endpoint.policySlot !== 0;
    if (!isThere || before?.labels !== labels || before.identity === identity) return;
    const { policy, identities, store, clock, log } = this.#deps;
    endpoint.become('regenerating', `identity ${before.identity} is ${identity} now`, clock.now());
    endpoint.identify({ ...before, identity });
    try {
      this.#enforce(endpoint, identity, policy.acquire(identity));
      policy.release(before.identity);
    } catch (error) {
      this.#keepClosed(endpoint, error);
      policy.release(before.identity);
      await identities.release(labels);
      return;
    }
    // The number on disk is only what is asked for after a restart.
    await store.save(endpoint).catch((error: unknown) => {
      log.warn('Cannot remember the new identity of an endpoint', { endpointID: endpoint.id, error });
    });
    this.#notify('changed', endpoint);
  }

  /**
   * Takes back what an earlier agent left: endpoints whose interface is still there keep their identity, record and
   * policy slot; the others are collected.
   */
  async restore(): Promise<{ adopted: number; collected: number }> {
    let collected = 0;
    const endpoints = await this.#deps.store.load(this.#deps.clock.now());
    for (const endpoint of endpoints) {
      this.#index.insert(endpoint);
    }
    const { policy } = this.#deps;
    policy.expect(endpoints.flatMap((endpoint) => this.#recordOf(endpoint) ?? []));
    const alive: [Endpoint, EndpointIdentity][] = [];
    for (const endpoint of endpoints) {
      const link = this.#deps.links.getLink(endpoint.facts.ifName);
      if (link?.ifindex !== endpoint.facts.ifindex) {
        await this.delete(endpoint.facts.dockerEndpointId, 'its interface is gone');
        collected++;
      } else if (endpoint.identity) {
        alive.push([endpoint, endpoint.identity]);
      } else {
        endpoint.become('creating', 'not started when the agent ended', this.#deps.clock.now());
      }
    }
    await this.#readoptAll(alive);
    policy.adopted();
    this.#dropStrayRecords();
    this.#closed.start();
    return { adopted: endpoints.length - collected, collected };
  }

  /** Records whose endpoint is not on disk (the agent died while it deleted one) would keep its address in use. */
  #dropStrayRecords(): void {
    const known = new Set(this.list().flatMap((endpoint) => endpoint.addresses.map(String)));
    const stray = [...this.#deps.records.entries()].filter(
      ({ address, info }) => !info.host && !known.has(address.toString()),
    );
    for (const { address } of stray) this.#deps.records.delete(address);
    if (stray.length > 0) this.#deps.connections.purge(stray.map(({ address }) => address));
  }

  /** All identities before the first policy: names of ports come with the identities of some and are in policies of others. */
  async #readoptAll(endpoints: readonly [Endpoint, EndpointIdentity][]): Promise<void> {
    const held: [Endpoint, EndpointIdentity, number][] = [];
    for (const [endpoint, known] of endpoints) {
      endpoint.become('regenerating', 'agent started', this.#deps.clock.now());
      await this.#deps.identities.reacquire(known.labels, known.identity).then(
        (identity) => held.push([endpoint, known, identity]),
        (error: unknown) => this.#keepClosed(endpoint, error),
      );
    }
    for (const [endpoint, known, identity] of held) {
      await this.#readopt(endpoint, known, identity).catch((error: unknown) => this.#keepClosed(endpoint, error));
    }
  }

  /** Another try for one that could not be restored. */
  #reopen(endpoint: Endpoint): Promise<void> {
    return this.#queue.run(endpoint.facts.dockerEndpointId, async () => {
      const known = endpoint.identity;
      if (this.#index.get(endpoint.id) !== endpoint || !known) return; // deleted meanwhile
      endpoint.become('regenerating', 'tried again', this.#deps.clock.now());
      try {
        await this.#readopt(endpoint, known, await this.#deps.identities.reacquire(known.labels, known.identity));
      } catch (error) {
        this.#keepClosed(endpoint, error);
        throw error;
      }
      this.#deps.log.info('Endpoint is open again', { endpointID: endpoint.id });
      this.#notify('changed', endpoint);
    });
  }

  /** Its identity has been taken, and is given back when this fails. */
  async #readopt(endpoint: Endpoint, known: EndpointIdentity, identity: number): Promise<void> {
    const { policy, identities } = this.#deps;
    let entered = false;
    try {
      const realized = this.#readoptPolicy(endpoint, known, identity);
      entered = true;
      endpoint.identify({ ...known, identity });
      this.#enforce(endpoint, identity, realized);
      if (identity !== known.identity) await this.#deps.store.save(endpoint);
    } catch (error) {
      this.#withdraw(endpoint); // no record may name the slot once it is given back
      if (entered) policy.release(identity);
      await identities.release(known.labels);
      throw error;
    }
  }

  #readoptPolicy(endpoint: Endpoint, known: EndpointIdentity, identity: number): RealizedPolicy {
    const { policy } = this.#deps;
    const record = this.#recordOf(endpoint);
    // Under another identity (the agent died while labels changed) it is the slot of those that still have that one.
    const slot = record?.identity === identity ? record.slot : 0;
    return identity === known.identity ? policy.adopt(identity, slot) : policy.acquire(identity);
  }

  /** What the kernel's record of the endpoint says. */
  #recordOf(endpoint: Endpoint): { identity: number; slot: number } | undefined {
    const [address] = endpoint.addresses;
    const record = address && this.#deps.records.get(address);
    return record && { identity: record.identity, slot: record.policySlot };
  }

  /** Others are restored all the same; this one is tried again from time to time. */
  #keepClosed(endpoint: Endpoint, error: unknown): void {
    this.#withdraw(endpoint);
    endpoint.policyError = describeError(error);
    endpoint.become('not-ready', endpoint.policyError, this.#deps.clock.now());
    this.#closed.add(endpoint);
    this.#deps.log.error('Endpoint is closed: it cannot be restored', { endpointID: endpoint.id, error });
  }

  async #containerOf(endpoint: Endpoint): Promise<ContainerInfo> {
    const { networkId, dockerEndpointId } = endpoint.facts;
    const signal = AbortSignal.timeout(LABELS_TIMEOUT_MS);
    const container = await this.#deps.containers.find(networkId, dockerEndpointId, signal);
    if (container) return container;
    throw new CiliumError(
      'DockerUnavailable',
      `Docker did not say within ${LABELS_TIMEOUT_MS} ms which container endpoint ${dockerEndpointId.slice(0, 12)} belongs to, ` +
        'so its policy is not known; start the container again',
    );
  }

  async #enter(endpoint: Endpoint, container: ContainerInfo): Promise<void> {
    const { identities, policy, store, clock } = this.#deps;
    const { identity, labels } = await identities.acquire(container, endpoint.labelChanges, endpoint.facts.networkId);
    try {
      if (!endpoint.identity) await this.#deps.takeOver(endpoint.addresses, identity);
      endpoint.become('regenerating', `identity ${identity}`, clock.now());
      const realized = policy.acquire(identity);
      const before = endpoint.identity;
      try {
        endpoint.identify({ container, labels, identity });
        await store.save(endpoint);
        this.#enforce(endpoint, identity, realized);
      } catch (error) {
        endpoint.identify(before);
        // No record may name the slot once it is given back.
        if (before) this.#moveTo(endpoint, before.identity, policy.get(before.identity)!.slot);
        else this.#withdraw(endpoint);
        policy.release(identity);
        throw error;
      }
    } catch (error) {
      await identities.release(labels);
      throw error;
    }
  }

  /** Order: policy map (already done), then the endpoint's record, then ipcache. */
  #enforce(endpoint: Endpoint, identity: number, realized: RealizedPolicy): void {
    this.#moveTo(endpoint, identity, realized.slot);
    for (const address of endpoint.addresses) this.#deps.ipcache.upsert(Prefix.of(address), { identity });
    endpoint.policyRevision = realized.revision;
    endpoint.policyError = realized.error;
    endpoint.become(
      realized.error === undefined ? 'ready' : 'not-ready',
      realized.error ?? `policy revision ${realized.revision} in force`,
      this.#deps.clock.now(),
    );
  }

  async #leaveNetwork(endpoint: Endpoint): Promise<void> {
    const { policy, identities, connections } = this.#deps;
    // One that was found dead after a restart has none: its identity and slot were never taken here.
    const entered = endpoint.policySlot !== 0;
    this.#withdraw(endpoint);
    connections.purge(endpoint.addresses);
    if (endpoint.identity && entered) {
      policy.release(endpoint.identity.identity);
      await identities.release(endpoint.identity.labels);
    }
  }

  /** Nothing reaches or leaves the endpoint from now on, and no change of policy opens it again. */
  #withdraw(endpoint: Endpoint): void {
    endpoint.policySlot = 0;
    for (const address of endpoint.addresses) {
      this.#deps.records.delete(address);
      this.#deps.ipcache.delete(Prefix.of(address));
    }
  }

  #moveTo(endpoint: Endpoint, identity: number, slot: number): void {
    const { facts } = endpoint;
    endpoint.policySlot = slot;
    for (const address of endpoint.addresses) {
      this.#deps.records.update(address, {
        ifindex: facts.ifindex,
        identity,
        policySlot: slot,
        host: false,
        internal: facts.internal,
        id: facts.id,
        mtu: facts.mtu,
        mac: facts.mac,
        hostMac: facts.hostMac,
      });
    }
  }

  #moveToSlot(identities: ReadonlySet<number>, slot: number): void {
    for (const endpoint of this.#index) {
      const identity = endpoint.identity?.identity;
      if (identity === undefined || !identities.has(identity) || endpoint.policySlot === 0) continue;
      this.#moveTo(endpoint, identity, slot);
    }
  }

  #noteRealized(changed: ReadonlyMap<number, RealizedPolicy>): void {
    for (const endpoint of this.#index) {
      const realized = changed.get(endpoint.identity?.identity ?? 0);
      if (realized === undefined || endpoint.policySlot === 0) continue;
      if (endpoint.state !== 'ready' && endpoint.state !== 'not-ready') continue;
      endpoint.policyRevision = realized.revision;
      endpoint.policyError = realized.error;
      endpoint.become(
        realized.error === undefined ? 'ready' : 'not-ready',
        realized.error ?? 'policy in force',
        this.#deps.clock.now(),
      );
    }
  }

  #forget(endpoint: Endpoint): void {
    this.#index.delete(endpoint);
    this.#closed.delete(endpoint);
  }

  #notify(event: Parameters<EndpointListener>[0], endpoint: Endpoint): void {
    for (const listener of this.#listeners) listener(event, endpoint);
  }
}
