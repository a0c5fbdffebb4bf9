/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* May this packet pass one endpoint's policy? Asked for each packet, replies included; no entry means no. */
#pragma once

#include "common.h"

#define POLICY_SLOTS 4096
#define POLICY_ENTRIES 16384

/* What one endpoint, or several with the same policy, may do. Written by the agent only. Sizes instead of types: the
 * tries that the agent makes come without BTF, and kernel 6.1 refuses those next to a template that has it.
 */
struct policy_trie {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(key_size, sizeof(struct policy_key));
	__uint(value_size, sizeof(struct policy_entry));
	__uint(max_entries, POLICY_ENTRIES);
	__uint(map_flags, BPF_F_NO_PREALLOC);
};

/* By slot. An array, because the kernel turns its look-up into a few instructions. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__type(key, __u32);
	__uint(max_entries, POLICY_SLOTS);
	__array(values, struct policy_trie);
} cilium_policy SEC(".maps");

#define PRECEDENCE_DENY 0xffffffffU

/* Which kind of entry decided, for the verdict event. */
static __always_inline enum policy_match policy_match_of(const struct policy_entry *entry, bool any_peer)
{
	if (entry->match_bits > 8)
		return any_peer ? POLICY_MATCH_L4_ONLY : POLICY_MATCH_L3_L4;
	if (entry->match_bits == 8)
		return any_peer ? POLICY_MATCH_PROTO_ONLY : POLICY_MATCH_L3_PROTO;
	return any_peer ? POLICY_MATCH_ALL : POLICY_MATCH_L3_ONLY;
}

struct policy_result {
	__u32 cookie;
	enum policy_match match;
};

/* Of the entry for the peer's identity and the one for any peer the higher precedence wins; with equal precedence the
 * longer match, and the peer's own if that is equal too.
 *
 * Returns 0 or DROP_*.
 */
static __always_inline int policy_decide(__u32 slot, __u32 identity, bool egress, __u8 protocol, __be16 dport,
					 struct policy_result *result)
{
	struct policy_key key = {
		.prefixlen = POLICY_FULL_PREFIX,
		.identity = identity,
		.egress = egress,
		.protocol = protocol,
		.dport = dport,
	};
	void *trie = bpf_map_lookup_elem(&cilium_policy, &slot);
	struct policy_entry *entry, *any;
	bool any_peer = false;

	if (unlikely(!trie))
		return DROP_POLICY;
	entry = bpf_map_lookup_elem(trie, &key);
	if (!entry || entry->precedence != PRECEDENCE_DENY) {
		key.identity = 0;
		any = bpf_map_lookup_elem(trie, &key);
		if (any && (!entry || any->precedence > entry->precedence ||
			    (any->precedence == entry->precedence && any->match_bits > entry->match_bits))) {
			entry = any;
			any_peer = true;
		}
	}
	if (unlikely(!entry))
		return DROP_POLICY;
	result->cookie = entry->cookie;
	result->match = policy_match_of(entry, any_peer);
	if (unlikely(entry->flags & POLICY_F_DENY))
		return DROP_POLICY_DENY;
	if (unlikely(entry->proxy_port))
		return DROP_PROXY_LOOKUP_FAILED;
	return 0;
}
