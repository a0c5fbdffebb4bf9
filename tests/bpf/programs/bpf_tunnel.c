/* SPDX-License-Identifier: Apache-2.0 */
/* What the tests of the tunnel put around the programs under test (support/tunnel.ts): packets that count as having come
 * through a tunnel, packets on real devices, and what leaves on the wire.
 */
#include <linux/bpf.h>
#include <linux/pkt_cls.h>
#include <bpf/bpf_helpers.h>

#define FRAME_MAX 2048

/* The program under test. */
struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(key_size, 4);
	__uint(value_size, 4);
	__uint(max_entries, 1);
} cilium_test_calls SEC(".maps");

struct outer {
	__u32 vni;
	__u32 ipv6; /* of the underlay */
	__u32 node[4]; /* outer source; IPv4: in host order */
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__type(key, __u32);
	__type(value, struct outer);
	__uint(max_entries, 1);
} cilium_test_outer SEC(".maps");

struct frame {
	__u32 len;
	__u8 bytes[FRAME_MAX];
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__type(key, __u32);
	__type(value, struct frame);
	__uint(max_entries, 1);
} cilium_test_frame SEC(".maps");

/* Runs the program under test on a packet with the metadata that a tunnel's device leaves. */
SEC("tc")
int cil_test_through(struct __sk_buff *skb)
{
	struct bpf_tunnel_key key = {};
	__u32 zero = 0;
	struct outer *outer = bpf_map_lookup_elem(&cilium_test_outer, &zero);

	if (!outer)
		return TC_ACT_UNSPEC;
	key.tunnel_id = outer->vni;
	__builtin_memcpy(key.local_ipv6, outer->node, sizeof(outer->node));
	if (bpf_skb_set_tunnel_key(skb, &key, sizeof(key), outer->ipv6 ? BPF_F_TUNINFO_IPV6 : 0))
		return TC_ACT_UNSPEC;
	bpf_tail_call(skb, &cilium_test_calls, 0);
	return TC_ACT_UNSPEC;
}

/* Sends the packet out of device cb[0], really. */
SEC("tc")
int cil_test_inject(struct __sk_buff *skb)
{
	return bpf_clone_redirect(skb, skb->cb[0], 0) ? TC_ACT_SHOT : TC_ACT_OK;
}

/* Keeps the last UDP packet to the tunnel's port, and nothing passes. */
SEC("tc")
int cil_test_capture(struct __sk_buff *skb)
{
	__u32 zero = 0, len = skb->len;
	struct frame *frame = bpf_map_lookup_elem(&cilium_test_frame, &zero);

	if (!frame || len < 64 || len > FRAME_MAX)
		return TC_ACT_SHOT;
	asm volatile("" : "+r"(len));
	if (len > 0 && len <= FRAME_MAX && !bpf_skb_load_bytes(skb, 0, frame->bytes, len))
		frame->len = skb->len;
	return TC_ACT_SHOT;
}

char _license[] SEC("license") = "Apache-2.0";
