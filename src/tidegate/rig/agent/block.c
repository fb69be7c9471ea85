/* Block users: what connects them, before the pressure begins. Who connects and stays is locked in memory and an
 * IO flusher (PR_SET_IO_FLUSHER), as a careful client would be. SPDX-License-Identifier: MIT */
#define _GNU_SOURCE
#include "agent.h"

#include <arpa/inet.h>
#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/nbd.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/swap.h>
#include <unistd.h>

#ifndef PR_SET_IO_FLUSHER
#define PR_SET_IO_FLUSHER 57
#endif
#ifndef SO_RESERVE_MEM
#define SO_RESERVE_MEM 73
#endif

#define OPTION_MAGIC 0x49484156454F5054ull /* "IHAVEOPT" */
#define FIXED_NEWSTYLE 1
#define NO_ZEROES 2
#define OPT_EXPORT_NAME 1

int whole(int from, void *into, size_t size)
{
	for (size_t used = 0; used < size;) {
		ssize_t n = read(from, (char *)into + used, size - used);

		if (n <= 0)
			return -1;
		used += n;
	}
	return 0;
}

/* A cgroup of its own: SO_RESERVE_MEM asks for a socket made in a memory cgroup other than the root
 * (sk_set_memalloc aside, sock_reserve_memory() of net/core/sock.c: !mem_cgroup_sockets_enabled || !sk->sk_memcg). */
int enter_cgroup(long max_mib)
{
	char text[32];

	put("/sys/fs/cgroup/cgroup.subtree_control", "+memory");
	mkdir("/sys/fs/cgroup/block", 0755);
	if (max_mib) {
		snprintf(text, sizeof(text), "%ld", max_mib << 20);
		put("/sys/fs/cgroup/block/memory.max", text);
	}
	snprintf(text, sizeof(text), "%d", getpid());
	errno = 0;
	reason[0] = 0;
	put("/sys/fs/cgroup/block/cgroup.procs", text);
	return reason[0] ? -1 : 0;
}

int dial(const char *line)
{
	char address[32] = "";
	struct sockaddr_in to = { .sin_family = AF_INET, .sin_port = htons(number(line, "port", 10809)) };
	int sndbuf = number(line, "sndbuf", 0), rcvbuf = number(line, "rcvbuf", 0), one = 1;
	int reserve = number(line, "reserve", 0), with = socket(AF_INET, SOCK_STREAM, 0);

	word(line, "address", address, sizeof(address));
	inet_pton(AF_INET, address, &to.sin_addr);
	if (with < 0)
		return fail("socket");
	if (sndbuf && setsockopt(with, SOL_SOCKET, SO_SNDBUFFORCE, &sndbuf, sizeof(sndbuf)))
		return fail("SO_SNDBUF");
	if (rcvbuf && setsockopt(with, SOL_SOCKET, SO_RCVBUFFORCE, &rcvbuf, sizeof(rcvbuf)))
		return fail("SO_RCVBUF");
	if (connect(with, (struct sockaddr *)&to, sizeof(to)))
		return fail("connect %s", address);
	setsockopt(with, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	if (reserve && setsockopt(with, SOL_SOCKET, SO_RESERVE_MEM, &reserve, sizeof(reserve)))
		return fail("SO_RESERVE_MEM");
	return with;
}

/* The fixed newstyle handshake of the NBD protocol (doc/proto.md), shortest form: NBD_OPT_EXPORT_NAME "". */
static int handshake(int with, uint64_t *size, uint16_t *flags)
{
	struct __attribute__((packed)) {
		uint64_t magic, option;
		uint16_t flags;
	} hello;
	struct __attribute__((packed)) {
		uint32_t flags;
		uint64_t magic;
		uint32_t option, length;
	} ask = { 0, htobe64(OPTION_MAGIC), htobe32(OPT_EXPORT_NAME), 0 };
	struct __attribute__((packed)) {
		uint64_t size;
		uint16_t flags;
		char zeroes[124];
	} export;
	uint32_t zeroes = 1;

	if (whole(with, &hello, sizeof(hello)) || be64toh(hello.option) != OPTION_MAGIC)
		return fail("nbd: no newstyle server");
	if (be16toh(hello.flags) & NO_ZEROES)
		zeroes = 0;
	ask.flags = htobe32(FIXED_NEWSTYLE | (zeroes ? 0 : NO_ZEROES));
	if (write(with, &ask, sizeof(ask)) != sizeof(ask) ||
	    whole(with, &export, zeroes ? sizeof(export) : offsetof(typeof(export), zeroes)))
		return fail("nbd: handshake");
	*size = be64toh(export.size);
	*flags = be16toh(export.flags);
	return 0;
}

static int nbd_set_up(const char *line, int device)
{
	long connections = number(line, "connections", 1), timeout = number(line, "timeout", 0);
	uint64_t size = 0;
	uint16_t flags = 0;

	for (long n = 0; n < connections; n++) {
		int with = dial(line);

		if (with < 0 || handshake(with, &size, &flags))
			return -1;
		if (n == 0) {
			if (ioctl(device, NBD_CLEAR_SOCK) || ioctl(device, NBD_SET_BLKSIZE, 4096ul) ||
			    ioctl(device, NBD_SET_SIZE_BLOCKS, (unsigned long)(size / 4096)))
				return fail("nbd: size");
			ioctl(device, NBD_SET_FLAGS, (unsigned long)flags);
			if (timeout)
				ioctl(device, NBD_SET_TIMEOUT, (unsigned long)timeout);
		}
		if (ioctl(device, NBD_SET_SOCK, with))
			return fail("nbd: NBD_SET_SOCK");
	} /* the sockets stay open, as nbd-client's do: who looks at the guest finds whose they are */
	return 0;
}

/* nbd device=/dev/nbd0 address=A port=P connections=N sndbuf=B rcvbuf=B reserve=B cgroup=0|1 memory_max=MIB */
int connect_nbd(const char *line)
{
	char path[64] = "/dev/nbd0";
	int told[2], status = -1;
	pid_t child;

	word(line, "device", path, sizeof(path));
	if (pipe(told))
		return fail("pipe");
	child = fork();
	if (child == 0) {
		int device;

		close(told[0]);
		prctl(PR_SET_NAME, "nbd-client"); /* what it stands for; a server behind a socket pair has other names */
		mlockall(MCL_CURRENT | MCL_FUTURE);
		prctl(PR_SET_IO_FLUSHER, 1, 0, 0, 0);
		reason[0] = 0;
		if (number(line, "cgroup", 0) && enter_cgroup(number(line, "memory_max", 0)))
			goto out;
		device = open(path, O_RDWR);
		if (device < 0 && fail("%s", path))
			goto out;
		if (nbd_set_up(line, device))
			goto out;
		write(told[1], "", 1);
		close(told[1]);
		ioctl(device, NBD_DO_IT); /* until the device is cleared */
		_exit(0);
out:
		write(told[1], reason, strlen(reason) + 1);
		_exit(1);
	}
	close(told[1]);
	status = read(told[0], reason, sizeof(reason) - 1);
	close(told[0]);
	if (status <= 0 || reason[0]) {
		errno = 0;
		return status <= 0 ? fail("nbd: the connector ended") : -1;
	}
	return await_size(path, 2000); /* NBD_DO_IT sets the capacity */
}

/* Waits until a block device is there and has a size. */
int await_size(const char *path, int ms)
{
	char size[80], text[32];

	snprintf(size, sizeof(size), "/sys/block/%s/size", strrchr(path, '/') + 1);
	for (uint64_t until = now_ms() + ms; now_ms() < until; usleep(20000)) {
		int from = open(size, O_RDONLY | O_CLOEXEC);
		ssize_t n = from < 0 ? 0 : read(from, text, sizeof(text) - 1);

		close(from);
		text[n > 0 ? n : 0] = 0;
		if (strtol(text, NULL, 10) > 0)
			return 0;
	}
	errno = 0;
	return fail("%s: no size", path);
}

/* Connects in a process of its own, for the memory cgroup that a socket may be made in. Its trouble is ours. */
int connect_apart(const char *line, int (*body)(const char *line))
{
	int told[2], status;
	pid_t child;

	if (pipe(told))
		return fail("pipe");
	child = fork();
	if (child == 0) {
		mlockall(MCL_CURRENT | MCL_FUTURE);
		reason[0] = 0;
		if ((number(line, "cgroup", 0) && enter_cgroup(number(line, "memory_max", 0))) || body(line))
			write(told[1], reason, strlen(reason) + 1);
		else
			write(told[1], "", 1);
		_exit(0);
	}
	close(told[1]);
	status = child < 0 ? -1 : read(told[0], reason, sizeof(reason) - 1);
	close(told[0]);
	errno = 0;
	if (status <= 0)
		return fail("the connector ended");
	return reason[0] ? -1 : 0;
}

static int add_nvme(const char *line)
{
	char address[32] = "", nqn[128] = "", text[512];
	int device = open("/dev/nvme-fabrics", O_RDWR | O_CLOEXEC), n;

	if (device < 0)
		return fail("/dev/nvme-fabrics");
	word(line, "address", address, sizeof(address));
	word(line, "nqn", nqn, sizeof(nqn));
	n = snprintf(text, sizeof(text), "transport=tcp,traddr=%s,trsvcid=%ld,nqn=%s,nr_io_queues=%ld", address,
		     number(line, "port", 4420), nqn, number(line, "queues", 1));
	n = write(device, text, n) < 0 ? fail("nvme: %s", text) : 0;
	close(device);
	return n;
}

/* nvme address=A port=P nqn=N [queues=K]: what nvme-cli writes to the same file. */
int connect_nvme(const char *line)
{
	return connect_apart(line, add_nvme) || await_size("/dev/nvme0n1", 10000) ? -1 : 0;
}

/* mount.nfs of nfs-utils finds out clientaddr= and addr= by itself; mount(2) wants them. */
static int add_nfs(const char *line)
{
	char address[32] = "", client[32] = "", options[256], source[64], more[128] = "vers=4.2,proto=tcp,hard,sec=sys";

	word(line, "address", address, sizeof(address));
	word(line, "client", client, sizeof(client));
	word(line, "options", more, sizeof(more));
	snprintf(source, sizeof(source), "%s:/", address);
	snprintf(options, sizeof(options), "addr=%s,clientaddr=%s,%s", address, client, more);
	return mount(source, "/mnt", "nfs", 0, options) ? fail("mount %s %s", source, options) : 0;
}

/* nfs address=A client=C options=...: mounted on /mnt. */
int mount_nfs(const char *line)
{
	return connect_apart(line, add_nfs);
}

int swap_on(const char *path)
{
	return swapon(path, 0) ? fail("swapon %s", path) : 0;
}

/* second device=/dev/nbd0: an ordinary user who reads the whole disk again and again, past the cache. */
int second_reader(const char *line)
{
	static char block[65536] __attribute__((aligned(4096)));
	char path[64] = "/dev/nbd0";
	pid_t child;

	word(line, "device", path, sizeof(path));
	child = fork();
	if (child == 0) {
		int from = open(path, O_RDONLY | O_DIRECT | O_CLOEXEC);

		while (!counters->go_ms)
			usleep(10000);
		for (;;) {
			ssize_t n = read(from, block, sizeof(block));

			if (n <= 0) {
				lseek(from, 0, SEEK_SET);
				usleep(1000);
			} else {
				counters->second_reads += n / 4096;
			}
		}
	}
	return child < 0 ? fail("fork") : 0;
}
