/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* What other nodes send through the tunnel to this one's containers and to the node itself: cil_from_overlay at the ingress of
 * cilium_vxlan, cil_from_wire at the devices to the outside (see lib/direct.h). Nothing of it reaches the node's stack but by
 * deliver_to_host().
 */
#include "lib/anchors.h"
#include "lib/deliver.h"
#include "lib/flow.h"
#include "lib/icmp.h"
#include "lib/overlay.h"

/* An answer to a packet that could not go on: back through the tunnel, as from the node. */
static __always_inline int answer_sender(struct __sk_buff *skb, const struct ipcache_info *sender)
{
	return tunnel_send(skb, sender, IDENTITY_REMOTE_NODE);
}

static __always_inline int to_endpoint(struct __sk_buff *skb, struct notice *n, struct packet *p, struct bpf_tunnel_key *key,
				       const struct ipcache_info *sender, const struct endpoint_info *dst, bool direct,
				       const bool v6)
{
	__u32 now = now_seconds();
	struct ct ct = {};
	int ret;

	n->dst_identity = dst->identity;
	n->dst_id = dst->id;
	if (dst->flags & ENDPOINT_F_INTERNAL && !is_container_identity(n->src_identity))
		return give_up(n, DROP_UNROUTABLE);
	ret = flow_find(skb, p, &ct, now, false, v6);
	if (ret < 0)
		return give_up(n, ret);
	if (p->flags & PACKET_ICMP_ERROR) { /* may be a router's; it is judged as from the flow's other end */
		struct ipcache_info *end = ipcache_find(&p->saddr, v6);

		ret = tunnel_verify(skb, end, key, direct);
		if (ret < 0)
			return give_up(n, ret);
		n->src_identity = peer_identity(end, &ct, v6);
		if (n->src_identity == IDENTITY_UNKNOWN)
			return give_up(n, DROP_INVALID_IDENTITY);
	}
	ret = judge(skb, n, p, &ct, dst, n->src_identity, false, v6);
	if (ret < 0)
		return give_up(n, ret);
	ret = forwardable(skb, p, dst->mtu, true, v6);
	if (ret == TC_ACT_REDIRECT)
		return give_up(n, answer_sender(skb, sender));
	if (ret < 0)
		return give_up(n, ret);
	ret = ct_commit(&ct, p, now, n->src_identity, CT_F_RESPONDER_LOCAL, v6);
	if (ret < 0)
		return give_up(n, ret);
	trace_delivery(skb, n, p, &ct, TRACE_TO_LXC, dst->ifindex, ret);
	if (v6) /* the device may have summed the packet, hop limit included */
		bpf_csum_update(skb, (__u16)~bpf_htons(1));
	return give_up(n, deliver(skb, dst, true, v6));
}

/* `direct`: the packet has not passed the tunnel's device. */
static __always_inline int from_overlay(struct __sk_buff *skb, struct notice *n, bool direct, const bool v6)
{
	struct bpf_tunnel_key key = {};
	struct ipcache_info *sender;
	struct endpoint_info *dst;
	struct packet p = {};
	struct ct none = {};
	int ret;

	ret = parse(skb, &p, v6);
	if (ret < 0)
		return give_up(n, ret);
	sender = ipcache_find(&p.saddr, v6);
	ret = tunnel_verify(skb, sender, &key, direct);
	if (ret < 0)
		return give_up(n, ret);
	n->src_identity = key.tunnel_id;
	trace_arrival(skb, n, TRACE_FROM_OVERLAY);
	dst = endpoint_find(&p.daddr, v6);
	if (!dst)
		return give_up(n, DROP_UNKNOWN_TARGET);
	if (is_container(dst))
		return to_endpoint(skb, n, &p, &key, sender, dst, direct, v6);
	n->dst_identity = IDENTITY_HOST;
	trace_delivery(skb, n, &p, &none, TRACE_TO_HOST, config_host_ifindex, false);
	return give_up(n, deliver_to_host(skb));
}

__noinline int ipv4_from_overlay(struct __sk_buff *skb, struct notice *n, bool direct)
{
	return n ? from_overlay(skb, n, direct, false) : TC_ACT_SHOT;
}

__noinline int ipv6_from_overlay(struct __sk_buff *skb, struct notice *n, bool direct)
{
	return n ? from_overlay(skb, n, direct, true) : TC_ACT_SHOT;
}

SEC("tc")
int cil_from_overlay(struct __sk_buff *skb)
{
	struct notice n = { .file = SOURCE_FILE_OVERLAY, .direction = METRIC_INGRESS };
	int ret;

	if (skb->vlan_present) {
		ret = give_up(&n, DROP_VLAN_FILTERED);
	} else if (skb->protocol == bpf_htons(ETH_P_IP)) {
		ret = ipv4_from_overlay(skb, &n, false);
	} else if (skb->protocol == bpf_htons(ETH_P_IPV6)) {
		n.v6 = true;
		ret = ipv6_from_overlay(skb, &n, false);
	} else {
		ret = give_up(&n, DROP_UNSUPPORTED_L2);
	}
	return ret < 0 ? event_drop(skb, &n, ret) : ret;
}

/* Called by cil_from_netdev(). What it cannot unwrap takes the way through the tunnel's device. */
SEC("tc")
int cil_from_wire(struct __sk_buff *skb)
{
	struct notice n = { .file = SOURCE_FILE_OVERLAY, .direction = METRIC_INGRESS };
	int ret = direct_unwrap(skb);

	if (ret == TC_ACT_UNSPEC)
		return TC_ACT_OK;
	n.v6 = skb->protocol == bpf_htons(ETH_P_IPV6);
	if (ret < 0)
		ret = give_up(&n, ret);
	else if (n.v6)
		ret = ipv6_from_overlay(skb, &n, true);
	else
		ret = ipv4_from_overlay(skb, &n, true);
	return ret < 0 ? event_drop(skb, &n, ret) : ret;
}

char _license[] SEC("license") = "Dual BSD/GPL";
