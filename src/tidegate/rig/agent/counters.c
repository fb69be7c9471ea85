/* The counters' page: a ticker that only stores, and a reader of /proc that may sleep without hurting anybody.
 * SPDX-License-Identifier: MIT */
#define _GNU_SOURCE
#include "agent.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <unistd.h>

struct counters *counters;

static char text[32768];

static ssize_t again(int from)
{
	ssize_t n, used = 0;

	while ((n = pread(from, text + used, sizeof(text) - 1 - used, used)) > 0)
		used += n;
	text[used] = 0;
	return used;
}

/* The number after "name " at the start of a line. */
static uint64_t after(const char *name)
{
	size_t length = strlen(name);

	for (const char *at = text; (at = strstr(at, name)) != NULL; at += length)
		if ((at == text || at[-1] == '\n') && at[length] == ' ')
			return strtoull(at + length, NULL, 10);
	return 0;
}

/* The sum over all zones of "name_zone 12". */
static uint64_t over_zones(const char *name)
{
	size_t length = strlen(name);
	uint64_t sum = 0;

	for (const char *at = text; (at = strstr(at, name)) != NULL; at += length) {
		const char *space = strchr(at, ' ');

		if ((at == text || at[-1] == '\n') && at[length] == '_' && space)
			sum += strtoull(space, NULL, 10);
	}
	return sum;
}

/* "PROTO: inuse 3 ... key 12" of /proc/net/sockstat. */
static uint64_t sockstat(const char *protocol, const char *key)
{
	char *line = strstr(text, protocol), *end, *at;

	if (!line)
		return 0;
	end = strchr(line, '\n');
	at = strstr(line, key);
	return at && (!end || at < end) ? strtoull(at + strlen(key), NULL, 10) : 0;
}

/* A counter of /proc/net/netstat or snmp, where names stand in one line and numbers in the next. */
static uint64_t named(const char *protocol, const char *name)
{
	char *names = strstr(text, protocol), *values, *at, *end;
	int column = 0;

	if (!names || !(end = strchr(names, '\n')))
		return 0;
	values = end + 1;
	at = strstr(names, name);
	while (at && at < end && !(at[-1] == ' ' && (at[strlen(name)] == ' ' || at[strlen(name)] == '\n')))
		at = strstr(at + 1, name);
	if (!at || at > end)
		return 0;
	for (char *p = names; p < at; p++)
		column += *p == ' ';
	for (; column; column--)
		if (!(values = strchr(values + 1, ' ')))
			return 0;
	return strtoull(values, NULL, 10);
}

static int nic_file(const char *name)
{
	DIR *folder = opendir("/sys/class/net");
	int found = -1;

	for (struct dirent *one; folder && found < 0 && (one = readdir(folder)) != NULL;) {
		char path[400];

		if (one->d_name[0] == '.' || !strcmp(one->d_name, "lo"))
			continue;
		snprintf(path, sizeof(path), "/sys/class/net/%s/device", one->d_name);
		if (access(path, F_OK))
			continue;
		snprintf(path, sizeof(path), "/sys/class/net/%s/statistics/%s", one->d_name, name);
		found = open(path, O_RDONLY | O_CLOEXEC);
	}
	if (folder)
		closedir(folder);
	return found;
}

static uint64_t single(int from)
{
	return from >= 0 && again(from) > 0 ? strtoull(text, NULL, 10) : 0;
}

static void reader(void)
{
	int vmstat = open("/proc/vmstat", O_RDONLY), sockets = open("/proc/net/sockstat", O_RDONLY);
	int netstat = open("/proc/net/netstat", O_RDONLY), snmp = open("/proc/net/snmp", O_RDONLY);
	int nic[4] = { -1, -1, -1, -1 };
	uint64_t *r = counters->reading;

	for (;; usleep(500000)) {
		if (nic[0] < 0) {
			nic[0] = nic_file("rx_packets"), nic[1] = nic_file("rx_dropped");
			nic[2] = nic_file("rx_missed_errors"), nic[3] = nic_file("tx_packets");
		}
		again(vmstat);
		r[PSWPIN] = after("pswpin"), r[PSWPOUT] = after("pswpout"), r[OOM_KILL] = after("oom_kill");
		r[NR_WRITEBACK] = after("nr_writeback"), r[NR_DIRTY] = after("nr_dirty");
		r[ALLOCSTALL] = over_zones("allocstall"), r[THROTTLED] = after("pgscan_direct_throttle");
		again(sockets);
		r[UDP_MEM] = sockstat("UDP:", " mem "), r[TCP_MEM] = sockstat("TCP:", " mem ");
		r[FRAG_BYTES] = sockstat("FRAG:", " memory ");
		again(netstat);
		r[PFMEMALLOC_DROP] = named("TcpExt:", "PFMemallocDrop");
		r[TCP_RCVQ_DROP] = named("TcpExt:", "TCPRcvQDrop");
		r[TCP_MEMORY_PRESSURES] = named("TcpExt:", "TCPMemoryPressures");
		r[TCP_BACKLOG_DROP] = named("TcpExt:", "TCPBacklogDrop");
		r[TCP_ABORT_ON_MEMORY] = named("TcpExt:", "TCPAbortOnMemory");
		again(snmp);
		r[RETRANSMITS] = named("Tcp:", "RetransSegs");
		r[RX_PACKETS] = single(nic[0]), r[RX_DROPPED] = single(nic[1]);
		r[RX_MISSED] = single(nic[2]), r[TX_PACKETS] = single(nic[3]);
		counters->reader_ms = now_ms();
	}
}

static void ticker(void)
{
	for (;; usleep(50000))
		counters->ticks++, counters->tick_ms = now_ms();
}

static int apart(void (*body)(void))
{
	pid_t child = fork();

	if (child < 0)
		return fail("fork");
	if (child == 0) {
		mlockall(MCL_CURRENT | MCL_FUTURE); /* locks are not inherited over fork */
		body();
		_exit(0);
	}
	return 0;
}

int counters_start(void)
{
	counters = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
	if (counters == MAP_FAILED)
		return fail("mmap");
	_Static_assert(sizeof(struct counters) <= 4096, "one page");
	mlock(counters, 4096);
	counters->magic = COUNTERS_MAGIC;
	return apart(ticker) || apart(reader) ? -1 : 0;
}

/* Where the page is in the guest's memory: /proc/self/pagemap, bits 0-54 of the entry. */
uint64_t counters_physical(void)
{
	uint64_t entry = 0;
	int map = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);

	if (pread(map, &entry, 8, (uintptr_t)counters / 4096 * 8) != 8)
		entry = 0;
	close(map);
	return (entry & ((1ull << 55) - 1)) * 4096;
}
