/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Constants of the node, set by the agent before an object is loaded; the verifier then removes what they rule out.
 * Names, types and descriptions are in the object's BTF.
 */
#pragma once

#include "common.h"

typedef __u8 mac_bytes[6];
typedef __u8 ipv6_bytes[16];

#define CONFIG(type, name, doc)                                                                                        \
	__attribute__((btf_decl_tag(doc))) SEC(".rodata.config") volatile const type config_##name

CONFIG(__u32, host_ifindex, "Interface index of cilium_host.");
CONFIG(mac_bytes, host_mac, "MAC address of cilium_host.");
CONFIG(__be32, router_ipv4, "Source of ICMP errors that the datapath sends; 0: the address that was not reached.");
CONFIG(ipv6_bytes, router_ipv6, "Source of ICMPv6 errors that the datapath sends; ::: the address that was not reached.");

CONFIG(__u32, tunnel_ifindex, "Interface index of cilium_vxlan; 0: no tunnel, the other nodes' containers are routed to.");
CONFIG(__u32, tunnel_mtu, "MTU of the network that the tunnel's packets cross, all their headers included.");
CONFIG(__u16, tunnel_port, "UDP port of the tunnel, on every node.");

CONFIG(__u32, aggregation, "Trace events: 0 each packet and hook, 1 each packet, 3 new, closing and once an interval.") = 3;
CONFIG(__u32, report_interval_s, "Seconds between trace events of one direction of a flow at aggregation 3.") = 5;

CONFIG(__u32, ct_tcp_established_s, "Seconds that an idle TCP connection is remembered.") = 8000;
CONFIG(__u32, ct_tcp_syn_s, "Seconds that a TCP connection without a completed handshake is remembered.") = 60;
CONFIG(__u32, ct_any_s, "Seconds that an idle flow of another protocol is remembered.") = 60;
CONFIG(__u32, ct_close_s, "Seconds that a closed TCP connection is remembered.") = 10;

/* Below and above the host's own ephemeral ports (net.ipv4.ip_local_port_range). */
CONFIG(__u16, snat_port_min1, "First port of the lower range to masquerade with.") = 1024;
CONFIG(__u16, snat_port_max1, "Last port of the lower range; below the first: no such range.") = 32767;
CONFIG(__u16, snat_port_min2, "First port of the upper range to masquerade with.") = 61000;
CONFIG(__u16, snat_port_max2, "Last port of the upper range; below the first: no such range.") = 65535;

#define AGGREGATE_LOW 1
#define AGGREGATE_MEDIUM 3
