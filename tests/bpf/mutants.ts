// SPDX-License-Identifier: Apache-2.0

/** The checks that mutate.ts takes out of the C, one at a time, each with the test file that must notice. */
export interface Mutant {
  readonly name: string;
  /** Below bpf-src/. */
  readonly file: string;
  /** Stands exactly once in the file; `to` takes its place. */
  readonly from: string;
  readonly to: string;
  /** tests/bpf/<name>.test.ts */
  readonly caughtBy: string;
}

const inFile =
  (file: string) =>
  (name: string, from: string, to: string, caughtBy: string): Mutant => ({ name, file, from, to, caughtBy });

const lxc = inFile('bpf_lxc.c');
const host = inFile('bpf_host.c');
const netdev = inFile('bpf_netdev.c');
const common = inFile('lib/common.h');
const arp = inFile('lib/arp.h');
const nd = inFile('lib/nd.h');
const policy = inFile('lib/policy.h');
const flow = inFile('lib/flow.h');
const conntrack = inFile('lib/conntrack.h');
const parse = inFile('lib/parse.h');
const fragments = inFile('lib/fragments.h');
const nat = inFile('lib/nat.h');
const eps = inFile('lib/eps.h');
const icmp = inFile('lib/icmp.h');
const overlay = inFile('bpf_overlay.c');
const tunnel = inFile('lib/overlay.h');
const direct = inFile('lib/direct.h');

/** Between one step and the next. */
const GIVE_UP = ';\n\tif (ret < 0)\n\t\treturn give_up(n, ret)';

const ANTI_SPOOF: readonly Mutant[] = [
  lxc('source address of another endpoint', '!src || src->ifindex != skb->ifindex', '!src', 'local'),
  lxc('source MAC', '!eth || !mac_equal(eth->h_source, src->mac)', '!eth', 'local'),
  common('first third of the MAC', '(x[0] ^ y[0]) | ', '', 'local'),
  common('second third of the MAC', '(x[1] ^ y[1]) | ', '', 'local'),
  common('last third of the MAC', ' | (x[2] ^ y[2])', '', 'local'),
  arp('ARP sender', '!src || src->ifindex != skb->ifindex', '!src', 'neighbours'),
  arp('ARP frame MAC', '!mac_equal(arp->eth.h_source, src->mac) || ', '', 'neighbours'),
  arp('ARP sender MAC', ' || !mac_equal(arp->sender_mac, src->mac)', '', 'neighbours'),
  arp('ARP for its own address', 'owner && owner->ifindex == skb->ifindex', 'false', 'neighbours'),
  arp('ARP probe', '!sender.v4 || ', '', 'neighbours'),
  arp('gratuitous ARP', ' || sender.v4 == target.v4', '', 'neighbours'),
  nd('ND sender', '!src || src->ifindex != skb->ifindex', '!src', 'neighbours'),
  nd('ND MAC', '!mac_equal(asker_mac, src->mac)', 'false', 'neighbours'),
  nd('ND for its own address', 'owner && owner->ifindex == skb->ifindex', 'false', 'neighbours'),
  nd('ND address probe', 'is_unspecified(&p->saddr)', 'false', 'neighbours'),
  nd('ND from afar', 'p->ttl != ND_HOP_LIMIT || ', '', 'neighbours'),
  nd('router advertisement', 'p->icmp_type == ND_ROUTER_ADVERT || ', '', 'neighbours'),
  nd('redirect', ' || p->icmp_type == ND_REDIRECT', '', 'neighbours'),
  netdev('local source from outside', 'endpoint_find(&p.saddr, v6) || ', '', 'world'),
  netdev('host identity from outside', 'n->src_identity == IDENTITY_HOST || ', '', 'world'),
  netdev('loopback source from outside', ' || is_unroutable(&p.saddr, v6)', '', 'world'),
  parse('sender of an ICMP error', '(from_end && !address_equal(&inner_daddr, &p->saddr, v6))', 'false', 'icmp-errors'),
  parse('receiver of an ICMP error', '!address_equal(&inner_saddr, &p->daddr, v6)', 'false', 'icmp-errors'),
];

const JUDGES: readonly Mutant[] = [
  lxc('egress of the sender', 'judge(skb, n, p, ct, src, dst->identity, true, v6)', '0', 'local'),
  lxc('ingress of the receiver', 'judge(skb, n, p, ct, dst, src->identity, false, v6)', '0', 'local'),
  lxc('egress to the node', 'judge(skb, n, p, ct, src, IDENTITY_HOST, true, v6)', '0', 'local'),
  lxc(
    'egress to the world',
    `judge(skb, n, p, ct, src, n->dst_identity, true, v6)${GIVE_UP};\n\tret = forwardable(skb, p, src->mtu`,
    '0;\n\tret = forwardable(skb, p, src->mtu',
    'world',
  ),
  lxc('ingress by the stack', 'judge(skb, n, &p, &ct, dst, n->src_identity, false, v6)', '0', 'host'),
  host('ingress from the node', 'judge(skb, n, &p, &ct, dst, n->src_identity, false, v6)', '0', 'host'),
  netdev('ingress from outside', 'judge(skb, n, p, ct, dst, n->src_identity, false, v6)', '0', 'world'),
  lxc(
    'internal network to the node',
    'n->dst_identity = IDENTITY_HOST;\n\tif (src->flags & ENDPOINT_F_INTERNAL)',
    'n->dst_identity = IDENTITY_HOST;\n\tif (false)',
    'local',
  ),
  lxc(
    'internal network to the world',
    '!room || (src->flags & ENDPOINT_F_INTERNAL && !is_remote_container(peer, n->dst_identity))',
    '!room',
    'local',
  ),
  host('node to internal network', 'dst->flags & ENDPOINT_F_INTERNAL', 'false', 'host'),
  netdev('world to internal network', 'dst->flags & ENDPOINT_F_INTERNAL', 'false', 'world'),
  lxc('receiver on another device', ' || dst->ifindex != skb->ifindex', '', 'host'),
  lxc('multicast', 'unlikely(is_unroutable(&p.daddr, v6))', 'false', 'local'),
  eps('host record', 'ep && !(ep->flags & ENDPOINT_F_HOST)', 'ep', 'local'),
  policy('no trie', 'if (unlikely(!trie))\n\t\treturn DROP_POLICY;', 'if (unlikely(!trie))\n\t\treturn 0;', 'local'),
  policy('no entry', 'if (unlikely(!entry))\n\t\treturn DROP_POLICY;', 'if (!entry)\n\t\treturn 0;', 'policy'),
  policy('deny', 'unlikely(entry->flags & POLICY_F_DENY)', 'false', 'policy'),
  policy('proxy', 'unlikely(entry->proxy_port)', 'false', 'policy'),
  policy('entries of any peer', 'any = bpf_map_lookup_elem(trie, &key)', 'any = NULL', 'policy'),
  policy('precedence', 'any->precedence > entry->precedence ||', '', 'policy'),
  policy('the longer match', 'any->match_bits > entry->match_bits', 'false', 'policy'),
  policy('the higher precedence of the peer', 'any->precedence == entry->precedence && ', '', 'policy'),
  flow('direction of a reply', 'sends != ct->reply', 'sends', 'conntrack'),
  flow('port of a reply', 'ct->reply ? p->sport : p->dport', 'p->dport', 'conntrack'),
];

const FLOWS: readonly Mutant[] = [
  conntrack('expiry', 'entry && entry->expires > now', 'entry', 'conntrack'),
  conntrack('a SYN is no reply', '!(reply || ', '!(', 'conntrack'),
  conntrack('a SYN on a closed flow', ' || (entry->flags & CT_CLOSED) == CT_CLOSED)', ')', 'conntrack'),
  conntrack('who started', 'ct->from_lower != !!(entry->flags & CT_F_LOWER_STARTED)', '!ct->from_lower', 'conntrack'),
  conntrack('an error without a flow', 'p->flags & PACKET_ICMP_ERROR ? DROP_UNKNOWN_CT : 0', '0', 'icmp-errors'),
  conntrack('an echo reply opens nothing', 'if (p->flags & PACKET_ECHO_REPLY)', 'if (false)', 'conntrack'),
  conntrack('other ICMP opens nothing', '(PACKET_ICMP_ERROR | PACKET_ICMP_OTHER)', 'PACKET_ICMP_ERROR', 'conntrack'),
  fragments('an unknown first fragment', 'return DROP_FRAG_NOT_FOUND', 'return 0', 'fragments'),
  fragments('fragmented errors', 'return DROP_INVALID', 'return 0', 'fragments'),
  parse('fragments over a TCP header, IPv4', '(fragment & IPV4_FRAG_OFFSET) == 1', 'false', 'fragments'),
  parse(
    'fragments over a TCP header, IPv6',
    '== bpf_htons(8) && walk->next',
    '== bpf_htons(8) && false && walk->next',
    'fragments',
  ),
  parse('segments left', 'walk->next == IPPROTO_ROUTING && header[3]', 'false', 'malformed'),
  parse(
    'headers after the fragment header',
    'if (flags)\n\t\t\treturn DROP_INVALID_EXTHDR;\n\t\tif (bpf',
    'if (bpf',
    'malformed',
  ),
  netdev('a live flow behind the mapping', ' || !ct.entry || !ct.reply', '', 'world'),
  nat('sockets of the node', 'nat_socket_of_host(skb, &room->tuple, p, local, port, v6)', '!skb->len', 'world'),
  nat(
    'ports of other flows, IPv4',
    'cilium_snat4, key, entry, BPF_NOEXIST',
    'cilium_snat4, key, entry, BPF_ANY',
    'world',
  ),
  nat(
    'ports of other flows, IPv6',
    'cilium_snat6, key, entry, BPF_NOEXIST',
    'cilium_snat6, key, entry, BPF_ANY',
    'world',
  ),
  lxc('replies keep their address', 'ct->reply || !device', '!device', 'world'),
  icmp('errors about errors', 'PACKET_ICMP_ERROR | PACKET_LATER_FRAGMENT', 'PACKET_LATER_FRAGMENT', 'drops'),
  icmp('hop count', 'hop && p->ttl <= 1', 'hop && p->ttl < 1', 'local'),
];

/** Of tunnels, and of nodes without one. */
const NODES: readonly Mutant[] = [
  overlay(
    'sender of a packet',
    'tunnel_verify(skb, sender, &key, direct)',
    'sender ? 0 : DROP_UNKNOWN_SENDER',
    'overlay',
  ),
  overlay('sender of an error', 'tunnel_verify(skb, end, key, direct)', 'end ? 0 : DROP_UNKNOWN_SENDER', 'overlay'),
  overlay('identity of an error', 'peer_identity(end, &ct, v6)', 'n->src_identity', 'overlay'),
  overlay('ingress by the tunnel', 'judge(skb, n, p, &ct, dst, n->src_identity, false, v6)', '0', 'overlay'),
  overlay(
    'other nodes to internal network',
    'dst->flags & ENDPOINT_F_INTERNAL && !is_container_identity(n->src_identity)',
    'false',
    'overlay',
  ),
  tunnel('node of the sender', '!tunnel_came_from(key, info)', 'false', 'overlay'),
  tunnel('sender by the tunnel', 'if (!is_tunnelled(info))', 'if (!info)', 'overlay'),
  tunnel('IPv4 address of the node', 'return key->remote_ipv4 == bpf_ntohl(node[0])', 'return true', 'overlay'),
  tunnel('first quarter of the IPv6 address', '(key->remote_ipv6[0] ^ node[0]) | ', '', 'overlay'),
  tunnel('second quarter of the IPv6 address', '(key->remote_ipv6[1] ^ node[1]) | ', '', 'overlay'),
  tunnel('third quarter of the IPv6 address', '(key->remote_ipv6[2] ^ node[2]) |', '', 'overlay'),
  tunnel('last quarter of the IPv6 address', '(key->remote_ipv6[3] ^ node[3])', '0', 'overlay'),
  tunnel(
    'identity from another node',
    '!is_container_identity(key->tunnel_id) && key->tunnel_id != IDENTITY_REMOTE_NODE',
    'false',
    'overlay',
  ),
  tunnel(
    'unknown identity from another node',
    'return identity_is_known(key->tunnel_id) ?',
    'return true ?',
    'unknown',
  ),
  eps('identities without a bit', 'is_remote(info) ? identity_is_known(info->identity) :', '', 'unknown'),
  eps('identity 0 of another node', 'return identity != IDENTITY_UNKNOWN', 'return true', 'unknown'),
  eps('identity 0 of no node', 'info->identity != IDENTITY_UNKNOWN;', 'true;', 'unknown'),
  eps('one bit for each identity', '>> identity % IDENTITY_WORD_BITS', '', 'overlay'),
  flow('unknown peers are dropped', 'if (likely(is_known(info)))', 'if (true)', 'unknown'),
  flow('only what was let in is answered', 'ct->entry->flags & CT_F_INITIATOR_LOCAL', 'false', 'unknown'),
  flow('answers to an identity without a bit', '!identity_is_known(ct->entry->initiator_identity)', 'false', 'unknown'),
  flow('the tunnel by the stack', 'if (is_tunnelled(info))', 'if (false)', 'unknown'),
  flow('unknown senders by the stack', 'return is_known(info) ? 0', 'return true ? 0', 'unknown'),
  flow(
    'errors of strangers about the tunnel',
    'is_tunnelled(info) && n->src_identity != IDENTITY_HOST',
    'false',
    'unknown',
  ),
  flow(
    'errors of the node about the tunnel',
    'is_tunnelled(info) && n->src_identity != IDENTITY_HOST',
    'is_tunnelled(info)',
    'unknown',
  ),
  flow('errors about the unknown', 'n->src_identity == IDENTITY_UNKNOWN ?', 'false ?', 'unknown'),
  overlay('errors about the unknown by the tunnel', 'n->src_identity == IDENTITY_UNKNOWN', 'false', 'unknown'),
  lxc('unknown receiver', 'unlikely(n->dst_identity == IDENTITY_UNKNOWN)', 'false', 'unknown'),
  netdev('unknown sender', '!is_known(sender) && !(p.flags & PACKET_ICMP_ERROR)', 'false', 'unknown'),
  netdev(
    'unknown sender of an answer to the node',
    ' || !is_known(sender))\n\t\treturn TC',
    ')\n\t\treturn TC',
    'unknown',
  ),
  netdev('answers around the tunnel', 'is_tunnelled(sender) || !is_known(sender)', '!is_known(sender)', 'unknown'),
  tunnel(
    'identity to another node',
    '!is_container_identity(identity) && identity != IDENTITY_REMOTE_NODE',
    'false',
    'overlay',
  ),
  tunnel(
    'addresses without a tunnel',
    '(info->flags & (IPCACHE_F_HAS_TUNNEL | IPCACHE_F_SKIP_TUNNEL)) == IPCACHE_F_HAS_TUNNEL',
    'info->flags & IPCACHE_F_HAS_TUNNEL',
    'overlay',
  ),
  eps('reserved identities', 'identity == IDENTITY_HEALTH || identity == IDENTITY_INIT', 'true', 'overlay'),
  eps('identities of one node', 'return !(identity >> IDENTITY_BITS)', 'return true', 'overlay'),
  lxc(
    'egress to other nodes',
    `judge(skb, n, p, ct, src, n->dst_identity, true, v6)${GIVE_UP};\n\tret = forwardable(skb, p, min_of`,
    '0;\n\tret = forwardable(skb, p, min_of',
    'overlay',
  ),
  lxc(
    'internal network by the tunnel',
    'if (src->flags & ENDPOINT_F_INTERNAL && !is_remote_container(peer, n->dst_identity))',
    'if (false)',
    'overlay',
  ),
  lxc(
    'tunnels of other nodes',
    'config_tunnel_ifindex && p->protocol == IPPROTO_UDP && p->dport == bpf_htons(config_tunnel_port)',
    'false',
    'overlay',
  ),
  lxc('no masquerade in the cluster', '!is_in_cluster(peer)', 'true', 'native'),
  lxc(
    'no masquerade to nodes',
    '(peer && peer->identity == IDENTITY_REMOTE_NODE && !config_tunnel_ifindex)',
    'false',
    'native',
  ),
  lxc(
    'masquerade to nodes with tunnels',
    'IDENTITY_REMOTE_NODE && !config_tunnel_ifindex',
    'IDENTITY_REMOTE_NODE',
    'overlay',
  ),
  lxc('size of the tunnel', 'min_of(src->mtu, tunnel_mtu(peer, v6))', 'src->mtu', 'overlay'),
  tunnel('family of a node, its device not passed', 'return v6 ? DROP_UNKNOWN_SENDER : 0', 'return 0', 'direct'),
  direct('marks of congestion to another node', ' || has_ecn(skb)', '', 'direct'),
  direct(
    'routes to another node',
    '!direct_route(skb, &room->fib, source, node, len)',
    '(direct_route(skb, &room->fib, source, node, len), false)',
    'direct',
  ),
  direct('sizes of routes to another node', 'skb->gso_size ? 1 : len', '1', 'direct'),
  direct('frames for others', 'skb->gso_size || skb->pkt_type', 'skb->gso_size', 'direct'),
  direct('tunnels of others', ' || outer->ip.daddr != tunnel_source()', '', 'direct'),
  direct('marks of congestion from another node', ' || outer->ip.tos & ECN_MASK', '', 'direct'),
  direct('fragments around', 'outer->ip.frag_off & ~bpf_htons(IPV4_DONT_FRAGMENT) || ', '', 'direct'),
  direct('bytes behind the end', ' || skb->len != ETH_HLEN + bpf_ntohs(outer->ip.tot_len)', '', 'direct'),
  direct(
    'length of the datagram',
    'bpf_ntohs(outer->udp.len) == skb->len - ETH_HLEN - sizeof(outer->ip)',
    'true',
    'direct',
  ),
  direct('checksums around', ' && !outer->udp.check', '', 'direct'),
  direct('flags of the tunnel', 'outer->vxlan_flags == VXLAN_FLAG_VNI', 'true', 'direct'),
  direct('checksum of the header around', 'ipv4_header_sum(outer) == 0xffff', 'true', 'direct'),
  direct('port of the tunnel', ' || outer->udp.dest != bpf_htons(config_tunnel_port)', '', 'direct'),
  direct('no IP inside', 'else if (protocol != bpf_htons(ETH_P_IP))', 'else if (false)', 'direct'),
  tunnel('what IPv6 promises', 'v6 && mtu < IPV6_MIN_MTU', 'false', 'sizes'),
  tunnel('the same for IPv4', 'v6 && mtu < IPV6_MIN_MTU', 'mtu < IPV6_MIN_MTU', 'sizes'),
  tunnel('header of an outer IPv6 packet', '? TUNNEL_OVERHEAD_IPV6 :', '? TUNNEL_OVERHEAD_IPV4 :', 'sizes'),
  icmp('size of segments', 'p->l4_header_len + skb->gso_size', '0', 'sizes'),
  icmp('segments that are cut up', 'skb->gso_size == GSO_BY_FRAGS', 'false', 'sizes'),
  host('what the node passes on', 'n->src_identity != IDENTITY_HOST', 'false', 'overlay'),
  host('size of the tunnel from the node', 'forwardable(skb, p, tunnel_mtu(peer, v6), false, v6)', '0', 'overlay'),
  netdev('around the tunnel', 'if (is_tunnelled(sender))', 'if (false)', 'overlay'),
];

export const MUTANTS: readonly Mutant[] = [...ANTI_SPOOF, ...JUDGES, ...FLOWS, ...NODES];
