// SPDX-License-Identifier: Apache-2.0

/**
 * Endpoints on disk: one JSON file each in `<state>/endpoints/`, so that an agent that was killed finds them again.
 * Written before Docker is answered; a file that cannot be read is set aside and reported, never guessed at.
 */
import { readdir, rename, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import { IpAddress } from '../net/ip.ts';
import { MacAddress } from '../net/mac.ts';
import type { Logger } from '../runtime/logger.ts';
import { prepareStateFolder, readJsonFile, writeFileAtomic } from '../runtime/state-file.ts';
import { Endpoint, type EndpointIdentity } from './endpoint.ts';

const Record = z.strictObject({
  version: z.literal(1),
  id: z.int().min(1).max(65535),
  dockerEndpointId: z.string().min(1),
  networkId: z.string().min(1),
  ifName: z.string().min(1).max(15),
  ifindex: z.int().positive(),
  hostMac: z.string(),
  mac: z.string(),
  mtu: z.int(),
  internal: z.boolean(),
  ipv4: z.string().nullable(),
  ipv6: z.string().nullable(),
  labelChanges: z.strictObject({ added: z.array(z.string()), disabled: z.array(z.string()) }),
  identity: z
    .strictObject({
      container: z.strictObject({
        id: z.string(),
        name: z.string(),
        image: z.string(),
        labels: z.record(z.string(), z.string()),
        network: z.string().optional(),
        aliases: z.array(z.string()).optional(),
      }),
      labels: z.string(),
      identity: z.int().positive(),
    })
    .nullable(),
});

export class EndpointStore {
  readonly #dir: string;
  readonly #log: Logger;

  constructor(stateDir: string, log: Logger) {
    this.#dir = join(stateDir, 'endpoints');
    this.#log = log;
  }

  async save(endpoint: Endpoint): Promise<void> {
    const { facts } = endpoint;
    const record: z.infer<typeof Record> = {
      version: 1,
      id: facts.id,
      dockerEndpointId: facts.dockerEndpointId,
      networkId: facts.networkId,
      ifName: facts.ifName,
      ifindex: facts.ifindex,
      hostMac: facts.hostMac.toString(),
      mac: facts.mac.toString(),
      mtu: facts.mtu,
      internal: facts.internal,
      ipv4: facts.ipv4?.toString() ?? null,
      ipv6: facts.ipv6?.toString() ?? null,
      labelChanges: {
        added: [...endpoint.labelChanges.added],
        disabled: [...endpoint.labelChanges.disabled],
      },
      identity: endpoint.identity ? copyIdentity(endpoint.identity) : null,
    };
    await writeFileAtomic(this.#path(facts.id), JSON.stringify(record, undefined, 2));
  }

  async remove(id: number): Promise<void> {
    await rm(this.#path(id), { force: true });
  }

  /** Everything that can be read, in state `restoring`; what cannot is renamed to `<file>.broken` and logged. */
  async load(now: number): Promise<Endpoint[]> {
    await prepareStateFolder(this.#dir);
    const endpoints: Endpoint[] = [];
    for (const name of (await readdir(this.#dir)).filter((name) => name.endsWith('.json'))) {
      const path = join(this.#dir, name);
      try {
        const record = await readJsonFile(path, Record);
        if (record) endpoints.push(restore(record, now));
      } catch (error) {
        this.#log.error('Endpoint file is unreadable; its container has no network until it is restarted', {
          path,
          error,
        });
        await rename(path, `${path}.broken`);
      }
    }
    return endpoints.sort((a, b) => a.id - b.id);
  }

  #path(id: number): string {
    return join(this.#dir, `${id}.json`);
  }
}

function copyIdentity(identity: EndpointIdentity): NonNullable<z.infer<typeof Record>['identity']> {
  const { id, name, image, labels, network, aliases } = identity.container;
  return {
    container: { id, name, image, labels: { ...labels }, network, aliases: aliases && [...aliases] },
    labels: identity.labels,
    identity: identity.identity,
  };
}

function restore(record: z.infer<typeof Record>, now: number): Endpoint {
  const { id, dockerEndpointId, networkId, ifName, ifindex, mtu, internal } = record;
  const { hostMac, mac, ipv4, ipv6, labelChanges, identity } = record;
  const endpoint = new Endpoint(
    {
      id,
      dockerEndpointId,
      networkId,
      ifName,
      ifindex,
      mtu,
      internal,
      hostMac: MacAddress.parse(hostMac),
      mac: MacAddress.parse(mac),
      ipv4: ipv4 === null ? undefined : IpAddress.parse(ipv4),
      ipv6: ipv6 === null ? undefined : IpAddress.parse(ipv6),
    },
    'restoring',
    now,
  );
  endpoint.labelChanges = labelChanges;
  if (identity !== null) endpoint.identify(identity);
  return endpoint;
}
