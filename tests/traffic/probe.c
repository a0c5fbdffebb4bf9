/* SPDX-License-Identifier: Apache-2.0 */
/* Packets that should not arrive, and how one would notice.
 *
 * TCP: each probe is one SYN on a socket of its own, kept for SYN_SLOTS probes and closed before the kernel would send
 * a second one. A connection that stands, or a refusal by the peer, means that the SYN got through. UDP: datagrams to
 * a port; an ICMP "port unreachable" tells that one got through, and so does the count of a receiver on that port.
 */
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <unistd.h>

#include "traffic.h"

#define SYN_SLOTS 128
#define DEFAULT_RATE 400      /* probes per second, every second one is TCP */
#define PROBE_LIFE_MS_MAX 900 /* the kernel repeats a SYN after 1 s */

struct probes {
	struct address tcp, udp;
	int syn_fds[SYN_SLOTS];
	uint64_t syn_sent_ns[SYN_SLOTS];
	int udp_fd;
	uint64_t syns, datagrams;
	uint64_t connected, refused, unreachable, errors;
};

static void count_error(struct probes *p, int error)
{
	if (error == ECONNREFUSED || error == ECONNRESET)
		p->refused++;
	else if (error == EHOSTUNREACH || error == ENETUNREACH || error == EACCES)
		p->unreachable++;
	else
		p->errors++;
}

/* What became of a probe: only a socket still waiting for its SYN-ACK is what a dropped packet leaves. */
static void judge_syn(struct probes *p, int fd)
{
	struct tcp_info info = {};
	socklen_t length = sizeof(info), error_length = sizeof(int);
	int error = 0;

	getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &length);
	getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &error_length);
	if (error)
		count_error(p, error);
	else if (info.tcpi_state != TCP_SYN_SENT)
		p->connected++;
}

static void retire_syn(struct probes *p, uint32_t slot)
{
	if (p->syn_fds[slot] < 0)
		return;
	judge_syn(p, p->syn_fds[slot]);
	close(p->syn_fds[slot]);
	p->syn_fds[slot] = -1;
}

static void send_syn(struct probes *p)
{
	uint32_t slot = (uint32_t)(p->syns % SYN_SLOTS);
	int fd;

	retire_syn(p, slot);
	fd = socket(p->tcp.storage.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd < 0)
		die("socket");
	p->syns++;
	p->syn_fds[slot] = fd;
	p->syn_sent_ns[slot] = now_ns();
	if (connect(fd, (struct sockaddr *)&p->tcp.storage, p->tcp.length) == 0 || errno == EINPROGRESS)
		return;
	count_error(p, errno); /* on one machine the answer can be there already */
	close(fd);
	p->syn_fds[slot] = -1;
}

static void send_datagram(struct probes *p)
{
	uint64_t number = p->datagrams;

	if (send(p->udp_fd, &number, sizeof(number), MSG_DONTWAIT) >= 0)
		p->datagrams++;
	else
		count_error(p, errno); /* of an earlier one; the next call sends */
}

void run_probe(const struct options *o)
{
	struct probes p = { .tcp = parse_address(o->addr, o->port), .udp = parse_address(o->addr, o->udp_port) };
	uint64_t rate = o->rate ? o->rate : DEFAULT_RATE, begin = start_clock(o), end = begin, calls = 0;

	for (int i = 0; i < SYN_SLOTS; i++)
		p.syn_fds[i] = -1;
	p.udp_fd = socket(p.udp.storage.ss_family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (p.udp_fd < 0 || connect(p.udp_fd, (struct sockaddr *)&p.udp.storage, p.udp.length) < 0)
		die("udp socket");
	for (; !stopping; calls++) {
		sleep_until(begin + calls * NS_PER_S / rate);
		if (stopping)
			break;
		for (uint32_t i = 0; i < SYN_SLOTS; i++)
			if (p.syn_fds[i] >= 0 && now_ns() - p.syn_sent_ns[i] > PROBE_LIFE_MS_MAX * NS_PER_MS)
				retire_syn(&p, i);
		if (calls % 2)
			send_datagram(&p);
		else
			send_syn(&p);
		end = now_ns();
	}
	for (uint32_t i = 0; i < SYN_SLOTS; i++)
		retire_syn(&p, i);
	printf("{\"syns\":%lu,\"datagrams\":%lu,\"through\":%lu,\"connected\":%lu,\"refused\":%lu,\"unreachable\":%lu,"
	       "\"errors\":%lu,\"rate\":%.1f}\n",
	       p.syns, p.datagrams, p.connected + p.refused, p.connected, p.refused, p.unreachable, p.errors,
	       per_second(p.syns + p.datagrams, begin, end));
}
