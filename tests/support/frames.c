// SPDX-License-Identifier: Apache-2.0
/* frames DEVICE: sends the Ethernet frames that come as lines of hexadecimal digits, writes those that arrive likewise.
 * Runs on one CPU, so that frames leave in their order. Ends with its input.
 */
#include <arpa/inet.h>
#include <err.h>
#include <errno.h>
#include <linux/if_packet.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <poll.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define FRAME_MAX 65536

static int open_device(const char *name)
{
	struct sockaddr_ll address = { .sll_family = AF_PACKET, .sll_protocol = htons(ETH_P_ALL) };
	int buffer = 8 << 20;
	int fd = socket(AF_PACKET, SOCK_RAW, htons(ETH_P_ALL));

	if (fd < 0)
		err(1, "socket");
	address.sll_ifindex = if_nametoindex(name);
	if (!address.sll_ifindex)
		err(1, "%s", name);
	if (bind(fd, (struct sockaddr *)&address, sizeof(address)))
		err(1, "bind to %s", name);
	setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &buffer, sizeof(buffer));
	return fd;
}

static void send_line(int fd, const char *line)
{
	static unsigned char frame[FRAME_MAX];
	size_t len = strspn(line, "0123456789abcdef") / 2;

	for (size_t i = 0; i < len; i++)
		if (sscanf(line + 2 * i, "%2hhx", &frame[i]) != 1)
			errx(1, "not a frame: %s", line);
	/* A queue that is full, or a device that is down, loses frames as a wire does. */
	if (send(fd, frame, len, 0) < 0 && errno != ENOBUFS && errno != ENETDOWN)
		err(1, "send %zu bytes", len);
}

static void print_frame(int fd)
{
	static unsigned char frame[FRAME_MAX];
	static char text[2 * FRAME_MAX + 2];
	struct sockaddr_ll from;
	socklen_t from_len = sizeof(from);
	ssize_t len = recvfrom(fd, frame, sizeof(frame), MSG_DONTWAIT, (struct sockaddr *)&from, &from_len);

	if (len < 0 || from.sll_pkttype == PACKET_OUTGOING)
		return;
	for (ssize_t i = 0; i < len; i++)
		sprintf(text + 2 * i, "%02x", frame[i]);
	puts(text);
	fflush(stdout);
}

int main(int argc, char **argv)
{
	static char line[2 * FRAME_MAX + 2];
	size_t filled = 0;
	cpu_set_t one;
	int fd;

	if (argc != 2)
		errx(2, "usage: frames DEVICE");
	CPU_ZERO(&one);
	CPU_SET(0, &one);
	sched_setaffinity(0, sizeof(one), &one);
	fd = open_device(argv[1]);
	puts("ready");
	fflush(stdout);
	for (;;) {
		struct pollfd polls[] = { { .fd = 0, .events = POLLIN }, { .fd = fd, .events = POLLIN } };

		if (poll(polls, 2, -1) < 0)
			err(1, "poll");
		if (polls[1].revents)
			print_frame(fd);
		if (polls[0].revents) {
			ssize_t got = read(0, line + filled, sizeof(line) - 1 - filled);
			char *start = line, *end;

			if (got <= 0)
				return 0;
			filled += got;
			line[filled] = 0;
			while ((end = strchr(start, '\n'))) {
				*end = 0;
				send_line(fd, start);
				start = end + 1;
			}
			filled -= start - line;
			memmove(line, start, filled + 1);
		}
	}
}
