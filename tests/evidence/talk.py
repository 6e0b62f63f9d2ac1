# SPDX-License-Identifier: GPL-2.0-or-later
"""One end of a TCP connection: talk.py WAY ADDRESS PORT [LINE...]. Ends with 0 once all was said and taken."""
import socket
import sys
import time

way, address, port = sys.argv[1], sys.argv[2], int(sys.argv[3])
lines = [line.encode() + b"\n" for line in sys.argv[4:]]
family = socket.AF_INET6 if ":" in address else socket.AF_INET
MPTCP = 262


def prepared(protocol=0, bound=None):
    made = socket.socket(family, socket.SOCK_STREAM, protocol)
    made.settimeout(60)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    # One message, one segment.
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if bound:
        made.bind(("", bound))
    return made


def connected(**how):
    for _ in range(600):
        made = prepared(**how)
        try:
            made.connect((address, port))
            return made
        except ConnectionRefusedError:
            # The other end does not listen yet.
            made.close()
            time.sleep(0.05)
    sys.exit("nobody listens")


def accepted():
    listener = prepared()
    listener.bind((address, port))
    listener.listen()
    made = listener.accept()[0]
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return made


def take_all(made):
    taken = b""
    while part := made.recv(65536):
        taken += part
    return taken


def say(made):
    for line in lines:
        made.sendall(line)
    made.shutdown(socket.SHUT_WR)
    take_all(made)


def repeat(made):
    while part := made.recv(65536):
        made.sendall(part)


def have_repeated(made):
    """Says it and waits until it comes back: by then the other end has sent it."""
    for line in lines:
        made.sendall(line)
        back = b""
        while len(back) < len(line):
            part = made.recv(65536)
            if not part:
                sys.exit("not repeated")
            back += part
    made.close()


if way == "say":
    say(connected())
elif way == "say-by-mptcp":
    say(connected(protocol=MPTCP))
elif way == "say-later":
    made = connected()
    print("connected", flush=True)
    sys.stdin.readline()
    say(made)
elif way == "say-again":
    # Two connections of no interest, and then one that is, all by one socket.
    made = connected()
    for _ in range(2):
        for _ in range(2):
            made.sendall(b"words of no interest\n")
        made.shutdown(socket.SHUT_WR)
        take_all(made)
        # Linux undoes a connection so (connect(2), AF_UNSPEC), and Python has no word for it.
        import ctypes
        unspecified = (ctypes.c_char * 16)()
        if ctypes.CDLL(None, use_errno=True).connect(made.fileno(), unspecified, 16) != 0:
            sys.exit("not undone")
        made.connect((address, port))
    say(made)
elif way == "take":
    if take_all(accepted()) != b"".join(lines):
        sys.exit("something else was said")
elif way == "take-three":
    listener = prepared()
    listener.bind((address, port))
    listener.listen()
    for _ in range(3):
        take_all(listener.accept()[0])
elif way == "repeat":
    repeat(accepted())
elif way == "feed":
    have_repeated(connected())
elif way == "fetch-and-repeat":
    repeat(connected())
elif way == "greet-and-repeat":
    made = connected()
    made.sendall(b"a greeting of no interest\n")
    repeat(made)
elif way == "give":
    have_repeated(accepted())
elif way == "give-after-greeting":
    made = accepted()
    made.recv(65536)
    have_repeated(made)
elif way == "say-from-the-port-of-a-service":
    # A service listens at this port, and a connection is opened from the same.
    listener = prepared(bound=port)
    listener.listen()
    made = listener.accept()[0]
    repeat(made)
    made.close()
    say(connected(bound=port))
else:
    sys.exit(f"no such way: {way}")
