// SPDX-License-Identifier: GPL-2.0-or-later
//
// dbus_flood SECONDS CONNECTIONS
//
// As many connections to the system bus, each of which asks the daemon and systemd as fast as the bus
// takes it, and throws the answers away.
#define _GNU_SOURCE
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#define BUS "/run/dbus/system_bus_socket"
#define SERIAL_AT 8
#define LONGEST 512

struct call {
	unsigned char bytes[LONGEST];
	size_t length;
};

static void fail(const char *what)
{
	perror(what);
	exit(1);
}

static void align(struct call *call, size_t to)
{
	while (call->length % to)
		call->bytes[call->length++] = 0;
}

static void number(struct call *call, uint32_t value)
{
	align(call, 4);
	memcpy(call->bytes + call->length, &value, 4);
	call->length += 4;
}

// A header field: its code, and an object path ('o') or a string ('s').
static void field(struct call *call, unsigned char code, char type, const char *text)
{
	unsigned char start[] = { code, 1, type, 0 };

	align(call, 8);
	memcpy(call->bytes + call->length, start, 4);
	call->length += 4;
	number(call, strlen(text));
	strcpy((char *)call->bytes + call->length, text);
	call->length += strlen(text) + 1;
}

// A method call without arguments (D-Bus specification, "Message Format").
static struct call method(const char *to, const char *object, const char *interface, const char *member)
{
	struct call call = { .bytes = { 'l', 1, 0, 1 }, .length = SERIAL_AT + 8 };
	uint32_t fields;

	field(&call, 1, 'o', object);
	field(&call, 6, 's', to);
	field(&call, 2, 's', interface);
	field(&call, 3, 's', member);
	fields = call.length - SERIAL_AT - 8;
	memcpy(call.bytes + SERIAL_AT + 4, &fields, 4);
	align(&call, 8);
	return call;
}

static void send_call(int bus, struct call *call, uint32_t serial)
{
	memcpy(call->bytes + SERIAL_AT, &serial, 4);
	for (size_t sent = 0; sent < call->length;) {
		static char answers[64 << 10];
		struct pollfd wait = { .fd = bus, .events = POLLIN | POLLOUT };

		poll(&wait, 1, -1);
		if (wait.revents & POLLIN && read(bus, answers, sizeof(answers)) <= 0)
			exit(1); // the bus has had enough of this one
		if (!(wait.revents & POLLOUT))
			continue;

		ssize_t took = write(bus, call->bytes + sent, call->length - sent);

		sent += took > 0 ? took : 0;
	}
}

static int connect_to_bus(void)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX, .sun_path = BUS };
	int bus = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	char uid[32], line[128], answer[256];
	int length;

	if (bus < 0 || connect(bus, (void *)&address, sizeof(address)))
		fail(BUS);
	snprintf(uid, sizeof(uid), "%d", getuid());
	length = snprintf(line, sizeof(line), "%cAUTH EXTERNAL ", 0);
	for (char *digit = uid; *digit; digit++)
		length += snprintf(line + length, sizeof(line) - length, "%02x", *digit);
	length += snprintf(line + length, sizeof(line) - length, "\r\n");
	if (write(bus, line, length) != length || read(bus, answer, sizeof(answer)) < 2 || memcmp(answer, "OK", 2))
		fail("authentication at the bus");
	if (write(bus, "BEGIN\r\n", 7) != 7)
		fail(BUS);
	fcntl(bus, F_SETFL, O_NONBLOCK);
	return bus;
}

static void flood(int ready)
{
	struct call calls[] = {
		method("org.hubwarden", "/org/hubwarden", "org.hubwarden.Manager1", "Status"),
		method("org.hubwarden", "/org/hubwarden", "org.hubwarden.Manager1", "Processes"),
		method("org.freedesktop.systemd1", "/org/freedesktop/systemd1",
		       "org.freedesktop.systemd1.Manager", "ListUnits"),
	};
	struct call hello = method("org.freedesktop.DBus", "/org/freedesktop/DBus", "org.freedesktop.DBus", "Hello");
	int bus = connect_to_bus();
	uint32_t serial = 1;

	send_call(bus, &hello, serial++);
	if (write(ready, "", 1) != 1)
		fail("pipe");
	for (;; serial += serial == UINT32_MAX ? 2 : 1)
		send_call(bus, &calls[serial % 3], serial);
}

int main(int count, char **arguments)
{
	int ready[2], connections = count == 3 ? atoi(arguments[2]) : 0;
	char byte;

	if (connections < 1 || pipe(ready)) {
		fprintf(stderr, "usage: dbus_flood SECONDS CONNECTIONS\n");
		return 2;
	}
	alarm(atoi(arguments[1]));
	for (int left = connections; left > 0; left--)
		if (fork() == 0) {
			prctl(PR_SET_PDEATHSIG, SIGKILL);
			flood(ready[1]);
		}
	for (int left = connections; left > 0; left--)
		if (read(ready[0], &byte, 1) != 1)
			fail("pipe");
	printf("at work\n");
	fflush(stdout);
	// A connection that the bus closed is made anew.
	for (;;)
		if (wait(NULL) > 0 && fork() == 0) {
			prctl(PR_SET_PDEATHSIG, SIGKILL);
			flood(ready[1]);
		}
}
