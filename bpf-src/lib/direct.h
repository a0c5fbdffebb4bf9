/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The tunnel without its device, for what most of its packets are: the packet around is put on and taken off here, so that
 * neither the device nor the stack between it and the wire is passed, which halves what a tunnel costs.
 *
 * Whatever is out of the ordinary takes the device's way, which does the same: nodes known by IPv6 (whose UDP wants
 * checksums), fragments, segments that came in together, marks of congestion, tunnels in the tunnel, routes that want the
 * stack. The device's socket also takes what comes while the agent loads programs.
 */
#pragma once

#include "common.h"
#include "config.h"

#define VXLAN_FLAG_VNI bpf_htonl(0x08000000)
#define VXLAN_VNI_SHIFT 8

#define TUNNEL_TTL 64

/* BPF_F_ADJ_ROOM_DECAP_L3_IPV6, not in the headers of older kernels. */
#define ADJ_ROOM_DECAP_L3_IPV6 (1ULL << 8)

#define IPV4_DONT_FRAGMENT 0x4000
#define ECN_MASK 3

/* What stands between the first Ethernet header and the packet inside. */
struct outer4 {
	struct iphdr ip;
	struct udphdr udp;
	__be32 vxlan_flags;
	__be32 vni; /* in the upper 24 bits */
	struct ethhdr eth;
} __attribute__((packed));
_Static_assert(sizeof(struct outer4) == 50, "the overhead of a tunnel over IPv4");

/* Programs that others go on with. Written by the agent only. */
struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(key_size, sizeof(__u32));
	__uint(value_size, sizeof(__u32));
	__uint(max_entries, CALLS);
} cilium_calls SEC(".maps");

/* Address by which other nodes know this one; 0: all packets take the device's way. Written by the agent only. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__type(key, __u32);
	__type(value, __be32);
	__uint(max_entries, 1);
} cilium_tunnel_source SEC(".maps");

static __always_inline __be32 tunnel_source(void)
{
	__u32 index = 0;
	__be32 *source = bpf_map_lookup_elem(&cilium_tunnel_source, &index);

	return source ? *source : 0;
}

/* For one packet on its way out; the stack has no room for it. */
struct direct_scratch {
	struct bpf_fib_lookup fib;
	struct bpf_redir_neigh neigh;
	struct outer4 outer;
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__type(key, __u32);
	__type(value, struct direct_scratch);
	__uint(max_entries, 1);
} direct_scratch SEC(".maps");

/* 0xffff when the header is right. */
static __always_inline __u32 ipv4_header_sum(void *ip)
{
	__u32 sum = bpf_csum_diff(NULL, 0, ip, sizeof(struct iphdr), 0);

	sum = (sum & 0xffff) + (sum >> 16);
	return (sum & 0xffff) + (sum >> 16);
}

/* Is the packet marked for, or by, congestion? That has to be carried from one header to the other. */
static __always_inline bool has_ecn(struct __sk_buff *skb)
{
	__u8 *ip = header_at(skb, ETH_HLEN, sizeof(struct iphdr));

	if (!ip)
		return true;
	return skb->protocol == bpf_htons(ETH_P_IPV6) ? ip[1] & ECN_MASK << 4 : ip[1] & ECN_MASK;
}

/* Where to: fills `fib`. Returns whether a packet of `len` bytes on the wire can be sent there from here. */
static __always_inline bool direct_route(struct __sk_buff *skb, struct bpf_fib_lookup *fib, __be32 source, __be32 node,
					 __u32 len)
{
	int ret;

	__builtin_memset(fib, 0, sizeof(*fib));
	fib->family = AF_INET;
	fib->ifindex = config_host_ifindex; /* where forwarding is sure to be on */
	fib->l4_protocol = IPPROTO_UDP;
	fib->dport = bpf_htons(config_tunnel_port);
	fib->tot_len = skb->gso_size ? 1 : len; /* not 0: the route's MTU is wanted */
	fib->ipv4_src = source;
	fib->ipv4_dst = node;
	ret = bpf_fib_lookup(skb, fib, sizeof(*fib), 0);
	if (ret != BPF_FIB_LKUP_RET_SUCCESS && ret != BPF_FIB_LKUP_RET_NO_NEIGH)
		return false;
	if (skb->gso_size && fib->mtu_result < config_tunnel_mtu)
		return false; /* its segments might not fit */
	return fib->ifindex != config_host_ifindex;
}

/* `len`: from the outer IP header on. `hash`: of the flow. */
static __always_inline void direct_header(struct outer4 *outer, __be32 source, __be32 node, __u32 identity, __u16 len,
					  __u32 hash)
{
	outer->ip.version = 4;
	outer->ip.ihl = sizeof(outer->ip) / 4;
	outer->ip.tos = 0;
	outer->ip.tot_len = bpf_htons(len);
	outer->ip.id = bpf_get_prandom_u32();
	outer->ip.frag_off = 0;
	outer->ip.ttl = TUNNEL_TTL;
	outer->ip.protocol = IPPROTO_UDP;
	outer->ip.check = 0;
	outer->ip.saddr = source;
	outer->ip.daddr = node;
	outer->ip.check = ~ipv4_header_sum(outer);
	outer->udp.source = bpf_htons(0x8000 | (hash & 0x7fff)); /* flows may take different ways */
	outer->udp.dest = bpf_htons(config_tunnel_port);
	outer->udp.len = bpf_htons(len - sizeof(outer->ip));
	outer->udp.check = 0;
	outer->vxlan_flags = VXLAN_FLAG_VNI;
	outer->vni = bpf_htonl(identity << VXLAN_VNI_SHIFT);
}

/* Sends the packet to a node as from `identity`. Returns a verdict, or a negative number when the packet is as it was and has
 * to take the device's way.
 */
__noinline int direct_send(struct __sk_buff *skb, __be32 node, __u32 identity)
{
	__u32 index = 0, len = skb->len + sizeof(struct outer4) - ETH_HLEN;
	struct direct_scratch *room = bpf_map_lookup_elem(&direct_scratch, &index);
	__be32 source = tunnel_source();

	if (!room || !source || len > 0xffff || has_ecn(skb) || !direct_route(skb, &room->fib, source, node, len) ||
	    bpf_skb_load_bytes(skb, 0, &room->outer.eth, sizeof(room->outer.eth)))
		return -EOPNOTSUPP;
	direct_header(&room->outer, source, node, identity, len, bpf_get_hash_recalc(skb));
	if (bpf_skb_adjust_room(skb, sizeof(room->outer), BPF_ADJ_ROOM_MAC,
				BPF_F_ADJ_ROOM_FIXED_GSO | BPF_F_ADJ_ROOM_ENCAP_L3_IPV4 | BPF_F_ADJ_ROOM_ENCAP_L4_UDP |
					BPF_F_ADJ_ROOM_ENCAP_L2(ETH_HLEN) | BPF_F_ADJ_ROOM_ENCAP_L2_ETH))
		return -EOPNOTSUPP;
	if (bpf_skb_store_bytes(skb, ETH_HLEN, &room->outer, sizeof(room->outer), 0))
		return TC_ACT_SHOT;
	room->neigh.nh_family = room->fib.family;
	address_copy(room->neigh.ipv6_nh, room->fib.ipv6_dst, true);
	return bpf_redirect_neigh(room->fib.ifindex, &room->neigh, sizeof(room->neigh), 0);
}

/* Is it a packet of the tunnel for this node, and nothing out of the ordinary? */
static __always_inline bool direct_match(struct __sk_buff *skb)
{
	struct outer4 *outer = header_at(skb, ETH_HLEN, sizeof(outer->ip) + sizeof(outer->udp));

	if (!outer || outer->ip.protocol != IPPROTO_UDP || outer->udp.dest != bpf_htons(config_tunnel_port))
		return false;
	outer = header_at(skb, ETH_HLEN, sizeof(*outer));
	if (!outer || skb->gso_size || skb->pkt_type || outer->ip.daddr != tunnel_source())
		return false;
	if (outer->ip.version != 4 || outer->ip.ihl != sizeof(outer->ip) / 4 || outer->ip.tos & ECN_MASK ||
	    outer->ip.frag_off & ~bpf_htons(IPV4_DONT_FRAGMENT) || skb->len != ETH_HLEN + bpf_ntohs(outer->ip.tot_len))
		return false;
	return bpf_ntohs(outer->udp.len) == skb->len - ETH_HLEN - sizeof(outer->ip) && !outer->udp.check &&
	       outer->vxlan_flags == VXLAN_FLAG_VNI && ipv4_header_sum(outer) == 0xffff;
}

/* Where in the context the packet around is remembered once it is off. */
#define CB_OUTER_SOURCE 0
#define CB_OUTER_VNI 1

/* Takes off the packet around, which direct_match() has seen; what it said is in the context then. Returns 0, TC_ACT_UNSPEC
 * when the packet is as it was and has to take the device's way, or DROP_*.
 */
static __always_inline int direct_unwrap(struct __sk_buff *skb)
{
	struct outer4 *outer = header_at(skb, ETH_HLEN, sizeof(*outer));
	__u64 flags = BPF_F_ADJ_ROOM_FIXED_GSO;
	__be16 protocol;

	if (!outer)
		return TC_ACT_UNSPEC;
	protocol = outer->eth.h_proto;
	if (protocol == bpf_htons(ETH_P_IPV6))
		flags |= ADJ_ROOM_DECAP_L3_IPV6; /* refused by kernels before 6.3 */
	else if (protocol != bpf_htons(ETH_P_IP))
		return TC_ACT_UNSPEC;
	skb->cb[CB_OUTER_SOURCE] = bpf_ntohl(outer->ip.saddr);
	skb->cb[CB_OUTER_VNI] = bpf_ntohl(outer->vni) >> VXLAN_VNI_SHIFT;
	if (bpf_skb_adjust_room(skb, -(__s32)sizeof(*outer), BPF_ADJ_ROOM_MAC, flags))
		return TC_ACT_UNSPEC;
	bpf_set_hash_invalid(skb); /* it was that of the tunnel */
	if (bpf_skb_store_bytes(skb, offsetof(struct ethhdr, h_proto), &protocol, sizeof(protocol), 0))
		return DROP_WRITE_ERROR;
	return 0;
}
