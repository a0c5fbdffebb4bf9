/* SPDX-License-Identifier: Apache-2.0 */
/* Command line of the traffic tool. */
#include <errno.h>
#include <getopt.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/time.h>

#include "traffic.h"

static const struct command {
	const char *name;
	void (*run)(const struct options *o);
	const char *help;
} commands[] = {
	{ "server", run_server, "TCP server that all TCP clients below talk to; both families when bound to ::" },
	{ "rr", run_rr, "one connection, one byte there and back: rate and latency" },
	{ "crr", run_crr, "connect, one byte there and back, close: rate, latency, failures; --rate paces it" },
	{ "stream", run_stream, "one stream as fast as it goes: throughput and CPU per byte of both ends" },
	{ "tcp-stream", run_tcp_stream, "one long-lived connection, every byte checked: stalls, retransmissions" },
	{ "udp-send", run_udp_send, "datagrams with sequence numbers, --rate per second" },
	{ "udp-recv", run_udp_recv, "counts missing, reordered and duplicate ones" },
	{ "probe", run_probe, "TCP SYNs and datagrams that a policy should drop; counts what got through" },
};

volatile sig_atomic_t stopping;

static void on_signal(int signal)
{
	(void)signal;
	stopping = 1;
}

static _Noreturn void usage(void)
{
	fprintf(stderr, "usage: traffic COMMAND [--addr A] [--port P] [--udp-port P] [--cpu N] [--duration S]\n"
			"                       [--rate N] [--size BYTES] [--stall-ms MS]\n");
	for (size_t i = 0; i < sizeof(commands) / sizeof(commands[0]); i++)
		fprintf(stderr, "  %-11s %s\n", commands[i].name, commands[i].help);
	exit(2);
}

/* To be measured: on one CPU, and before everything else that wants it. */
static void pin_to_cpu(int cpu)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	if (sched_setaffinity(0, sizeof(set), &set) < 0)
		die("sched_setaffinity");
	if (setpriority(PRIO_PROCESS, 0, -20) < 0)
		die("setpriority");
}

/* Signals interrupt system calls, so that a blocked loop sees `stopping`. */
static void catch_signals(void)
{
	struct sigaction action = { .sa_handler = on_signal };

	sigaction(SIGTERM, &action, NULL);
	sigaction(SIGINT, &action, NULL);
	sigaction(SIGALRM, &action, NULL);
	signal(SIGPIPE, SIG_IGN);
}

uint64_t start_clock(const struct options *o)
{
	time_t seconds = (time_t)o->duration_s;
	struct itimerval timer = { .it_value = { .tv_sec = seconds,
						 .tv_usec = (suseconds_t)((o->duration_s - (double)seconds) * 1e6) } };

	setitimer(ITIMER_REAL, &timer, NULL);
	return now_ns();
}

int main(int argc, char **argv)
{
	static const struct option names[] = {
		{ "addr", required_argument, NULL, 'a' },     { "port", required_argument, NULL, 'p' },
		{ "udp-port", required_argument, NULL, 'u' }, { "cpu", required_argument, NULL, 'c' },
		{ "duration", required_argument, NULL, 'd' }, { "rate", required_argument, NULL, 'r' },
		{ "size", required_argument, NULL, 's' },     { "stall-ms", required_argument, NULL, 't' },
		{ NULL, 0, NULL, 0 },
	};
	struct options o = { .addr = "::", .port = 7000, .udp_port = 7001, .size = 64, .stall_ms = 200 };
	int option;

	while ((option = getopt_long(argc, argv, "", names, NULL)) != -1) {
		switch (option) {
		case 'a': o.addr = optarg; break;
		case 'p': o.port = (uint16_t)atoi(optarg); break;
		case 'u': o.udp_port = (uint16_t)atoi(optarg); break;
		case 'c': pin_to_cpu(atoi(optarg)); break;
		case 'd': o.duration_s = atof(optarg); break;
		case 'r': o.rate = (uint32_t)atoi(optarg); break;
		case 's': o.size = (uint32_t)atoi(optarg); break;
		case 't': o.stall_ms = (uint32_t)atoi(optarg); break;
		default: usage();
		}
	}
	if (optind != argc - 1)
		usage();
	for (size_t i = 0; i < sizeof(commands) / sizeof(commands[0]); i++) {
		if (strcmp(argv[optind], commands[i].name) != 0)
			continue;
		catch_signals();
		prctl(PR_SET_PDEATHSIG, SIGTERM); /* nobody would read the result */
		commands[i].run(&o);
		return 0;
	}
	usage();
}
