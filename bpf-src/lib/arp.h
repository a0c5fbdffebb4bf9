/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* ARP of containers: any address but their own is behind the host side of the veth. Included by bpf_lxc. */
#pragma once

#include "common.h"
#include "eps.h"
#include "events.h"

struct arp_packet {
	struct ethhdr eth;
	struct arphdr head;
	__u8 sender_mac[ETH_ALEN];
	__u8 sender_ip[4];
	__u8 target_mac[ETH_ALEN];
	__u8 target_ip[4];
} __attribute__((packed));

/* Answers a request. Address probes, gratuitous announcements and questions for the container's own addresses (duplicate
 * address detection) stay without an answer, as replies do.
 */
__noinline int arp_from_container(struct __sk_buff *skb, struct notice *n)
{
	struct arp_packet *arp = header_at(skb, 0, sizeof(*arp));
	union address sender = {}, target = {};
	struct endpoint_info *src, *owner;

	if (!n)
		return TC_ACT_SHOT;
	if (!arp || arp->head.ar_hrd != bpf_htons(ARPHRD_ETHER) || arp->head.ar_pro != bpf_htons(ETH_P_IP) ||
	    arp->head.ar_hln != ETH_ALEN || arp->head.ar_pln != 4)
		return give_up(n, DROP_INVALID);
	__builtin_memcpy(&sender.v4, arp->sender_ip, 4);
	__builtin_memcpy(&target.v4, arp->target_ip, 4);
	if (arp->head.ar_op != bpf_htons(ARPOP_REQUEST) || !sender.v4 || sender.v4 == target.v4)
		return TC_ACT_SHOT;
	src = endpoint_find(&sender, false);
	if (!src || src->ifindex != skb->ifindex)
		return give_up(n, DROP_INVALID_SIP);
	n->src_identity = src->identity;
	n->source = src->id;
	if (!mac_equal(arp->eth.h_source, src->mac) || !mac_equal(arp->sender_mac, src->mac))
		return give_up(n, DROP_INVALID_SMAC);
	owner = endpoint_find(&target, false);
	if (owner && owner->ifindex == skb->ifindex)
		return TC_ACT_SHOT;

	arp->head.ar_op = bpf_htons(ARPOP_REPLY);
	mac_copy(arp->eth.h_dest, src->mac);
	mac_copy(arp->eth.h_source, src->host_mac);
	mac_copy(arp->sender_mac, src->host_mac);
	mac_copy(arp->target_mac, src->mac);
	__builtin_memcpy(arp->sender_ip, &target.v4, 4);
	__builtin_memcpy(arp->target_ip, &sender.v4, 4);
	return bpf_redirect_peer(skb->ifindex, 0);
}
