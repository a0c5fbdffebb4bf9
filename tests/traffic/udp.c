/* SPDX-License-Identifier: Apache-2.0 */
/* Datagrams that carry a sequence number, and the receiver that misses none. */
#include <errno.h>
#include <linux/sock_diag.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "traffic.h"

#define BATCH 64
#define DATAGRAM_MAX 9000
#define TICK_NS NS_PER_MS        /* the sender wakes up this often */
#define BURST_MAX 512            /* datagrams in one go when the CPU was taken away for a while: a queue takes 1000 */
#define RECEIVE_BUFFER (64 << 20) /* bridges the time for which the receiver's CPU is taken away */
#define POLL_MS 200
#define WINDOW (1ULL << 22)      /* sequence numbers in which a late or repeated one is recognised */
#define QUIET_MS 300             /* when stopped: nothing came for this long, so nothing is under way */

void run_udp_send(const struct options *o)
{
	struct address to = parse_address(o->addr, o->port);
	int fd = socket(to.storage.ss_family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	uint64_t rate = o->rate ? o->rate : 20000, sent = 0, errors = 0, begin, end;
	uint32_t size = o->size < sizeof(sent) ? sizeof(sent) : o->size;
	char *payload = calloc(1, size);

	if (fd < 0 || !payload || connect(fd, (struct sockaddr *)&to.storage, to.length) < 0)
		die("udp-send");
	begin = end = start_clock(o);
	for (uint64_t tick = begin; !stopping; tick += TICK_NS) {
		uint64_t due;

		sleep_until(tick);
		due = (now_ns() - begin) * rate / NS_PER_S;
		due = due > sent + BURST_MAX ? sent + BURST_MAX : due;
		while (sent < due && !stopping) {
			memcpy(payload, &sent, sizeof(sent));
			if (send(fd, payload, size, 0) >= 0)
				sent++;
			else if (errno != EINTR)
				errors++; /* the same number is tried again */
		}
		end = now_ns();
	}
	printf("{\"sent\":%lu,\"errors\":%lu,\"seconds\":%.6f,\"rate\":%.1f}\n", sent, errors, (double)(end - begin) / 1e9,
	       per_second(sent, begin, end));
}

struct sequence {
	uint64_t next; /* one above the highest number seen */
	uint64_t received, duplicates, reordered, gaps, longest_gap;
	uint64_t seen[WINDOW / 64];
};

static bool test_and_set(struct sequence *s, uint64_t number)
{
	uint64_t *word = &s->seen[(number % WINDOW) / 64], bit = 1ULL << (number % 64);
	bool was = *word & bit;

	*word |= bit;
	return was;
}

static void note_number(struct sequence *s, uint64_t number)
{
	if (number >= s->next) {
		uint64_t gap = number - s->next;

		for (uint64_t i = 0; i <= gap && i < WINDOW; i++) {
			uint64_t skipped = number - i;

			s->seen[(skipped % WINDOW) / 64] &= ~(1ULL << (skipped % 64));
		}
		s->gaps += gap > 0;
		s->longest_gap = gap > s->longest_gap ? gap : s->longest_gap;
		s->next = number + 1;
	} else {
		s->reordered++;
	}
	if (test_and_set(s, number))
		s->duplicates++;
	else
		s->received++;
}

static int bind_receiver(const struct options *o)
{
	struct address a = parse_address(o->addr, o->port);
	int zero = 0, buffer = RECEIVE_BUFFER, fd = socket(a.storage.ss_family, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	if (a.storage.ss_family == AF_INET6)
		setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &zero, sizeof(zero));
	if (setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &buffer, sizeof(buffer)) < 0)
		setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &buffer, sizeof(buffer));
	set_receive_timeout(fd, POLL_MS);
	if (bind(fd, (struct sockaddr *)&a.storage, a.length) < 0)
		die("bind");
	return fd;
}

/* What this socket threw away because we were too slow: the tool's loss, not the path's. */
static uint32_t socket_drops(int fd)
{
	uint32_t info[SK_MEMINFO_VARS] = {};
	socklen_t length = sizeof(info);

	getsockopt(fd, SOL_SOCKET, SO_MEMINFO, info, &length);
	return info[SK_MEMINFO_DROPS];
}

static int receive_batch(int fd, struct sequence *s)
{
	static uint8_t payloads[BATCH][DATAGRAM_MAX];
	struct mmsghdr messages[BATCH] = {};
	struct iovec vectors[BATCH];
	int n;

	for (int i = 0; i < BATCH; i++) {
		vectors[i] = (struct iovec){ .iov_base = payloads[i], .iov_len = DATAGRAM_MAX };
		messages[i].msg_hdr = (struct msghdr){ .msg_iov = &vectors[i], .msg_iovlen = 1 };
	}
	n = recvmmsg(fd, messages, BATCH, MSG_WAITFORONE, NULL);
	for (int i = 0; i < n; i++) {
		uint64_t number;

		if (messages[i].msg_len < sizeof(number))
			continue;
		memcpy(&number, payloads[i], sizeof(number));
		note_number(s, number);
	}
	return n;
}

void run_udp_recv(const struct options *o)
{
	struct sequence *s = calloc(1, sizeof(*s));
	int fd = bind_receiver(o);

	if (!s)
		die("calloc");
	start_clock(o);
	ready();
	while (!stopping)
		receive_batch(fd, s);
	set_receive_timeout(fd, QUIET_MS);
	while (receive_batch(fd, s) > 0)
		;
	printf("{\"received\":%lu,\"highest\":%ld,\"missing\":%lu,\"duplicates\":%lu,\"reordered\":%lu,\"gaps\":%lu,"
	       "\"longestGap\":%lu,\"socketDrops\":%u}\n",
	       s->received, (int64_t)s->next - 1, s->next - s->received, s->duplicates, s->reordered, s->gaps,
	       s->longest_gap, socket_drops(fd));
}
