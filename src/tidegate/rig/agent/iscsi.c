/* An iSCSI session for iscsi_tcp: the login is made here on an ordinary socket (RFC 7143, 11.12), which is then handed
 * to the kernel over netlink, as iscsid does (include/scsi/iscsi_if.h). Nobody stays to make the session anew when its
 * connection drops, as after a root mounted by iscsistart whose iscsid cannot run. SPDX-License-Identifier: MIT */
#define _GNU_SOURCE
#include "agent.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/netlink.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define TEXT_BYTES 8192
#define INITIATOR "iqn.2005-08.test.tidegate:guest"
#define FIRST_CMDSN 1
#define OP_LOGIN 0x43 /* immediate */
#define OP_LOGIN_RESPONSE 0x23
#define TO_FULL_FEATURE 0x87 /* transit; from operational negotiation to the full feature phase */

enum { CREATE_SESSION = 11, CREATE_CONN = 13, BIND_CONN = 15, SET_PARAM = 16, START_CONN = 17, IF_ERROR = 103 };

enum param { /* enum iscsi_param */
	MAX_RECV = 0, MAX_XMIT, HDRDGST, DATADGST, INITIAL_R2T, MAX_R2T, IMM_DATA, FIRST_BURST, MAX_BURST, PDU_INORDER,
	DATASEQ_INORDER, ERL, EXP_STATSN = 14, TARGET_NAME, TPGT, PERSISTENT_ADDRESS, PERSISTENT_PORT, RECOVERY_TMO,
	FAST_ABORT = 26, ABORT_TMO, LU_RESET_TMO, PING_TMO = 30, RECV_TMO, IFACE_NAME, ISID, INITIATOR_NAME,
	TGT_RESET_TMO,
};

struct event { /* struct iscsi_uevent */
	uint32_t type, error;
	uint64_t transport;
	union {
		struct {
			uint32_t cmdsn;
			uint16_t cmds_max, queue_depth;
		} session;
		struct {
			uint32_t sid, cid, param, length;
		} set;
		struct {
			uint32_t sid, cid;
			uint64_t socket;
			uint32_t leading;
		} bind;
	} u;
	union {
		int32_t code;
		struct {
			uint32_t sid, host;
		} session;
		uint64_t room[2];
	} r;
} __attribute__((aligned(8)));

_Static_assert(sizeof(struct event) == 56, "struct iscsi_uevent");

static uint64_t transport;
static int netlink = -1;

/* One event with its text, and the kernel's answer in its place. */
static int ask(struct event *event, const char *text, const char *what)
{
	static struct {
		struct nlmsghdr head;
		struct event event;
		char text[512];
	} message;
	size_t length = text ? strlen(text) + 1 : 0;

	event->transport = transport;
	memset(&message, 0, sizeof(message));
	message.head.nlmsg_len = sizeof(message.head) + sizeof(*event) + length;
	message.head.nlmsg_type = event->type;
	message.head.nlmsg_flags = NLM_F_REQUEST;
	message.event = *event;
	if (text)
		memcpy(message.text, text, length);
	if (send(netlink, &message, message.head.nlmsg_len, 0) < 0)
		return fail("iscsi: %s", what);
	if (recv(netlink, &message, sizeof(message), 0) < (ssize_t)(sizeof(message.head) + sizeof(*event)))
		return fail("iscsi: %s: no answer", what);
	errno = 0;
	if (message.event.type == IF_ERROR)
		return fail("iscsi: %s: error %d", what, (int)message.event.error);
	if (event->type != CREATE_SESSION && event->type != CREATE_CONN && message.event.r.code)
		return fail("iscsi: %s: error %d", what, message.event.r.code);
	*event = message.event;
	return 0;
}

static int set(uint32_t sid, enum param param, const char *text)
{
	struct event event = { .type = SET_PARAM, .u.set = { sid, 0, param, strlen(text) + 1 } };
	char what[32];

	snprintf(what, sizeof(what), "parameter %d", param);
	return ask(&event, text, what);
}

static int set_number(uint32_t sid, enum param param, uint32_t value)
{
	char text[16];

	snprintf(text, sizeof(text), "%u", value);
	return set(sid, param, text);
}

static char sent[TEXT_BYTES], got[TEXT_BYTES];
static size_t sent_bytes, got_bytes;

static void key(const char *name, const char *value)
{
	sent_bytes += snprintf(sent + sent_bytes, sizeof(sent) - sent_bytes, "%s=%s", name, value) + 1;
}

/* What was agreed on: the target's word, else what was offered. */
static uint32_t agreed(const char *name, uint32_t otherwise)
{
	size_t length = strlen(name);

	for (size_t at = 0; at < got_bytes; at += strlen(got + at) + 1) {
		const char *value = got + at + length + 1;

		if (strncmp(got + at, name, length) || got[at + length] != '=')
			continue;
		if (!strcmp(value, "Yes") || !strcmp(value, "No"))
			return value[0] == 'Y';
		return strtoul(value, NULL, 0);
	}
	return otherwise;
}

static void offer(const char *target)
{
	sent_bytes = 0;
	key("InitiatorName", INITIATOR), key("TargetName", target), key("SessionType", "Normal");
	key("HeaderDigest", "None"), key("DataDigest", "None"), key("ErrorRecoveryLevel", "0");
	key("InitialR2T", "No"), key("ImmediateData", "Yes"), key("MaxOutstandingR2T", "1");
	key("MaxRecvDataSegmentLength", "262144"), key("FirstBurstLength", "262144"), key("MaxBurstLength", "16776192");
	key("DataPDUInOrder", "Yes"), key("DataSequenceInOrder", "Yes"), key("MaxConnections", "1");
}

/* One request and its answer; 1 when the full feature phase is reached. */
static int login_round(int with, uint32_t *statsn)
{
	static unsigned char pdu[48 + TEXT_BYTES];
	size_t padded = (sent_bytes + 3) & ~3ul, length;
	uint32_t cmdsn = htonl(FIRST_CMDSN), expected = htonl(*statsn);

	memset(pdu, 0, sizeof(pdu));
	pdu[0] = OP_LOGIN, pdu[1] = TO_FULL_FEATURE, pdu[8] = 0x80; /* an ISID of the random kind */
	pdu[5] = sent_bytes >> 16, pdu[6] = sent_bytes >> 8, pdu[7] = sent_bytes;
	memcpy(pdu + 24, &cmdsn, 4), memcpy(pdu + 28, &expected, 4);
	memcpy(pdu + 48, sent, sent_bytes);
	if (write(with, pdu, 48 + padded) != (ssize_t)(48 + padded) || whole(with, pdu, 48))
		return fail("iscsi: login");
	errno = 0;
	if (pdu[0] != OP_LOGIN_RESPONSE)
		return fail("iscsi: login: answered by opcode 0x%x", pdu[0]);
	if (pdu[36])
		return fail("iscsi: login: refused with status 0x%02x%02x", pdu[36], pdu[37]);
	memcpy(statsn, pdu + 24, 4), *statsn = ntohl(*statsn) + 1;
	length = pdu[5] << 16 | pdu[6] << 8 | pdu[7];
	if (got_bytes + ((length + 3) & ~3ul) >= sizeof(got) || whole(with, got + got_bytes, (length + 3) & ~3ul))
		return fail("iscsi: login: answer of %zu bytes", length);
	got_bytes += length;
	sent_bytes = 0;
	return (pdu[1] & TO_FULL_FEATURE) == TO_FULL_FEATURE;
}

static int login(int with, const char *target, uint32_t *statsn)
{
	int status = 0;

	offer(target);
	got_bytes = 0, *statsn = 0;
	for (int rounds = 0; rounds < 8 && status == 0; rounds++)
		status = login_round(with, statsn);
	errno = 0;
	return status == 0 ? fail("iscsi: login: no end of it") : status < 0 ? -1 : 0;
}

/* The values of /etc/iscsi/iscsid.conf as Debian has them, but for the ping, which wants an iscsid to act on it. */
static int parameters(const char *line, uint32_t sid, const char *target, uint32_t statsn)
{
	char address[32] = "", port[8];
	long ping = number(line, "ping", 0);

	word(line, "address", address, sizeof(address));
	snprintf(port, sizeof(port), "%ld", number(line, "port", 3260));
	return set(sid, TARGET_NAME, target) || set(sid, INITIATOR_NAME, INITIATOR) ||
	       set_number(sid, HDRDGST, 0) || set_number(sid, DATADGST, 0) || set_number(sid, ERL, 0) ||
	       set_number(sid, MAX_RECV, 262144) ||
	       set_number(sid, MAX_XMIT, agreed("MaxRecvDataSegmentLength", 8192)) ||
	       set_number(sid, INITIAL_R2T, agreed("InitialR2T", 1)) || set_number(sid, MAX_R2T, 1) ||
	       set_number(sid, IMM_DATA, agreed("ImmediateData", 1)) ||
	       set_number(sid, FIRST_BURST, agreed("FirstBurstLength", 65536)) ||
	       set_number(sid, MAX_BURST, agreed("MaxBurstLength", 262144)) ||
	       set_number(sid, PDU_INORDER, 1) || set_number(sid, DATASEQ_INORDER, 1) ||
	       set_number(sid, EXP_STATSN, statsn) || set_number(sid, TPGT, agreed("TargetPortalGroupTag", 1)) ||
	       set(sid, PERSISTENT_ADDRESS, address) || set(sid, PERSISTENT_PORT, port) ||
	       set_number(sid, RECOVERY_TMO, 120) || set_number(sid, FAST_ABORT, 1) || set_number(sid, ABORT_TMO, 15) ||
	       set_number(sid, LU_RESET_TMO, 30) || set_number(sid, TGT_RESET_TMO, 30) ||
	       set_number(sid, RECV_TMO, ping) || set_number(sid, PING_TMO, ping);
}

static int open_transport(void)
{
	char text[32] = "";
	struct sockaddr_nl here = { .nl_family = AF_NETLINK };
	int from = open("/sys/class/iscsi_transport/tcp/handle", O_RDONLY | O_CLOEXEC);

	if (from < 0 || read(from, text, sizeof(text) - 1) <= 0)
		return fail("iscsi: no transport tcp: is iscsi_tcp loaded?");
	close(from);
	transport = strtoull(text, NULL, 10);
	netlink = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ISCSI);
	if (netlink < 0 || bind(netlink, (struct sockaddr *)&here, sizeof(here)))
		return fail("iscsi: netlink");
	return 0;
}

/* The session, its connection and the look for disks; the host's number, or -1. */
static int session(const char *line, int with)
{
	struct event event = { .type = CREATE_SESSION, .u.session = { FIRST_CMDSN, 128, 32 } };
	char target[128] = "", path[64];
	uint32_t sid, host, statsn;

	word(line, "target", target, sizeof(target));
	if (open_transport() || login(with, target, &statsn) || ask(&event, NULL, "session"))
		return -1;
	sid = event.r.session.sid, host = event.r.session.host;
	event = (struct event){ .type = CREATE_CONN, .u.set = { .sid = sid } };
	if (ask(&event, NULL, "connection"))
		return -1;
	event = (struct event){ .type = BIND_CONN, .u.bind = { sid, 0, with, 1 } };
	if (ask(&event, NULL, "socket") || parameters(line, sid, target, statsn))
		return -1;
	event = (struct event){ .type = START_CONN, .u.set = { .sid = sid } };
	if (ask(&event, NULL, "start"))
		return -1;
	close(netlink);
	snprintf(path, sizeof(path), "/sys/class/scsi_host/host%u/scan", host);
	reason[0] = 0;
	put(path, "- - -");
	return reason[0] ? -1 : 0;
}

static int add_session(const char *line)
{
	int with = dial(line);

	return with < 0 ? -1 : session(line, with);
}

/* iscsi target=IQN address=A port=P sndbuf=B rcvbuf=B reserve=B cgroup=0|1 memory_max=MIB ping=S device=/dev/sda
 * The kernel keeps the socket. */
int connect_iscsi(const char *line)
{
	char path[64] = "/dev/sda";

	word(line, "device", path, sizeof(path));
	return connect_apart(line, add_session) || await_size(path, 20000) ? -1 : 0;
}
