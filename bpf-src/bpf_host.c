/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* cil_from_host, at the ingress of cilium_net: what the node sends to containers. The node's container ranges are routed
 * to cilium_host, and cilium_net is that veth's other end.
 */
#include "lib/anchors.h"
#include "lib/deliver.h"
#include "lib/flow.h"
#include "lib/icmp.h"

static __always_inline int from_host(struct __sk_buff *skb, struct notice *n, const bool v6)
{
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
	n->src_identity = sender_identity(&p.saddr, v6);
	trace_arrival(skb, n, TRACE_FROM_HOST);
	dst = endpoint_find(&p.daddr, v6);
	if (!is_container(dst))
		return give_up(n, DROP_UNKNOWN_TARGET);
	n->dst_identity = dst->identity;
	n->dst_id = dst->id;
	if (dst->flags & ENDPOINT_F_INTERNAL)
		return give_up(n, DROP_UNROUTABLE);

	ret = flow_find(skb, &p, &ct, now, false, v6);
	if (ret < 0)
		return give_up(n, ret);
	if (p.flags & PACKET_ICMP_ERROR) /* may be a router's; it is judged as from the flow's other end */
		n->src_identity = sender_identity(&p.saddr, v6);
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
