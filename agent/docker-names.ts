// SPDX-License-Identifier: Apache-2.0

/**
 * What the Docker engine calls its containers: asked for one, for all that run, and told of when it changes.
 *
 * Not to be waited for where Docker waits for us: `ofContainer` is answered when the container has started, not before.
 */
import Docker from 'dockerode';
import { z } from 'zod';
import { CiliumError } from '../errors/cilium-error.ts';

/** An engine that says nothing for so long is taken for dead, or for busy with a start that takes long. */
const SILENCE_MS = 10_000;
/** Far longer than an event; of a longer one only the beginning is kept, which tells nothing. */
const MAX_LINE_CHARACTERS = 1_000_000;

const Inspected = z.object({
  Name: z.string(),
  Config: z.object({ Hostname: z.string().default('') }),
  NetworkSettings: z.object({
    Networks: z.record(
      z.string(),
      z.object({
        EndpointID: z.string().nullish(),
        Aliases: z.array(z.string()).nullish(),
        /** From engine 25 on; before, all names stand in Aliases. */
        DNSNames: z.array(z.string()).nullish(),
      }),
    ),
  }),
});

const Listed = z.array(z.object({ Id: z.string(), Names: z.array(z.string()).nullable() }));

const Event = z.object({ Actor: z.object({ ID: z.string() }) });

/** What a container is called on one of its networks. */
export interface NamesOnNetwork {
  readonly dockerEndpointId: string;
  readonly name: string;
  readonly network: string;
  readonly aliases: readonly string[];
}

export class DockerNames {
  readonly #docker: Docker;
  /** Without a limit on silence. */
  readonly #events: Docker;

  constructor(socketPath: string) {
    this.#docker = new Docker({ socketPath, timeout: SILENCE_MS });
    this.#events = new Docker({ socketPath });
  }

  /** For each of its networks; none when Docker does not know the container. Throws `DockerUnavailable`. */
  async ofContainer(id: string): Promise<NamesOnNetwork[]> {
    const container = await ask(`container ${id}`, () => this.#docker.getContainer(id).inspect());
    if (container === undefined) return [];
    const { Name, Config, NetworkSettings } = Inspected.parse(container);
    return Object.entries(NetworkSettings.Networks).flatMap(([network, { EndpointID, Aliases, DNSNames }]) => {
      const names = [...(Aliases ?? []), ...(DNSNames ?? []), Config.Hostname].filter((name) => name !== '');
      const aliases = [...new Set(names)].sort();
      return EndpointID ? [{ dockerEndpointId: EndpointID, name: plainName(Name), network, aliases }] : [];
    });
  }

  /** ID to name of all containers that run. Throws `DockerUnavailable`. */
  async running(): Promise<Map<string, string>> {
    const list = Listed.parse(await ask('containers', () => this.#docker.listContainers()));
    return new Map(list.map(({ Id, Names }) => [Id, plainName(Names?.find((name) => isOwnName(name)) ?? '')]));
  }

  /** Tells IDs of containers that are renamed, until the engine or `signal` ends it. Throws `DockerUnavailable`. */
  async followRenames(begun: () => void, renamed: (id: string) => void, signal: AbortSignal): Promise<void> {
    const filters = { type: ['container' as const], event: ['rename'] };
    const stream = await ask('events', () => this.#events.getEvents({ filters, abortSignal: signal }));
    if (stream === undefined) return;
    begun();
    try {
      let rest = '';
      for await (const chunk of stream) {
        const lines = (rest + String(chunk)).split('\n');
        rest = (lines.pop() ?? '').slice(0, MAX_LINE_CHARACTERS);
        for (const line of lines) {
          const event = Event.safeParse(parseJson(line));
          if (event.success) renamed(event.data.Actor.ID);
        }
      }
    } catch (cause) {
      if (!signal.aborted) throw new CiliumError('DockerUnavailable', 'follow the events of Docker', {}, cause);
    }
  }
}

/** Undefined: Docker has no such thing. */
async function ask<T>(what: string, call: () => Promise<T>): Promise<T | undefined> {
  try {
    return await call();
  } catch (cause) {
    if ((cause as { statusCode?: number }).statusCode === 404) return undefined;
    throw new CiliumError('DockerUnavailable', `ask Docker for ${what}`, {}, cause);
  }
}

/** "/db" is a container's own name, "/app/db" one that a legacy link gave it. */
function isOwnName(name: string): boolean {
  return name.lastIndexOf('/') === 0;
}

function plainName(name: string): string {
  return name.replace(/^\//, '');
}

function parseJson(line: string): unknown {
  try {
    return JSON.parse(line);
  } catch {
    return undefined;
  }
}
