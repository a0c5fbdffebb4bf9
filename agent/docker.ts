// SPDX-License-Identifier: Apache-2.0

/**
 * What we ask the Docker engine: who an endpoint is, which networks and endpoints it knows.
 *
 * While Docker waits for one of our answers it holds the container's lock, so nothing here may ask for one container
 * (`GET /containers/<id>/json` would wait for us, and we for it); lists do not take that lock.
 */
import Docker from 'dockerode';
import { z } from 'zod';
import { CiliumError } from '../errors/cilium-error.ts';
import type { Clock } from '../runtime/clock.ts';

/** Pause between questions while Docker does not list an endpoint yet. */
const ASK_AGAIN_MS = 15;
/** An engine that says nothing for so long is taken for dead. */
const SILENCE_MS = 5_000;

const NetworkInspect = z.object({
  Id: z.string(),
  Name: z.string(),
  Driver: z.string(),
  Internal: z.boolean().default(false),
  IPAM: z.object({
    Driver: z.string(),
    Config: z
      .array(
        z.object({
          Subnet: z.string(),
          Gateway: z.string().optional(),
          AuxiliaryAddresses: z.record(z.string(), z.string()).nullish(),
        }),
      )
      .nullable(),
  }),
  Options: z.record(z.string(), z.string()).nullable(),
  Containers: z
    .record(
      z.string(),
      z.object({ Name: z.string(), EndpointID: z.string(), IPv4Address: z.string(), IPv6Address: z.string() }),
    )
    .nullable(),
});
export type NetworkInfo = z.infer<typeof NetworkInspect>;

const ContainerList = z.array(
  z.object({
    Id: z.string(),
    Names: z.array(z.string()),
    Image: z.string(),
    Labels: z.record(z.string(), z.string()).nullable(),
  }),
);

export interface DockerContainer {
  readonly id: string;
  readonly name: string;
  readonly image: string;
  readonly labels: Readonly<Record<string, string>>;
}

export class DockerEngine {
  readonly #docker: Docker;
  readonly #clock: Clock;

  constructor(socketPath: string, clock: Clock, silenceMs = SILENCE_MS) {
    this.#docker = new Docker({ socketPath, timeout: silenceMs });
    this.#clock = clock;
  }

  /** Version of the engine; throws `DockerUnavailable` when it does not answer. */
  async version(): Promise<string> {
    const { Version } = await this.#ask('version', () => this.#docker.version());
    return Version;
  }

  /** The container behind an endpoint, asked for until it is listed or the signal aborts. */
  async find(networkId: string, dockerEndpointId: string, signal: AbortSignal): Promise<DockerContainer | undefined> {
    const aborted = new Promise<undefined>((resolve) => {
      signal.addEventListener('abort', () => resolve(undefined), { once: true });
    });
    return await Promise.race([this.#search(networkId, dockerEndpointId, signal), aborted]);
  }

  async #search(
    networkId: string,
    dockerEndpointId: string,
    signal: AbortSignal,
  ): Promise<DockerContainer | undefined> {
    while (!signal.aborted) {
      const network = await this.network(networkId);
      const entry = Object.entries(network?.Containers ?? {}).find(
        ([key, container]) => key === `ep-${dockerEndpointId}` || container.EndpointID === dockerEndpointId,
      );
      const container = entry && (await this.#containerNamed(entry[1].Name));
      if (container) return container;
      await this.#clock.sleep(ASK_AGAIN_MS, signal).catch(() => undefined);
    }
    return undefined;
  }

  /** A network with the endpoints on it; undefined when Docker does not know it. */
  async network(id: string): Promise<NetworkInfo | undefined> {
    try {
      return NetworkInspect.parse(await this.#ask(`network ${id}`, () => this.#docker.getNetwork(id).inspect()));
    } catch (error) {
      if (error instanceof CiliumError && error.code === 'NotFound') return undefined;
      throw error;
    }
  }

  /** All networks that use a driver, for the network or for its addresses. */
  async networksOf(driver: string): Promise<NetworkInfo[]> {
    const list = await this.#ask('networks', () => this.#docker.listNetworks());
    const ours = list.filter((network) => network.Driver === driver || network.IPAM?.Driver === driver);
    const networks = await Promise.all(ours.map(({ Id }) => this.network(Id)));
    return networks.filter((network) => network !== undefined);
  }

  async #containerNamed(name: string): Promise<DockerContainer | undefined> {
    const exact = `^/${name.replace(/[^a-zA-Z0-9]/g, '\\$&')}$`;
    const found = ContainerList.parse(
      await this.#ask('containers', () => this.#docker.listContainers({ all: true, filters: { name: [exact] } })),
    )[0];
    return found && { id: found.Id, name, image: found.Image, labels: found.Labels ?? {} };
  }

  async #ask<T>(what: string, call: () => Promise<T>): Promise<T> {
    try {
      return await call();
    } catch (cause) {
      const status = (cause as { statusCode?: number }).statusCode;
      if (status === 404) throw new CiliumError('NotFound', `Docker has no ${what}`, {}, cause);
      throw new CiliumError('DockerUnavailable', `ask Docker for ${what}`, {}, cause);
    }
  }
}
