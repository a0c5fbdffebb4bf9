/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* What user space is told: drops and policy verdicts always, traces as the aggregation allows.
 *
 * Records are made in the ring itself. The reader looks at the ring on its own, so no record wakes it up (a wake-up
 * costs more than the record).
 */
#pragma once

#include "common.h"
#include "config.h"
#include "metrics.h"

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 2 << 20); /* bytes */
} cilium_events SEC(".maps");

/* What is known of a packet so far. Each program fills it in on its way. */
struct notice {
	__u32 src_identity;
	__u32 dst_identity;
	__u16 source; /* endpoint ID whose program speaks; 0: none */
	__u16 dst_id;
	__u16 line; /* where the program gave up */
	__u8 file;  /* SOURCE_FILE_* */
	__s8 ext_error;
	__u8 direction; /* METRIC_* */
	bool v6;
	__u8 pad[2];
};

/* The line that a drop event names is that of the program, not of the helper that found the reason. */
#define give_up(notice, reason) ((notice)->line = __LINE__, (reason))

static __always_inline void event_fill(struct __sk_buff *skb, const struct notice *n, struct event_header *h,
				       __u8 *payload, __u8 type, __u8 subtype)
{
	__u32 len = skb->len;

	*h = (struct event_header){
		.type = type,
		.subtype = subtype,
		.source = n->source,
		.hash = bpf_get_hash_recalc(skb),
		.timestamp = bpf_ktime_get_ns(),
		.len_orig = len,
		.flags = n->v6 ? EVENT_F_IPV6 : 0,
		.src_identity = n->src_identity,
		.dst_identity = n->dst_identity,
		.dst_id = n->dst_id,
	};
	if (len > EVENT_PAYLOAD_MAX)
		len = EVENT_PAYLOAD_MAX;
	asm volatile("" : "+r"(len)); /* check the very value that is used */
	if (len >= ETH_HLEN && !bpf_skb_load_bytes(skb, 0, payload, len))
		h->len_cap = len;
}

__noinline int event_drop(struct __sk_buff *skb, const struct notice *n, int reason)
{
	struct {
		struct drop_event event;
		__u8 payload[EVENT_PAYLOAD_MAX];
	} *record;

	if (!n)
		return TC_ACT_SHOT;
	record = bpf_ringbuf_reserve(&cilium_events, sizeof(*record), 0);
	count(-reason, n->direction, skb->len);
	if (!record) {
		count(REASON_EVENTS_LOST, n->direction, skb->len);
		return TC_ACT_SHOT;
	}
	event_fill(skb, n, &record->event.h, record->payload, EVENT_DROP, -reason);
	record->event.h.ifindex = skb->ifindex;
	record->event.line = n->line;
	record->event.file = n->file;
	record->event.ext_error = n->ext_error;
	record->event.pad = 0;
	bpf_ringbuf_submit(record, BPF_RB_NO_WAKEUP);
	return TC_ACT_SHOT;
}

/* point_reason: enum trace_point | enum trace_reason << 8 */
__noinline int event_trace(struct __sk_buff *skb, const struct notice *n, __u32 point_reason, __u32 ifindex)
{
	struct {
		struct trace_event event;
		__u8 payload[EVENT_PAYLOAD_MAX];
	} *record;

	if (!n)
		return 0;
	record = bpf_ringbuf_reserve(&cilium_events, sizeof(*record), 0);
	if (!record) {
		count(REASON_EVENTS_LOST, n->direction, skb->len);
		return 0;
	}
	event_fill(skb, n, &record->event.h, record->payload, EVENT_TRACE, point_reason & 0xff);
	record->event.h.ifindex = ifindex;
	record->event.reason = point_reason >> 8;
	__builtin_memset(record->event.pad, 0, sizeof(record->event.pad));
	bpf_ringbuf_submit(record, BPF_RB_NO_WAKEUP);
	return 0;
}

/* A packet seen before anything was decided about it. */
static __always_inline void trace_arrival(struct __sk_buff *skb, const struct notice *n, enum trace_point point)
{
	if (config_aggregation < AGGREGATE_LOW)
		event_trace(skb, n, point | TRACE_REASON_UNKNOWN << 8, 0);
}

/* The part of a verdict event that the packet does not tell. */
struct verdict {
	__u32 remote_identity;
	__s32 verdict;
	__u32 cookie;
	__u16 endpoint; /* whose policy it is */
	__be16 dport;
	__u8 protocol;
	__u8 direction; /* VERDICT_* */
	__u8 match;	/* enum policy_match */
	__u8 pad;
};

__noinline int event_verdict(struct __sk_buff *skb, const struct notice *n, const struct verdict *v)
{
	struct {
		struct policy_verdict_event event;
		__u8 payload[EVENT_PAYLOAD_MAX];
	} *record;

	if (!n || !v)
		return 0;
	record = bpf_ringbuf_reserve(&cilium_events, sizeof(*record), 0);
	if (!record) {
		count(REASON_EVENTS_LOST, n->direction, skb->len);
		return 0;
	}
	event_fill(skb, n, &record->event.h, record->payload, EVENT_POLICY_VERDICT, 0);
	record->event.h.source = v->endpoint;
	record->event.remote_identity = v->remote_identity;
	record->event.verdict = v->verdict;
	record->event.cookie = v->cookie;
	record->event.dport = bpf_ntohs(v->dport);
	record->event.protocol = v->protocol;
	record->event.direction = v->direction;
	record->event.match = v->match;
	__builtin_memset(record->event.pad, 0, sizeof(record->event.pad));
	bpf_ringbuf_submit(record, BPF_RB_NO_WAKEUP);
	return 0;
}
