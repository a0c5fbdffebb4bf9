/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Masquerading: flows that a container opens towards the outside leave with the address of the device and a port that
 * neither another flow nor a socket of the node uses.
 *
 * Two entries make a mapping, one for each direction; either half that was evicted is made again from the other.
 */
#pragma once

#include "common.h"
#include "config.h"
#include "parse.h"

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__type(key, struct snat4_key);
	__type(value, struct snat4_entry);
	__uint(max_entries, 65536);
} cilium_snat4 SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__type(key, struct snat6_key);
	__type(value, struct snat6_entry);
	__uint(max_entries, 32768);
} cilium_snat6 SEC(".maps");

/* Devices towards the outside. Written by the agent only. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__type(key, __u32);
	__type(value, struct device_info);
	__uint(max_entries, 256);
} cilium_devices SEC(".maps");

#define SNAT_ATTEMPTS 24

struct nat_end {
	union address addr;
	__be16 port;
};

/* Key and entry of either family: the look-ups below differ in nothing else. */
struct nat_key {
	union {
		struct snat4_key v4;
		struct snat6_key v6;
	};
};

struct nat_entry {
	union {
		struct snat4_entry v4;
		struct snat6_entry v6;
	};
};

/* For one packet on its way out; the stack has no room for it. Nothing interrupts a program on its CPU. */
struct scratch {
	struct bpf_fib_lookup fib;
	struct bpf_redir_neigh neigh;
	struct nat_key forward;
	struct nat_key reply;
	struct nat_entry entry;
	struct bpf_sock_tuple tuple;
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__type(key, __u32);
	__type(value, struct scratch);
	__uint(max_entries, 1);
} scratch SEC(".maps");

static __always_inline struct scratch *scratch_get(void)
{
	__u32 index = 0;

	return bpf_map_lookup_elem(&scratch, &index);
}

static __always_inline void nat_key_fill(struct nat_key *key, const union address *src, __be16 src_port,
					 const union address *dst, __be16 dst_port, __u8 protocol, __u8 direction,
					 const bool v6)
{
	if (v6) {
		address_copy(key->v6.src_addr, src, true);
		address_copy(key->v6.dst_addr, dst, true);
		key->v6.src_port = src_port;
		key->v6.dst_port = dst_port;
		key->v6.protocol = protocol;
		key->v6.direction = direction;
		key->v6.pad[0] = key->v6.pad[1] = 0;
	} else {
		*(__be32 *)key->v4.src_addr = src->v4;
		*(__be32 *)key->v4.dst_addr = dst->v4;
		key->v4.src_port = src_port;
		key->v4.dst_port = dst_port;
		key->v4.protocol = protocol;
		key->v4.direction = direction;
		key->v4.pad[0] = key->v4.pad[1] = 0;
	}
}

static __always_inline bool nat_find(const struct nat_key *key, struct nat_end *end, const bool v6)
{
	if (v6) {
		struct snat6_entry *entry = bpf_map_lookup_elem(&cilium_snat6, key);

		if (!entry)
			return false;
		address_copy(&end->addr, entry->to_addr, true);
		end->port = entry->to_port;
	} else {
		struct snat4_entry *entry = bpf_map_lookup_elem(&cilium_snat4, key);

		if (!entry)
			return false;
		end->addr.v4 = *(__be32 *)entry->to_addr;
		end->port = entry->to_port;
	}
	return true;
}

/* Never replaces an entry. Returns whether it was added. */
static __always_inline bool nat_add(const struct nat_key *key, struct nat_entry *entry, const union address *addr,
				    __be16 port, const bool v6)
{
	if (v6) {
		address_copy(entry->v6.to_addr, addr, true);
		entry->v6.to_port = port;
		entry->v6.pad = 0;
		entry->v6.created = now_seconds();
		return !bpf_map_update_elem(&cilium_snat6, key, entry, BPF_NOEXIST);
	}
	*(__be32 *)entry->v4.to_addr = addr->v4;
	entry->v4.to_port = port;
	entry->v4.pad = 0;
	entry->v4.created = now_seconds();
	return !bpf_map_update_elem(&cilium_snat4, key, entry, BPF_NOEXIST);
}

static __always_inline void nat_delete(const struct nat_key *key, const bool v6)
{
	if (v6)
		bpf_map_delete_elem(&cilium_snat6, key);
	else
		bpf_map_delete_elem(&cilium_snat4, key);
}

/* Would a socket of the node take what comes from the flow's other end to this port of `local`? */
static __always_inline bool nat_socket_of_host(struct __sk_buff *skb, struct bpf_sock_tuple *tuple,
					       const struct packet *p, const union address *local, __be16 port,
					       const bool v6)
{
	__u32 len = v6 ? sizeof(tuple->ipv6) : sizeof(tuple->ipv4);
	struct bpf_sock *socket;

	if (v6) {
		address_copy(tuple->ipv6.saddr, &p->daddr, true);
		address_copy(tuple->ipv6.daddr, local, true);
		tuple->ipv6.sport = p->dport;
		tuple->ipv6.dport = port;
	} else {
		tuple->ipv4.saddr = p->daddr.v4;
		tuple->ipv4.daddr = local->v4;
		tuple->ipv4.sport = p->dport;
		tuple->ipv4.dport = port;
	}
	if (p->protocol == IPPROTO_TCP)
		socket = bpf_skc_lookup_tcp(skb, tuple, len, BPF_F_CURRENT_NETNS, 0);
	else if (p->protocol == IPPROTO_UDP)
		socket = bpf_sk_lookup_udp(skb, tuple, len, BPF_F_CURRENT_NETNS, 0);
	else
		return false;
	if (!socket)
		return false;
	bpf_sk_release(socket);
	return true;
}

static __always_inline __u32 nat_range_size(__u16 first, __u16 last)
{
	return last < first ? 0 : last - first + 1U;
}

static __always_inline bool nat_in_range(__u16 port)
{
	return (port >= config_snat_port_min1 && port <= config_snat_port_max1) ||
	       (port >= config_snat_port_min2 && port <= config_snat_port_max2);
}

/* Port number `index` of the two ranges taken as one. */
static __always_inline __u16 nat_port_at(__u32 index)
{
	__u32 lower = nat_range_size(config_snat_port_min1, config_snat_port_max1);

	return index < lower ? config_snat_port_min1 + index : config_snat_port_min2 + (index - lower);
}

/* Takes a port for a flow, unless another flow or a socket of the node has it. */
static __always_inline bool snat_reserve(struct __sk_buff *skb, const struct packet *p, const union address *local,
					 __be16 port, const bool v6)
{
	struct scratch *room = scratch_get();

	if (!room || nat_socket_of_host(skb, &room->tuple, p, local, port, v6))
		return false;
	nat_key_fill(&room->reply, &p->daddr, p->dport, local, port, p->protocol, SNAT_REPLY, v6);
	return nat_add(&room->reply, &room->entry, &p->saddr, p->sport, v6);
}

__noinline int snat_reserve4(struct __sk_buff *skb, const struct packet *p, const union address *local, __be16 port)
{
	return p && local && snat_reserve(skb, p, local, port, false);
}

__noinline int snat_reserve6(struct __sk_buff *skb, const struct packet *p, const union address *local, __be16 port)
{
	return p && local && snat_reserve(skb, p, local, port, true);
}

/* The mapping that a flow has already. */
static __always_inline bool snat_find(struct scratch *room, const struct packet *p, const union address *local,
				      struct nat_end *to, const bool v6)
{
	struct nat_end owner = {};

	nat_key_fill(&room->forward, &p->saddr, p->sport, &p->daddr, p->dport, p->protocol, SNAT_FORWARD, v6);
	if (!nat_find(&room->forward, to, v6))
		return false;
	if (address_equal(&to->addr, local, v6)) {
		nat_key_fill(&room->reply, &p->daddr, p->dport, local, to->port, p->protocol, SNAT_REPLY, v6);
		if (!nat_find(&room->reply, &owner, v6)) {
			if (nat_add(&room->reply, &room->entry, &p->saddr, p->sport, v6))
				return true;
		} else if (owner.port == p->sport && address_equal(&owner.addr, &p->saddr, v6)) {
			return true;
		}
	}
	nat_delete(&room->forward, v6); /* the device's address changed, or another flow has got the port */
	return false;
}

/* What the packet's source becomes when it leaves with address `local`: its own port if that may be used, else one at
 * random and those after it. An ICMP error and a later fragment only use the mapping that is there.
 * Returns 0 or DROP_*.
 */
static __always_inline int snat_map(struct __sk_buff *skb, const struct packet *p, const union address *local,
				    struct nat_end *to, const bool v6)
{
	__u32 total = nat_range_size(config_snat_port_min1, config_snat_port_max1) +
		      nat_range_size(config_snat_port_min2, config_snat_port_max2);
	struct scratch *room = scratch_get();
	__u16 port = bpf_ntohs(p->sport);
	__u32 index;

	if (!room)
		return DROP_NAT_NO_MAPPING;
	if (p->protocol == IPPROTO_SCTP || p->flags & (PACKET_ICMP_OTHER | PACKET_ECHO_REPLY))
		return DROP_NAT_UNSUPP_PROTO;
	if (snat_find(room, p, local, to, v6))
		return 0;
	if (p->flags & (PACKET_ICMP_ERROR | PACKET_LATER_FRAGMENT) || !total)
		return DROP_NAT_NO_MAPPING;
	address_copy(&to->addr, local, v6);
	index = bpf_get_prandom_u32();
	if (!nat_in_range(port))
		port = nat_port_at(index % total);
	for (int i = 0; i < SNAT_ATTEMPTS; i++) {
		to->port = bpf_htons(port);
		if (v6 ? snat_reserve6(skb, p, local, to->port) : snat_reserve4(skb, p, local, to->port)) {
			if (nat_add(&room->forward, &room->entry, local, to->port, v6))
				return 0;
			nat_delete(&room->reply, v6); /* another CPU has just mapped this flow, or the map is full */
			return nat_find(&room->forward, to, v6) ? 0 : DROP_NAT_NO_MAPPING;
		}
		port = nat_port_at(++index % total);
	}
	return DROP_NAT_NO_MAPPING;
}

__noinline int snat_map4(struct __sk_buff *skb, const struct packet *p, const union address *local, struct nat_end *to)
{
	return p && local && to ? snat_map(skb, p, local, to, false) : DROP_INVALID;
}

__noinline int snat_map6(struct __sk_buff *skb, const struct packet *p, const union address *local, struct nat_end *to)
{
	return p && local && to ? snat_map(skb, p, local, to, true) : DROP_INVALID;
}

/* Whose packet is it that came for an address of the node? */
static __always_inline bool snat_find_reply(const struct packet *p, struct nat_end *to, const bool v6)
{
	struct scratch *room = scratch_get();

	if (!room)
		return false;
	nat_key_fill(&room->reply, &p->saddr, p->sport, &p->daddr, p->dport, p->protocol, SNAT_REPLY, v6);
	return nat_find(&room->reply, to, v6);
}

/* The other half of the mapping that snat_find_reply() found. `p` has the container as receiver by now. */
static __always_inline void snat_keep_forward(const struct packet *p, const struct nat_end *outside, const bool v6)
{
	struct scratch *room = scratch_get();
	struct nat_end known;

	if (!room)
		return;
	nat_key_fill(&room->forward, &p->daddr, p->dport, &p->saddr, p->sport, p->protocol, SNAT_FORWARD, v6);
	if (!nat_find(&room->forward, &known, v6))
		nat_add(&room->forward, &room->entry, &outside->addr, outside->port, v6);
}

/* ---- rewriting ---- */

static __always_inline int nat_checksum_off(__u8 protocol)
{
	switch (protocol) {
	case IPPROTO_TCP:
		return offsetof(struct tcphdr, check);
	case IPPROTO_UDP:
		return offsetof(struct udphdr, check);
	default:
		return offsetof(struct icmphdr, checksum);
	}
}

/* Offset of the port (ICMP: identifier) of the sending or the receiving end. */
static __always_inline int nat_port_off(__u8 protocol, bool source)
{
	if (protocol == IPPROTO_ICMP || protocol == IPPROTO_ICMPV6)
		return offsetof(struct icmphdr, un.echo.id);
	return source ? 0 : 2;
}

/* An address inside an IP header at `off`, with the header's own checksum. `sum_off`: transport checksum to mend,
 * 0 for none. `sum_flags`: of bpf_l4_csum_replace().
 */
static __always_inline int nat_address(struct __sk_buff *skb, __u32 off, bool source, const union address *from,
				       const union address *to, __u32 sum_off, __u64 sum_flags, const bool v6)
{
	if (v6) {
		__u32 at = off + (source ? offsetof(struct ipv6hdr, saddr) : offsetof(struct ipv6hdr, daddr));
		__s64 diff = bpf_csum_diff((__be32 *)from, 16, (__be32 *)to, 16, 0);
		/* IPv6 has no header checksum that would keep the sum over the whole packet. */
		__u64 recompute = sum_flags & BPF_F_PSEUDO_HDR || !sum_off ? BPF_F_RECOMPUTE_CSUM : 0;

		if (bpf_skb_store_bytes(skb, at, to, 16, recompute))
			return DROP_WRITE_ERROR;
		if (sum_off && bpf_l4_csum_replace(skb, sum_off, 0, diff, sum_flags))
			return DROP_WRITE_ERROR;
	} else {
		__u32 at = off + (source ? offsetof(struct iphdr, saddr) : offsetof(struct iphdr, daddr));

		if (bpf_l3_csum_replace(skb, off + offsetof(struct iphdr, check), from->v4, to->v4, 4) ||
		    bpf_skb_store_bytes(skb, at, &to->v4, 4, 0))
			return DROP_WRITE_ERROR;
		if (sum_off && bpf_l4_csum_replace(skb, sum_off, from->v4, to->v4, sum_flags | 4))
			return DROP_WRITE_ERROR;
	}
	return 0;
}

static __always_inline int nat_port(struct __sk_buff *skb, __u32 off, __be16 from, __be16 to, __u32 sum_off,
				    __u64 sum_flags)
{
	if (from == to)
		return 0;
	if (bpf_l4_csum_replace(skb, sum_off, from, to, sum_flags | 2) || bpf_skb_store_bytes(skb, off, &to, 2, 0))
		return DROP_WRITE_ERROR;
	return 0;
}

/* Gives the packet another source (`source`) or destination. An ICMP error changes twice: the outer address, and the
 * opposite end of the packet inside. Returns 0 or DROP_WRITE_ERROR.
 */
static __always_inline int nat_rewrite(struct __sk_buff *skb, const struct packet *p, bool source,
				       const struct nat_end *from, const struct nat_end *to, const bool v6)
{
	bool icmp = p->protocol == (v6 ? IPPROTO_ICMPV6 : IPPROTO_ICMP);
	__u64 mangled = p->protocol == IPPROTO_UDP ? BPF_F_MARK_MANGLED_0 : 0;
	__u32 sum_off;
	int ret;

	if (p->flags & PACKET_LATER_FRAGMENT)
		return nat_address(skb, ETH_HLEN, source, &from->addr, &to->addr, 0, 0, v6);
	if (p->flags & PACKET_ICMP_ERROR) {
		sum_off = p->l4_off + offsetof(struct icmphdr, checksum);
		/* IPv4: the sum covers the packet inside, whose header's own checksum balances the address. */
		ret = nat_address(skb, ETH_HLEN, source, &from->addr, &to->addr, v6 ? sum_off : 0, BPF_F_PSEUDO_HDR, v6);
		if (!ret)
			ret = nat_address(skb, p->inner_off, !source, &from->addr, &to->addr, v6 ? sum_off : 0, 0, v6);
		if (!ret)
			ret = nat_port(skb, p->inner_l4_off + nat_port_off(p->protocol, !source), from->port, to->port,
				       sum_off, 0);
		return ret;
	}
	sum_off = p->l4_off + nat_checksum_off(p->protocol);
	ret = nat_address(skb, ETH_HLEN, source, &from->addr, &to->addr, icmp && !v6 ? 0 : sum_off,
			  BPF_F_PSEUDO_HDR | mangled, v6);
	if (ret)
		return ret;
	return nat_port(skb, p->l4_off + nat_port_off(p->protocol, source), from->port, to->port, sum_off, mangled);
}

/* The packet leaves a container: its source becomes `to`. */
__noinline int snat_rewrite4(struct __sk_buff *skb, const struct packet *p, const struct nat_end *to)
{
	struct nat_end from = {};

	if (!p || !to)
		return DROP_INVALID;
	from.addr = p->saddr;
	from.port = p->sport;
	return nat_rewrite(skb, p, true, &from, to, false);
}

__noinline int snat_rewrite6(struct __sk_buff *skb, const struct packet *p, const struct nat_end *to)
{
	struct nat_end from = {};

	if (!p || !to)
		return DROP_INVALID;
	from.addr = p->saddr;
	from.port = p->sport;
	return nat_rewrite(skb, p, true, &from, to, true);
}

/* A reply comes in for `outside`; `p` has the container as receiver by now, the bytes have not. */
__noinline int snat_restore4(struct __sk_buff *skb, const struct packet *p, const struct nat_end *outside)
{
	struct nat_end to = {};

	if (!p || !outside)
		return DROP_INVALID;
	to.addr = p->daddr;
	to.port = p->dport;
	return nat_rewrite(skb, p, false, outside, &to, false);
}

__noinline int snat_restore6(struct __sk_buff *skb, const struct packet *p, const struct nat_end *outside)
{
	struct nat_end to = {};

	if (!p || !outside)
		return DROP_INVALID;
	to.addr = p->daddr;
	to.port = p->dport;
	return nat_rewrite(skb, p, false, outside, &to, true);
}
