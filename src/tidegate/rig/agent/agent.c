/* The guest's first program: sets up, then does what the host says over the second serial port, a line a command,
 * answered by a line that begins with ok or no. SPDX-License-Identifier: MIT */
#define _GNU_SOURCE
#include "agent.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <net/if_arp.h>
#include <net/if.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/reboot.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

#define LINE_MAX_BYTES 4096

char reason[256];
static char nic[256];

uint64_t now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

int fail(const char *format, ...)
{
	int saved = errno;
	va_list list;
	size_t used;

	va_start(list, format);
	vsnprintf(reason, sizeof(reason), format, list);
	va_end(list);
	used = strlen(reason);
	if (saved)
		snprintf(reason + used, sizeof(reason) - used, ": %s", strerror(saved));
	return -1;
}

void say(int to, const char *format, ...)
{
	static char line[LINE_MAX_BYTES];
	va_list list;
	int length;

	va_start(list, format);
	length = vsnprintf(line, sizeof(line) - 1, format, list);
	va_end(list);
	if (length > (int)sizeof(line) - 2)
		length = sizeof(line) - 2;
	line[length++] = '\n';
	for (int done = 0; done < length;) {
		ssize_t n = write(to, line + done, length - done);

		if (n <= 0)
			return;
		done += n;
	}
}

/* The text after " key=" up to the next space; 0 when there is none. */
int word(const char *line, const char *key, char *into, size_t size)
{
	size_t length = strlen(key);

	for (const char *at = line; (at = strstr(at, key)) != NULL; at += length) {
		if ((at != line && at[-1] != ' ') || at[length] != '=')
			continue;
		at += length + 1;
		size_t n = strcspn(at, " \n");
		if (n >= size)
			n = size - 1;
		memcpy(into, at, n);
		into[n] = 0;
		return 1;
	}
	return 0;
}

long number(const char *line, const char *key, long otherwise)
{
	char text[32];

	return word(line, key, text, sizeof(text)) ? strtol(text, NULL, 0) : otherwise;
}

/* Writes a file of /proc or /sys; trouble is told by the caller through reason. */
static int put_file(const char *path, const char *text, size_t length)
{
	int to = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
	ssize_t n;

	if (to < 0)
		return fail("%s", path);
	n = write(to, text, length);
	if (n != (ssize_t)length) {
		fail("%s: write", path);
		close(to);
		return -1;
	}
	close(to);
	return 0;
}

void put(const char *path, const char *text)
{
	put_file(path, text, strlen(text));
}

static void mounts(void)
{
	mkdir("/proc", 0755), mkdir("/sys", 0755), mkdir("/dev", 0755), mkdir("/tmp", 0755), mkdir("/mnt", 0755);
	mount("proc", "/proc", "proc", 0, NULL);
	mount("sysfs", "/sys", "sysfs", 0, NULL);
	mount("dev", "/dev", "devtmpfs", 0, NULL);
	mount("cgroup2", "/sys/fs/cgroup", "cgroup2", 0, NULL);
	mount("configfs", "/sys/kernel/config", "configfs", 0, NULL);
}

/* The modules of this guest, in loading order, from a list that the host made with depmod's help. */
static void load_modules(void)
{
	static char list[16384];
	int from = open("/modules/order", O_RDONLY | O_CLOEXEC);
	ssize_t n = from < 0 ? 0 : read(from, list, sizeof(list) - 1);
	char *rest = list;

	close(from);
	list[n > 0 ? n : 0] = 0;
	for (char *name; (name = strsep(&rest, "\n")) != NULL;) {
		char path[256], *options;
		int module;

		if (!*name)
			continue;
		options = strchr(name, ' ');
		if (options)
			*options++ = 0;
		snprintf(path, sizeof(path), "/modules/%s", name);
		module = open(path, O_RDONLY | O_CLOEXEC);
		if (module < 0 || (syscall(SYS_finit_module, module, options ? options : "", 0) && errno != EEXIST))
			say(2, "agent: %s: %s", path, strerror(errno));
		close(module);
		unlink(path); /* an initramfs of file pages is memory that a real host would not miss */
	}
}

static int find_nic(void)
{
	for (int tries = 0; tries < 100; tries++) {
		DIR *folder = opendir("/sys/class/net");

		for (struct dirent *one; folder && (one = readdir(folder)) != NULL;)
			if (one->d_name[0] != '.' && strcmp(one->d_name, "lo") != 0) {
				char device[300];

				snprintf(device, sizeof(device), "/sys/class/net/%s/device", one->d_name);
				if (access(device, F_OK) == 0)
					snprintf(nic, sizeof(nic), "%s", one->d_name);
			}
		if (folder)
			closedir(folder);
		if (nic[0])
			return 0;
		usleep(50000);
	}
	errno = 0;
	return fail("no network interface with a device");
}

static int interface_up(const char *name, const char *address)
{
	int with = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	struct ifreq ask = { 0 };
	struct sockaddr_in *in = (struct sockaddr_in *)&ask.ifr_addr;

	snprintf(ask.ifr_name, IFNAMSIZ, "%.15s", name);
	if (address) {
		in->sin_family = AF_INET;
		inet_pton(AF_INET, address, &in->sin_addr);
		if (ioctl(with, SIOCSIFADDR, &ask))
			return fail("address of %s", name);
		inet_pton(AF_INET, "255.255.255.0", &in->sin_addr);
		if (ioctl(with, SIOCSIFNETMASK, &ask))
			return fail("netmask of %s", name);
	}
	if (ioctl(with, SIOCGIFFLAGS, &ask))
		return fail("flags of %s", name);
	ask.ifr_flags |= IFF_UP;
	if (ioctl(with, SIOCSIFFLAGS, &ask))
		return fail("up %s", name);
	close(with);
	return 0;
}

/* neighbour peer=P mac=M: a permanent entry, so that nothing need be asked in the middle of it all. */
static int neighbour(const char *line)
{
	char peer[32] = "", mac[32] = "";
	int with = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0), status;
	struct arpreq entry = { .arp_flags = ATF_COM | ATF_PERM, .arp_ha.sa_family = ARPHRD_ETHER };
	struct sockaddr_in *in = (struct sockaddr_in *)&entry.arp_pa;
	unsigned char *to = (unsigned char *)entry.arp_ha.sa_data;

	word(line, "peer", peer, sizeof(peer));
	word(line, "mac", mac, sizeof(mac));
	in->sin_family = AF_INET;
	inet_pton(AF_INET, peer, &in->sin_addr);
	sscanf(mac, "%hhx:%hhx:%hhx:%hhx:%hhx:%hhx", to, to + 1, to + 2, to + 3, to + 4, to + 5);
	snprintf(entry.arp_dev, sizeof(entry.arp_dev), "%.15s", nic);
	status = ioctl(with, SIOCSARP, &entry) ? fail("neighbour entry of %s", peer) : 0;
	close(with);
	return status;
}

/* net address=A peer=P mac=M ring-less: the NIC up, a permanent neighbour entry for the peer (D10 is another case). */
static int network(const char *line)
{
	char address[32], peer[32], mac[32], path[300], carrier = 0;

	if (!word(line, "address", address, sizeof(address)) || !word(line, "peer", peer, sizeof(peer)))
		return fail("net: address= and peer= wanted");
	if (find_nic() || interface_up("lo", NULL) || interface_up(nic, address))
		return -1;
	snprintf(path, sizeof(path), "/sys/class/net/%s/carrier", nic);
	for (int tries = 0; tries < 200 && carrier != '1'; tries++) { /* a NIC that negotiates takes its time */
		int from = open(path, O_RDONLY | O_CLOEXEC);

		if (from >= 0 && read(from, &carrier, 1) != 1)
			carrier = 0;
		close(from);
		if (carrier != '1')
			usleep(50000);
	}
	if (carrier != '1') {
		errno = 0;
		return fail("%s: no carrier", nic);
	}
	return word(line, "mac", mac, sizeof(mac)) ? neighbour(line) : 0;
}

/* write PATH TEXT */
static int write_file(char *rest)
{
	char *path = strsep(&rest, " ");

	if (!path || !rest)
		return fail("write: a path and a text wanted");
	return put_file(path, rest, strlen(rest));
}

/* file PATH LENGTH, then so many bytes of it. */
static int receive_file(int from, char *rest)
{
	static char block[4096];
	char *path = strsep(&rest, " ");
	long left = rest ? strtol(rest, NULL, 0) : 0;
	int to = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0755);

	if (to < 0)
		return fail("%s", path);
	while (left > 0) {
		ssize_t n = read(from, block, left < (long)sizeof(block) ? left : (long)sizeof(block));

		if (n <= 0 || write(to, block, n) != n)
			return fail("%s: receive", path);
		left -= n;
	}
	close(to);
	return 0;
}

/* run PROGRAM WORDS...: output goes to the console, its exit status is the answer. */
static int run(char *rest)
{
	char *words[32], *one;
	int n = 0, status;
	pid_t child;

	while (n < 31 && (one = strsep(&rest, " ")) != NULL)
		if (*one)
			words[n++] = one;
	words[n] = NULL;
	child = fork();
	if (child == 0) {
		munlockall();
		execve(words[0], words, (char *[]){ "PATH=/bin", NULL });
		_exit(127);
	}
	if (child < 0 || waitpid(child, &status, 0) < 0)
		return fail("%s", words[0]);
	errno = 0;
	return status ? fail("%s: status %d", words[0], WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status))
		      : 0;
}

/* shell: busybox's shell on the console, for people. */
static int shell(void)
{
	pid_t child = fork();

	if (child == 0) {
		int console = open("/dev/ttyS0", O_RDWR);

		munlockall();
		setsid();
		ioctl(console, TIOCSCTTY, 1);
		dup2(console, 0), dup2(console, 1), dup2(console, 2);
		execve("/bin/sh", (char *[]){ "sh", "-i", NULL }, (char *[]){ "PATH=/bin", "PS1=guest# ", NULL });
		_exit(127);
	}
	return child < 0 ? fail("fork") : 0;
}

/* print PATH: a file's text, in lines that begin with a tab, before the answer. */
static int print(int to, const char *path)
{
	static char text[8192];
	int from = open(path, O_RDONLY | O_CLOEXEC);
	size_t used = 0;
	ssize_t n;
	char *rest = text;

	if (from < 0)
		return fail("%s", path);
	while (used < sizeof(text) - 1 && (n = read(from, text + used, sizeof(text) - 1 - used)) > 0)
		used += n;
	close(from);
	text[used] = 0;
	for (char *line; (line = strsep(&rest, "\n")) != NULL;)
		if (*line)
			say(to, "\t%s", line);
	return 0;
}

static int serial_open(void)
{
	struct termios raw;
	int port = open("/dev/ttyS1", O_RDWR | O_NOCTTY | O_CLOEXEC);

	if (port < 0)
		return port;
	tcgetattr(port, &raw);
	cfmakeraw(&raw);
	cfsetspeed(&raw, B115200);
	tcsetattr(port, TCSANOW, &raw);
	return port;
}

static int obey(int port, char *line)
{
	char *rest = line, *command = strsep(&rest, " ");

	errno = 0;
	if (!rest)
		rest = "";
	if (!strcmp(command, "net"))
		return network(rest);
	if (!strcmp(command, "neighbour"))
		return neighbour(rest);
	if (!strcmp(command, "write"))
		return write_file(rest);
	if (!strcmp(command, "file"))
		return receive_file(port, rest);
	if (!strcmp(command, "run"))
		return run(rest);
	if (!strcmp(command, "shell"))
		return shell();
	if (!strcmp(command, "print"))
		return print(port, rest);
	if (!strcmp(command, "nbd"))
		return connect_nbd(rest);
	if (!strcmp(command, "iscsi"))
		return connect_iscsi(rest);
	if (!strcmp(command, "nvme"))
		return connect_nvme(rest);
	if (!strcmp(command, "nfs"))
		return mount_nfs(rest);
	if (!strcmp(command, "swapon"))
		return swap_on(rest);
	if (!strcmp(command, "second"))
		return second_reader(rest);
	if (!strcmp(command, "sink"))
		return sink(rest);
	if (!strcmp(command, "hogs"))
		return hogs(rest);
	if (!strcmp(command, "go"))
		return go();
	if (!strcmp(command, "off")) {
		reboot(RB_POWER_OFF);
		return 0;
	}
	return fail("%s: no such command", command);
}

/* A line without its end; blocks in the tty layer, which needs no memory for it. */
static int read_line(int from, char *line, size_t size)
{
	size_t used = 0;
	char one;

	while (read(from, &one, 1) == 1) {
		if (one == '\n') {
			line[used] = 0;
			return 1;
		}
		if (used < size - 1)
			line[used++] = one;
	}
	return 0;
}

static int first_program(void)
{
	static char line[LINE_MAX_BYTES];
	int port, console;

	mounts();
	console = open("/dev/console", O_RDWR | O_CLOEXEC);
	dup2(console, 0), dup2(console, 1), dup2(console, 2);
	load_modules();
	put("/proc/self/oom_score_adj", "-1000");
	put("/proc/sys/vm/compact_unevictable_allowed", "0"); /* the counters' page stays where the host found it */
	mlockall(MCL_CURRENT | MCL_FUTURE);
	if (counters_start())
		say(2, "agent: counters: %s", reason);
	port = serial_open();
	if (port < 0)
		say(2, "agent: /dev/ttyS1: %s", strerror(errno));
	say(port, "ready %llu", (unsigned long long)counters_physical());
	while (read_line(port, line, sizeof(line))) {
		if (obey(port, line) == 0)
			say(port, "ok");
		else
			say(port, "no %s", reason);
		while (waitpid(-1, NULL, WNOHANG) > 0)
			;
	}
	for (;;)
		pause();
	return 0;
}

int main(int count, char **words)
{
	if (getpid() == 1)
		return first_program();
	if (count > 1 && !strcmp(words[1], "flood"))
		return flood(count - 2, words + 2);
	say(2, "agent: usage: agent flood udp|tcp|fragment address=A port=P ... (as a guest's first program: none)");
	return 2;
}
