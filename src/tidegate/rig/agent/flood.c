/* The storm's sender: an ordinary program on the far side of the wire. Bursts matter more than the rate, so it
 * sends so many back to back, then waits for the next turn. SPDX-License-Identifier: MIT */
#define _GNU_SOURCE
#include "agent.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/ip.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define SOCKETS_MAX 256

static volatile sig_atomic_t over;
static uint64_t sent, refused;

static void end(int signal)
{
	(void)signal;
	over = 1;
}

static struct sockaddr_in target(const char *line, int port)
{
	struct sockaddr_in to = { .sin_family = AF_INET, .sin_port = htons(port) };
	char address[32] = "127.0.0.1";

	word(line, "address", address, sizeof(address));
	inet_pton(AF_INET, address, &to.sin_addr);
	return to;
}

/* Turns at an even pace, on the clock and not after the work: a late turn is caught up. */
static void in_turns(const char *line, void (*turn)(long, size_t), long sockets)
{
	long rate = number(line, "rate", 1000), burst = number(line, "burst", 1), seconds = number(line, "seconds", 60);
	size_t length = number(line, "length", 1400);
	int64_t step = 1000000000ll * burst / rate;
	struct timespec next;
	uint64_t until = now_ms() + seconds * 1000, packet = 0;

	clock_gettime(CLOCK_MONOTONIC, &next);
	while (!over && now_ms() < until) {
		for (long n = 0; n < burst && !over; n++)
			turn(packet++ % sockets, length);
		next.tv_nsec += step % 1000000000;
		next.tv_sec += step / 1000000000 + next.tv_nsec / 1000000000;
		next.tv_nsec %= 1000000000;
		clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &next, NULL);
	}
}

static char payload[65536];
static int to_socket[SOCKETS_MAX];
static struct sockaddr_in to_address;

static void one_datagram(long socket, size_t length)
{
	if (send(to_socket[socket], payload, length, MSG_DONTWAIT) == (ssize_t)length)
		sent++;
	else
		refused++;
}

static int flood_udp(const char *line)
{
	long sockets = number(line, "sockets", 1), port = number(line, "port", 4000);

	for (long n = 0; n < sockets && n < SOCKETS_MAX; n++) {
		struct sockaddr_in to = target(line, port + n);

		to_socket[n] = socket(AF_INET, SOCK_DGRAM, 0);
		if (connect(to_socket[n], (struct sockaddr *)&to, sizeof(to)))
			return fail("connect");
	}
	say(1, "connected %ld", sockets);
	in_turns(line, one_datagram, sockets);
	return 0;
}

/* As much as the window takes, in turns. */
static int flood_tcp(const char *line)
{
	long sockets = number(line, "sockets", 1), connected = 0;
	struct timespec pace = { .tv_nsec = 20000000 }; /* many connects at once would be refused and retried */

	for (long n = 0; n < sockets && n < SOCKETS_MAX && !over; n++) {
		struct sockaddr_in to = target(line, number(line, "port", 4100));

		to_socket[n] = socket(AF_INET, SOCK_STREAM, 0);
		connected += connect(to_socket[n], (struct sockaddr *)&to, sizeof(to)) == 0;
		nanosleep(&pace, NULL);
	}
	say(1, "connected %ld", connected);
	if (!connected)
		return fail("connect");
	in_turns(line, one_datagram, sockets);
	return 0;
}

/* First fragments of datagrams whose last one never comes: ipv4's reassembly holds them for ipfrag_time, 30 s. */
static void one_fragment(long number_of, size_t length)
{
	static uint16_t id;
	struct iphdr *ip = (struct iphdr *)payload;
	size_t whole = sizeof(*ip) + (length & ~7ul);

	(void)number_of;
	memset(ip, 0, sizeof(*ip));
	ip->version = 4, ip->ihl = 5, ip->ttl = 64, ip->protocol = IPPROTO_UDP;
	ip->tot_len = htons(whole), ip->id = htons(++id), ip->frag_off = htons(IP_MF);
	ip->daddr = to_address.sin_addr.s_addr; /* the kernel fills in source and checksum */
	if (sendto(to_socket[0], payload, whole, MSG_DONTWAIT, (struct sockaddr *)&to_address, sizeof(to_address)) > 0)
		sent++;
	else
		refused++;
}

static int flood_fragments(const char *line)
{
	to_address = target(line, 0);
	to_socket[0] = socket(AF_INET, SOCK_RAW, IPPROTO_RAW);
	if (to_socket[0] < 0)
		return fail("raw socket");
	say(1, "connected 1");
	in_turns(line, one_fragment, 1);
	return 0;
}

int flood(int count, char **words)
{
	static char line[1024] = " ";
	struct sigaction ending = { .sa_handler = end };
	int status;

	for (int n = 1; n < count; n++) {
		strncat(line, words[n], sizeof(line) - strlen(line) - 2);
		strcat(line, " ");
	}
	sigaction(SIGTERM, &ending, NULL);
	signal(SIGPIPE, SIG_IGN);
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	for (size_t n = 0; n < sizeof(payload); n++)
		payload[n] = (char)(n * 37);
	if (count > 0 && !strcmp(words[0], "udp"))
		status = flood_udp(line);
	else if (count > 0 && !strcmp(words[0], "tcp"))
		status = flood_tcp(line);
	else if (count > 0 && !strcmp(words[0], "fragment"))
		status = flood_fragments(line);
	else
		status = (errno = 0, fail("flood: udp, tcp or fragment wanted"));
	if (status)
		say(1, "no %s", reason);
	say(1, "sent %llu refused %llu", (unsigned long long)sent, (unsigned long long)refused);
	return status ? 1 : 0;
}
