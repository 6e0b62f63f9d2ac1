"""Tries to reach things, from wherever it is run, and says what came of each, as JSON.

Arguments: PROTO,ADDRESS,PORT … with PROTO tcp, udp or dns. All at once, 4 s at most.
`ok` means that an answer came back, not only that a packet left.
"""

import errno
import json
import socket
import struct
import sys
import threading
import time

TIMEOUT = 4.0


def dns_query(name):
    question = b"".join(bytes([len(part)]) + part.encode() for part in name.split(".")) + b"\0"
    return struct.pack("!HHHHHH", 0x2121, 0x0100, 1, 0, 0, 0) + question + struct.pack("!HH", 1, 1)


def attempt(proto, address, port):
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    kind = socket.SOCK_STREAM if proto == "tcp" else socket.SOCK_DGRAM
    with socket.socket(family, kind) as sock:
        sock.settimeout(TIMEOUT)
        sock.connect((address, int(port)))
        if proto == "tcp":
            return True
        sock.send(dns_query("hub.test") if proto == "dns" else b"hello, is anybody there\n")
        return len(sock.recv(2048)) > 0


def one(target, results):
    proto, address, port = target.split(",")
    started = time.monotonic()
    error = None
    try:
        ok = attempt(proto, address, port)
    except socket.timeout:
        ok, error = False, "TIMEOUT"
    except OSError as failure:
        ok, error = False, errno.errorcode.get(failure.errno, str(failure))
    results[target] = {"ok": ok, "error": error, "seconds": round(time.monotonic() - started, 3)}


results = {}
threads = [threading.Thread(target=one, args=(target, results)) for target in sys.argv[1:]]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print(json.dumps(results))
