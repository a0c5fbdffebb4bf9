/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Everything that user space reads or writes: keys and values of maps, records of the event ring.
 * User-space twins: datapath/maps/ (maps) and datapath/events/ (records). A test, and the agent at start, compare
 * both sides through the BTF of the compiled objects, so a change here without its twin is refused.
 *
 * Ports and addresses are in network byte order, everything else in host order (little-endian on what we support).
 */
#pragma once

/* ---- cilium_lxc: address -> endpoint of this node ------------------------------------------------------------- */

#define ADDR_FAMILY_IPV4 1
#define ADDR_FAMILY_IPV6 2

/* An address of either family; an IPv4 address fills the first four bytes, the rest is zero. */
struct endpoint_key {
	__u8 addr[16];
	__u8 family; /* ADDR_FAMILY_* */
	__u8 pad[3];
};
_Static_assert(sizeof(struct endpoint_key) == 20, "endpoint_key is ABI");

/* The record is an address of the node itself (no container behind it); only `flags` counts. */
#define ENDPOINT_F_HOST 1
/* The endpoint sits on a Docker network created with --internal: no host, no world. */
#define ENDPOINT_F_INTERNAL 2

struct endpoint_info {
	__u32 ifindex;     /* host side of the veth pair */
	__u32 identity;    /* numeric security identity */
	__u32 policy_slot; /* key of cilium_policy; slot 0 is always empty, hence closed */
	__u32 flags;       /* ENDPOINT_F_* */
	__u16 id;          /* endpoint ID, 1..65535 */
	__u16 mtu;         /* of both ends of the veth pair */
	__u8 mac[6];       /* of the container's interface */
	__u8 host_mac[6];  /* of the host side: what ARP and ND answers carry */
	__u8 pad[4];
};
_Static_assert(sizeof(struct endpoint_info) == 36, "endpoint_info is ABI");

/* ---- cilium_ipcache: prefix -> identity ----------------------------------------------------------------------- */

#define IPCACHE_STATIC_PREFIX 32 /* bits of pad and family, always compared */

struct ipcache_key {
	__u32 prefixlen; /* IPCACHE_STATIC_PREFIX + address bits */
	__u8 pad[3];
	__u8 family; /* ADDR_FAMILY_* */
	__u8 addr[16];
};
_Static_assert(sizeof(struct ipcache_key) == 24, "ipcache_key is ABI");

#define IPCACHE_F_SKIP_TUNNEL 1 /* reached by the node's routes, tunnel or not */
#define IPCACHE_F_HAS_TUNNEL 2  /* the address lives on another node; tunnel_endpoint is set */
#define IPCACHE_F_IPV6_TUNNEL 4 /* tunnel_endpoint is an IPv6 address */

struct ipcache_info {
	__u32 identity;
	__u8 tunnel_endpoint[16]; /* address of the node that owns the prefix; zero: none or this node */
	__u8 pad[3];
	__u8 flags; /* IPCACHE_F_* */
};
_Static_assert(sizeof(struct ipcache_info) == 24, "ipcache_info is ABI");

/* ---- cilium_identities: array of bits, identity i is bit i % 64 of word i / 64 ------------------------------------ */

#define IDENTITY_WORDS 1024
#define IDENTITY_WORD_BITS 64

/* ---- cilium_calls: programs by number ---------------------------------------------------------------------------- */

#define CALL_FROM_WIRE 0 /* what came through the tunnel, its device not passed */
#define CALLS 1

/* ---- cilium_policy: slot -> longest-prefix trie of policy entries --------------------------------------------- */

#define POLICY_STATIC_PREFIX 40 /* bits of identity and direction, always compared */
#define POLICY_FULL_PREFIX 64

/* prefixlen = 40 + n: n = 0 any protocol, 8 one protocol, 8 + k the k high bits of the port, 24 one port. */
struct policy_key {
	__u32 prefixlen;
	__u32 identity; /* of the peer; 0: any */
	__u8 egress;    /* 0: peer -> endpoint, 1: endpoint -> peer */
	__u8 protocol;  /* IPPROTO_*; 0: any */
	__be16 dport;   /* of the receiver; type of the message for ICMP; 0: any */
};
_Static_assert(sizeof(struct policy_key) == 12, "policy_key is ABI");

#define POLICY_F_DENY 1

struct policy_entry {
	__be16 proxy_port; /* 0: no redirect */
	__u8 flags;        /* POLICY_F_* */
	__u8 match_bits;   /* n of the key that this entry was written under (0, 8, 8+k, 24) */
	/* The higher wins between the entry of the peer's identity and the entry of "any": 0xFFFFFFFF deny,
	 * 0xFFFFFF02..0xFFFFFFFE redirects, 0xFFFFFF01 allow (state.md 6.4 of the reference).
	 */
	__u32 precedence;
	__u32 cookie; /* which rules this entry came from; 0: none known */
};
_Static_assert(sizeof(struct policy_entry) == 12, "policy_entry is ABI");

/* ---- cilium_ct{4,6}_{tcp,any}: one entry per connection, found from both directions ---------------------------- */

/* The two ends are stored in order (lower address first; same address: lower port first), so a packet and its reply
 * make the same key with one look-up. CT_F_LOWER_STARTED in the entry tells who opened. ICMP echo: the identifier
 * stands in the port of the end that asked, 0 in the other (so two ends that ping each other make two entries).
 */
struct ct4_key {
	__u8 lower_addr[4];
	__u8 upper_addr[4];
	__be16 lower_port;
	__be16 upper_port;
	__u8 protocol;
	__u8 pad[3];
};
_Static_assert(sizeof(struct ct4_key) == 16, "ct4_key is ABI");

struct ct6_key {
	__u8 lower_addr[16];
	__u8 upper_addr[16];
	__be16 lower_port;
	__be16 upper_port;
	__u8 protocol;
	__u8 pad[3];
};
_Static_assert(sizeof(struct ct6_key) == 40, "ct6_key is ABI");

#define CT_F_LOWER_STARTED 1 /* the end stored first sent the first packet */
#define CT_F_INITIATOR_CLOSED 2
#define CT_F_RESPONDER_CLOSED 4
#define CT_F_SEEN_NON_SYN 8    /* TCP only: got past the handshake, so the long lifetime counts */
#define CT_F_INITIATOR_LOCAL 16 /* the initiator is an endpoint of this node */
#define CT_F_RESPONDER_LOCAL 32 /* the responder is an endpoint of this node */

struct ct_entry {
	__u32 expires;           /* seconds of CLOCK_MONOTONIC after which the entry does not count any more */
	__u16 flags;             /* CT_F_* */
	__be16 proxy_port;       /* redirect that the flow took; 0: none */
	__u32 initiator_identity;
	__u32 initiator_report;  /* seconds of CLOCK_MONOTONIC of the last trace event per direction */
	__u32 responder_report;
	__u8 initiator_tcp_flags; /* flags seen, or-ed: FIN 1, SYN 2, RST 4, PSH 8, ACK 16 */
	__u8 responder_tcp_flags;
	__u16 pad;
};
_Static_assert(sizeof(struct ct_entry) == 24, "ct_entry is ABI");

/* ---- cilium_snat{4,6}: masquerade ----------------------------------------------------------------------------- */

/* SNAT_FORWARD: packet of a container as it left it -> what the wire sees as source.
 * SNAT_REPLY: reply as it arrives (source: remote, destination: this node) -> the container.
 * ICMP echo: the identifier stands in the port of the end that asked, 0 in the other.
 */
#define SNAT_FORWARD 0
#define SNAT_REPLY 1

struct snat4_key {
	__u8 src_addr[4];
	__u8 dst_addr[4];
	__be16 src_port;
	__be16 dst_port;
	__u8 protocol;
	__u8 direction; /* SNAT_* */
	__u8 pad[2];
};
_Static_assert(sizeof(struct snat4_key) == 16, "snat4_key is ABI");

struct snat6_key {
	__u8 src_addr[16];
	__u8 dst_addr[16];
	__be16 src_port;
	__be16 dst_port;
	__u8 protocol;
	__u8 direction;
	__u8 pad[2];
};
_Static_assert(sizeof(struct snat6_key) == 40, "snat6_key is ABI");

struct snat4_entry {
	__u8 to_addr[4];
	__be16 to_port;
	__u16 pad;
	__u32 created; /* seconds of CLOCK_MONOTONIC */
};
_Static_assert(sizeof(struct snat4_entry) == 12, "snat4_entry is ABI");

struct snat6_entry {
	__u8 to_addr[16];
	__be16 to_port;
	__u16 pad;
	__u32 created;
};
_Static_assert(sizeof(struct snat6_entry) == 24, "snat6_entry is ABI");

/* ---- cilium_devices: ifindex -> a device of the node towards the outside ---------------------------------------- */

#define DEVICE_F_MASQUERADE4 1 /* ipv4 is set and packets of containers leave with it */
#define DEVICE_F_MASQUERADE6 2

struct device_info {
	__u32 flags; /* DEVICE_F_* */
	__u8 ipv4[4];
	__u8 ipv6[16];
};
_Static_assert(sizeof(struct device_info) == 24, "device_info is ABI");

/* ---- cilium_ipv{4,6}_frag_datagrams: ports of a datagram's first fragment ---------------------------------------- */

struct frag4_key {
	__u8 saddr[4];
	__u8 daddr[4];
	__be16 id;
	__u8 protocol;
	__u8 pad;
};
_Static_assert(sizeof(struct frag4_key) == 12, "frag4_key is ABI");

struct frag6_key {
	__u8 saddr[16];
	__u8 daddr[16];
	__be32 id;
	__u8 protocol;
	__u8 pad[3];
};
_Static_assert(sizeof(struct frag6_key) == 40, "frag6_key is ABI");

struct frag_ports {
	__be16 sport;
	__be16 dport;
};
_Static_assert(sizeof(struct frag_ports) == 4, "frag_ports is ABI");

/* ---- cilium_metrics: per-CPU array, index = reason * 4 + direction ------------------------------------------------ */

#define METRIC_INGRESS 1
#define METRIC_EGRESS 2
#define METRICS_ENTRIES 1024

/* Reason 0 counts forwarded packets, 128..255 drops (the positive DROP_* number); below 128 as named here. */
#define REASON_FORWARDED 0
#define REASON_EVENTS_LOST 1 /* the ring was full: the record was not written, the packet was not touched */

struct metrics_value {
	__u64 count;
	__u64 bytes;
};
_Static_assert(sizeof(struct metrics_value) == 16, "metrics_value is ABI");

/* ---- cilium_events: ring buffer ------------------------------------------------------------------------------------ */

#define EVENT_DROP 1
#define EVENT_TRACE 4
#define EVENT_POLICY_VERDICT 5

/* Bytes of the packet that follow each record, at most; len_cap of them are valid. */
#define EVENT_PAYLOAD_MAX 128

enum trace_point {
	TRACE_TO_LXC = 0,
	TRACE_TO_PROXY = 1,
	TRACE_TO_HOST = 2,
	TRACE_TO_STACK = 3,
	TRACE_TO_OVERLAY = 4,
	TRACE_FROM_LXC = 5,
	TRACE_FROM_PROXY = 6,
	TRACE_FROM_HOST = 7,
	TRACE_FROM_STACK = 8,
	TRACE_FROM_OVERLAY = 9,
	TRACE_FROM_NETWORK = 10,
	TRACE_TO_NETWORK = 11,
};

enum trace_reason {
	TRACE_REASON_NEW = 0,
	TRACE_REASON_ESTABLISHED = 1,
	TRACE_REASON_REPLY = 2,
	TRACE_REASON_RELATED = 3,
	TRACE_REASON_UNKNOWN = 5,
};

/* Why a packet was dropped. Helpers return these; events and metrics carry the positive number, which is Cilium's. */
enum drop_reason {
	DROP_INVALID_SMAC = -130,	/* source MAC is not the endpoint's */
	DROP_INVALID_SIP = -132,	/* source address is not the endpoint's, or one of ours from outside */
	DROP_POLICY = -133,		/* nothing allows it */
	DROP_INVALID = -134,		/* malformed or truncated header */
	DROP_CT_INVALID_HDR = -135,	/* TCP flags that no connection has, ICMP error about an unusable packet */
	DROP_FRAG_NEEDED = -136,	/* too big and no answer could be sent */
	DROP_CT_UNKNOWN_PROTO = -137,	/* neither TCP, UDP, SCTP nor ICMP */
	DROP_WRITE_ERROR = -141,	/* a helper could not change the packet */
	DROP_NO_TUNNEL_KEY = -147,	/* came in at the tunnel's device, but through no tunnel */
	DROP_UNKNOWN_TARGET = -150,	/* address of a container range that no endpoint has */
	DROP_UNROUTABLE = -151,		/* multicast, loopback, link-local; host or world for an --internal network */
	DROP_CT_CREATE_FAILED = -155,
	DROP_INVALID_EXTHDR = -156,	/* IPv6 extension headers: too many, out of place, source routing */
	DROP_UNKNOWN_CT = -163,		/* ICMP error that belongs to no flow */
	DROP_UNSUPPORTED_L2 = -166,	/* neither ARP, IPv4 nor IPv6 */
	DROP_NAT_NO_MAPPING = -167,	/* no port left to masquerade with */
	DROP_NAT_UNSUPP_PROTO = -168,	/* SCTP and odd ICMP cannot be masqueraded */
	DROP_FIB_FAILED = -169,		/* ext_error: BPF_FIB_LKUP_RET_* */
	DROP_ENCAP_PROHIBITED = -170,	/* a container that speaks to the tunnels of other nodes */
	DROP_INVALID_IDENTITY = -171,	/* no identity that crosses from node to node */
	DROP_UNKNOWN_SENDER = -172,	/* does not live on the node that its packet came from */
	DROP_FRAG_NOT_FOUND = -175,	/* later fragment whose first was not seen */
	DROP_FORBIDDEN_ICMP6 = -176,	/* router advertisement or redirect from a container */
	DROP_PROXY_LOOKUP_FAILED = -178, /* the policy wants a proxy and there is none */
	DROP_POLICY_DENY = -181,	/* a rule denies it */
	DROP_VLAN_FILTERED = -182,
	DROP_TTL_EXCEEDED = -196,	/* used up and no answer could be sent */
};

#define EVENT_F_IPV6 1

struct event_header {
	__u8 type;    /* EVENT_* */
	__u8 subtype; /* drop: reason; trace: enum trace_point; verdict: 0 */
	__u16 source; /* endpoint ID whose program speaks; 0: none */
	__u32 hash;   /* of the flow, as the kernel counts it */
	__u64 timestamp; /* ns of CLOCK_MONOTONIC */
	__u32 len_orig;
	__u16 len_cap; /* valid payload bytes, up to EVENT_PAYLOAD_MAX */
	__u16 flags;   /* EVENT_F_* */
	__u32 src_identity;
	__u32 dst_identity; /* 0: not known at this point */
	__u32 ifindex;      /* drop: where it came in; trace: where it goes; 0: none */
	__u16 dst_id;       /* endpoint ID of the receiver; 0: none */
	__u16 pad;
};
_Static_assert(sizeof(struct event_header) == 40, "event_header is ABI");

struct drop_event {
	struct event_header h;
	__u16 line; /* of the C file that dropped */
	__u8 file;  /* SOURCE_FILE_* */
	__s8 ext_error;
	__u32 pad;
};
_Static_assert(sizeof(struct drop_event) == 48, "drop_event is ABI");

struct trace_event {
	struct event_header h;
	__u8 reason; /* enum trace_reason */
	__u8 pad[7];
};
_Static_assert(sizeof(struct trace_event) == 48, "trace_event is ABI");

#define VERDICT_INGRESS 1
#define VERDICT_EGRESS 2

struct policy_verdict_event {
	struct event_header h; /* source: the endpoint whose policy it is */
	__u32 remote_identity;
	__s32 verdict;     /* 0 allow, > 0 proxy port, < 0 DROP_* */
	__u32 cookie;      /* of the entry that matched */
	__u16 dport;       /* host order */
	__u8 protocol;
	__u8 direction;    /* VERDICT_* */
	__u8 match;        /* enum policy_match */
	__u8 pad[7];
};
_Static_assert(sizeof(struct policy_verdict_event) == 64, "policy_verdict_event is ABI");

enum policy_match {
	POLICY_MATCH_NONE = 0,
	POLICY_MATCH_L3_ONLY = 1,
	POLICY_MATCH_L3_L4 = 2,
	POLICY_MATCH_L4_ONLY = 3,
	POLICY_MATCH_ALL = 4,
	POLICY_MATCH_L3_PROTO = 5,
	POLICY_MATCH_PROTO_ONLY = 6,
};

#define SOURCE_FILE_LXC 1
#define SOURCE_FILE_HOST 2
#define SOURCE_FILE_NETDEV 3
#define SOURCE_FILE_OVERLAY 4
