// SPDX-License-Identifier: Apache-2.0

/**
 * Labels of containers and prefixes of rules to identities, and every identity to the policy repository.
 *
 * Order that keeps traffic whole: an identity is in the repository (hence in the policy maps, once synced) before an
 * endpoint record or ipcache names it, and leaves ipcache before it leaves the repository.
 */
import type { Prefix } from '../net/ip.ts';
import { LabelSet } from '../identity/label-set.ts';
import type { LabelFilter } from '../identity/label-filter.ts';
import { LABEL_SOURCE, parseLabel, parseSelectLabel, selectsLabel, type Label } from '../identity/label.ts';
import {
  cidrLabels,
  numericIdentity,
  reservedIdentities,
  reservedIdentityOf,
  type NumericIdentity,
} from '../identity/numeric-identity.ts';
import type { ContainerInfo, Endpoint } from '../endpoint/endpoint.ts';
import { PortNames } from './named-ports.ts';

/** How long a container's start waits for the kvstore: to say why it fails before Docker is told that it takes too long. */
const ALLOCATION_TIMEOUT_MS = 6_000;

/** Source of labels that Docker gives no container, but that follow from what it says of one. */
const DOCKER_SOURCE = 'docker';

/** Keys of labels whose source is `k8s`: see docs/decisions/0011. */
const KUBERNETES_KEY = /^io\.(kubernetes|cilium\.k8s)\./;

/** What makes the identity of containers without labels, which are known as such: see docs/decisions/0007. */
const UNLABELLED = LabelSet.of([{ source: DOCKER_SOURCE, key: 'unlabelled', value: '' }]);

/** Numbers for label sets, the same on every node. */
export interface GlobalAllocator {
  /** Throws `KvstoreUnavailable` when the signal ends the waiting for it. */
  allocate(labels: string, signal?: AbortSignal): Promise<number>;
  /** As `allocate`, for what had that number before a restart. */
  restore(labels: string, id: number): Promise<number>;
  release(labels: string): void;
  /** Labels in use have another number now. */
  onMove(listener: (move: { labels: string; to: number }) => Promise<void>): void;
  onChange(listener: (event: { type: 'upsert' | 'delete'; id: number; labels: string }) => void): void;
  list(): Iterable<{ id: number; labels: string }>;
}

/** Numbers for label sets that mean something on this node only. */
export interface LocalAllocator {
  acquire(labels: string): number;
  release(labels: string): void;
}

/** The part of the policy repository that learns about identities. */
export interface IdentityConsumer {
  addIdentity(id: NumericIdentity, labels: LabelSet): void;
  removeIdentity(id: NumericIdentity): void;
}

/** ipcache, as the source that speaks for what this node knows itself. */
export interface IpcacheEntries {
  upsert(prefix: Prefix, entry: { identity: number }): void;
  delete(prefix: Prefix): void;
}

export interface IdentitiesDeps {
  readonly allocator: GlobalAllocator;
  readonly filter: LabelFilter;
  readonly consumer: IdentityConsumer;
  /** Writes what the consumer now wants to the kernel. */
  readonly syncPolicy: () => void;
  /** Told which identities endpoints have. */
  readonly portNames: Pick<PortNames, 'hold' | 'drop' | 'renumber'>;
  /** The name of a Docker network, for the label that it becomes; undefined when networks become no label. */
  readonly networkName: ((networkId: string) => Promise<string>) | undefined;
}

export class Identities {
  readonly #deps: IdentitiesDeps;
  readonly #known = new Map<number, LabelSet>();
  #onMove: (labels: string, identity: number) => Promise<void> = () => Promise.resolve();

  constructor(deps: IdentitiesDeps) {
    this.#deps = deps;
    for (const [id, labels] of reservedIdentities()) this.#learn(id, labels);
  }

  /** Begins to follow the identities that other nodes allocate. The allocator must have been started. */
  follow(): void {
    for (const { id, labels } of this.#deps.allocator.list()) this.#learn(numericIdentity(id), LabelSet.parse(labels));
    this.#deps.allocator.onChange(({ type, id, labels }) => {
      if (type === 'upsert') this.#learn(numericIdentity(id), LabelSet.parse(labels));
      else this.#forget(numericIdentity(id));
      this.#deps.syncPolicy();
    });
    this.#deps.allocator.onMove(async ({ labels, to }) => {
      this.#deps.portNames.renumber(labels, numericIdentity(to));
      this.#deps.syncPolicy();
      await this.#onMove(labels, to);
    });
  }

  /** Who gives endpoints with these labels the number that they have now, instead of the one they had. */
  onMove(listener: (labels: string, identity: number) => Promise<void>): void {
    this.#onMove = listener;
  }

  list(): { id: number; labels: LabelSet }[] {
    return Array.from(this.#known, ([id, labels]) => ({ id, labels })).sort((a, b) => a.id - b.id);
  }

  labelsOf(id: number): LabelSet | undefined {
    return this.#known.get(id);
  }

  /** The identity of a container, with the labels that make it. Each call needs one `release` of those labels. */
  async acquire(
    container: ContainerInfo,
    changes: Endpoint['labelChanges'],
    networkId: string,
  ): Promise<{ identity: number; labels: string }> {
    const identity = await this.#identityLabels(container, changes, networkId);
    const set = identity.size === 0 ? UNLABELLED : identity;
    PortNames.check(set);
    return { identity: await this.#allocate(set), labels: set.toString() };
  }

  /** Takes an identity again that this node held before a restart; answers its number, the old one where possible. */
  async reacquire(labels: string, before: number): Promise<number> {
    return this.#allocate(LabelSet.parse(labels), before);
  }

  /** Does not wait for the kvstore. */
  release(labels: string): Promise<void> {
    if (this.#deps.portNames.drop(labels)) this.#deps.syncPolicy();
    if (reservedIdentityOf(LabelSet.parse(labels)) === undefined) this.#deps.allocator.release(labels);
    return Promise.resolve();
  }

  /** Labels of a container that are only information. */
  informationLabels(container: ContainerInfo): string[] {
    return this.#deps.filter.split(dockerLabels(container)).information.toTexts();
  }

  async #identityLabels(
    container: ContainerInfo,
    changes: Endpoint['labelChanges'],
    networkId: string,
  ): Promise<LabelSet> {
    const labels = dockerLabels(container);
    if (this.#deps.networkName) {
      labels.push({ source: DOCKER_SOURCE, key: 'network', value: await this.#deps.networkName(networkId) });
    }
    const disabled = changes.disabled.map(parseSelectLabel);
    const kept = [...this.#deps.filter.split(labels).identity].filter(
      (label) => !disabled.some((select) => selectsLabel(select, label)),
    );
    return LabelSet.of([...kept, ...changes.added.map(parseLabel)]);
  }

  async #allocate(labels: LabelSet, before?: number): Promise<number> {
    const reserved = reservedIdentityOf(labels);
    if (reserved !== undefined) return reserved;
    const { allocator } = this.#deps;
    const text = labels.toString();
    const id = numericIdentity(
      before === undefined
        ? await allocator.allocate(text, AbortSignal.timeout(ALLOCATION_TIMEOUT_MS))
        : await allocator.restore(text, before),
    );
    this.#learn(id, labels);
    this.#deps.portNames.hold(id, labels);
    return id;
  }

  #learn(id: NumericIdentity, labels: LabelSet): void {
    if (this.#known.get(id)?.equals(labels) === true) return;
    this.#known.set(id, labels);
    this.#deps.consumer.addIdentity(id, labels);
  }

  #forget(id: NumericIdentity): void {
    if (this.#known.delete(id)) this.#deps.consumer.removeIdentity(id);
  }
}

/** Whether a text of the kvstore is the labels of an identity that nodes share. */
export function isIdentityLabels(text: string): boolean {
  try {
    const labels = LabelSet.parse(text);
    return labels.size > 0 && labels.toString() === text && reservedIdentityOf(labels) === undefined;
  } catch {
    return false;
  }
}

/** Labels that are of Kubernetes by their key have it as source: policy resources ask for namespaces by that. */
function dockerLabels(container: ContainerInfo): Label[] {
  return Object.entries(container.labels).map(([key, value]) => {
    const source = KUBERNETES_KEY.test(key) ? LABEL_SOURCE.k8s : LABEL_SOURCE.container;
    return { source, key, value };
  });
}

/**
 * Identities of the prefixes that rules name. The repository asks for them while it takes rules in; `publish` and
 * `withdraw` then carry them to ipcache, after and before the policy maps.
 */
export class CidrIdentities {
  readonly #local: LocalAllocator;
  readonly #ipcache: IpcacheEntries;
  readonly #unpublished = new Map<string, { prefix: Prefix; identity: NumericIdentity }>();

  constructor(local: LocalAllocator, ipcache: IpcacheEntries) {
    this.#local = local;
    this.#ipcache = ipcache;
  }

  /** Called by the repository once for each prefix in use. */
  acquire(prefix: Prefix): NumericIdentity {
    const labels = cidrLabels(prefix);
    const reserved = reservedIdentityOf(labels); // 0.0.0.0/0 and ::/0 are the world itself
    if (reserved !== undefined) return reserved;
    const identity = numericIdentity(this.#local.acquire(labels.toString()));
    this.#unpublished.set(prefix.toString(), { prefix, identity });
    return identity;
  }

  /** Addresses of the prefix go back to the identity they have without it, at once. */
  release(prefix: Prefix): void {
    const labels = cidrLabels(prefix);
    if (reservedIdentityOf(labels) !== undefined) return;
    if (!this.#unpublished.delete(prefix.toString())) this.#ipcache.delete(prefix);
    this.#local.release(labels.toString());
  }

  /** Lets addresses of new prefixes have their identities: to be called once the policy maps know them. */
  publish(): void {
    for (const { prefix, identity } of this.#unpublished.values()) this.#ipcache.upsert(prefix, { identity });
    this.#unpublished.clear();
  }
}
