// SPDX-License-Identifier: Apache-2.0

/** The endpoints of this node by their two names, and which IDs and addresses are free. */
import { CiliumError } from '../errors/cilium-error.ts';
import type { IpAddress } from '../net/ip.ts';
import type { Endpoint } from './endpoint.ts';

const MAX_ENDPOINT_ID = 65_535;

export class EndpointIndex {
  readonly #byDockerId = new Map<string, Endpoint>();
  readonly #byId = new Map<number, Endpoint>();
  /** The one that was given out, or came, last. */
  #lastId = 0;

  get(id: number): Endpoint | undefined {
    return this.#byId.get(id);
  }

  getByDockerId(dockerEndpointId: string): Endpoint | undefined {
    return this.#byDockerId.get(dockerEndpointId);
  }

  [Symbol.iterator](): IterableIterator<Endpoint> {
    return this.#byId.values();
  }

  insert(endpoint: Endpoint): void {
    this.#byDockerId.set(endpoint.facts.dockerEndpointId, endpoint);
    this.#byId.set(endpoint.id, endpoint);
    this.#lastId = endpoint.id;
  }

  delete(endpoint: Endpoint): void {
    this.#byDockerId.delete(endpoint.facts.dockerEndpointId);
    this.#byId.delete(endpoint.id);
  }

  /** The lowest ID above the last one that is free, so that IDs are not reused at once. Throws `PoolExhausted`. */
  nextId(): number {
    for (let step = 1; step <= MAX_ENDPOINT_ID; step++) {
      const id = ((this.#lastId + step - 1) % MAX_ENDPOINT_ID) + 1;
      if (!this.#byId.has(id)) return id;
    }
    throw new CiliumError('PoolExhausted', `this node has ${MAX_ENDPOINT_ID} endpoints, the most it can have`);
  }

  /** Throws `InUse` when an endpoint, or the node itself, has one of the addresses. */
  refuseTaken(wanted: readonly (IpAddress | undefined)[], isOfNode: (address: IpAddress) => boolean): void {
    for (const address of wanted) {
      if (address === undefined) continue;
      const holder = [...this].find((endpoint) => endpoint.addresses.some((other) => other.equals(address)));
      if (!holder && !isOfNode(address)) continue;
      const user = holder ? `endpoint ${holder.id}` : 'this node itself';
      throw new CiliumError(
        'InUse',
        `address ${address.toString()} is in use by ${user}; choose another or remove that container first`,
      );
    }
  }
}
