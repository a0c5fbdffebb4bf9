// SPDX-License-Identifier: Apache-2.0

/** Paths of the REST API about what nodes share: nodes, addresses, keys of the kvstore. */
import type { Router } from 'express';
import {
  ipListQuery,
  kvstoreDeleteQuery,
  kvstoreQuery,
  kvstoreSet,
  type KvstoreDeleted,
  type KvstoreEntries,
  type KvstoreEntry,
} from '../../api/cluster-models.ts';
import { labels as labelList } from '../../api/models.ts';
import { PATHS } from '../../api/paths.ts';
import { CiliumError } from '../../errors/cilium-error.ts';
import type { KvEntry } from '../../kvstore/kvstore.ts';
import { IpAddress, Prefix } from '../../net/ip.ts';
import { answer, bodyOf, carriesAll } from './answer.ts';
import { parseRequest } from './errors.ts';
import type { AgentServices } from './services.ts';

export function addClusterRoutes(router: Router, services: AgentServices): void {
  router.get(
    PATHS.nodes,
    answer(() => services.nodes()),
  );
  router.get(
    PATHS.addresses,
    answer((request) => {
      const { cidr } = parseRequest(ipListQuery, request.query, 'query');
      const wanted = parseRequest(labelList, request.body ?? [], 'body');
      const found = services.addresses(cidr === undefined ? undefined : parseCidr(cidr)).filter(({ identity }) => {
        return wanted.length === 0 || carriesAll(services.labelsOf(identity) ?? [], wanted);
      });
      if (found.length > 0) return found;
      const what = wanted.length > 0 ? ` whose identity carries ${wanted.join(' ')}` : '';
      throw new CiliumError('NotFound', `no address${cidr === undefined ? '' : ` in ${cidr}`}${what} is known`);
    }),
  );
  addKvstoreRoutes(router, services);
}

function addKvstoreRoutes(router: Router, { kvstore }: AgentServices): void {
  router.get(
    PATHS.kvstore,
    answer(async (request): Promise<KvstoreEntries> => {
      const { key, recursive } = parseRequest(kvstoreQuery, request.query, 'query');
      const entries = recursive === true ? await kvstore.list(key) : [await kvstore.get(key)];
      return { entries: entries.map(entryModel) };
    }),
  );
  router.put(
    PATHS.kvstore,
    answer((request) => {
      const { key, value, force = false } = bodyOf(request, kvstoreSet);
      return kvstore.set(key, value, { force });
    }),
  );
  router.delete(
    PATHS.kvstore,
    answer(async (request): Promise<KvstoreDeleted> => {
      const { key, recursive, force = false } = parseRequest(kvstoreDeleteQuery, request.query, 'query');
      if (recursive === true) return { deleted: await kvstore.deleteAll(key, { force }) };
      return { deleted: (await kvstore.delete(key, { force })) ? 1 : 0 };
    }),
  );
}

/** A prefix, or an address as the prefix that holds nothing else. */
function parseCidr(text: string): Prefix {
  return text.includes('/') ? Prefix.parse(text) : Prefix.of(IpAddress.parse(text));
}

function entryModel({ key, value, createRevision, modRevision, leaseId }: KvEntry): KvstoreEntry {
  return {
    key,
    value,
    'create-revision': createRevision,
    'mod-revision': modRevision,
    ...(leaseId !== undefined && { 'lease-id': leaseId }),
  };
}
