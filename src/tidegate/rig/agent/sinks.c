/* Sockets that take packets and are never read: what holds the memory that the replies of block IO need.
 * SPDX-License-Identifier: MIT */
#define _GNU_SOURCE
#include "agent.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/if_ether.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

static int bound(int type, int port, int rcvbuf)
{
	struct sockaddr_in at = { .sin_family = AF_INET, .sin_port = htons(port) };
	int with = socket(AF_INET, type, 0), one = 1;

	setsockopt(with, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	setsockopt(with, SOL_SOCKET, SO_RCVBUFFORCE, &rcvbuf, sizeof(rcvbuf));
	return bind(with, (struct sockaddr *)&at, sizeof(at)) ? fail("bind to port %d", port) : with;
}

/* Accepts and keeps; a process of its own, since accept() allocates. */
static int accept_all(int listener)
{
	pid_t child;

	if (listen(listener, 256))
		return fail("listen");
	child = fork();
	if (child == 0)
		for (;;)
			accept4(listener, NULL, NULL, SOCK_CLOEXEC);
	close(listener);
	return child < 0 ? fail("fork") : 0;
}

/* sink udp|tcp|tap port=P sockets=N rcvbuf=B */
int sink(const char *line)
{
	int port = number(line, "port", 4000), rcvbuf = number(line, "rcvbuf", 1 << 20);
	long sockets = number(line, "sockets", 1);

	if (!strncmp(line, "udp", 3)) {
		for (long n = 0; n < sockets; n++)
			if (bound(SOCK_DGRAM, port + n, rcvbuf) < 0)
				return -1;
		return 0;
	}
	if (!strncmp(line, "tcp", 3)) {
		int listener = bound(SOCK_STREAM, port, rcvbuf);

		return listener < 0 ? -1 : accept_all(listener);
	}
	if (!strncmp(line, "tap", 3)) {
		int with = socket(AF_PACKET, SOCK_RAW, htons(ETH_P_ALL));

		if (with < 0 || setsockopt(with, SOL_SOCKET, SO_RCVBUFFORCE, &rcvbuf, sizeof(rcvbuf)))
			return fail("packet socket");
		return 0;
	}
	errno = 0;
	return fail("sink: udp, tcp or tap wanted");
}
