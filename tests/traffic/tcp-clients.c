/* SPDX-License-Identifier: Apache-2.0 */
/* Clients of the TCP server: rr, crr, stream, tcp-stream. */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

#include "traffic.h"

#define CONNECT_TIMEOUT_MS 5000

static int must_connect(const struct options *o, enum mode mode)
{
	struct address to = parse_address(o->addr, o->port);
	int fd = open_connection(&to, mode, CONNECT_TIMEOUT_MS);

	if (fd < 0)
		die("connect");
	return fd;
}

/* CPU time of the server so far, asked for on a connection that is over with the answer. */
static struct server_report take_report(int fd)
{
	struct server_report report;

	shutdown(fd, SHUT_WR);
	if (!read_full(fd, &report, sizeof(report)))
		die("report of the server");
	return report;
}

static uint64_t server_cpu_ns(const struct options *o)
{
	int fd = must_connect(o, MODE_REPORT);
	struct server_report report = take_report(fd);

	close(fd);
	return report.cpu_ns;
}

void run_rr(const struct options *o)
{
	struct histogram *latency = histogram_new();
	int fd = must_connect(o, MODE_PING_PONG);
	uint64_t count = 0, begin = start_clock(o), before = begin, cpu = process_cpu_ns();
	char byte = 'x';

	while (!stopping) {
		uint64_t after;

		if (!write_full(fd, &byte, 1) || !read_full(fd, &byte, 1))
			die("request/response");
		after = now_ns();
		histogram_add(latency, after - before);
		before = after;
		count++;
	}
	cpu = process_cpu_ns() - cpu;
	cpu += take_report(fd).cpu_ns;
	printf("{\"count\":%lu,\"seconds\":%.6f,\"rate\":%.1f,\"p50Ns\":%lu,\"p99Ns\":%lu,\"cpuNs\":%.1f,"
	       "\"retransmits\":%u}\n",
	       count, (double)(before - begin) / 1e9, (double)count * 1e9 / (double)(before - begin),
	       histogram_quantile(latency, 0.5), histogram_quantile(latency, 0.99), (double)cpu / (double)count,
	       tcp_retransmits(fd).all);
}

/* One connection from connect() to the server's FIN. The server closes first, so that it keeps TIME_WAIT and this end
 * never runs out of ports.
 */
static bool connect_request_close(const struct address *to, struct retransmits *sum)
{
	char byte = 'x';
	int fd = open_connection(to, MODE_ONCE, CONNECT_TIMEOUT_MS);
	bool ok = fd >= 0 && write_full(fd, &byte, 1) && read_full(fd, &byte, 1) &&
		  !read_full(fd, &byte, 1) && errno == 0;

	if (fd >= 0) {
		struct retransmits these = tcp_retransmits(fd);

		sum->all += these.all;
		sum->needless += these.needless;
		close(fd);
	}
	return ok;
}

void run_crr(const struct options *o)
{
	struct address to = parse_address(o->addr, o->port);
	struct histogram *latency = histogram_new();
	uint64_t server_cpu = server_cpu_ns(o), cpu = process_cpu_ns();
	uint64_t count = 0, failed = 0, slow = 0, slowest = 0, begin = start_clock(o), end = begin, taken;
	struct retransmits retransmits = {};
	int last_errno = 0;

	while (!stopping) {
		uint64_t before;

		if (o->rate)
			sleep_until(begin + (count + failed) * NS_PER_S / o->rate);
		before = now_ns();
		if (connect_request_close(&to, &retransmits)) {
			count++;
		} else {
			failed++;
			last_errno = errno;
		}
		end = now_ns();
		taken = end - before;
		histogram_add(latency, taken);
		slow += taken > o->stall_ms * NS_PER_MS;
		slowest = taken > slowest ? taken : slowest;
	}
	cpu = process_cpu_ns() - cpu + server_cpu_ns(o) - server_cpu;
	printf("{\"count\":%lu,\"failed\":%lu,\"lastError\":\"%s\",\"slow\":%lu,\"slowestNs\":%lu,\"seconds\":%.6f,"
	       "\"rate\":%.1f,\"p50Ns\":%lu,\"p99Ns\":%lu,\"cpuNs\":%.1f,\"retransmits\":%u,\"needlessRetransmits\":%u}\n",
	       count, failed, failed ? strerror(last_errno) : "", slow, slowest, (double)(end - begin) / 1e9,
	       per_second(count, begin, end), histogram_quantile(latency, 0.5),
	       histogram_quantile(latency, 0.99), (double)cpu / (double)(count + failed ? count + failed : 1),
	       retransmits.all, retransmits.needless);
}

void run_stream(const struct options *o)
{
	static const char buffer[1 << 17];
	struct server_report server;
	int fd = must_connect(o, MODE_SINK);
	uint64_t begin = start_clock(o), cpu = process_cpu_ns(), busy = machine_busy_ns(), elapsed;

	while (!stopping)
		if (write(fd, buffer, sizeof(buffer)) < 0 && !stopping)
			die("write");
	elapsed = now_ns() - begin;
	server = take_report(fd);
	cpu = process_cpu_ns() - cpu;
	busy = machine_busy_ns() - busy;
	printf("{\"bytes\":%lu,\"seconds\":%.6f,\"bitsPerSecond\":%.0f,\"cpuNsPerByte\":%.5f,\"senderNsPerByte\":%.5f,"
	       "\"receiverNsPerByte\":%.5f,\"machineNsPerByte\":%.5f,\"retransmits\":%u}\n",
	       server.bytes, (double)elapsed / 1e9, (double)server.bytes * 8e9 / (double)elapsed,
	       (double)(cpu + server.cpu_ns) / (double)server.bytes, (double)cpu / (double)server.bytes,
	       (double)server.cpu_ns / (double)server.bytes, (double)busy / (double)server.bytes,
	       tcp_retransmits(fd).all);
}

/* The byte that stands at this offset of the stream. */
static uint8_t pattern(uint64_t offset)
{
	return (uint8_t)(((offset >> 3) * 0x9E3779B97F4A7C15ULL) >> (8 * (offset & 7)));
}

/* A connection on which `sent` bytes went out and `received` came back. */
struct echoed {
	int fd;
	uint64_t sent, received, wrong;
	uint64_t progress_ns; /* when something last came back, or was sent with nothing outstanding */
	uint64_t stalls, longest_ns;
};

static void note_progress(struct echoed *e, uint64_t now, uint32_t stall_ms)
{
	uint64_t gap = now - e->progress_ns;

	e->longest_ns = gap > e->longest_ns ? gap : e->longest_ns;
	e->stalls += gap > stall_ms * NS_PER_MS;
	e->progress_ns = now;
}

static bool send_record(struct echoed *e, uint32_t size)
{
	uint8_t record[size];

	for (uint32_t i = 0; i < size; i++)
		record[i] = pattern(e->sent + i);
	if (e->sent == e->received)
		e->progress_ns = now_ns();
	if (!write_full(e->fd, record, size))
		return false;
	e->sent += size;
	return true;
}

/* Takes what has come back; waits up to `timeout_ms` for it. */
static bool take_echo(struct echoed *e, int timeout_ms, uint32_t stall_ms)
{
	uint8_t buffer[1 << 14];
	struct pollfd wait = { .fd = e->fd, .events = POLLIN };
	ssize_t n;

	if (poll(&wait, 1, timeout_ms) <= 0)
		return true;
	n = recv(e->fd, buffer, sizeof(buffer), MSG_DONTWAIT);
	if (n <= 0)
		return n < 0 && (errno == EAGAIN || errno == EINTR);
	for (ssize_t i = 0; i < n; i++)
		e->wrong += buffer[i] != pattern(e->received + (uint64_t)i);
	e->received += (uint64_t)n;
	note_progress(e, now_ns(), stall_ms);
	return true;
}

void run_tcp_stream(const struct options *o)
{
	struct echoed e = { .fd = must_connect(o, MODE_ECHO) };
	uint32_t rate = o->rate ? o->rate : 1000;
	uint64_t records = 0, begin = start_clock(o), deadline;
	struct retransmits retransmits;
	bool ok = true;

	while (!stopping && ok) {
		uint64_t next = begin + records * NS_PER_S / rate, now;

		while (ok && !stopping && (now = now_ns()) < next)
			ok = take_echo(&e, (int)((next - now) / NS_PER_MS) + 1, o->stall_ms);
		if (ok && !stopping && (ok = send_record(&e, o->size)))
			records++;
	}
	deadline = now_ns() + CONNECT_TIMEOUT_MS * NS_PER_MS;
	while (ok && e.received < e.sent && now_ns() < deadline)
		ok = take_echo(&e, 10, o->stall_ms);
	if (e.received < e.sent)
		note_progress(&e, now_ns(), o->stall_ms);
	retransmits = tcp_retransmits(e.fd);
	printf("{\"records\":%lu,\"bytesSent\":%lu,\"bytesBack\":%lu,\"bytesWrong\":%lu,\"stalls\":%lu,\"longestNs\":%lu,"
	       "\"retransmits\":%u,\"needlessRetransmits\":%u,\"broken\":%s}\n",
	       records, e.sent, e.received, e.wrong, e.stalls, e.longest_ns,
	       retransmits.all, retransmits.needless, ok ? "false" : "true");
}
