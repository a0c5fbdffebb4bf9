/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The VXLAN tunnels between nodes. One device does for all of them: each packet carries the address of the node that it
 * goes to or comes from, and its sender's identity as network number.
 *
 * The sender's node is trusted to name the identities of its own containers, and nothing more: what comes in is dropped
 * unless ipcache says that the inner source lives on the node that is the outer source.
 */
#pragma once

#include "common.h"
#include "config.h"
#include "direct.h"
#include "eps.h"

/* Ethernet, VXLAN, UDP and outer IP header. */
#define TUNNEL_OVERHEAD_IPV4 50
#define TUNNEL_OVERHEAD_IPV6 70

#define IPV6_MIN_MTU 1280 /* RFC 8200 */

/* Do packets to and from this address take the tunnel? */
static __always_inline bool is_tunnelled(const struct ipcache_info *info)
{
	return config_tunnel_ifindex && info &&
	       (info->flags & (IPCACHE_F_HAS_TUNNEL | IPCACHE_F_SKIP_TUNNEL)) == IPCACHE_F_HAS_TUNNEL;
}

/* Length of the largest packet that fits into the tunnel to that node. What IPv6 promises its senders always passes: the
 * packet around it may be cut up on its way, as it never says otherwise.
 */
static __always_inline __u32 tunnel_mtu(const struct ipcache_info *to, const bool v6)
{
	__u32 mtu = config_tunnel_mtu - (to->flags & IPCACHE_F_IPV6_TUNNEL ? TUNNEL_OVERHEAD_IPV6 : TUNNEL_OVERHEAD_IPV4);

	return v6 && mtu < IPV6_MIN_MTU ? IPV6_MIN_MTU : mtu;
}

/* Sends the packet by the tunnel's device. Returns a verdict or DROP_*. */
__noinline int device_send(struct __sk_buff *skb, const struct ipcache_info *to, __u32 identity)
{
	struct bpf_tunnel_key key = { .tunnel_id = identity, .tunnel_ttl = TUNNEL_TTL };
	__u64 flags;

	if (!to)
		return DROP_INVALID;
	if (to->flags & IPCACHE_F_IPV6_TUNNEL) {
		address_copy(key.remote_ipv6, to->tunnel_endpoint, true);
		flags = BPF_F_TUNINFO_IPV6; /* with checksum: UDP over IPv6 wants one */
	} else {
		key.remote_ipv4 = bpf_ntohl(*(__be32 *)to->tunnel_endpoint);
		flags = BPF_F_ZERO_CSUM_TX;
	}
	if (bpf_skb_set_tunnel_key(skb, &key, sizeof(key), flags))
		return DROP_WRITE_ERROR;
	return bpf_redirect(config_tunnel_ifindex, 0);
}

/* Sends the packet through the tunnel to the node of `to`, as from `identity`. Returns a verdict or DROP_*. Inline: together
 * the functions on the way here have 512 bytes of stack.
 */
static __always_inline int tunnel_send(struct __sk_buff *skb, const struct ipcache_info *to, __u32 identity)
{
	int ret;

	if (!is_container_identity(identity) && identity != IDENTITY_REMOTE_NODE)
		return DROP_INVALID_IDENTITY;
	if (!(to->flags & IPCACHE_F_IPV6_TUNNEL)) {
		ret = direct_send(skb, *(__be32 *)to->tunnel_endpoint, identity);
		if (likely(ret >= 0))
			return ret;
	}
	return device_send(skb, to, identity);
}

/* Is the node of `info` the one that the packet came from? */
static __always_inline bool tunnel_came_from(const struct bpf_tunnel_key *key, const struct ipcache_info *info)
{
	const __be32 *node = (const __be32 *)info->tunnel_endpoint;

	if (!(info->flags & IPCACHE_F_IPV6_TUNNEL))
		return key->remote_ipv4 == bpf_ntohl(node[0]);
	return !((key->remote_ipv6[0] ^ node[0]) | (key->remote_ipv6[1] ^ node[1]) | (key->remote_ipv6[2] ^ node[2]) |
		 (key->remote_ipv6[3] ^ node[3]));
}

/* What the packet around said, by the family of `info`. `direct`: it was taken off by direct_unwrap(). Returns 0 or DROP_*. */
static __always_inline int tunnel_key(struct __sk_buff *skb, const struct ipcache_info *info, struct bpf_tunnel_key *key,
				      bool direct)
{
	bool v6 = info->flags & IPCACHE_F_IPV6_TUNNEL;

	if (direct) {
		key->remote_ipv4 = skb->cb[CB_OUTER_SOURCE];
		key->tunnel_id = skb->cb[CB_OUTER_VNI];
		return v6 ? DROP_UNKNOWN_SENDER : 0;
	}
	switch (bpf_skb_get_tunnel_key(skb, key, sizeof(*key), v6 ? BPF_F_TUNINFO_IPV6 : 0)) {
	case 0:
		return 0;
	case -EPROTO: /* a tunnel over the other address family */
		return DROP_UNKNOWN_SENDER;
	default:
		return DROP_NO_TUNNEL_KEY;
	}
}

/* Where a packet came from, once it is sure that `info`, the entry of its inner source, lives there. Returns 0 or DROP_*. */
static __always_inline int tunnel_verify(struct __sk_buff *skb, const struct ipcache_info *info, struct bpf_tunnel_key *key,
					 bool direct)
{
	int ret;

	if (!is_tunnelled(info))
		return DROP_UNKNOWN_SENDER;
	ret = tunnel_key(skb, info, key, direct);
	if (ret < 0)
		return ret;
	if (!tunnel_came_from(key, info))
		return DROP_UNKNOWN_SENDER;
	if (!is_container_identity(key->tunnel_id) && key->tunnel_id != IDENTITY_REMOTE_NODE)
		return DROP_INVALID_IDENTITY;
	return identity_is_known(key->tunnel_id) ? 0 : DROP_INVALID_IDENTITY;
}
