// SPDX-License-Identifier: Apache-2.0

/** One interface of a container under our control: what is remembered of it, and where it stands. */
import { isDeepStrictEqual } from 'node:util';
import type { IpAddress } from '../net/ip.ts';
import type { MacAddress } from '../net/mac.ts';
import { CiliumError } from '../errors/cilium-error.ts';
import { mayBecome, type EndpointState } from './state.ts';

/** How many state changes `endpoint get` shows. */
const LOG_ENTRIES = 32;

/** Docker's short form of a container's ID, which is one of its names. */
const SHORT_ID_DIGITS = 12;

/** The container behind an endpoint, as Docker describes it. */
export interface ContainerInfo {
  readonly id: string;
  readonly name: string;
  readonly image: string;
  readonly labels: Readonly<Record<string, string>>;
  /** Name of the Docker network of this endpoint. */
  readonly network?: string | undefined;
  /** What else the container is called there; Docker tells only when the container has started. */
  readonly aliases?: readonly string[] | undefined;
}

/** What Docker may change its mind about while a container runs. */
export type ContainerNames = Required<Pick<ContainerInfo, 'name' | 'network' | 'aliases'>>;

/** All that a container is called on its network, its name first; undefined while the network's name is not known. */
export function namesOn(container: ContainerInfo): { names: readonly string[]; network: string } | undefined {
  const { id, name, network, aliases = [] } = container;
  if (network === undefined) return undefined;
  return { names: [...new Set([name, id.slice(0, SHORT_ID_DIGITS), ...aliases])], network };
}

/** What never changes while an endpoint lives. */
export interface EndpointFacts {
  /** 1..65535, unique on this node. */
  readonly id: number;
  readonly dockerEndpointId: string;
  readonly networkId: string;
  /** Host side of the veth pair; the name and index of the network device. */
  readonly ifName: string;
  readonly ifindex: number;
  readonly hostMac: MacAddress;
  readonly mac: MacAddress;
  readonly mtu: number;
  /** Endpoint of a network made with --internal: neither host nor world. */
  readonly internal: boolean;
  readonly ipv4: IpAddress | undefined;
  readonly ipv6: IpAddress | undefined;
}

/** What is known once the container's labels are. */
export interface EndpointIdentity {
  readonly container: ContainerInfo;
  /** The security-relevant labels, "source:key=value;" in order: the text that the identity was allocated for. */
  readonly labels: string;
  readonly identity: number;
}

export interface StateChange {
  readonly at: number; // ms since the epoch
  readonly state: EndpointState;
  readonly reason: string;
}

export class Endpoint {
  readonly facts: EndpointFacts;
  #state: EndpointState;
  #identity: EndpointIdentity | undefined;
  /** Key of cilium_policy that the kernel's record of this endpoint names; 0 (always empty) until there is one. */
  policySlot = 0;
  /** Policy revision that the kernel enforces for it; 0 before the first. */
  policyRevision = 0;
  /** Labels set by hand with `cilium endpoint labels`: added to, or taken from, those of the container. */
  labelChanges: { readonly added: readonly string[]; readonly disabled: readonly string[] } = {
    added: [],
    disabled: [],
  };
  /** Why the last policy is not in force; undefined when all is well. */
  policyError: string | undefined;
  readonly #log: StateChange[] = [];

  constructor(facts: EndpointFacts, state: 'creating' | 'restoring', now: number) {
    this.facts = facts;
    this.#state = state;
    this.#log.push({ at: now, state, reason: state === 'creating' ? 'Docker asked for it' : 'read from disk' });
  }

  get id(): number {
    return this.facts.id;
  }

  get state(): EndpointState {
    return this.#state;
  }

  get identity(): EndpointIdentity | undefined {
    return this.#identity;
  }

  /** The most recent state changes, oldest first. */
  get log(): readonly StateChange[] {
    return this.#log;
  }

  get addresses(): readonly IpAddress[] {
    return [this.facts.ipv4, this.facts.ipv6].filter((address) => address !== undefined);
  }

  /** Moves on; throws `Internal` on a way that does not exist. Staying in a state is recorded if it is a failure of another kind. */
  become(state: EndpointState, reason: string, now: number): void {
    const stays = state === this.#state;
    if (stays && (state !== 'not-ready' || this.#log.at(-1)?.reason === reason)) return;
    if (!stays && !mayBecome(this.#state, state)) {
      throw new CiliumError('Internal', `endpoint ${this.id} cannot go from ${this.#state} to ${state}`);
    }
    this.#state = state;
    this.#log.push({ at: now, state, reason });
    if (this.#log.length > LOG_ENTRIES) this.#log.shift();
  }

  identify(identity: EndpointIdentity | undefined): void {
    this.#identity = identity;
  }
}

export function hasNames({ name, network, aliases }: ContainerInfo, names: ContainerNames): boolean {
  return isDeepStrictEqual({ name, network, aliases }, names);
}
