/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The last steps of a packet: hop count, MAC addresses, redirect. */
#pragma once

#include "common.h"
#include "config.h"
#include "eps.h"

static __always_inline void decrement_hops(void *network_header, const bool v6)
{
	struct ipv6hdr *ip6 = network_header;
	struct iphdr *ip = network_header;
	__u32 check;

	if (v6) {
		ip6->hop_limit--;
		return;
	}
	check = ip->check + bpf_htons(0x0100);
	ip->check = check + (check >= 0xffff);
	ip->ttl--;
}

/* Straight into a container's namespace. `hop`: we are a router on the packet's way, not its origin. */
static __always_inline int deliver(struct __sk_buff *skb, const struct endpoint_info *ep, const bool hop, const bool v6)
{
	void *head = header_at(skb, 0, ETH_HLEN + (v6 ? sizeof(struct ipv6hdr) : sizeof(struct iphdr)));
	struct ethhdr *eth = head;

	if (unlikely(!head))
		return DROP_INVALID;
	mac_copy(eth->h_dest, ep->mac);
	mac_copy(eth->h_source, ep->host_mac);
	if (hop)
		decrement_hops(head + ETH_HLEN, v6);
	return bpf_redirect_peer(ep->ifindex, 0);
}

/* Up into the node's own stack, through cilium_host: the route back to every container goes there, so the packet passes
 * reverse path filters of any strictness.
 */
static __always_inline int deliver_to_host(struct __sk_buff *skb)
{
	struct ethhdr *eth = header_at(skb, 0, sizeof(*eth));
	mac_bytes mac;

	if (unlikely(!eth))
		return DROP_INVALID;
	for (int i = 0; i < ETH_ALEN; i++)
		mac[i] = config_host_mac[i];
	mac_copy(eth->h_dest, mac);
	return bpf_redirect(config_host_ifindex, BPF_F_INGRESS);
}
