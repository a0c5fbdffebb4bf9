/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Whose address is it? Endpoints of this node by address (also the anti-spoofing look-up), everything else by prefix. */
#pragma once

#include "common.h"

/* Written by the agent only. User-space twin: datapath/maps/ */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__type(key, struct endpoint_key);
	__type(value, struct endpoint_info);
	__uint(max_entries, 65535);
	__uint(map_flags, BPF_F_NO_PREALLOC);
} cilium_lxc SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__type(key, struct ipcache_key);
	__type(value, struct ipcache_info);
	__uint(max_entries, 512000);
	__uint(map_flags, BPF_F_NO_PREALLOC);
} cilium_ipcache SEC(".maps");

/* The identities of 256..65535 that the policy maps of this node know, one bit each. Written by the agent only. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__type(key, __u32);
	__type(value, __u64);
	__uint(max_entries, IDENTITY_WORDS);
} cilium_identities SEC(".maps");

#define IDENTITY_UNKNOWN 0 /* of a range whose addresses are told one by one */
#define IDENTITY_HOST 1
#define IDENTITY_HEALTH 4
#define IDENTITY_INIT 5
#define IDENTITY_REMOTE_NODE 6
#define IDENTITY_WORLD_IPV4 9
#define IDENTITY_WORLD_IPV6 10
#define IDENTITY_RESERVED_MAX 127
#define IDENTITY_BITS 24 /* what all nodes agree on; above it an identity is local to its node */

static __always_inline struct endpoint_info *endpoint_find(const union address *a, const bool v6)
{
	struct endpoint_key key = { .family = v6 ? ADDR_FAMILY_IPV6 : ADDR_FAMILY_IPV4 };

	address_copy(key.addr, a, v6);
	return bpf_map_lookup_elem(&cilium_lxc, &key);
}

/* A container of this node, not an address of the node itself. */
static __always_inline bool is_container(const struct endpoint_info *ep)
{
	return ep && !(ep->flags & ENDPOINT_F_HOST);
}

static __always_inline struct ipcache_info *ipcache_find(const union address *a, const bool v6)
{
	struct ipcache_key key = {
		.prefixlen = IPCACHE_STATIC_PREFIX + (v6 ? 128 : 32),
		.family = v6 ? ADDR_FAMILY_IPV6 : ADDR_FAMILY_IPV4,
	};

	address_copy(key.addr, a, v6);
	return bpf_map_lookup_elem(&cilium_ipcache, &key);
}

/* What ipcache_find() gave says; nothing found: the world. */
static __always_inline __u32 identity_in(const struct ipcache_info *info, const bool v6)
{
	if (likely(info))
		return info->identity;
	return v6 ? IDENTITY_WORLD_IPV6 : IDENTITY_WORLD_IPV4;
}

/* One that containers have, here or on another node. */
static __always_inline bool is_container_identity(__u32 identity)
{
	if (identity <= IDENTITY_RESERVED_MAX)
		return identity == IDENTITY_HEALTH || identity == IDENTITY_INIT;
	return !(identity >> IDENTITY_BITS);
}

/* An address that lives on another node. */
static __always_inline bool is_remote(const struct ipcache_info *info)
{
	return info && info->flags & IPCACHE_F_HAS_TUNNEL;
}

/* Can a policy be asked about it? No rule of labels could match one that the policy maps do not know, least of all one that
 * denies. Those of containers of the cluster come with the news of other nodes, the reserved ones are always there.
 */
static __always_inline bool identity_is_known(__u32 identity)
{
	__u32 index = identity / IDENTITY_WORD_BITS;
	__u64 *word;

	if (identity <= IDENTITY_RESERVED_MAX)
		return identity != IDENTITY_UNKNOWN;
	word = bpf_map_lookup_elem(&cilium_identities, &index);
	return word && *word >> identity % IDENTITY_WORD_BITS & 1;
}

/* Is an address known well enough to be judged? Not if it only belongs to the range of another node so far. Identities of
 * this node's own addresses, and of prefixes outside, are in the policy maps before they are in ipcache.
 */
static __always_inline bool is_known(const struct ipcache_info *info)
{
	if (!info)
		return true;
	return is_remote(info) ? identity_is_known(info->identity) : info->identity != IDENTITY_UNKNOWN;
}

/* A container of another node: the one thing beyond this node that an --internal network reaches. */
static __always_inline bool is_remote_container(const struct ipcache_info *info, __u32 identity)
{
	return is_remote(info) && is_container_identity(identity);
}
