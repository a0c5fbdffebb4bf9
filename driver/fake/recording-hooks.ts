// SPDX-License-Identifier: Apache-2.0

/** Stands in for the rest of the agent: notes what it is asked and does as a test tells it. */
import { MacAddress } from '../../net/mac.ts';
import type { DockerNetwork, EndpointHooks, EndpointRequest, NetworkHooks, NetworkRecord } from '../types.ts';

export const FAKE_MAC = '02:42:00:00:00:07';

export class RecordingHooks {
  /** "create ep1", "deleted net1", … in the order of the calls. */
  readonly calls: string[] = [];
  readonly endpointsById = new Map<string, EndpointRequest>();
  readonly docker = new Map<string, DockerNetwork>();
  /** Runs in the middle of the hook of this name: throw, or wait, there. */
  readonly during = new Map<string, () => Promise<void> | void>();

  readonly endpoints: EndpointHooks = {
    create: async (request) => {
      await this.#called('create', request.dockerEndpointId);
      this.endpointsById.set(request.dockerEndpointId, request);
      return { mac: request.mac ?? MacAddress.parse(FAKE_MAC) };
    },
    join: async ({ dockerEndpointId }) => {
      await this.#called('join', dockerEndpointId);
      const { ipv4, ipv6 } = this.endpointsById.get(dockerEndpointId) ?? {};
      return { srcName: `tmp${dockerEndpointId.slice(0, 8)}`, ipv4, ipv6 };
    },
    leave: async (id) => this.#called('leave', id),
    delete: async (id) => {
      await this.#called('delete', id);
      this.endpointsById.delete(id);
    },
  };

  readonly networks: NetworkHooks = {
    created: async ({ id }: NetworkRecord) => this.#called('created', id),
    deleted: async ({ id }: NetworkRecord) => this.#called('deleted', id),
  };

  readonly inspect = async (id: string): Promise<DockerNetwork | undefined> => {
    await this.#called('inspect', id);
    return this.docker.get(id);
  };

  async #called(hook: string, id: string): Promise<void> {
    this.calls.push(`${hook} ${id}`);
    await this.during.get(hook)?.();
  }
}
