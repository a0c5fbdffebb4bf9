/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Which way does a flow run? Tells who opened it and what was seen of it, never whether it may pass: that is asked of
 * the policy for each packet, of a reply in the direction and with the ports of the flow it answers.
 *
 * The steps: ct_find() before the policy, ct_commit() once the packet is allowed.
 */
#pragma once

#include "common.h"
#include "config.h"
#include "parse.h"

#define CT_MAP(name, key_type, entries)                                                                                \
	struct {                                                                                                       \
		__uint(type, BPF_MAP_TYPE_LRU_HASH);                                                                   \
		__type(key, key_type);                                                                                 \
		__type(value, struct ct_entry);                                                                        \
		__uint(max_entries, entries);                                                                          \
	} name SEC(".maps")

/* TCP apart from the rest: a flood of datagrams must not push connections out. */
CT_MAP(cilium_ct4_tcp, struct ct4_key, 131072);
CT_MAP(cilium_ct4_any, struct ct4_key, 65536);
CT_MAP(cilium_ct6_tcp, struct ct6_key, 65536);
CT_MAP(cilium_ct6_any, struct ct6_key, 32768);

#define CT_CLOSED (CT_F_INITIATOR_CLOSED | CT_F_RESPONDER_CLOSED)

/* TCP flags that are worth a trace event when first seen. */
#define CT_REPORTED_FLAGS (TCP_FIN | TCP_SYN | TCP_RST)

struct ct {
	union {
		struct ct4_key v4;
		struct ct6_key v6;
	} key;
	struct ct_entry *entry; /* of the flow; NULL: the packet opens one */
	bool from_lower;	/* the packet comes from the end that is stored first */
	bool reply;
};

static __always_inline void ct_key4(struct ct *ct, const struct packet *p)
{
	__be32 src = p->saddr.v4, dst = p->daddr.v4;

	ct->from_lower = src == dst ? bpf_ntohs(p->sport) <= bpf_ntohs(p->dport) : bpf_ntohl(src) < bpf_ntohl(dst);
	*(__be32 *)ct->key.v4.lower_addr = ct->from_lower ? src : dst;
	*(__be32 *)ct->key.v4.upper_addr = ct->from_lower ? dst : src;
	ct->key.v4.lower_port = ct->from_lower ? p->sport : p->dport;
	ct->key.v4.upper_port = ct->from_lower ? p->dport : p->sport;
	ct->key.v4.protocol = p->protocol;
}

static __always_inline void ct_key6(struct ct *ct, const struct packet *p)
{
	const union address *src = &p->saddr, *dst = &p->daddr;

	if (src->half[0] != dst->half[0])
		ct->from_lower = bpf_be64_to_cpu(src->half[0]) < bpf_be64_to_cpu(dst->half[0]);
	else if (src->half[1] != dst->half[1])
		ct->from_lower = bpf_be64_to_cpu(src->half[1]) < bpf_be64_to_cpu(dst->half[1]);
	else
		ct->from_lower = bpf_ntohs(p->sport) <= bpf_ntohs(p->dport);
	if (ct->from_lower) {
		address_copy(ct->key.v6.lower_addr, src, true);
		address_copy(ct->key.v6.upper_addr, dst, true);
		ct->key.v6.lower_port = p->sport;
		ct->key.v6.upper_port = p->dport;
	} else {
		address_copy(ct->key.v6.lower_addr, dst, true);
		address_copy(ct->key.v6.upper_addr, src, true);
		ct->key.v6.lower_port = p->dport;
		ct->key.v6.upper_port = p->sport;
	}
	ct->key.v6.protocol = p->protocol;
}

static __always_inline struct ct_entry *ct_lookup(const struct ct *ct, bool tcp, const bool v6)
{
	struct ct_entry *entry;

	if (tcp) {
		entry = v6 ? bpf_map_lookup_elem(&cilium_ct6_tcp, &ct->key) : bpf_map_lookup_elem(&cilium_ct4_tcp, &ct->key);
		no_merge();
	} else {
		entry = v6 ? bpf_map_lookup_elem(&cilium_ct6_any, &ct->key) : bpf_map_lookup_elem(&cilium_ct4_any, &ct->key);
	}
	return entry;
}

/* Finds the flow of a packet. An entry whose time is over does not count. A SYN never belongs to a flow that is closed,
 * nor is it ever a reply. Returns 0 or DROP_*.
 */
static __always_inline int ct_find(struct ct *ct, const struct packet *p, __u32 now, const bool v6)
{
	struct ct_entry *entry;

	if (v6)
		ct_key6(ct, p);
	else
		ct_key4(ct, p);
	ct->entry = NULL;
	ct->reply = false;
	if (unlikely(p->flags & PACKET_ICMP_OTHER))
		return 0;
	entry = ct_lookup(ct, p->protocol == IPPROTO_TCP, v6);
	if (likely(entry && entry->expires > now)) {
		bool reply = ct->from_lower != !!(entry->flags & CT_F_LOWER_STARTED);

		if (likely((p->tcp_flags & (TCP_SYN | TCP_ACK)) != TCP_SYN ||
			   !(reply || (entry->flags & CT_CLOSED) == CT_CLOSED))) {
			ct->entry = entry;
			ct->reply = reply;
			return 0;
		}
	}
	return p->flags & PACKET_ICMP_ERROR ? DROP_UNKNOWN_CT : 0;
}

static __always_inline __u32 ct_lifetime(__u32 flags, bool tcp)
{
	if (!tcp)
		return config_ct_any_s;
	if ((flags & CT_CLOSED) == CT_CLOSED)
		return config_ct_close_s;
	return flags & CT_F_SEEN_NON_SYN ? config_ct_tcp_established_s : config_ct_tcp_syn_s;
}

/* CT_F_* that a packet adds to its flow. */
static __always_inline __u32 ct_flags_of(const struct packet *p, bool reply)
{
	__u32 flags = 0;

	if (p->protocol != IPPROTO_TCP)
		return 0;
	if (!(p->tcp_flags & TCP_SYN))
		flags |= CT_F_SEEN_NON_SYN;
	if (p->tcp_flags & TCP_FIN)
		flags |= reply ? CT_F_RESPONDER_CLOSED : CT_F_INITIATOR_CLOSED;
	if (p->tcp_flags & TCP_RST)
		flags |= CT_CLOSED;
	return flags;
}

static __always_inline long ct_create(const struct ct *ct, const struct ct_entry *entry, bool tcp, const bool v6)
{
	long ret;

	if (tcp) {
		ret = v6 ? bpf_map_update_elem(&cilium_ct6_tcp, &ct->key, entry, BPF_ANY) :
			   bpf_map_update_elem(&cilium_ct4_tcp, &ct->key, entry, BPF_ANY);
		no_merge();
	} else {
		ret = v6 ? bpf_map_update_elem(&cilium_ct6_any, &ct->key, entry, BPF_ANY) :
			   bpf_map_update_elem(&cilium_ct4_any, &ct->key, entry, BPF_ANY);
	}
	return ret;
}

/* Writes only what changed, so a busy flow costs one store a second. `flags` and `proxy_port` are one word to the atomic
 * operation: two CPUs that see the two FINs at once must not lose one.
 */
static __always_inline bool ct_update(struct ct *ct, const struct packet *p, __u32 now)
{
	struct ct_entry *entry = ct->entry;
	__u32 added = ct_flags_of(p, ct->reply) & ~entry->flags;
	__u8 *seen = ct->reply ? &entry->responder_tcp_flags : &entry->initiator_tcp_flags;
	__u32 *reported = ct->reply ? &entry->responder_report : &entry->initiator_report;
	bool report = now - *reported >= config_report_interval_s;
	__u32 expires;

	if (unlikely(p->tcp_flags & ~*seen)) {
		report |= !!(p->tcp_flags & ~*seen & CT_REPORTED_FLAGS);
		*seen |= p->tcp_flags;
	}
	if (unlikely(added))
		__sync_fetch_and_or((__u32 *)&entry->flags, added);
	expires = now + ct_lifetime(entry->flags, p->protocol == IPPROTO_TCP);
	if (unlikely(entry->expires != expires))
		entry->expires = expires;
	if (unlikely(report))
		*reported = now;
	return report;
}

/* The packet is allowed: remembers its flow or brings it up to date. `local`: CT_F_*_LOCAL, which ends are endpoints
 * of this node. Returns whether the packet is worth a trace event, or DROP_*.
 */
static __always_inline int ct_commit(struct ct *ct, const struct packet *p, __u32 now, __u32 initiator_identity,
				     __u32 local, const bool v6)
{
	if (unlikely(p->flags & (PACKET_ICMP_ERROR | PACKET_ICMP_OTHER)))
		return 1;
	if (likely(ct->entry))
		return ct_update(ct, p, now);
	if (p->flags & PACKET_ECHO_REPLY) /* an answer nobody asked for opens nothing */
		return 1;

	struct ct_entry entry = {
		.flags = local | (ct->from_lower ? CT_F_LOWER_STARTED : 0) | ct_flags_of(p, false),
		.initiator_identity = initiator_identity,
		.initiator_report = now,
		.initiator_tcp_flags = p->tcp_flags,
	};

	entry.expires = now + ct_lifetime(entry.flags, p->protocol == IPPROTO_TCP);
	return ct_create(ct, &entry, p->protocol == IPPROTO_TCP, v6) ? DROP_CT_CREATE_FAILED : 1;
}

static __always_inline enum trace_reason ct_trace_reason(const struct ct *ct, const struct packet *p)
{
	if (p->flags & PACKET_ICMP_ERROR)
		return TRACE_REASON_RELATED;
	if (!ct->entry)
		return TRACE_REASON_NEW;
	return ct->reply ? TRACE_REASON_REPLY : TRACE_REASON_ESTABLISHED;
}
