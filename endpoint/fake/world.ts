// SPDX-License-Identifier: Apache-2.0

import { mkdirSync, mkdtempSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { CiliumError } from '../../errors/cilium-error.ts';
import { IpAddress } from '../../net/ip.ts';
import { ManualClock } from '../../runtime/fake/manual-clock.ts';
import { silentLogger } from '../../runtime/logger.ts';
import type { ContainerInfo } from '../endpoint.ts';
import type { CreateRequest, EndpointManagerDeps, EndpointRecords } from '../endpoint-manager-deps.ts';
import { EndpointManager } from '../endpoint-manager.ts';
import type { PolicyEntry } from '../policy-changes.ts';
import { PolicyRealizer } from '../policy-realizer.ts';
import { EndpointStore } from '../store.ts';

type EndpointRecord = Parameters<EndpointRecords['update']>[1];

/** The outside of an endpoint manager: a kernel, a Docker and an identity allocator that live in Maps. */
export class World {
  readonly stateDir = mkdtempSync(join(tmpdir(), 'endpoint-'));
  readonly links = new Map<string, number>();
  readonly records = new Map<string, EndpointRecord>();
  readonly ipcache = new Map<string, number>();
  readonly identityUsers = new Map<string, number>();
  readonly containers = new Map<string, ContainerInfo>();
  readonly clock = new ManualClock();
  readonly steps: string[] = [];
  readonly slots = new Map<number, PolicyEntry[]>();
  readonly #policies = new Map<number, object>();
  nextIfindex = 100;
  nextSlot = 1;
  noSlotLeft = false;
  onRelease: () => void = () => undefined;

  constructor() {
    mkdirSync(join(this.stateDir, 'endpoints'));
  }

  policy(): PolicyRealizer {
    return new PolicyRealizer(
      {
        revision: 5,
        addSubject: () => undefined,
        removeSubject: () => undefined,
        policyOf: (identity) => this.#policyOf(identity),
        entries: () => [],
        takeUpdates: () => [],
      },
      {
        maxEntries: Infinity,
        acquire: () => {
          if (this.noSlotLeft) throw new CiliumError('MapFull', 'no spare policy slot is left');
          this.steps.push('policy');
          this.slots.set(this.nextSlot, []);
          return this.nextSlot++;
        },
        apply: () => undefined,
        entries: (slot) => this.slots.get(slot) ?? [],
        release: (slot) => this.slots.delete(slot),
      },
      silentLogger,
    );
  }

  /** Every identity has a policy of its own. */
  #policyOf(identity: number): object {
    const policy = this.#policies.get(identity) ?? {};
    this.#policies.set(identity, policy);
    return policy;
  }

  recordMap(): EndpointRecords {
    return {
      update: (address, record) => {
        this.steps.push('record');
        this.records.set(address.toString(), record);
      },
      delete: (address) => {
        this.steps.push('unrecord');
        this.records.delete(address.toString());
      },
      get: (address) => this.records.get(address.toString()),
      entries: () => [...this.records].map(([address, info]) => ({ address: IpAddress.parse(address), info })),
    };
  }

  manager(overrides: Partial<EndpointManagerDeps> = {}): EndpointManager {
    return new EndpointManager({
      links: {
        createVeth: ({ hostName }) => {
          const hostIfindex = this.nextIfindex++;
          this.links.set(hostName, hostIfindex);
          return { hostIfindex };
        },
        deleteLink: (name) => Promise.resolve(this.links.delete(name)),
        getLink: (name) => (this.links.has(name) ? { ifindex: this.links.get(name)! } : undefined),
      },
      records: this.recordMap(),
      ipcache: {
        upsert: (prefix, { identity }) => {
          this.steps.push('ipcache');
          this.ipcache.set(prefix.toString(), identity);
        },
        delete: (prefix) => void this.ipcache.delete(prefix.toString()),
      },
      identities: {
        acquire: (container, changes) => {
          this.steps.push('identity');
          const all = [`container:id=${container.labels['id'] ?? ''}`, ...changes.added];
          const labels = all.map((label) => `${label};`).join('');
          this.identityUsers.set(labels, (this.identityUsers.get(labels) ?? 0) + 1);
          return Promise.resolve({ identity: identityOf(labels), labels });
        },
        reacquire: (labels) => {
          this.identityUsers.set(labels, (this.identityUsers.get(labels) ?? 0) + 1);
          return Promise.resolve(identityOf(labels));
        },
        release: (labels) => {
          this.steps.push('release');
          this.onRelease();
          this.identityUsers.set(labels, this.identityUsers.get(labels)! - 1);
          return Promise.resolve();
        },
      },
      policy: this.policy(),
      containers: { foresee: () => undefined, find: (_network, id) => Promise.resolve(this.containers.get(id)) },
      takeOver: () => Promise.resolve(),
      connections: { purge: () => void this.steps.push('purge'), purged: () => Promise.resolve() },
      store: new EndpointStore(this.stateDir, silentLogger),
      clock: this.clock,
      log: silentLogger,
      ...overrides,
    });
  }

  runContainer(dockerEndpointId: string, id: string): void {
    this.containers.set(dockerEndpointId, { id: `c-${id}`, name: id, image: 'web', labels: { id } });
  }
}

export function identityOf(labels: string): number {
  return Buffer.from(labels).reduce((hash, byte) => (Math.imul(hash, 31) + byte) >>> 0, 1);
}

export const EP1 = '1'.repeat(64);
export const EP2 = '2'.repeat(64);

export function request(overrides: Partial<CreateRequest> = {}): CreateRequest {
  return {
    networkId: 'n'.repeat(64),
    dockerEndpointId: EP1,
    internal: false,
    mtu: 1500,
    ipv4: IpAddress.parse('10.15.0.2'),
    ipv6: IpAddress.parse('fd15::2'),
    mac: undefined,
    ...overrides,
  };
}
