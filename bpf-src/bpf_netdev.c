/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* cil_from_netdev, at the ingress of each device to the outside: replies to masqueraded flows go back to their container,
 * packets for a container's own address pass its policy, packets of the tunnel go on in cil_from_wire(). All other packets
 * are the node's and cost one look-up.
 */
#include "lib/anchors.h"
#include "lib/deliver.h"
#include "lib/flow.h"
#include "lib/icmp.h"
#include "lib/nat.h"
#include "lib/overlay.h"

/* Policy, hop, delivery: the same for both kinds. `outside`: the receiver that the bytes still name, NULL when they name
 * the container.
 */
static __always_inline int to_endpoint(struct __sk_buff *skb, struct notice *n, const struct packet *p, struct ct *ct,
				       __u32 now, const struct endpoint_info *dst, const struct nat_end *outside,
				       const bool v6)
{
	int ret;

	n->dst_identity = dst->identity;
	n->dst_id = dst->id;
	ret = judge(skb, n, p, ct, dst, n->src_identity, false, v6);
	if (ret < 0)
		return give_up(n, ret);
	ret = forwardable(skb, p, dst->mtu, true, v6);
	if (ret == TC_ACT_REDIRECT)
		return bpf_redirect(skb->ifindex, 0);
	if (ret < 0)
		return give_up(n, ret);
	ret = ct_commit(ct, p, now, n->src_identity, CT_F_RESPONDER_LOCAL, v6);
	if (ret < 0)
		return give_up(n, ret);
	if (outside && (v6 ? snat_restore6(skb, p, outside) : snat_restore4(skb, p, outside)))
		return give_up(n, DROP_WRITE_ERROR);
	trace_delivery(skb, n, p, ct, TRACE_TO_LXC, dst->ifindex, ret);
	if (v6) /* the device may have summed the packet, hop limit included */
		bpf_csum_update(skb, (__u16)~bpf_htons(1));
	return give_up(n, deliver(skb, dst, true, v6));
}

/* Came for an address of the node. It is a container's only if a live flow stands behind the mapping; whatever does not
 * fit is the node's own.
 */
static __always_inline int to_node(struct __sk_buff *skb, struct notice *n, struct packet *p, const bool v6)
{
	struct nat_end outside = {}, inside = {};
	__u32 now = now_seconds();
	struct ipcache_info *sender;
	struct endpoint_info *dst;
	struct ct ct = {};

	if (parse(skb, p, v6) < 0)
		return TC_ACT_OK;
	if (config_tunnel_ifindex && p->protocol == IPPROTO_UDP && p->dport == bpf_htons(config_tunnel_port))
		return TC_ACT_OK; /* never ours to translate */
	if (p->flags & PACKET_FRAGMENT && fragment_ports(p, v6) < 0)
		return TC_ACT_OK;
	if (p->flags & PACKET_ICMP_ERROR && icmp_error_flow(skb, p, false, v6) < 0)
		return TC_ACT_OK;
	if (!nat_in_range(bpf_ntohs(p->dport)) || !snat_find_reply(p, &inside, v6))
		return TC_ACT_OK;
	dst = endpoint_find(&inside.addr, v6);
	if (!is_container(dst))
		return TC_ACT_OK;
	outside.addr = p->daddr;
	outside.port = p->dport;
	p->daddr = inside.addr;
	p->dport = inside.port;
	if (ct_find(&ct, p, now, v6) < 0 || !ct.entry || !ct.reply)
		return TC_ACT_OK;
	sender = ipcache_find(&p->saddr, v6);
	if (is_tunnelled(sender) || !is_known(sender))
		return TC_ACT_OK;
	snat_keep_forward(p, &outside, v6);
	n->src_identity = identity_in(sender, v6);
	return to_endpoint(skb, n, p, &ct, now, dst, &outside, v6);
}

static __always_inline int from_netdev(struct __sk_buff *skb, struct notice *n, const bool v6)
{
	struct ipcache_info *sender;
	struct endpoint_info *dst;
	struct packet p = {};
	struct ct ct = {};
	__u32 now;
	void *ip;
	int ret;

	ip = header_at(skb, ETH_HLEN, v6 ? sizeof(struct ipv6hdr) : sizeof(struct iphdr));
	if (!ip)
		return TC_ACT_OK;
	address_copy(&p.daddr, ip + (v6 ? offsetof(struct ipv6hdr, daddr) : offsetof(struct iphdr, daddr)), v6);
	dst = endpoint_find(&p.daddr, v6);
	if (!dst)
		return TC_ACT_OK;
	if (!is_container(dst))
		return to_node(skb, n, &p, v6);

	ret = parse(skb, &p, v6);
	if (ret < 0)
		return give_up(n, ret);
	sender = ipcache_find(&p.saddr, v6);
	n->src_identity = identity_in(sender, v6);
	trace_arrival(skb, n, TRACE_FROM_NETWORK);
	if (endpoint_find(&p.saddr, v6) || n->src_identity == IDENTITY_HOST || is_unroutable(&p.saddr, v6))
		return give_up(n, DROP_INVALID_SIP);
	if (is_tunnelled(sender)) /* who has to come through the tunnel does not come without */
		return give_up(n, DROP_INVALID_SIP);
	if (!is_known(sender) && !(p.flags & PACKET_ICMP_ERROR))
		return give_up(n, DROP_INVALID_IDENTITY);
	if (dst->flags & ENDPOINT_F_INTERNAL && !is_remote_container(sender, n->src_identity))
		return give_up(n, DROP_UNROUTABLE);
	now = now_seconds();
	ret = flow_find(skb, &p, &ct, now, false, v6);
	if (ret < 0)
		return give_up(n, ret);
	if (p.flags & PACKET_ICMP_ERROR) {
		ret = error_sender(&p, &ct, n, v6);
		if (ret < 0)
			return give_up(n, ret);
	}
	return to_endpoint(skb, n, &p, &ct, now, dst, NULL, v6);
}

__noinline int ipv4_from_netdev(struct __sk_buff *skb, struct notice *n)
{
	return n ? from_netdev(skb, n, false) : TC_ACT_SHOT;
}

__noinline int ipv6_from_netdev(struct __sk_buff *skb, struct notice *n)
{
	return n ? from_netdev(skb, n, true) : TC_ACT_SHOT;
}

SEC("tc")
int cil_from_netdev(struct __sk_buff *skb)
{
	struct notice n = { .file = SOURCE_FILE_NETDEV, .direction = METRIC_INGRESS };
	int ret;

	if (skb->vlan_present)
		return TC_ACT_OK;
	if (skb->protocol == bpf_htons(ETH_P_IP)) {
		if (config_tunnel_ifindex && direct_match(skb))
			bpf_tail_call(skb, &cilium_calls, CALL_FROM_WIRE);
		ret = ipv4_from_netdev(skb, &n);
	} else if (skb->protocol == bpf_htons(ETH_P_IPV6)) {
		n.v6 = true;
		ret = ipv6_from_netdev(skb, &n);
	} else {
		return TC_ACT_OK;
	}
	return ret < 0 ? event_drop(skb, &n, ret) : ret;
}

char _license[] SEC("license") = "Dual BSD/GPL";
