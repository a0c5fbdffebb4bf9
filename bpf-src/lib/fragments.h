/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Later fragments have no ports; they take those of their datagram's first fragment, which must have come before. */
#pragma once

#include "common.h"
#include "parse.h"

#define FRAGMENTED_DATAGRAMS 8192

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__type(key, struct frag4_key);
	__type(value, struct frag_ports);
	__uint(max_entries, FRAGMENTED_DATAGRAMS);
} cilium_ipv4_frag_datagrams SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__type(key, struct frag6_key);
	__type(value, struct frag_ports);
	__uint(max_entries, FRAGMENTED_DATAGRAMS);
} cilium_ipv6_frag_datagrams SEC(".maps");

/* Remembers the ports of a first fragment or gives them to a later one. The source address must be verified before,
 * so that nobody speaks for another's datagram. Returns 0 or DROP_*.
 */
static __always_inline int fragment_ports(struct packet *p, const bool v6)
{
	struct frag4_key key4 = {};
	struct frag6_key key6 = {};
	struct frag_ports *known, ports = { .sport = p->sport, .dport = p->dport };
	void *map, *key;

	if (v6) {
		address_copy(key6.saddr, &p->saddr, true);
		address_copy(key6.daddr, &p->daddr, true);
		key6.id = p->fragment_id;
		key6.protocol = p->protocol;
		map = &cilium_ipv6_frag_datagrams;
		key = &key6;
	} else {
		*(__be32 *)key4.saddr = p->saddr.v4;
		*(__be32 *)key4.daddr = p->daddr.v4;
		key4.id = p->fragment_id;
		key4.protocol = p->protocol;
		map = &cilium_ipv4_frag_datagrams;
		key = &key4;
	}
	if (!(p->flags & PACKET_LATER_FRAGMENT)) {
		if (p->flags & (PACKET_ICMP_ERROR | PACKET_ICMP_OTHER))
			return DROP_INVALID;
		bpf_map_update_elem(map, key, &ports, BPF_ANY);
		return 0;
	}
	known = bpf_map_lookup_elem(map, key);
	if (!known)
		return DROP_FRAG_NOT_FOUND;
	p->sport = known->sport;
	p->dport = known->dport;
	if (p->protocol == (v6 ? IPPROTO_ICMPV6 : IPPROTO_ICMP) && !p->sport && p->dport) {
		p->flags |= PACKET_ECHO_REPLY;
		p->icmp_type = v6 ? ICMPV6_ECHO_REPLY : ICMP_ECHOREPLY;
	}
	return 0;
}
