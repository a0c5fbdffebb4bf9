/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* IPv6 neighbour discovery of containers, the counterpart of arp.h. Included by bpf_lxc. */
#pragma once

#include "common.h"
#include "config.h"
#include "eps.h"
#include "events.h"
#include "icmp.h"
#include "parse.h"

#define ND_ROUTER_SOLICIT 133
#define ND_ROUTER_ADVERT 134
#define ND_NEIGHBOUR_SOLICIT 135
#define ND_NEIGHBOUR_ADVERT 136
#define ND_REDIRECT 137

#define MLD_QUERY 130
#define MLD_REPORT 131
#define MLD_DONE 132
#define MLD2_REPORT 143

#define ND_OPTION_TARGET_MAC 2
#define ND_FLAGS_ROUTER_SOLICITED_OVERRIDE 0xe0000000
#define ND_HOP_LIMIT 255

struct nd_message {
	__u8 type;
	__u8 code;
	__sum16 checksum;
	__be32 flags;
	__u8 target[16];
};

struct nd_advert {
	struct ethhdr eth;
	struct ipv6hdr ip;
	struct nd_message nd;
	__u8 option_type;
	__u8 option_len; /* in units of 8 bytes */
	__u8 mac[ETH_ALEN];
} __attribute__((packed));

/* What link-local and unspecified sources may be used for. */
static __always_inline bool is_link_housekeeping(const struct packet *p)
{
	return p->protocol == IPPROTO_ICMPV6 && !(p->flags & PACKET_LATER_FRAGMENT) &&
	       ((p->icmp_type >= MLD_QUERY && p->icmp_type <= ND_REDIRECT) || p->icmp_type == MLD2_REPORT);
}

static __always_inline int nd_answer(struct __sk_buff *skb, const union address *asker, const union address *target,
				     const __u8 *asker_mac, const __u8 *mac)
{
	struct nd_advert advert = {};
	__be32 pseudo[2] = { bpf_htonl(sizeof(advert) - ETH_HLEN - sizeof(advert.ip)), bpf_htonl(IPPROTO_ICMPV6) };
	__u32 sum;

	mac_copy(advert.eth.h_dest, asker_mac);
	mac_copy(advert.eth.h_source, mac);
	advert.eth.h_proto = bpf_htons(ETH_P_IPV6);
	advert.ip.version = 6;
	advert.ip.payload_len = bpf_htons(sizeof(advert) - ETH_HLEN - sizeof(advert.ip));
	advert.ip.nexthdr = IPPROTO_ICMPV6;
	advert.ip.hop_limit = ND_HOP_LIMIT;
	__builtin_memcpy(&advert.ip.saddr, target, 16);
	__builtin_memcpy(&advert.ip.daddr, asker, 16);
	advert.nd.type = ND_NEIGHBOUR_ADVERT;
	advert.nd.flags = bpf_htonl(ND_FLAGS_ROUTER_SOLICITED_OVERRIDE);
	__builtin_memcpy(advert.nd.target, target, 16);
	advert.option_type = ND_OPTION_TARGET_MAC;
	advert.option_len = 1;
	mac_copy(advert.mac, mac);
	sum = bpf_csum_diff(NULL, 0, pseudo, sizeof(pseudo), 0);
	sum = bpf_csum_diff(NULL, 0, (__be32 *)((__u8 *)&advert + ETH_HLEN + offsetof(struct ipv6hdr, saddr)),
			    sizeof(advert) - ETH_HLEN - offsetof(struct ipv6hdr, saddr), sum);
	advert.nd.checksum = checksum_fold(sum);
	if (bpf_skb_change_tail(skb, sizeof(advert), 0) || bpf_skb_store_bytes(skb, 0, &advert, sizeof(advert), 0))
		return DROP_WRITE_ERROR;
	return bpf_redirect_peer(skb->ifindex, 0);
}

/* Solicitations are answered as ARP requests are. What a container asks of routers and tells of its multicast groups is
 * dropped without a word; what would make it a router is an offence.
 */
__noinline int nd_from_container(struct __sk_buff *skb, const struct packet *p, struct notice *n)
{
	struct endpoint_info *owner, *src = NULL;
	__u8 asker_mac[ETH_ALEN], mac[ETH_ALEN];
	union address target = {};
	struct nd_message *nd;
	struct ethhdr *eth;

	if (!p || !n)
		return TC_ACT_SHOT;
	if (p->icmp_type == ND_ROUTER_ADVERT || p->icmp_type == ND_REDIRECT)
		return give_up(n, DROP_FORBIDDEN_ICMP6);
	if (p->icmp_type != ND_NEIGHBOUR_SOLICIT)
		return TC_ACT_SHOT;
	nd = header_at(skb, p->l4_off, sizeof(*nd));
	if (!nd || nd->code || p->ttl != ND_HOP_LIMIT || p->flags & PACKET_FRAGMENT)
		return give_up(n, DROP_INVALID);
	address_copy(&target, nd->target, true);
	if (is_unspecified(&p->saddr)) /* duplicate address detection */
		return TC_ACT_SHOT;

	eth = header_at(skb, 0, sizeof(*eth));
	if (!eth)
		return give_up(n, DROP_INVALID);
	mac_copy(asker_mac, eth->h_source);
	if (is_link_local(&p->saddr)) {
		/* No record tells what MAC address this veth has; any will do, so stay with the one asked for. */
		if (eth->h_dest[0] & 1)
			for (int i = 0; i < ETH_ALEN; i++)
				mac[i] = config_host_mac[i];
		else
			mac_copy(mac, eth->h_dest);
	} else {
		src = endpoint_find(&p->saddr, true);
		if (!src || src->ifindex != skb->ifindex)
			return give_up(n, DROP_INVALID_SIP);
		n->src_identity = src->identity;
		n->source = src->id;
		if (!mac_equal(asker_mac, src->mac))
			return give_up(n, DROP_INVALID_SMAC);
		mac_copy(mac, src->host_mac);
	}
	owner = endpoint_find(&target, true);
	if (owner && owner->ifindex == skb->ifindex)
		return TC_ACT_SHOT;
	return give_up(n, nd_answer(skb, &p->saddr, &target, asker_mac, mac));
}
