/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The host side of a container's veth.
 *
 * cil_from_container (clsact ingress): what a container sends. Who is it, and may it say so; then on to another container
 * of this node (both policies in one pass, straight into its namespace), to the node itself, to a container of another node
 * (by the tunnel or by the node's routes), or to the world.
 *
 * cil_to_container (clsact egress): what reaches a container through the node's stack instead of by redirect.
 */
#include "lib/anchors.h"
#include "lib/arp.h"
#include "lib/deliver.h"
#include "lib/flow.h"
#include "lib/icmp.h"
#include "lib/nat.h"
#include "lib/nd.h"
#include "lib/overlay.h"

/* To another container of this node. */
static __always_inline int to_local(struct __sk_buff *skb, struct notice *n, struct packet *p, struct ct *ct, __u32 now,
				    const struct endpoint_info *src, const struct endpoint_info *dst, const bool v6)
{
	int ret;

	n->dst_identity = dst->identity;
	n->dst_id = dst->id;
	ret = judge(skb, n, p, ct, src, dst->identity, true, v6);
	if (unlikely(ret < 0))
		return give_up(n, ret);
	ret = judge(skb, n, p, ct, dst, src->identity, false, v6);
	if (unlikely(ret < 0))
		return give_up(n, ret);
	ret = forwardable(skb, p, min_of(src->mtu, dst->mtu), true, v6);
	if (unlikely(ret == TC_ACT_REDIRECT))
		return bpf_redirect_peer(skb->ifindex, 0);
	if (unlikely(ret < 0))
		return give_up(n, ret);
	ret = ct_commit(ct, p, now, src->identity, CT_F_INITIATOR_LOCAL | CT_F_RESPONDER_LOCAL, v6);
	if (unlikely(ret < 0))
		return give_up(n, ret);
	trace_delivery(skb, n, p, ct, TRACE_TO_LXC, dst->ifindex, ret);
	return give_up(n, deliver(skb, dst, true, v6));
}

static __always_inline int to_host(struct __sk_buff *skb, struct notice *n, struct packet *p, struct ct *ct, __u32 now,
				   const struct endpoint_info *src, const bool v6)
{
	int ret;

	n->dst_identity = IDENTITY_HOST;
	if (src->flags & ENDPOINT_F_INTERNAL)
		return give_up(n, DROP_UNROUTABLE);
	ret = judge(skb, n, p, ct, src, IDENTITY_HOST, true, v6);
	if (ret < 0)
		return give_up(n, ret);
	ret = ct_commit(ct, p, now, src->identity, CT_F_INITIATOR_LOCAL, v6);
	if (unlikely(ret < 0))
		return give_up(n, ret);
	trace_delivery(skb, n, p, ct, TRACE_TO_HOST, config_host_ifindex, ret);
	return give_up(n, deliver_to_host(skb));
}

/* Where to: fills `fib` and checks that the packet fits. As forwardable(). */
static __always_inline int route(struct __sk_buff *skb, struct notice *n, const struct packet *p,
				 struct bpf_fib_lookup *fib, const bool v6)
{
	int ret;

	__builtin_memset(fib, 0, sizeof(*fib));
	fib->ifindex = config_host_ifindex; /* where forwarding is sure to be on */
	fib->l4_protocol = p->protocol;
	fib->sport = p->sport;
	fib->dport = p->dport;
	fib->tot_len = min_of(segment_len(skb, p), 0xffff);
	if (v6) {
		fib->family = AF_INET6;
		address_copy(fib->ipv6_src, &p->saddr, true);
		address_copy(fib->ipv6_dst, &p->daddr, true);
	} else {
		fib->family = AF_INET;
		fib->ipv4_src = p->saddr.v4;
		fib->ipv4_dst = p->daddr.v4;
	}
	ret = bpf_fib_lookup(skb, fib, sizeof(*fib), 0);
	if (ret == BPF_FIB_LKUP_RET_FRAG_NEEDED)
		return forwardable(skb, p, fib->mtu_result, true, v6);
	if (ret != BPF_FIB_LKUP_RET_SUCCESS && ret != BPF_FIB_LKUP_RET_NO_NEIGH) {
		n->ext_error = ret;
		return DROP_FIB_FAILED;
	}
	return fib->ifindex == config_host_ifindex ? DROP_UNKNOWN_TARGET : 0;
}

/* Are containers known there under their own addresses? On other nodes they are, but for the addresses of the nodes
 * themselves when all ways back lead through tunnels.
 */
static __always_inline bool is_in_cluster(const struct ipcache_info *peer)
{
	return is_remote(peer) || (peer && peer->identity == IDENTITY_REMOTE_NODE && !config_tunnel_ifindex);
}

/* Flows that the container opened leave the cluster with the device's address; others were reached under the container's
 * own. Returns 1 and the new source, 0 or DROP_*.
 */
static __always_inline int masquerade(struct __sk_buff *skb, const struct packet *p, const struct ct *ct,
				      __u32 ifindex, struct nat_end *to, const bool v6)
{
	struct device_info *device = bpf_map_lookup_elem(&cilium_devices, &ifindex);
	union address local = {};
	int ret;

	if (ct->reply || !device || !(device->flags & (v6 ? DEVICE_F_MASQUERADE6 : DEVICE_F_MASQUERADE4)))
		return 0;
	address_copy(&local, v6 ? device->ipv6 : device->ipv4, v6);
	ret = v6 ? snat_map6(skb, p, &local, to) : snat_map4(skb, p, &local, to);
	return ret < 0 ? ret : 1;
}

/* To an address on another node, by the tunnel. */
static __always_inline int to_overlay(struct __sk_buff *skb, struct notice *n, struct packet *p, struct ct *ct, __u32 now,
				      const struct endpoint_info *src, const struct ipcache_info *peer, const bool v6)
{
	void *ip;
	int ret;

	if (src->flags & ENDPOINT_F_INTERNAL && !is_remote_container(peer, n->dst_identity))
		return give_up(n, DROP_UNROUTABLE);
	ret = judge(skb, n, p, ct, src, n->dst_identity, true, v6);
	if (ret < 0)
		return give_up(n, ret);
	ret = forwardable(skb, p, min_of(src->mtu, tunnel_mtu(peer, v6)), true, v6);
	if (unlikely(ret == TC_ACT_REDIRECT))
		return bpf_redirect_peer(skb->ifindex, 0);
	if (ret < 0)
		return give_up(n, ret);
	ret = ct_commit(ct, p, now, src->identity, CT_F_INITIATOR_LOCAL, v6);
	if (unlikely(ret < 0))
		return give_up(n, ret);
	trace_delivery(skb, n, p, ct, TRACE_TO_OVERLAY, config_tunnel_ifindex, ret);
	ip = header_at(skb, ETH_HLEN, v6 ? sizeof(struct ipv6hdr) : sizeof(struct iphdr));
	if (!ip)
		return give_up(n, DROP_INVALID);
	decrement_hops(ip, v6);
	return give_up(n, tunnel_send(skb, peer, src->identity));
}

/* The packet leaves for the next hop that `fib` names. */
static __always_inline int leave(struct __sk_buff *skb, struct scratch *room, const bool v6)
{
	void *ip = header_at(skb, ETH_HLEN, v6 ? sizeof(struct ipv6hdr) : sizeof(struct iphdr));

	if (!ip)
		return DROP_INVALID;
	decrement_hops(ip, v6);
	room->neigh.nh_family = room->fib.family;
	address_copy(room->neigh.ipv6_nh, room->fib.ipv6_dst, true);
	return bpf_redirect_neigh(room->fib.ifindex, &room->neigh, sizeof(room->neigh), 0);
}

/* To the world, or to another node without a tunnel. */
static __always_inline int to_world(struct __sk_buff *skb, struct notice *n, struct packet *p, struct ct *ct, __u32 now,
				    const struct endpoint_info *src, const struct ipcache_info *peer, const bool v6)
{
	struct scratch *room = scratch_get();
	struct nat_end source = {};
	int ret, report, translate = 0;

	if (!room || (src->flags & ENDPOINT_F_INTERNAL && !is_remote_container(peer, n->dst_identity)))
		return give_up(n, DROP_UNROUTABLE);
	/* Masqueraded it would be a packet of this node's tunnel, with any identity inside. */
	if (config_tunnel_ifindex && p->protocol == IPPROTO_UDP && p->dport == bpf_htons(config_tunnel_port))
		return give_up(n, DROP_ENCAP_PROHIBITED);
	ret = judge(skb, n, p, ct, src, n->dst_identity, true, v6);
	if (ret < 0)
		return give_up(n, ret);
	ret = forwardable(skb, p, src->mtu, true, v6);
	if (!ret)
		ret = route(skb, n, p, &room->fib, v6);
	if (unlikely(ret == TC_ACT_REDIRECT))
		return bpf_redirect_peer(skb->ifindex, 0);
	if (ret < 0)
		return give_up(n, ret);
	ret = ct_commit(ct, p, now, src->identity, CT_F_INITIATOR_LOCAL, v6);
	if (unlikely(ret < 0))
		return give_up(n, ret);
	report = ret;
	if (!is_in_cluster(peer))
		translate = masquerade(skb, p, ct, room->fib.ifindex, &source, v6);
	if (translate < 0)
		return give_up(n, translate);
	trace_delivery(skb, n, p, ct, TRACE_TO_NETWORK, room->fib.ifindex, report);
	if (translate) {
		ret = v6 ? snat_rewrite6(skb, p, &source) : snat_rewrite4(skb, p, &source);
		if (ret < 0)
			return give_up(n, ret);
	}
	return give_up(n, leave(skb, room, v6));
}

static __always_inline int from_container(struct __sk_buff *skb, struct notice *n, const bool v6)
{
	struct endpoint_info *src, *dst;
	struct ipcache_info *peer;
	__u32 now = now_seconds();
	struct packet p = {};
	struct ethhdr *eth;
	struct ct ct = {};
	int ret;

	ret = parse(skb, &p, v6);
	if (unlikely(ret < 0))
		return !v6 && p.protocol == IPPROTO_IGMP ? TC_ACT_SHOT : give_up(n, ret);
	if (v6 && unlikely(is_link_housekeeping(&p)))
		return nd_from_container(skb, &p, n);
	src = endpoint_find(&p.saddr, v6);
	if (unlikely(!src || src->ifindex != skb->ifindex))
		return give_up(n, DROP_INVALID_SIP);
	n->src_identity = src->identity;
	n->source = src->id;
	eth = header_at(skb, 0, sizeof(*eth));
	if (unlikely(!eth || !mac_equal(eth->h_source, src->mac)))
		return give_up(n, DROP_INVALID_SMAC);
	trace_arrival(skb, n, TRACE_FROM_LXC);
	if (unlikely(is_unroutable(&p.daddr, v6)))
		return give_up(n, DROP_UNROUTABLE);

	ret = flow_find(skb, &p, &ct, now, true, v6);
	if (unlikely(ret < 0))
		return give_up(n, ret);
	dst = endpoint_find(&p.daddr, v6);
	if (likely(is_container(dst)))
		return to_local(skb, n, &p, &ct, now, src, dst, v6);
	peer = dst ? NULL : ipcache_find(&p.daddr, v6);
	n->dst_identity = dst ? IDENTITY_HOST : peer_identity(peer, &ct, v6);
	if (n->dst_identity == IDENTITY_HOST)
		return to_host(skb, n, &p, &ct, now, src, v6);
	if (unlikely(n->dst_identity == IDENTITY_UNKNOWN))
		return give_up(n, DROP_INVALID_IDENTITY);
	if (is_tunnelled(peer))
		return to_overlay(skb, n, &p, &ct, now, src, peer, v6);
	return to_world(skb, n, &p, &ct, now, src, peer, v6);
}

__noinline int ipv4_from_container(struct __sk_buff *skb, struct notice *n)
{
	return n ? from_container(skb, n, false) : TC_ACT_SHOT;
}

__noinline int ipv6_from_container(struct __sk_buff *skb, struct notice *n)
{
	return n ? from_container(skb, n, true) : TC_ACT_SHOT;
}

SEC("tc")
int cil_from_container(struct __sk_buff *skb)
{
	struct notice n = { .file = SOURCE_FILE_LXC, .direction = METRIC_EGRESS };
	int ret;

	if (unlikely(skb->vlan_present)) {
		ret = give_up(&n, DROP_VLAN_FILTERED);
	} else if (skb->protocol == bpf_htons(ETH_P_IP)) {
		ret = ipv4_from_container(skb, &n);
	} else if (skb->protocol == bpf_htons(ETH_P_IPV6)) {
		n.v6 = true;
		ret = ipv6_from_container(skb, &n);
	} else if (skb->protocol == bpf_htons(ETH_P_ARP)) {
		ret = arp_from_container(skb, &n);
	} else if (skb->protocol == bpf_htons(ETH_P_8021Q) || skb->protocol == bpf_htons(ETH_P_8021AD)) {
		ret = give_up(&n, DROP_VLAN_FILTERED);
	} else {
		ret = give_up(&n, DROP_UNSUPPORTED_L2);
	}
	return ret < 0 ? event_drop(skb, &n, ret) : ret;
}

static __always_inline int to_container(struct __sk_buff *skb, struct notice *n, const bool v6)
{
	struct endpoint_info *dst;
	__u32 now = now_seconds();
	struct packet p = {};
	struct ct ct = {};
	int ret;

	ret = parse(skb, &p, v6);
	if (ret == DROP_INVALID)
		return give_up(n, ret);
	/* The node's own neighbour discovery and multicast on the veth: containers are not found that way. */
	if (is_unroutable(&p.saddr, v6) || is_unroutable(&p.daddr, v6))
		return TC_ACT_SHOT;
	if (ret < 0)
		return give_up(n, ret);
	dst = endpoint_find(&p.daddr, v6);
	if (!is_container(dst) || dst->ifindex != skb->ifindex)
		return give_up(n, DROP_UNKNOWN_TARGET);
	n->source = n->dst_id = dst->id;
	n->dst_identity = dst->identity;
	ret = stack_sender(&p, n, v6);
	if (ret < 0)
		return give_up(n, ret);

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
	ret = ct_commit(&ct, &p, now, n->src_identity, CT_F_RESPONDER_LOCAL, v6);
	if (ret < 0)
		return give_up(n, ret);
	trace_delivery(skb, n, &p, &ct, TRACE_TO_LXC, skb->ifindex, ret);
	return TC_ACT_OK;
}

__noinline int ipv4_to_container(struct __sk_buff *skb, struct notice *n)
{
	return n ? to_container(skb, n, false) : TC_ACT_SHOT;
}

__noinline int ipv6_to_container(struct __sk_buff *skb, struct notice *n)
{
	return n ? to_container(skb, n, true) : TC_ACT_SHOT;
}

SEC("tc")
int cil_to_container(struct __sk_buff *skb)
{
	struct notice n = { .file = SOURCE_FILE_LXC, .direction = METRIC_INGRESS };
	int ret;

	if (skb->protocol == bpf_htons(ETH_P_IP)) {
		ret = ipv4_to_container(skb, &n);
	} else if (skb->protocol == bpf_htons(ETH_P_IPV6)) {
		n.v6 = true;
		ret = ipv6_to_container(skb, &n);
	} else {
		return TC_ACT_SHOT;
	}
	return ret < 0 ? event_drop(skb, &n, ret) : ret;
}

char _license[] SEC("license") = "Dual BSD/GPL";
