/* The load: programs that write more memory than there is, read it back, and compare.
 * SPDX-License-Identifier: MIT */
#define _GNU_SOURCE
#include "agent.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define PAGE 4096

/* No page is empty or like another: a zero page would never reach the device (swap_zeromap of 6.12). */
static uint64_t pattern(uint64_t hog, uint64_t page, uint64_t at)
{
	uint64_t x = (hog << 48) ^ (page << 16) ^ at ^ 0x9e3779b97f4a7c15ull;

	x ^= x >> 33, x *= 0xff51afd7ed558ccdull, x ^= x >> 33;
	return x | 1;
}

static void fill(uint64_t *page, uint64_t hog, uint64_t number)
{
	for (int at = 0; at < PAGE / 8; at += 16)
		page[at] = pattern(hog, number, at);
}

static uint64_t differs(const uint64_t *page, uint64_t hog, uint64_t number)
{
	for (int at = 0; at < PAGE / 8; at += 16)
		if (page[at] != pattern(hog, number, at))
			return 1;
	return 0;
}

static void memory_hog(int hog, uint64_t pages, int passes)
{
	char *base = mmap(NULL, pages * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (base == MAP_FAILED) {
		counters->hog[hog].stage = BROKEN;
		return;
	}
	madvise(base, pages * PAGE, MADV_NOHUGEPAGE);
	for (int pass = 0; pass < passes; pass++) {
		counters->hog[hog].stage = WRITING;
		for (uint64_t n = 0; n < pages; n++) {
			fill((uint64_t *)(base + n * PAGE), hog, n);
			counters->hog[hog].written++;
		}
		counters->hog[hog].stage = READING_BACK;
		for (uint64_t n = 0; n < pages; n++) {
			counters->hog[hog].wrong += differs((uint64_t *)(base + n * PAGE), hog, n);
			counters->hog[hog].read++;
		}
	}
	counters->hog[hog].stage = DONE;
	for (;;)
		pause(); /* its memory stays: a program that ends would free what the others wait for */
}

/* The same through a file: written, flushed, dropped from the cache, read back. */
static void file_hog(int hog, uint64_t pages, int passes, const char *folder)
{
	static uint64_t page[PAGE / 8] __attribute__((aligned(PAGE)));
	char path[256];
	int file;

	snprintf(path, sizeof(path), "%s/hog%d", folder, hog);
	file = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	for (int pass = 0; pass < passes && file >= 0; pass++) {
		counters->hog[hog].stage = WRITING;
		for (uint64_t n = 0; n < pages; n++) {
			fill(page, hog, n);
			if (pwrite(file, page, PAGE, n * PAGE) != PAGE) {
				counters->hog[hog].stage = BROKEN;
				_exit(1);
			}
			counters->hog[hog].written++;
		}
		fsync(file);
		posix_fadvise(file, 0, 0, POSIX_FADV_DONTNEED);
		counters->hog[hog].stage = READING_BACK;
		for (uint64_t n = 0; n < pages; n++) {
			if (pread(file, page, PAGE, n * PAGE) != PAGE)
				counters->hog[hog].wrong++;
			else
				counters->hog[hog].wrong += differs(page, hog, n);
			counters->hog[hog].read++;
		}
	}
	counters->hog[hog].stage = file < 0 ? BROKEN : DONE;
	for (;;)
		pause();
}

/* hogs number=N pages=P passes=K [folder=/mnt]: they are made now and wait for go. */
int hogs(const char *line)
{
	long count = number(line, "number", 1), pages = number(line, "pages", 1024), passes = number(line, "passes", 1);
	char folder[128] = "";

	word(line, "folder", folder, sizeof(folder));
	if (count < 1 || count > HOGS_MAX)
		return fail("hogs: number=%ld, 1 to %d wanted", count, HOGS_MAX);
	for (long hog = 0; hog < count; hog++) {
		pid_t child = fork();

		if (child < 0)
			return fail("hogs: fork");
		if (child)
			continue;
		put("/proc/self/oom_score_adj", "0");
		munlockall();
		while (!counters->go_ms)
			usleep(10000);
		if (folder[0])
			file_hog(hog, pages, passes, folder);
		else
			memory_hog(hog, pages, passes);
		_exit(0);
	}
	counters->hogs = count;
	return 0;
}

int go(void)
{
	counters->go_ms = now_ms();
	return 0;
}
