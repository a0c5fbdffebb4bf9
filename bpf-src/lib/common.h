/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* What every other header uses: kernel and libbpf headers, byte order, addresses and access to packet headers.
 *
 * Conventions of this folder: a helper returns a verdict (TC_ACT_*, never negative) or a DROP_* reason (negative); only
 * the entry point of a program turns a reason into TC_ACT_SHOT, a counter and an event. TC_ACT_SHOT from a helper means
 * "drop without a word". Code for both address families is written once, with a constant `v6` that the compiler folds;
 * each family is a subprogram of its own.
 *
 * Subprograms are global functions, never static ones: the verifier looks at each once instead of for each path that
 * leads to it, and that of kernel 6.1 must not see a call of a static one. When it finds a state inside such a function
 * equal to an older one, it takes the function's r6..r9 for the caller's, forgets that a value of the caller decided a
 * branch, and removes code that runs (seen: a NULL check of conntrack). A global function has to check that its pointers
 * are not NULL, which they never are.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include <linux/bpf.h>
#include <linux/errno.h>
#include <linux/icmp.h>
#include <linux/icmpv6.h>
#include <linux/if_arp.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/pkt_cls.h>
#include <linux/tcp.h>
#include <linux/udp.h>
#include <sys/socket.h>

#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "abi.h"

#define likely(x) __builtin_expect(!!(x), 1)
#define unlikely(x) __builtin_expect(!!(x), 0)

#define min_of(a, b) ((a) < (b) ? (a) : (b))

/* Not in the UAPI headers. */
#define IPV4_FRAG_MORE 0x2000
#define IPV4_FRAG_OFFSET 0x1fff

/* Keeps the compiler from merging two calls of a helper on different maps into one call on a chosen map, which the
 * kernel could not turn into the map's own look-up.
 */
#define no_merge() asm volatile("")

/* An address of either family; of IPv4 only the first four bytes count and the rest is zero. */
union address {
	__u8 bytes[16];
	__be32 v4;
	__be32 word[4];
	__be64 half[2];
};

static __always_inline bool address_equal(const union address *a, const union address *b, const bool v6)
{
	return v6 ? a->half[0] == b->half[0] && a->half[1] == b->half[1] : a->v4 == b->v4;
}

/* Copies an address to or from map keys and headers, which are only sure to be aligned to four bytes. */
static __always_inline void address_copy(void *to, const void *from, const bool v6)
{
	const __be32 *source = from;
	__be32 *target = to;

	target[0] = source[0];
	if (v6) {
		target[1] = source[1];
		target[2] = source[2];
		target[3] = source[3];
	}
}

static __always_inline bool is_link_local(const union address *a)
{
	return (a->word[0] & bpf_htonl(0xffc00000)) == bpf_htonl(0xfe800000);
}

static __always_inline bool is_unspecified(const union address *a)
{
	return !(a->half[0] | a->half[1]);
}

/* Nothing that can be sent to from here: multicast, broadcast, loopback, "this network", link-local (IPv6),
 * IPv4 written as IPv6.
 */
static __always_inline bool is_unroutable(const union address *a, const bool v6)
{
	__u8 first = a->bytes[0];

	if (!v6)
		return first == 0 || first == 127 || first >= 224;
	if (first == 0xff || is_link_local(a))
		return true;
	return !a->half[0] && (!a->word[2] || a->word[2] == bpf_htonl(0xffff));
}

static __always_inline void mac_copy(void *to, const void *from)
{
	__u16 *t = to;
	const __u16 *f = from;

	t[0] = f[0];
	t[1] = f[1];
	t[2] = f[2];
}

static __always_inline bool mac_equal(const void *a, const void *b)
{
	const __u16 *x = a, *y = b;

	return !((x[0] ^ y[0]) | (x[1] ^ y[1]) | (x[2] ^ y[2]));
}

/* The verifier wants these loads at a constant offset of the untouched context; left to itself the compiler keeps the
 * address of the field instead.
 */
static __always_inline void *packet_start(const struct __sk_buff *skb)
{
	void *start;

	asm volatile("%0 = *(u32 *)(%1 + %2)" : "=r"(start) : "r"(skb), "i"(offsetof(struct __sk_buff, data)));
	return start;
}

static __always_inline void *packet_end(const struct __sk_buff *skb)
{
	void *end;

	asm volatile("%0 = *(u32 *)(%1 + %2)" : "=r"(end) : "r"(skb), "i"(offsetof(struct __sk_buff, data_end)));
	return end;
}

#define HEADER_OFFSET_MAX 4096

/* `len` bytes at `off` of the packet, made linear if need be; NULL when the packet is shorter. Pointers that were got
 * before are void afterwards.
 */
static __always_inline void *header_at(struct __sk_buff *skb, __u32 off, const __u32 len)
{
	void *header;

	if (!__builtin_constant_p(off))
		asm volatile("" : "+r"(off)); /* the bound is to hold for the register that is added */
	if (off > HEADER_OFFSET_MAX)
		return NULL;
	header = packet_start(skb) + off;
	asm volatile("" : "+r"(header)); /* the pointer that is checked is to be the one that is used */
	if (likely(header + len <= packet_end(skb)))
		return header;
	if (bpf_skb_pull_data(skb, off + len))
		return NULL;
	header = packet_start(skb) + off;
	asm volatile("" : "+r"(header));
	return header + len <= packet_end(skb) ? header : NULL;
}

/* Seconds of CLOCK_MONOTONIC. The coarse clock is a memory read and no more than a tick behind. */
static __always_inline __u32 now_seconds(void)
{
	return bpf_ktime_get_coarse_ns() / 1000000000ULL;
}
