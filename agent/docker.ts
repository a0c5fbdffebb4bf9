// SPDX-License-Identifier: Apache-2.0

/**
 * What we ask the Docker engine: who an endpoint is, which networks and endpoints it knows.
 *
 * While Docker waits for one of our answers it holds the container's lock, so nothing here may ask for one container
 * (`GET /containers/<id>/json` would wait for us, and we for it); lists do not take that lock.
 */
import Docker from 'dockerode';
import { z } from 'zod';
import { CiliumError, isCiliumError } from '../errors/cilium-error.ts';
import type { Clock } from '../runtime/clock.ts';

/** Pause between questions while Docker does not list an endpoint yet. */
const ASK_AGAIN_MS = 15;
/** A container that starts is mostly one of those made last, and these can be asked for before its name is known. */
const RECENT_CONTAINERS = 3;
/** Questions asked ahead whose answers nobody has wanted yet; the oldest go. */
const MAX_FORESEEN = 64;
/** An engine that says nothing for so long is taken for dead. */
const SILENCE_MS = 5_000;

const NetworkInspect = z.object({
  Id: z.string(),
  Name: z.string(),
  Driver: z.string(),
  Internal: z.boolean().default(false),
  Scope: z.string().optional(),
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

type ListedContainer = z.infer<typeof ContainerList>[number];

export interface DockerContainer {
  readonly id: string;
  readonly name: string;
  readonly image: string;
  readonly labels: Readonly<Record<string, string>>;
  /** Name of the network that it was looked for on. */
  readonly network: string;
}

/** A container that ought to run and could not be started. */
export interface FailedStart {
  readonly id: string;
  readonly name: string;
  /** In Docker's words. */
  readonly error: string;
}

export class DockerEngine {
  readonly #docker: Docker;
  readonly #clock: Clock;
  readonly #networkNames = new Map<string, string>();
  /** The containers made last when an endpoint was made, by its ID. */
  readonly #foreseen = new Map<string, Promise<readonly ListedContainer[]>>();

  constructor(socketPath: string, clock: Clock, silenceMs = SILENCE_MS) {
    this.#docker = new Docker({ socketPath, timeout: silenceMs });
    this.#clock = clock;
  }

  /** Version of the engine; throws `DockerUnavailable` when it does not answer. */
  async version(): Promise<string> {
    const { Version } = await this.#ask('version', () => this.#docker.version());
    return Version;
  }

  /**
   * Docker is about to start the container of this endpoint, so `find` will be called: one of its two questions is asked
   * now. By the time Docker calls Join the answer is mostly there.
   */
  foresee(dockerEndpointId: string): void {
    const recent = this.#recent();
    recent.catch(() => undefined);
    this.#foreseen.set(dockerEndpointId, recent);
    for (const id of this.#foreseen.keys()) if (this.#foreseen.size > MAX_FORESEEN) this.#foreseen.delete(id);
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
    // Where this fails, the next question tells.
    const recent = (this.#foreseen.get(dockerEndpointId) ?? this.#recent()).catch(() => []);
    this.#foreseen.delete(dockerEndpointId);
    while (!signal.aborted) {
      const network = await this.network(networkId);
      const entry = Object.entries(network?.Containers ?? {}).find(
        ([key, container]) => key === `ep-${dockerEndpointId}` || container.EndpointID === dockerEndpointId,
      );
      const name = entry?.[1].Name;
      const container =
        name === undefined ? undefined : (named(name, await recent) ?? (await this.#containerNamed(name)));
      if (container && network) return { ...container, network: network.Name };
      await this.#clock.sleep(ASK_AGAIN_MS, signal).catch(() => undefined);
    }
    return undefined;
  }

  /** A network with the endpoints on it; undefined when Docker does not know it. */
  async network(id: string): Promise<NetworkInfo | undefined> {
    try {
      const network = NetworkInspect.parse(
        await this.#ask(`network ${id}`, () => this.#docker.getNetwork(id).inspect()),
      );
      this.#networkNames.set(id, network.Name);
      return network;
    } catch (error) {
      if (!isCiliumError(error, 'NotFound')) throw error;
      this.#networkNames.delete(id);
      return undefined;
    }
  }

  /** A network keeps its name, so who has been told once is not asked again. Throws `NotFound`. */
  async networkName(id: string): Promise<string> {
    const name = this.#networkNames.get(id) ?? (await this.network(id))?.Name;
    if (name === undefined) throw new CiliumError('NotFound', `Docker has no network ${id}`);
    return name;
  }

  /** All networks that use a driver, for the network or for its addresses. */
  async networksOf(driver: string): Promise<NetworkInfo[]> {
    const list = await this.#ask('networks', () => this.#docker.listNetworks());
    const ours = list.filter((network) => network.Driver === driver || network.IPAM?.Driver === driver);
    const networks = await Promise.all(ours.map(({ Id }) => this.network(Id)));
    return networks.filter((network) => network !== undefined);
  }

  /** Containers on networks of a driver that do not run, though their restart policy wants it, since a start failed. */
  async failedStarts(driver: string): Promise<FailedStart[]> {
    const network = (await this.networksOf(driver)).map(({ Id }) => Id);
    if (network.length === 0) return [];
    const status = ['created', 'exited'];
    const stopped = await this.#containers({ all: true, filters: { status, network } });
    const found = await Promise.all(stopped.map(({ Id }) => this.#failedStart(Id)));
    return found.filter((one) => one !== undefined);
  }

  async startContainer(id: string): Promise<void> {
    await this.#ask(`container ${id}`, () => this.#docker.getContainer(id).start());
  }

  /** Must not be called where Docker waits for us: it does not answer about a container that is being started. */
  async #failedStart(id: string): Promise<FailedStart | undefined> {
    try {
      const { Name, State, HostConfig } = await this.#ask(`container ${id}`, () =>
        this.#docker.getContainer(id).inspect(),
      );
      const wanted = !['', 'no'].includes(HostConfig.RestartPolicy?.Name ?? '');
      const error = State.Running ? '' : State.Error;
      return wanted && error !== '' ? { id, name: Name.replace(/^\//, ''), error } : undefined;
    } catch (error) {
      if (isCiliumError(error, 'NotFound')) return undefined; // removed meanwhile
      throw error;
    }
  }

  async #containerNamed(name: string): Promise<Omit<DockerContainer, 'network'> | undefined> {
    const exact = `^/${name.replace(/[^a-zA-Z0-9]/g, '\\$&')}$`;
    return named(name, await this.#containers({ all: true, filters: { name: [exact] } }));
  }

  #recent(): Promise<readonly ListedContainer[]> {
    return this.#containers({ limit: RECENT_CONTAINERS });
  }

  async #containers(options: Docker.ContainerListOptions): Promise<readonly ListedContainer[]> {
    return ContainerList.parse(await this.#ask('containers', () => this.#docker.listContainers(options)));
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

function named(name: string, containers: readonly ListedContainer[]): Omit<DockerContainer, 'network'> | undefined {
  const found = containers.find(({ Names }) => Names.includes(`/${name}`));
  return found && { id: found.Id, name, image: found.Image, labels: found.Labels ?? {} };
}
