/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* cil_from_host, at the ingress of cilium_net: what the node sends to containers. The container ranges are routed to
 * cilium_host, those of other nodes too when there is a tunnel, and cilium_net is that veth's other end.
 */
#include "lib/anchors.h"
#include "lib/deliver.h"
#include "lib/flow.h"
#include "lib/icmp.h"
#include "lib/overlay.h"

/* From the node itself to a container of another node, by the tunnel. What the node only passes on has no identity that
 * the other node could take its word for.
 */
static __always_inline int to_overlay(struct __sk_buff *skb, struct notice *n, const struct packet *p,
				      const struct ipcache_info *peer, const bool v6)
{
	struct ct none = {};
	int ret;

	n->dst_identity = peer->identity;
	if (n->src_identity != IDENTITY_HOST)
		return give_up(n, DROP_INVALID_IDENTITY);
	ret = forwardable(skb, p, tunnel_mtu(peer, v6), false, v6);
	if (ret == TC_ACT_REDIRECT)
		return give_up(n, deliver_to_host(skb));
	if (ret < 0)
		return give_up(n, ret);
	trace_delivery(skb, n, p, &none, TRACE_TO_OVERLAY, config_tunnel_ifindex, false);
	return give_up(n, tunnel_send(skb, peer, IDENTITY_REMOTE_NODE));
}

static __always_inline int from_host(struct __sk_buff *skb, struct notice *n, const bool v6)
{
	struct ipcache_info *peer;
	struct endpoint_info *dst;
	__u32 now = now_seconds();
	struct packet p = {};
	struct ct ct = {};
	int ret;

	ret = parse(skb, &p, v6);
	if (ret == DROP_INVALID)
		return give_up(n, ret);
	if (is_unroutable(&p.daddr, v6)) /* the kernel's own chatter on the veth */
		return TC_ACT_SHOT;
	if (ret < 0)
		return give_up(n, ret);
	ret = stack_sender(&p, n, v6);
	trace_arrival(skb, n, TRACE_FROM_HOST);
	if (ret < 0)
		return give_up(n, ret);
	dst = endpoint_find(&p.daddr, v6);
	if (!is_container(dst)) {
		peer = dst ? NULL : ipcache_find(&p.daddr, v6);
		return is_tunnelled(peer) ? to_overlay(skb, n, &p, peer, v6) : give_up(n, DROP_UNKNOWN_TARGET);
	}
	n->dst_identity = dst->identity;
	n->dst_id = dst->id;
	if (dst->flags & ENDPOINT_F_INTERNAL)
		return give_up(n, DROP_UNROUTABLE);

	ret = flow_find(skb, &p, &ct, now, false, v6);
	if (ret < 0)
		return give_up(n, ret);
	if (p.flags & PACKET_ICMP_ERROR) {
		ret = error_sender(&p, &ct, n, v6);
		if (ret < 0)
			return give_up(n, ret);
	}
	ret = judge(skb, n, &p, &ct, dst, n->src_identity, false, v6);
	if (ret < 0)
		return give_up(n, ret);
	ret = forwardable(skb, &p, dst->mtu, false, v6);
	if (ret == TC_ACT_REDIRECT)
		return give_up(n, deliver_to_host(skb));
	if (ret < 0)
		return give_up(n, ret);
	ret = ct_commit(&ct, &p, now, n->src_identity, CT_F_RESPONDER_LOCAL, v6);
	if (ret < 0)
		return give_up(n, ret);
	trace_delivery(skb, n, &p, &ct, TRACE_TO_LXC, dst->ifindex, ret);
	return give_up(n, deliver(skb, dst, false, v6));
}

__noinline int ipv4_from_host(struct __sk_buff *skb, struct notice *n)
{
	return n ? from_host(skb, n, false) : TC_ACT_SHOT;
}

__noinline int ipv6_from_host(struct __sk_buff *skb, struct notice *n)
{
	return n ? from_host(skb, n, true) : TC_ACT_SHOT;
}

SEC("tc")
int cil_from_host(struct __sk_buff *skb)
{
	struct notice n = { .file = SOURCE_FILE_HOST, .direction = METRIC_INGRESS };
	int ret;

	if (skb->protocol == bpf_htons(ETH_P_IP)) {
		ret = ipv4_from_host(skb, &n);
	} else if (skb->protocol == bpf_htons(ETH_P_IPV6)) {
		n.v6 = true;
		ret = ipv6_from_host(skb, &n);
	} else {
		return TC_ACT_SHOT;
	}
	return ret < 0 ? event_drop(skb, &n, ret) : ret;
}

char _license[] SEC("license") = "Dual BSD/GPL";
