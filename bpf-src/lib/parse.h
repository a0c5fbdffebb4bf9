/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* A packet's headers, read and checked once: lengths, extension headers, ports, the packet inside an ICMP error. */
#pragma once

#include "common.h"

#define PACKET_FRAGMENT 1
#define PACKET_LATER_FRAGMENT 2 /* has no transport header */
#define PACKET_ECHO_REPLY 4
#define PACKET_ICMP_OTHER 8 /* neither echo nor error: never starts or belongs to a flow */
#define PACKET_ICMP_ERROR 16

/* The fields before `l4_off` name the flow that the packet belongs to. They are the packet's own but for an ICMP error,
 * which stands for a packet of the flow that it complains about (see icmp_error_flow()).
 */
struct packet {
	union address saddr;
	union address daddr;
	__be16 sport; /* ICMP echo: the identifier at the end that asked, 0 at the other */
	__be16 dport;
	__u8 protocol;
	__u8 tcp_flags;
	__u8 ttl;
	__u8 icmp_type;
	__u16 flags;  /* PACKET_* */
	__u16 l3_len; /* from the network header to the end, padding aside */
	__u16 l4_off; /* from the start of the packet */
	__u16 l4_header_len;
	__u16 inner_off;    /* ICMP error: network header of the packet inside */
	__u16 inner_l4_off; /* and its transport header */
	__be32 fragment_id;
};

#define TCP_FIN 1
#define TCP_SYN 2
#define TCP_RST 4
#define TCP_ACK 16

#define TCP_FLAGS_AT 13
#define TCP_DATA_OFFSET_AT 12

/* In linux/sctp.h of the kernel proper only. */
struct sctp_header {
	__be16 sport;
	__be16 dport;
	__be32 tag;
	__be32 checksum;
};

#define ICMP_TYPE_IS_ERROR4(type)                                                                                      \
	((type) == ICMP_DEST_UNREACH || (type) == ICMP_SOURCE_QUENCH || (type) == ICMP_TIME_EXCEEDED ||                \
	 (type) == ICMP_PARAMETERPROB)
#define ICMP_TYPE_IS_ERROR6(type) ((type) < 128)

#define ICMP_HEADER_LEN 8

static __always_inline int parse_tcp(struct __sk_buff *skb, struct packet *p, __u16 l4_len)
{
	__u8 *tcp = header_at(skb, p->l4_off, sizeof(struct tcphdr));

	if (unlikely(!tcp))
		return DROP_INVALID;
	p->sport = *(__be16 *)tcp;
	p->dport = *(__be16 *)(tcp + 2);
	p->tcp_flags = tcp[TCP_FLAGS_AT] & 0x1f;
	p->l4_header_len = (tcp[TCP_DATA_OFFSET_AT] >> 4) * 4;
	if (unlikely(p->l4_header_len < sizeof(struct tcphdr) || p->l4_header_len > l4_len))
		return DROP_INVALID;
	if (unlikely(!(p->tcp_flags & (TCP_SYN | TCP_RST | TCP_ACK | TCP_FIN)) ||
		     ((p->tcp_flags & TCP_SYN) && (p->tcp_flags & (TCP_FIN | TCP_RST)))))
		return DROP_CT_INVALID_HDR;
	return 0;
}

static __always_inline int parse_udp(struct __sk_buff *skb, struct packet *p, __u16 l4_len)
{
	struct udphdr *udp = header_at(skb, p->l4_off, sizeof(*udp));
	__u16 len;

	if (!udp)
		return DROP_INVALID;
	p->sport = udp->source;
	p->dport = udp->dest;
	p->l4_header_len = sizeof(*udp);
	len = bpf_ntohs(udp->len);
	if (len < sizeof(*udp) || (len > l4_len && !(p->flags & PACKET_FRAGMENT)))
		return DROP_INVALID;
	return 0;
}

static __always_inline int parse_icmp(struct __sk_buff *skb, struct packet *p, const bool v6)
{
	__u8 *icmp = header_at(skb, p->l4_off, ICMP_HEADER_LEN);

	if (!icmp)
		return DROP_INVALID;
	p->icmp_type = icmp[0];
	p->l4_header_len = ICMP_HEADER_LEN;
	if (p->icmp_type == (v6 ? ICMPV6_ECHO_REQUEST : ICMP_ECHO)) {
		p->sport = *(__be16 *)(icmp + 4);
	} else if (p->icmp_type == (v6 ? ICMPV6_ECHO_REPLY : ICMP_ECHOREPLY)) {
		p->dport = *(__be16 *)(icmp + 4);
		p->flags |= PACKET_ECHO_REPLY;
	} else if (v6 ? ICMP_TYPE_IS_ERROR6(p->icmp_type) : ICMP_TYPE_IS_ERROR4(p->icmp_type)) {
		p->flags |= PACKET_ICMP_ERROR;
	} else {
		p->flags |= PACKET_ICMP_OTHER;
	}
	return 0;
}

static __always_inline int parse_sctp(struct __sk_buff *skb, struct packet *p)
{
	struct sctp_header *sctp = header_at(skb, p->l4_off, sizeof(*sctp));

	if (!sctp)
		return DROP_INVALID;
	p->sport = sctp->sport;
	p->dport = sctp->dport;
	p->l4_header_len = sizeof(*sctp);
	return 0;
}

/* Transport header of a whole packet or a first fragment. A first fragment too short to hold it is malformed. */
static __always_inline int parse_transport(struct __sk_buff *skb, struct packet *p, const bool v6)
{
	__u16 l4_len = p->l3_len - (p->l4_off - ETH_HLEN);
	int ret;

	switch (p->protocol) {
	case IPPROTO_TCP:
		ret = parse_tcp(skb, p, l4_len);
		break;
	case IPPROTO_UDP:
		ret = parse_udp(skb, p, l4_len);
		break;
	case IPPROTO_SCTP:
		ret = parse_sctp(skb, p);
		break;
	case IPPROTO_ICMP:
		ret = v6 ? DROP_CT_UNKNOWN_PROTO : parse_icmp(skb, p, false);
		break;
	case IPPROTO_ICMPV6:
		ret = v6 ? parse_icmp(skb, p, true) : DROP_CT_UNKNOWN_PROTO;
		break;
	default:
		return DROP_CT_UNKNOWN_PROTO;
	}
	if (!ret && unlikely(p->l4_header_len > l4_len))
		return DROP_INVALID;
	return ret;
}

#define IPV4_OPTIONS_MAX 40

/* The final destination of a packet with a source route is not the one that is judged. Returns 0 or DROP_INVALID.
 * Global, so that the verifier looks at it once and not for each path that leads to it.
 */
__noinline int ipv4_options(struct __sk_buff *skb, __u32 end)
{
	__u32 off = ETH_HLEN + sizeof(struct iphdr);
	__u8 option[2]; /* type, length */

	for (int i = 0; i < IPV4_OPTIONS_MAX && off + sizeof(option) <= end; i++) {
		if (bpf_skb_load_bytes(skb, off, option, sizeof(option)))
			return DROP_INVALID;
		if (option[0] == IPOPT_END)
			return 0;
		if (option[0] == IPOPT_LSRR || option[0] == IPOPT_SSRR)
			return DROP_INVALID;
		if (option[0] == IPOPT_NOOP)
			off++;
		else if (option[1] < sizeof(option))
			return DROP_INVALID;
		else
			off += option[1];
	}
	return 0;
}

static __always_inline int parse_ipv4(struct __sk_buff *skb, struct packet *p)
{
	struct iphdr *ip = header_at(skb, ETH_HLEN, sizeof(*ip));
	__u16 header_len, fragment;

	if (unlikely(!ip || ip->version != 4))
		return DROP_INVALID;
	header_len = ip->ihl * 4;
	p->l3_len = bpf_ntohs(ip->tot_len);
	if (unlikely(header_len < sizeof(*ip) || p->l3_len < header_len || p->l3_len > skb->len - ETH_HLEN))
		return DROP_INVALID;
	p->saddr.v4 = ip->saddr;
	p->daddr.v4 = ip->daddr;
	p->protocol = ip->protocol;
	p->ttl = ip->ttl;
	p->l4_off = ETH_HLEN + header_len;
	if (unlikely(header_len > sizeof(*ip)) && ipv4_options(skb, p->l4_off))
		return DROP_INVALID;
	fragment = bpf_ntohs(ip->frag_off) & (IPV4_FRAG_MORE | IPV4_FRAG_OFFSET);
	if (unlikely(fragment)) {
		p->fragment_id = ip->id;
		p->flags |= PACKET_FRAGMENT;
		if (fragment & IPV4_FRAG_OFFSET) {
			p->flags |= PACKET_LATER_FRAGMENT;
			/* An offset of 8 bytes would write over the flags of a TCP header that was judged (RFC 1858). */
			if ((fragment & IPV4_FRAG_OFFSET) == 1 && p->protocol == IPPROTO_TCP)
				return DROP_INVALID;
			return 0;
		}
	}
	return parse_transport(skb, p, false);
}

#define IPV6_EXTENSIONS_MAX 6

struct ipv6_fragment_header {
	__u8 next;
	__u8 reserved;
	__be16 offset_more; /* in units of 8 bytes, shifted by 3; bit 0: more follow */
	__be32 id;
};

struct ipv6_walk {
	__be32 fragment_id;
	__u16 off;
	__u8 next; /* type of the header at `off` */
	__u8 pad;
};

/* Walks over the extension headers up to the transport header. Nothing may stand between that and a fragment header: later
 * fragments could not be told apart.
 *
 * Returns 0, PACKET_FRAGMENT, PACKET_FRAGMENT | PACKET_LATER_FRAGMENT or DROP_*.
 */
__noinline int ipv6_extensions(struct __sk_buff *skb, struct ipv6_walk *walk)
{
	struct ipv6_fragment_header fragment;
	__u8 header[4]; /* next header, length, for routing: type, segments left */
	int flags = 0;

	if (!walk)
		return DROP_INVALID;
	for (int i = 0; i < IPV6_EXTENSIONS_MAX; i++) {
		switch (walk->next) {
		case IPPROTO_HOPOPTS:
			if (i) /* RFC 8200: only right after the IPv6 header */
				return DROP_INVALID_EXTHDR;
			break;
		case IPPROTO_ROUTING:
		case IPPROTO_DSTOPTS:
		case IPPROTO_AH:
			break;
		case IPPROTO_FRAGMENT:
			if (flags)
				return DROP_INVALID_EXTHDR;
			if (bpf_skb_load_bytes(skb, walk->off, &fragment, sizeof(fragment)))
				return DROP_INVALID;
			walk->next = fragment.next;
			walk->off += sizeof(fragment);
			/* An atomic fragment (RFC 6946) is a whole packet. */
			if (!(fragment.offset_more & bpf_htons(0xfff9)))
				continue;
			walk->fragment_id = fragment.id;
			flags = PACKET_FRAGMENT;
			if (fragment.offset_more & bpf_htons(0xfff8)) {
				flags |= PACKET_LATER_FRAGMENT;
				if ((fragment.offset_more & bpf_htons(0xfff8)) == bpf_htons(8) && walk->next == IPPROTO_TCP)
					return DROP_INVALID;
			}
			continue;
		case IPPROTO_NONE:
			return DROP_CT_UNKNOWN_PROTO;
		default:
			return flags;
		}
		if (flags)
			return DROP_INVALID_EXTHDR;
		if (bpf_skb_load_bytes(skb, walk->off, header, sizeof(header)))
			return DROP_INVALID;
		/* The final destination of a packet that has still segments to visit is not the one that is judged. */
		if (walk->next == IPPROTO_ROUTING && header[3])
			return DROP_INVALID_EXTHDR;
		walk->off += walk->next == IPPROTO_AH ? (header[1] + 2) * 4 : (header[1] + 1) * 8;
		walk->next = header[0];
	}
	return DROP_INVALID_EXTHDR;
}

static __always_inline bool is_ipv6_extension(__u8 next)
{
	return next == IPPROTO_HOPOPTS || next == IPPROTO_ROUTING || next == IPPROTO_DSTOPTS || next == IPPROTO_AH ||
	       next == IPPROTO_FRAGMENT || next == IPPROTO_NONE;
}

static __always_inline int parse_ipv6(struct __sk_buff *skb, struct packet *p)
{
	struct ipv6hdr *ip = header_at(skb, ETH_HLEN, sizeof(*ip));
	int flags;

	if (unlikely(!ip || ip->version != 6))
		return DROP_INVALID;
	p->l3_len = bpf_ntohs(ip->payload_len) + sizeof(*ip);
	if (unlikely(p->l3_len < sizeof(*ip) || p->l3_len > skb->len - ETH_HLEN))
		return DROP_INVALID;
	address_copy(&p->saddr, &ip->saddr, true);
	address_copy(&p->daddr, &ip->daddr, true);
	p->ttl = ip->hop_limit;
	p->protocol = ip->nexthdr;
	p->l4_off = ETH_HLEN + sizeof(*ip);
	if (unlikely(is_ipv6_extension(p->protocol))) {
		struct ipv6_walk walk = { .off = p->l4_off, .next = p->protocol };

		flags = ipv6_extensions(skb, &walk);
		if (flags < 0)
			return flags;
		if (walk.off - ETH_HLEN > p->l3_len)
			return DROP_INVALID;
		p->protocol = walk.next;
		p->l4_off = walk.off;
		p->fragment_id = walk.fragment_id;
		p->flags |= flags;
		if (flags & PACKET_LATER_FRAGMENT)
			return 0;
	}
	return parse_transport(skb, p, true);
}

static __always_inline int parse(struct __sk_buff *skb, struct packet *p, const bool v6)
{
	return v6 ? parse_ipv6(skb, p) : parse_ipv4(skb, p);
}

/* Addresses, protocol and place of the transport header of the packet inside an ICMP error. */
static __always_inline int parse_inner(struct __sk_buff *skb, struct packet *p, union address *saddr,
				       union address *daddr, const bool v6)
{
	p->inner_off = p->l4_off + ICMP_HEADER_LEN;
	if (v6) {
		struct ipv6hdr *ip = header_at(skb, p->inner_off, sizeof(*ip));
		struct ipv6_walk walk = {};
		int flags;

		if (!ip || ip->version != 6)
			return DROP_CT_INVALID_HDR;
		address_copy(saddr, &ip->saddr, true);
		address_copy(daddr, &ip->daddr, true);
		walk.next = ip->nexthdr;
		walk.off = p->inner_off + sizeof(*ip);
		flags = ipv6_extensions(skb, &walk);
		if (flags < 0 || (flags & PACKET_LATER_FRAGMENT))
			return DROP_CT_INVALID_HDR;
		p->inner_l4_off = walk.off;
		p->protocol = walk.next;
	} else {
		struct iphdr *ip = header_at(skb, p->inner_off, sizeof(*ip));

		if (!ip || ip->version != 4 || ip->ihl < 5 || (ip->frag_off & bpf_htons(IPV4_FRAG_OFFSET)))
			return DROP_CT_INVALID_HDR;
		saddr->v4 = ip->saddr;
		daddr->v4 = ip->daddr;
		p->inner_l4_off = p->inner_off + ip->ihl * 4;
		p->protocol = ip->protocol;
	}
	return 0;
}

/* An ICMP error takes the place of a packet of the flow that it complains about: the packet inside went from the error's
 * receiver to the flow's other end, so the error counts as one from there to the receiver.
 *
 * `from_end`: the sender must be that other end itself; otherwise a router on the way will do.
 */
static __always_inline int icmp_error_flow(struct __sk_buff *skb, struct packet *p, bool from_end, const bool v6)
{
	union address inner_saddr = {}, inner_daddr = {};
	__u8 transport[8];
	int ret;

	ret = parse_inner(skb, p, &inner_saddr, &inner_daddr, v6);
	if (ret < 0)
		return ret;
	if (!address_equal(&inner_saddr, &p->daddr, v6) || (from_end && !address_equal(&inner_daddr, &p->saddr, v6)))
		return DROP_CT_INVALID_HDR;
	if (bpf_skb_load_bytes(skb, p->inner_l4_off, transport, sizeof(transport)))
		return DROP_CT_INVALID_HDR;
	p->saddr = inner_daddr;
	switch (p->protocol) {
	case IPPROTO_TCP:
	case IPPROTO_UDP:
	case IPPROTO_SCTP:
		p->sport = *(__be16 *)(transport + 2);
		p->dport = *(__be16 *)transport;
		return 0;
	case IPPROTO_ICMP:
	case IPPROTO_ICMPV6:
		if (transport[0] == (v6 ? ICMPV6_ECHO_REQUEST : ICMP_ECHO)) {
			p->dport = *(__be16 *)(transport + 4);
			return 0;
		}
		if (transport[0] == (v6 ? ICMPV6_ECHO_REPLY : ICMP_ECHOREPLY)) {
			p->sport = *(__be16 *)(transport + 4);
			return 0;
		}
	}
	return DROP_CT_INVALID_HDR;
}
