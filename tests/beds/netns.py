"""Sockets in another process's network namespace, and namespaces of our own. Standard library only."""

import ctypes
import http.client
import os
import signal
import socket
import threading

LIBC = ctypes.CDLL(None, use_errno=True)
CLONE_NEWNS = 0x00020000
CLONE_NEWNET = 0x40000000
MS_REC, MS_PRIVATE = 0x4000, 1 << 18
PR_SET_PDEATHSIG = 1


def _check(result):
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def private_mounts():
    """Gives this process its own mount namespace: what it mounts, nobody else sees, and it goes with it."""
    _check(LIBC.unshare(CLONE_NEWNS))
    _check(LIBC.mount(b"none", b"/", None, MS_REC | MS_PRIVATE, None))


def own_network():
    _check(LIBC.unshare(CLONE_NEWNET))


def join_network(pid):
    """Moves this thread to `pid`'s network namespace."""
    fd = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY)
    try:
        _check(LIBC.setns(fd, CLONE_NEWNET))
    finally:
        os.close(fd)


def die_with_parent(sig=signal.SIGKILL):
    LIBC.prctl(PR_SET_PDEATHSIG, int(sig), 0, 0, 0)


def socket_in(pid, family, kind):
    """A socket that belongs to `pid`'s network namespace; usable from here.

    A thread joins the namespace, makes the socket and ends: setns() changes only the thread.
    """
    made = []

    def work():
        try:
            join_network(pid)
            made.append(socket.socket(family, kind))
        except OSError as error:
            made.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    if isinstance(made[0], OSError):
        raise made[0]
    return made[0]


class Http(http.client.HTTPConnection):
    """An HTTP connection to an address in another process's network namespace."""

    def __init__(self, pid, host, port, timeout=30):
        super().__init__(host, port, timeout=timeout)
        self.pid = pid

    def connect(self):
        self.sock = socket_in(self.pid, socket.AF_INET, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect((self.host, self.port))
