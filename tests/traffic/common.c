/* SPDX-License-Identifier: Apache-2.0 */
/* Time, sockets and the histogram. */
#include <arpa/inet.h>
#include <errno.h>
#include <linux/tcp.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#include "traffic.h"

_Noreturn void die(const char *what)
{
	fprintf(stderr, "traffic: %s: %s\n", what, strerror(errno));
	exit(1);
}

void ready(void)
{
	printf("{\"ready\":true}\n");
	fflush(stdout);
}

static uint64_t read_clock(clockid_t clock)
{
	struct timespec t;

	clock_gettime(clock, &t);
	return (uint64_t)t.tv_sec * NS_PER_S + (uint64_t)t.tv_nsec;
}

uint64_t now_ns(void)
{
	return read_clock(CLOCK_MONOTONIC);
}

uint64_t process_cpu_ns(void)
{
	return read_clock(CLOCK_PROCESS_CPUTIME_ID);
}

uint64_t machine_busy_ns(void)
{
	unsigned long long user, nice, system, idle, iowait, irq, softirq;
	FILE *f = fopen("/proc/stat", "r");

	if (!f || fscanf(f, "cpu %llu %llu %llu %llu %llu %llu %llu", &user, &nice, &system, &idle, &iowait, &irq,
			 &softirq) != 7)
		die("/proc/stat");
	fclose(f);
	return (user + nice + system + irq + softirq) * (NS_PER_S / (uint64_t)sysconf(_SC_CLK_TCK));
}

double per_second(uint64_t count, uint64_t begin_ns, uint64_t end_ns)
{
	return end_ns > begin_ns ? (double)count * 1e9 / (double)(end_ns - begin_ns) : 0;
}

void sleep_until(uint64_t when_ns)
{
	struct timespec t = { .tv_sec = (time_t)(when_ns / NS_PER_S), .tv_nsec = (long)(when_ns % NS_PER_S) };

	while (!stopping && clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t, NULL) == EINTR)
		;
}

struct address parse_address(const char *text, uint16_t port)
{
	struct address a = {};
	struct sockaddr_in *v4 = (struct sockaddr_in *)&a.storage;
	struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)&a.storage;

	if (inet_pton(AF_INET, text, &v4->sin_addr) == 1) {
		v4->sin_family = AF_INET;
		v4->sin_port = htons(port);
		a.length = sizeof(*v4);
	} else if (inet_pton(AF_INET6, text, &v6->sin6_addr) == 1) {
		v6->sin6_family = AF_INET6;
		v6->sin6_port = htons(port);
		a.length = sizeof(*v6);
	} else {
		errno = EINVAL;
		die(text);
	}
	return a;
}

static struct timeval timeval_of_ms(uint32_t ms)
{
	return (struct timeval){ .tv_sec = ms / 1000, .tv_usec = (suseconds_t)(ms % 1000) * 1000 };
}

void set_receive_timeout(int fd, uint32_t ms)
{
	struct timeval limit = timeval_of_ms(ms);

	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
}

/* A connect() that a signal interrupted goes on by itself; this waits for its outcome. */
static int finish_connect(int fd, uint32_t timeout_ms)
{
	struct pollfd wait = { .fd = fd, .events = POLLOUT };
	socklen_t length = sizeof(int);
	int error = 0;

	if (poll(&wait, 1, (int)timeout_ms) != 1)
		error = ETIMEDOUT;
	else
		getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &length);
	errno = error;
	return error ? -1 : 0;
}

static int connect_within(int fd, const struct address *to, uint32_t timeout_ms)
{
	int result = connect(fd, (const struct sockaddr *)&to->storage, to->length);

	return result < 0 && errno == EINTR ? finish_connect(fd, timeout_ms) : result;
}

int open_connection(const struct address *to, enum mode mode, uint32_t timeout_ms)
{
	struct timeval limit = timeval_of_ms(timeout_ms);
	char announcement = (char)mode;
	int one = 1, saved, fd = socket(to->storage.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd < 0)
		die("socket");
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit)); /* bounds connect() too */
	set_receive_timeout(fd, timeout_ms);
	if (connect_within(fd, to, timeout_ms) == 0 && write_full(fd, &announcement, 1))
		return fd;
	saved = errno;
	close(fd);
	errno = saved;
	return -1;
}

struct retransmits tcp_retransmits(int fd)
{
	struct tcp_info info = {};
	socklen_t length = sizeof(info);

	getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &length);
	return (struct retransmits){ .all = info.tcpi_total_retrans, .needless = info.tcpi_dsack_dups };
}

bool read_full(int fd, void *buffer, size_t length)
{
	for (size_t done = 0; done < length;) {
		ssize_t n = read(fd, (char *)buffer + done, length - done);

		if (n < 0 && errno == EINTR)
			continue;
		if (n == 0)
			errno = 0;
		if (n <= 0)
			return false;
		done += (size_t)n;
	}
	return true;
}

bool write_full(int fd, const void *buffer, size_t length)
{
	for (size_t done = 0; done < length;) {
		ssize_t n = send(fd, (const char *)buffer + done, length - done, MSG_NOSIGNAL);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return false;
		done += (size_t)n;
	}
	return true;
}

#define SUB_BITS 8 /* each power of two has 256 buckets */
#define BUCKETS ((64 - SUB_BITS + 1) << SUB_BITS)

struct histogram {
	uint64_t count;
	uint64_t buckets[BUCKETS];
};

struct histogram *histogram_new(void)
{
	struct histogram *h = calloc(1, sizeof(*h));

	if (!h)
		die("calloc");
	return h;
}

void histogram_add(struct histogram *h, uint64_t value)
{
	int shift = value >> (SUB_BITS + 1) ? 63 - __builtin_clzll(value) - SUB_BITS : 0;

	h->buckets[((uint64_t)shift << SUB_BITS) + (value >> shift)]++;
	h->count++;
}

uint64_t histogram_quantile(const struct histogram *h, double q)
{
	uint64_t wanted = (uint64_t)(q * (double)h->count), seen = 0;

	for (uint64_t i = 0; i < BUCKETS; i++) {
		uint64_t shift = i >> (SUB_BITS + 1) ? (i >> SUB_BITS) - 1 : 0;

		seen += h->buckets[i];
		if (seen > wanted)
			return (i - (shift << SUB_BITS)) << shift;
	}
	return 0;
}
