/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Answers to packets that cannot be forwarded: time exceeded, too big. */
#pragma once

#include "common.h"
#include "config.h"
#include "parse.h"

/* Bytes of the packet that an error quotes, at most: the longest IPv4 header and a TCP header. A multiple of 4. */
#define ICMP_QUOTE_MAX 80

struct icmp_head {
	__u8 type;
	__u8 code;
	__sum16 checksum;
	__be32 info; /* IPv4: MTU in the lower half; IPv6: MTU */
};

static __always_inline __sum16 checksum_fold(__u32 sum)
{
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	return ~sum;
}

/* Reads what an error is to quote. Returns its length (multiple of 4) or DROP_*. */
static __always_inline int icmp_quote(struct __sk_buff *skb, __u8 *quote)
{
	__u32 len = skb->len - ETH_HLEN;

	len = min_of(len, ICMP_QUOTE_MAX) & ~3U;
	asm volatile("" : "+r"(len)); /* check the very value that is used */
	if (len < sizeof(struct iphdr) || bpf_skb_load_bytes(skb, ETH_HLEN, quote, len))
		return DROP_WRITE_ERROR;
	return len;
}

static __always_inline int icmp_swap_macs(struct __sk_buff *skb)
{
	struct ethhdr *eth = header_at(skb, 0, sizeof(*eth));
	__u8 mac[ETH_ALEN];

	if (!eth)
		return DROP_WRITE_ERROR;
	mac_copy(mac, eth->h_source);
	mac_copy(eth->h_source, eth->h_dest);
	mac_copy(eth->h_dest, mac);
	return 0;
}

/* Puts `len` of the `size` bytes of an answer in the place of what follows the Ethernet header. */
static __always_inline int icmp_replace(struct __sk_buff *skb, const void *answer, __u32 len, const __u32 size)
{
	if (bpf_skb_change_tail(skb, ETH_HLEN + len, 0))
		return DROP_WRITE_ERROR;
	/* Older verifiers have lost the bounds of the sum by now; one at a time, or they are folded into one check. */
	asm volatile("" : "+r"(len));
	if (len > size)
		return DROP_WRITE_ERROR;
	asm volatile("" : "+r"(len));
	if (len < sizeof(struct iphdr) || bpf_skb_store_bytes(skb, ETH_HLEN, answer, len, 0))
		return DROP_WRITE_ERROR;
	return icmp_swap_macs(skb);
}

struct icmp4_packet {
	struct iphdr ip;
	struct icmp_head icmp;
	__u8 quote[ICMP_QUOTE_MAX];
};

struct icmp6_packet {
	struct ipv6hdr ip;
	struct icmp_head icmp;
	__u8 quote[ICMP_QUOTE_MAX];
};

/* Where an answer is put together; the stack has no room for it. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__type(key, __u32);
	__type(value, struct icmp6_packet); /* the longer of the two */
	__uint(max_entries, 1);
} icmp_scratch SEC(".maps");

/* Turns the packet into an ICMP error to its sender, from the router if `routed`: the node itself would take its own
 * address for a forged one, and hears from the address that was not reached. Returns 0 or DROP_*; the caller sends it.
 */
__noinline int icmp4_answer(struct __sk_buff *skb, __u8 type, __u8 code, __u16 mtu, bool routed)
{
	__u32 index = 0;
	struct icmp4_packet *answer = bpf_map_lookup_elem(&icmp_scratch, &index);
	__be32 router = routed ? config_router_ipv4 : 0;
	struct iphdr *old;
	int len;

	if (!answer)
		return DROP_WRITE_ERROR;
	__builtin_memset(answer, 0, sizeof(*answer));
	len = icmp_quote(skb, answer->quote);
	if (len < 0)
		return len;
	old = (struct iphdr *)answer->quote;
	answer->ip.version = 4;
	answer->ip.ihl = 5;
	answer->ip.ttl = 64;
	answer->ip.protocol = IPPROTO_ICMP;
	answer->ip.tot_len = bpf_htons(sizeof(answer->ip) + sizeof(answer->icmp) + len);
	answer->ip.saddr = router ? router : old->daddr;
	answer->ip.daddr = old->saddr;
	answer->ip.check = checksum_fold(bpf_csum_diff(NULL, 0, (__be32 *)&answer->ip, sizeof(answer->ip), 0));
	answer->icmp.type = type;
	answer->icmp.code = code;
	answer->icmp.info = bpf_htonl(mtu);
	answer->icmp.checksum = checksum_fold(
		bpf_csum_diff(NULL, 0, (__be32 *)&answer->icmp, sizeof(answer->icmp) + sizeof(answer->quote), 0));
	return icmp_replace(skb, answer, sizeof(*answer) - sizeof(answer->quote) + len, sizeof(*answer));
}

__noinline int icmp6_answer(struct __sk_buff *skb, __u8 type, __u8 code, __u16 mtu, bool routed)
{
	__u32 index = 0;
	struct icmp6_packet *answer = bpf_map_lookup_elem(&icmp_scratch, &index);
	struct ipv6hdr *old;
	__u32 sum;
	int len;

	if (!answer)
		return DROP_WRITE_ERROR;
	__builtin_memset(answer, 0, sizeof(*answer));
	len = icmp_quote(skb, answer->quote);
	if (len < (int)sizeof(*old))
		return DROP_WRITE_ERROR;
	old = (struct ipv6hdr *)answer->quote;
	for (int i = 0; i < 16 && routed; i++)
		answer->ip.saddr.s6_addr[i] = config_router_ipv6[i];
	if (!(answer->ip.saddr.s6_addr32[0] | answer->ip.saddr.s6_addr32[3]))
		address_copy(&answer->ip.saddr, &old->daddr, true);
	address_copy(&answer->ip.daddr, &old->saddr, true);
	answer->ip.version = 6;
	answer->ip.payload_len = bpf_htons(sizeof(answer->icmp) + len);
	answer->ip.nexthdr = IPPROTO_ICMPV6;
	answer->ip.hop_limit = 64;
	answer->icmp.type = type;
	answer->icmp.code = code;
	answer->icmp.info = bpf_htonl(mtu);
	sum = bpf_csum_diff(NULL, 0, (__be32 *)&answer->ip.saddr,
			    2 * sizeof(answer->ip.saddr) + sizeof(answer->icmp) + sizeof(answer->quote),
			    bpf_htons(sizeof(answer->icmp) + len) + bpf_htons(IPPROTO_ICMPV6));
	answer->icmp.checksum = checksum_fold(sum);
	return icmp_replace(skb, answer, sizeof(*answer) - sizeof(answer->quote) + len, sizeof(*answer));
}

/* Errors are not answered with errors, and only the first fragment of a datagram is answered. */
static __always_inline bool icmp_may_answer(const struct packet *p)
{
	return !(p->flags & (PACKET_ICMP_ERROR | PACKET_LATER_FRAGMENT));
}

/* gso_size of a packet that its sender has cut up already (SCTP): each piece fits where it comes from. */
#define GSO_BY_FRAGS 0xffff

/* Length of the largest packet that this one will be on the wire. */
static __always_inline __u32 segment_len(struct __sk_buff *skb, const struct packet *p)
{
	if (likely(!skb->gso_size))
		return p->l3_len;
	return p->l4_off - ETH_HLEN + (skb->gso_size == GSO_BY_FRAGS ? 0 : p->l4_header_len + skb->gso_size);
}

/* Checks that a packet may go one hop further; `hop`: we are a router on its way, not where it starts. One that is too big
 * is never cut up, whatever its DF bit says: its sender learns the size and makes fragments itself. Returns 0;
 * TC_ACT_REDIRECT if the packet has become an answer that is to go back where it came from; or DROP_*.
 */
static __always_inline int forwardable(struct __sk_buff *skb, const struct packet *p, __u32 mtu, bool hop,
				       const bool v6)
{
	int ret;

	if (unlikely(hop && p->ttl <= 1)) {
		if (!icmp_may_answer(p))
			return DROP_TTL_EXCEEDED;
		ret = v6 ? icmp6_answer(skb, ICMPV6_TIME_EXCEED, ICMPV6_EXC_HOPLIMIT, 0, hop) :
			   icmp4_answer(skb, ICMP_TIME_EXCEEDED, ICMP_EXC_TTL, 0, hop);
		return ret ? ret : TC_ACT_REDIRECT;
	}
	if (unlikely(segment_len(skb, p) > mtu)) {
		if (!icmp_may_answer(p))
			return DROP_FRAG_NEEDED;
		ret = v6 ? icmp6_answer(skb, ICMPV6_PKT_TOOBIG, 0, mtu, hop) :
			   icmp4_answer(skb, ICMP_DEST_UNREACH, ICMP_FRAG_NEEDED, mtu, hop);
		return ret ? ret : TC_ACT_REDIRECT;
	}
	return 0;
}
