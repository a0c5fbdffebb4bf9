/* SPDX-License-Identifier: Apache-2.0 */
/* What the sub-commands of the traffic tool share: options, time, sockets, a latency histogram.
 *
 * Every sub-command runs until --duration is over or SIGTERM comes, then prints one JSON object on a line of its own.
 * Those that wait for traffic print {"ready":true} first, as soon as they can be reached.
 */
#pragma once

#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

#define NS_PER_S 1000000000ULL
#define NS_PER_MS 1000000ULL

struct options {
	const char *addr;   /* to talk to; for receivers: to bind, "::" takes both families */
	uint16_t port;
	uint16_t udp_port;  /* probe only */
	double duration_s;  /* 0: until SIGTERM */
	uint32_t rate;      /* per second; 0: as fast as it goes */
	uint32_t size;      /* bytes of a datagram or record */
	uint32_t stall_ms;  /* what takes longer is counted */
};

/* First byte of every connection to `server`: what the client wants of it. */
enum mode {
	MODE_PING_PONG = 'r', /* every byte is answered with one; at the end a struct server_report comes back */
	MODE_ONCE = 'c',      /* one byte is answered, then the server closes */
	MODE_SINK = 's',      /* bytes are swallowed; at the end a struct server_report comes back */
	MODE_ECHO = 'e',      /* bytes come back */
	MODE_REPORT = 'p',    /* a struct server_report on the process that serves MODE_ONCE comes back */
};

struct server_report {
	uint64_t bytes; /* MODE_SINK only */
	uint64_t cpu_ns;
};

/* Set by SIGTERM, SIGINT and the end of --duration. */
extern volatile sig_atomic_t stopping;

uint64_t now_ns(void);
/* Begins the --duration of the run; gives the time. Called once, when a connection that is needed stands. */
uint64_t start_clock(const struct options *o);
uint64_t process_cpu_ns(void);
/* Busy time of all CPUs of the machine, softirq included; resolution 10 ms. */
uint64_t machine_busy_ns(void);
/* Events per second; 0 when no time has passed, as for a run that ends before it has had the CPU. */
double per_second(uint64_t count, uint64_t begin_ns, uint64_t end_ns);
/* Sleeps until this time of now_ns(); returns early when the run is to stop. */
void sleep_until(uint64_t when_ns);

_Noreturn void die(const char *what);
void ready(void);

struct address {
	struct sockaddr_storage storage;
	socklen_t length;
};
struct address parse_address(const char *text, uint16_t port);
/* A connected socket with TCP_NODELAY that has announced `mode`, or -1 with errno. */
int open_connection(const struct address *to, enum mode mode, uint32_t timeout_ms);
struct retransmits {
	uint32_t all;
	uint32_t needless; /* the peer had the segment already: nothing was lost, the answer was only late */
};
struct retransmits tcp_retransmits(int fd);
void set_receive_timeout(int fd, uint32_t ms);
/* Both return false when the peer closed or an error came; errno is 0 when it closed. A signal does not cut
 * them short.
 */
bool read_full(int fd, void *buffer, size_t length);
bool write_full(int fd, const void *buffer, size_t length);

/* Log-linear buckets of 0.4 % width. */
struct histogram;
struct histogram *histogram_new(void);
void histogram_add(struct histogram *h, uint64_t value);
uint64_t histogram_quantile(const struct histogram *h, double q);

void run_server(const struct options *o);
void run_rr(const struct options *o);
void run_crr(const struct options *o);
void run_stream(const struct options *o);
void run_tcp_stream(const struct options *o);
void run_udp_send(const struct options *o);
void run_udp_recv(const struct options *o);
void run_probe(const struct options *o);
