// SPDX-License-Identifier: Apache-2.0

import assert from 'node:assert/strict';
import { CiliumError } from '../../errors/cilium-error.ts';
import { LabelSet } from '../../identity/label-set.ts';
import { LOCAL_IDENTITY_MIN, numericIdentity, type NumericIdentity } from '../../identity/numeric-identity.ts';
import { parseRules } from '../../policy/parse/rule.ts';
import { PolicyRepository } from '../../policy/repository.ts';
import { silentLogger } from '../../runtime/logger.ts';
import type { PolicyEntry } from '../policy-changes.ts';
import { PolicyRealizer } from '../policy-realizer.ts';
import { FakeSlots, textOf } from './slots.ts';

/** The policy engine, a realizer, slots and the records of endpoints that name them. */
export class SharingWorld {
  readonly slots: FakeSlots;
  readonly repository: PolicyRepository;
  readonly realizer: PolicyRealizer;
  /** Slot that the endpoints of an identity name. */
  readonly records = new Map<number, number>();
  movesToFail = 0;
  #lastPort = 1000;

  constructor(slots = new FakeSlots()) {
    this.slots = slots;
    this.repository = new PolicyRepository({
      enforcement: 'default',
      allowLocalhost: 'auto',
      cidrIdentities: { acquire: () => numericIdentity(LOCAL_IDENTITY_MIN), release: () => undefined },
    });
    const { repository } = this;
    this.realizer = new PolicyRealizer(
      {
        get revision() {
          return repository.revision;
        },
        addSubject: (identity) => repository.addSubject(this.id(identity)),
        removeSubject: (identity) => repository.removeSubject(this.id(identity)),
        policyOf: (identity) => repository.policyOf(this.id(identity)),
        entries: (identity) => repository.entries(this.id(identity)),
        takeUpdates: () => repository.takePolicyUpdates(),
      },
      slots,
      silentLogger,
    );
    this.realizer.onSlotChange((identities, slot) => {
      for (const identity of identities) {
        // The first of those moved together has moved when the next one fails.
        if (this.movesToFail > 0 && identity !== [...identities][0]) {
          this.movesToFail--;
          throw new CiliumError('System', 'no memory');
        }
        if (this.records.has(identity)) this.records.set(identity, slot);
      }
    });
  }

  /** The same slots, and everything else new. */
  restart(): SharingWorld {
    return new SharingWorld(this.slots);
  }

  id(identity: number): NumericIdentity {
    return numericIdentity(identity);
  }

  know(...identities: number[]): void {
    for (const identity of identities) {
      const labels = LabelSet.fromTexts([`container:id=${identity}`, 'container:role=all']);
      this.repository.addIdentity(this.id(identity), labels);
    }
  }

  /** An endpoint of each. */
  join(...identities: number[]): void {
    this.know(...identities);
    for (const identity of identities) this.records.set(identity, this.realizer.acquire(identity).slot);
  }

  leave(identity: number): void {
    this.records.delete(identity);
    this.realizer.release(identity);
  }

  adopt(identity: number, slot: number): number {
    this.know(identity);
    const { slot: adopted } = this.realizer.adopt(identity, slot);
    this.records.set(identity, adopted);
    return adopted;
  }

  /** Ports that no call gave before. */
  ports(count: number): number[] {
    return Array.from({ length: count }, () => ++this.#lastPort);
  }

  /** Imports one rule for an identity, or for all. */
  allow(subject: number | 'all', ...ports: number[]): void {
    const toPorts = ports.map((port) => ({ ports: [{ port: String(port), protocol: 'TCP' }] }));
    const matchLabels = subject === 'all' ? { role: 'all' } : { id: String(subject) };
    const rule = { endpointSelector: { matchLabels }, ingress: [{ toPorts }], labels: [`of=${subject}`] };
    this.repository.import(parseRules([rule]));
    this.realizer.sync();
  }

  deleteRules(subject: number | 'all'): void {
    this.repository.deleteByLabels([{ source: 'any', key: 'of', value: String(subject) }]);
    this.realizer.sync();
  }

  slotsOf(...identities: number[]): number[] {
    return identities.map((identity) => this.realizer.get(identity)!.slot);
  }

  /** What the kernel judges an identity's packets by. */
  contentOf(identity: number): string[] {
    return describe(this.slots.entries(this.records.get(identity)!));
  }

  wantedOf(identity: number): string[] {
    return describe(this.repository.entries(this.id(identity)));
  }

  /** Ports that the policy allows to everybody. */
  wantedPortsOf(identity: number): number[] | 'all' {
    return portsIn(this.repository.entries(this.id(identity)));
  }

  /** The same, of what the kernel judges packets by. */
  enforcedPortsOf(identity: number): number[] | 'all' {
    return portsIn(this.slots.entries(this.records.get(identity)!));
  }

  /** Gives back the slots that no record names, as the agent does after a restart. */
  retain(): void {
    const named = new Set(this.records.values());
    for (const slot of this.slots.contents.keys()) {
      if (!named.has(slot) && !this.slots.released.includes(slot)) this.slots.release(slot);
    }
  }

  /** Nothing but the size of a policy can keep it from being enforced. */
  get hasPlenty(): boolean {
    return this.slots.spares > 100 && this.slots.capacity > this.slots.maxEntries && this.movesToFail === 0;
  }

  /** Everything wanted is in the kernel, and no slot is held that nobody uses. */
  assertInForce(): void {
    for (const [identity, slot] of this.records) {
      const { slot: realized, revision, error } = this.realizer.get(identity)!;
      assert.deepEqual([slot, revision, error], [realized, this.repository.revision, undefined], `of ${identity}`);
      assert.deepEqual(this.contentOf(identity), this.wantedOf(identity), `map of ${identity}`);
    }
  }
}

function portsIn(entries: Iterable<PolicyEntry>): number[] | 'all' {
  const ingress = [...entries].filter(({ egress }) => !egress);
  return ingress.some(({ bits }) => bits === 0) ? 'all' : ingress.map(({ port }) => port).sort((a, b) => a - b);
}

function describe(entries: Iterable<PolicyEntry>): string[] {
  return [...entries].map((entry) => `${textOf(entry)} ${entry.deny} ${entry.precedence} ${entry.cookie}`).sort();
}
