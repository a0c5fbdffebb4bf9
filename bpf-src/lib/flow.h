/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* One packet before the policies of the ends that are endpoints of this node. */
#pragma once

#include "common.h"
#include "conntrack.h"
#include "eps.h"
#include "events.h"
#include "fragments.h"
#include "overlay.h"
#include "policy.h"

/* Port that policy speaks of: that of the end that was asked, the type for ICMP. */
static __always_inline __be16 policy_port(const struct packet *p, const struct ct *ct, const bool v6)
{
	if (p->protocol == (v6 ? IPPROTO_ICMPV6 : IPPROTO_ICMP)) {
		if (p->flags & PACKET_ICMP_OTHER || (p->flags & PACKET_ECHO_REPLY && !ct->entry))
			return bpf_htons(p->icmp_type);
		return bpf_htons(v6 ? ICMPV6_ECHO_REQUEST : ICMP_ECHO);
	}
	return ct->reply ? p->sport : p->dport;
}

/* Asks the policy of one end. `sends`: it is the packet's sender. Whoever opened the flow is judged by its egress policy
 * and the other by its ingress policy, whichever way this packet goes. Returns 0 or DROP_*.
 */
static __always_inline int judge(struct __sk_buff *skb, const struct notice *n, const struct packet *p,
				 const struct ct *ct, const struct endpoint_info *ep, __u32 peer_identity,
				 const bool sends, const bool v6)
{
	bool egress = sends != ct->reply;
	__be16 port = policy_port(p, ct, v6);
	struct policy_result result = {};
	int ret = policy_decide(ep->policy_slot, peer_identity, egress, p->protocol, port, &result);

	if (unlikely(ret < 0 || !ct->entry)) {
		struct verdict verdict = {
			.remote_identity = peer_identity,
			.verdict = ret,
			.cookie = result.cookie,
			.endpoint = ep->id,
			.dport = port,
			.protocol = p->protocol,
			.direction = egress ? VERDICT_EGRESS : VERDICT_INGRESS,
			.match = result.match,
		};

		event_verdict(skb, n, &verdict);
	}
	return ret;
}

/* What a packet belongs to: ports of fragments, flow of ICMP errors, conntrack. Its source address is verified.
 * Returns 0 or DROP_*.
 */
static __always_inline int flow_find(struct __sk_buff *skb, struct packet *p, struct ct *ct, __u32 now,
				     const bool from_end, const bool v6)
{
	int ret;

	if (unlikely(p->flags & PACKET_FRAGMENT)) {
		ret = fragment_ports(p, v6);
		if (ret < 0)
			return ret;
	}
	if (unlikely(p->flags & PACKET_ICMP_ERROR)) {
		ret = icmp_error_flow(skb, p, from_end, v6);
		if (ret < 0)
			return ret;
	}
	return ct_find(ct, p, now, v6);
}

/* The identity by which a packet's other end is judged, one that is no container of this node. `info`: its entry in ipcache.
 * When that is not known, answers to a flow that was let in go on, to whom the flow was let in for. Returns
 * IDENTITY_UNKNOWN if it is to be dropped.
 */
static __always_inline __u32 peer_identity(const struct ipcache_info *info, const struct ct *ct, const bool v6)
{
	if (likely(is_known(info)))
		return identity_in(info, v6);
	if (!ct->entry || ct->entry->flags & CT_F_INITIATOR_LOCAL || !identity_is_known(ct->entry->initiator_identity))
		return IDENTITY_UNKNOWN;
	return ct->entry->initiator_identity;
}

/* Who sent what the node's stack brings: the node itself, or somebody whose packet it passes on, which is nobody who has to
 * come through the tunnel. Returns 0 or DROP_*.
 */
static __always_inline int stack_sender(const struct packet *p, struct notice *n, const bool v6)
{
	struct endpoint_info *ep = endpoint_find(&p->saddr, v6);
	struct ipcache_info *info;

	n->src_identity = IDENTITY_HOST;
	if (ep && !is_container(ep))
		return 0;
	info = ipcache_find(&p->saddr, v6);
	n->src_identity = identity_in(info, v6);
	if (is_tunnelled(info))
		return DROP_INVALID_SIP;
	return is_known(info) ? 0 : DROP_INVALID_IDENTITY;
}

/* An ICMP error may be a router's; it is judged as from its flow's other end. Nobody on the way but the nodes themselves
 * sees a flow that goes through the tunnel. Returns 0 or DROP_*.
 */
static __always_inline int error_sender(const struct packet *p, const struct ct *ct, struct notice *n, const bool v6)
{
	struct endpoint_info *ep = endpoint_find(&p->saddr, v6);
	struct ipcache_info *info;

	if (ep && !is_container(ep)) {
		n->src_identity = IDENTITY_HOST;
		return 0;
	}
	info = ipcache_find(&p->saddr, v6);
	if (is_tunnelled(info) && n->src_identity != IDENTITY_HOST)
		return DROP_INVALID_SIP;
	n->src_identity = peer_identity(info, ct, v6);
	return n->src_identity == IDENTITY_UNKNOWN ? DROP_INVALID_IDENTITY : 0;
}

/* The packet goes on its way: counts it and says so. `report`: the result of ct_commit(). */
static __always_inline void trace_delivery(struct __sk_buff *skb, const struct notice *n, const struct packet *p,
					   const struct ct *ct, enum trace_point point, __u32 ifindex, bool report)
{
	count(REASON_FORWARDED, point == TRACE_TO_LXC ? METRIC_INGRESS : METRIC_EGRESS, skb->len);
	if (unlikely(report || config_aggregation < AGGREGATE_MEDIUM))
		event_trace(skb, n, point | ct_trace_reason(ct, p) << 8, ifindex);
}
