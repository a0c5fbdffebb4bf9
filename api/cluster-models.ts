// SPDX-License-Identifier: Apache-2.0

/** What the API tells of what nodes share: addresses with their identities, and the keys of the kvstore. */
import { z } from 'zod';
import { identity } from './models.ts';

// ---- addresses --------------------------------------------------------------------------------------------------

export const ipListEntry = z.object({
  /** Such as `10.15.0.2/32`. */
  cidr: z.string(),
  identity: z.number(),
  /** The node that it lives on; absent for this one, and for what is outside of all. */
  hostIP: z.string().optional(),
  /** Of encryption; 0: none. */
  encryptKey: z.number(),
  metadata: z.object({
    /** Who says so: `agent-local`, `kvstore`, `generated` … */
    source: z.string(),
    /** Of the container. */
    name: z.string().optional(),
  }),
});
export type IpListEntry = z.infer<typeof ipListEntry>;

/** `cidr`: only prefixes inside of it; an address is its own prefix. */
export const ipListQuery = z.strictObject({ cidr: z.string().optional() });

export const identityEndpoints = z.object({
  identity,
  /** How many endpoints of this node have it. */
  refCount: z.number(),
});
export type IdentityEndpoints = z.infer<typeof identityEndpoints>;

// ---- kvstore ----------------------------------------------------------------------------------------------------

/** A key of at most this many characters; etcd takes 1.5 MiB for a whole request. */
const KEY_LIMIT = 4_096;

export const kvstoreEntry = z.object({
  key: z.string(),
  value: z.string(),
  'create-revision': z.number(),
  'mod-revision': z.number(),
  /** The key dies with this lease. */
  'lease-id': z.string().optional(),
});
export type KvstoreEntry = z.infer<typeof kvstoreEntry>;

export const kvstoreEntries = z.object({ entries: z.array(kvstoreEntry) });
export type KvstoreEntries = z.infer<typeof kvstoreEntries>;

export const kvstoreQuery = z.strictObject({
  key: z.string().max(KEY_LIMIT),
  /** All keys that begin with `key`. */
  recursive: z.stringbool().optional(),
});

export const kvstoreDeleteQuery = kvstoreQuery.extend({
  /** Keys of the agents, too. */
  force: z.stringbool().optional(),
});

export const kvstoreSet = z.strictObject({
  key: z.string().min(1).max(KEY_LIMIT),
  value: z.string(),
  force: z.boolean().optional(),
});
export type KvstoreSet = z.infer<typeof kvstoreSet>;

export const kvstoreDeleted = z.object({ deleted: z.number() });
export type KvstoreDeleted = z.infer<typeof kvstoreDeleted>;
