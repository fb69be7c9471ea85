/* The one program inside a trial's guest, and the storm's sender outside of it. Static, memory locked, no
 * allocation after start: malloc is never called, buffers are static, and whatever may sleep in the kernel's
 * reclaim lives in a process of its own. SPDX-License-Identifier: MIT */
#ifndef TIDEGATE_AGENT_H
#define TIDEGATE_AGENT_H

#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#define COUNTERS_MAGIC 0x31544e554f434754ull /* "TGCOUNT1" in memory */
#define HOGS_MAX 32

/* What the reader keeps of /proc; rig/counters.py has the same list in the same order. */
enum reading {
	PSWPIN, PSWPOUT, OOM_KILL, NR_WRITEBACK, NR_DIRTY, ALLOCSTALL, THROTTLED,
	UDP_MEM, TCP_MEM, FRAG_BYTES, PFMEMALLOC_DROP, TCP_RCVQ_DROP, TCP_MEMORY_PRESSURES, RETRANSMITS,
	RX_PACKETS, RX_DROPPED, RX_MISSED, TX_PACKETS, TCP_BACKLOG_DROP, TCP_ABORT_ON_MEMORY,
	READINGS
};

enum stage { WAITING, WRITING, READING_BACK, DONE, BROKEN };

/* One page of guest memory, locked, that the host reads from outside. Only stores, no system call needed. */
struct counters {
	uint64_t magic;
	uint64_t ticks;     /* of the ticker, one each 50 ms that the guest really ran */
	uint64_t tick_ms;   /* its clock at the last one */
	uint64_t reader_ms; /* of the last whole reading of /proc */
	uint64_t go_ms;     /* when the pressure began, 0 before */
	uint64_t hogs;
	uint64_t reading[READINGS];
	struct {
		uint64_t written, read, wrong, stage;
	} hog[HOGS_MAX];
	uint64_t second_reads; /* pages that the second user of the disk has read */
};

extern struct counters *counters;

uint64_t now_ms(void);
long number(const char *line, const char *key, long otherwise);
int word(const char *line, const char *key, char *into, size_t size);
void put(const char *path, const char *text);
void say(int to, const char *format, ...) __attribute__((format(printf, 2, 3)));
int fail(const char *format, ...) __attribute__((format(printf, 1, 2)));
extern char reason[256];

/* counters.c */
int counters_start(void);
uint64_t counters_physical(void);
/* block.c */
int connect_nbd(const char *line);
int connect_nvme(const char *line);
int mount_nfs(const char *line);
int swap_on(const char *path);
int second_reader(const char *line);
int whole(int from, void *into, size_t size);
int enter_cgroup(long max_mib);
int dial(const char *line);
int await_size(const char *path, int ms);
int connect_apart(const char *line, int (*body)(const char *line));
/* iscsi.c */
int connect_iscsi(const char *line);
/* pressure.c */
int hogs(const char *line);
int go(void);
/* sinks.c */
int sink(const char *line);
/* flood.c */
int flood(int count, char **words);

#endif
