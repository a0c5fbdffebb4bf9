/* SPDX-License-Identifier: Apache-2.0 */
/* The TCP server. Short connections are served in turn, those that stay get a process each. */
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "traffic.h"

#define BACKLOG 4096
#define POLL_MS 200            /* how often a blocked process looks whether it is to stop */
#define ANNOUNCEMENT_MS 2000   /* a client that stays silent longer than this is let go */

static struct totals {
	uint64_t accepted;
	uint64_t broken;      /* ended by an error, not by the peer's FIN */
	uint64_t retransmits; /* of this end */
	uint64_t needless_retransmits;
} *totals;

static bool again(ssize_t n)
{
	return n < 0 && !stopping && (errno == EAGAIN || errno == EINTR);
}

static ssize_t read_some(int fd, void *buffer, size_t length)
{
	ssize_t n;

	do
		n = read(fd, buffer, length);
	while (again(n));
	return n;
}

static ssize_t echo(int fd, size_t chunk)
{
	static char buffer[1 << 16];
	ssize_t n;

	while ((n = read_some(fd, buffer, chunk)) > 0)
		if (!write_full(fd, buffer, (size_t)n))
			return -1;
	return n;
}

static bool report(int fd, uint64_t bytes)
{
	struct server_report report = { .bytes = bytes, .cpu_ns = process_cpu_ns() };

	return write_full(fd, &report, sizeof(report));
}

static ssize_t sink(int fd)
{
	static char buffer[1 << 18];
	uint64_t bytes = 0;
	ssize_t n;

	while ((n = read_some(fd, buffer, sizeof(buffer))) > 0)
		bytes += (uint64_t)n;
	report(fd, bytes);
	return n;
}

static ssize_t ping_pong(int fd)
{
	ssize_t n = echo(fd, 1);

	report(fd, 0);
	return n;
}

static void account(int fd, ssize_t last)
{
	struct retransmits retransmits = tcp_retransmits(fd);

	if (last < 0 && !stopping)
		__atomic_fetch_add(&totals->broken, 1, __ATOMIC_RELAXED);
	__atomic_fetch_add(&totals->retransmits, retransmits.all, __ATOMIC_RELAXED);
	__atomic_fetch_add(&totals->needless_retransmits, retransmits.needless, __ATOMIC_RELAXED);
	close(fd);
}

static ssize_t converse(int fd, enum mode mode)
{
	switch (mode) {
	case MODE_SINK:
		return sink(fd);
	case MODE_PING_PONG:
		return ping_pong(fd);
	default:
		return echo(fd, 1 << 16);
	}
}

static void serve_in_process(int listener, int fd, enum mode mode)
{
	if (fork() == 0) {
		prctl(PR_SET_PDEATHSIG, SIGTERM);
		close(listener);
		set_receive_timeout(fd, POLL_MS);
		account(fd, converse(fd, mode));
		_exit(0);
	}
	close(fd);
}

static void serve(int listener, int fd)
{
	char mode, byte;
	int one = 1;

	totals->accepted++;
	set_receive_timeout(fd, ANNOUNCEMENT_MS);
	if (!read_full(fd, &mode, 1)) {
		account(fd, -1);
		return;
	}
	if (mode == MODE_ONCE || mode == MODE_REPORT) {
		bool ok = mode == MODE_REPORT ? report(fd, 0) : read_full(fd, &byte, 1) && write_full(fd, &byte, 1);

		account(fd, ok ? 0 : -1);
		return;
	}
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	serve_in_process(listener, fd, (enum mode)mode);
}

void run_server(const struct options *o)
{
	struct address a = parse_address(o->addr, o->port);
	int one = 1, zero = 0, listener = socket(a.storage.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);

	totals = mmap(NULL, sizeof(*totals), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (totals == MAP_FAILED)
		die("mmap");
	setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (a.storage.ss_family == AF_INET6)
		setsockopt(listener, IPPROTO_IPV6, IPV6_V6ONLY, &zero, sizeof(zero));
	set_receive_timeout(listener, POLL_MS);
	if (bind(listener, (struct sockaddr *)&a.storage, a.length) < 0 || listen(listener, BACKLOG) < 0)
		die("listen");
	setpgid(0, 0);
	start_clock(o);
	ready();
	while (!stopping) {
		int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);

		if (fd >= 0)
			serve(listener, fd);
		while (waitpid(-1, NULL, WNOHANG) > 0)
			;
	}
	signal(SIGTERM, SIG_IGN);
	kill(0, SIGTERM);
	while (wait(NULL) > 0)
		;
	printf("{\"accepted\":%lu,\"broken\":%lu,\"retransmits\":%lu,\"needlessRetransmits\":%lu}\n", totals->accepted,
	       totals->broken, totals->retransmits, totals->needless_retransmits);
}
