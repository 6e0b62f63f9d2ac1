"""The test host: everything outside the hub's machine, in a network namespace of its own.

It listens on many ports, answers DNS, and notes every packet that reaches it, so that a scenario can
say "nothing arrived". It is driven over stdin/stdout, one line each way, and ends with its stdin.
Started by machine.py; runs on the host's Python.
"""

import json
import socket
import struct
import sys
import threading
import time

V4, V6 = "192.0.2.2", "2001:db8:213::2"
OTHER_V4, OTHER_V6 = "192.0.2.3", "2001:db8:213::3"  # a second resolver, which the machine is not configured to use
# The machine's own resolver, as many a node has it: in a private network.
RESOLVER_V4, RESOLVER_V6 = "10.213.0.2", "fd00:213::2"
METADATA_V4, METADATA_V6 = "169.254.169.254", "fd00:ec2::254"
ADDRESSES = (V4, OTHER_V4, V6, OTHER_V6, RESOLVER_V4, RESOLVER_V6, METADATA_V4, METADATA_V6)
MACHINE_V4, MACHINE_V6 = "192.0.2.1", "2001:db8:213::1"
ALLOWED_TCP = (80, 443, 873, 9418)
REFUSED_TCP = (21, 22, 25, 53, 465, 853, 3333, 4444, 5432, 6379, 8080, 8443, 14444, 15001)
UDP = (53, 123, 443, 5353)

# Names of the zone `test`, each with the last part of its addresses, which are in both networks of
# documentation (reach.py puts services there). Any other name is this host's.
OUTSIDE_V4, OUTSIDE_V6 = "203.0.113.{}", "2001:db8:203::{}"
PRIVATE_V4, PRIVATE_V6 = "192.168.77.7", "fd12:3456::7"
INSIDE = {"inside.test": (PRIVATE_V4, PRIVATE_V6)}
ZONE = {"other.test": 20, "pool.test": 30, "denied.test": 20}
# One for each place that asks, so that none has its answer from what another learned.
for number, place in enumerate(("unit", "container", "host", "podman", "stub", "relay")):
    ZONE |= {f"good-{place}.test": 101 + number, f"www-{place}.sub.test": 121 + number, f"late-{place}.test": 141 + number}

seen = []
lock = threading.Lock()


def note(**what):
    with lock:
        seen.append({"time": time.time(), **what})


def sniff():
    """Notes every SYN, UDP datagram and echo request on the wire, listened to or not."""
    wire = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(3))
    while True:
        packet, origin = wire.recvfrom(2048)
        if origin[2] == 4 or origin[0] != "bed0":  # PACKET_OUTGOING, or our own loopback
            continue
        if origin[1] == 0x0800 and len(packet) >= 24:
            header = (packet[0] & 15) * 4
            proto, src, dst = packet[9], socket.inet_ntoa(packet[12:16]), socket.inet_ntoa(packet[16:20])
        elif origin[1] == 0x86DD and len(packet) >= 44:
            header = 40
            proto = packet[6]
            src = socket.inet_ntop(socket.AF_INET6, packet[8:24])
            dst = socket.inet_ntop(socket.AF_INET6, packet[24:40])
        else:
            continue
        body = packet[header:]
        if proto == 6 and len(body) >= 14 and body[13] & 0x12 == 0x02:
            note(proto="tcp", src=src, dst=dst, port=struct.unpack("!H", body[2:4])[0])
        elif proto == 17 and len(body) >= 4:
            note(proto="udp", src=src, dst=dst, port=struct.unpack("!H", body[2:4])[0])
        elif proto in (1, 58) and body[:1] in (b"\x08", b"\x80"):
            note(proto="ping", src=src, dst=dst, port=0)


def dns_answer(query):
    """A: the name's v4, AAAA: its v6, anything else: no answer."""
    if len(query) < 17:
        return b""
    end, labels = 12, []
    while end < len(query) and query[end]:
        labels.append(query[end + 1 : end + 1 + query[end]].decode(errors="replace").lower())
        end += query[end] + 1
    question = query[12 : end + 5]
    kind = struct.unpack("!H", question[-4:-2])[0]
    last = ZONE.get(".".join(labels))
    usual = (OUTSIDE_V4.format(last), OUTSIDE_V6.format(last)) if last else (V4, V6)
    v4, v6 = INSIDE.get(".".join(labels), usual)
    data = {1: socket.inet_aton(v4), 28: socket.inet_pton(socket.AF_INET6, v6)}.get(kind)
    reply = query[:2] + struct.pack("!HHHHH", 0x8180, 1, 1 if data else 0, 0, 0) + question
    if data:
        reply += struct.pack("!HHHLH", 0xC00C, kind, 1, 30, len(data)) + data
    return reply


def serve_tcp(address, port):
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    server = socket.socket(family, socket.SOCK_STREAM)
    server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    server.bind((address, port))
    server.listen(128)

    def one(client):
        with client:
            client.settimeout(5)
            try:
                if port == 53:
                    # One connection may bring several questions, each in as many pieces as it likes.
                    while head := client.recv(2, socket.MSG_WAITALL):
                        query = client.recv(struct.unpack("!H", head)[0], socket.MSG_WAITALL)
                        reply = dns_answer(query)
                        client.sendall(struct.pack("!H", len(reply)) + reply)
                elif port in (80, 8080):
                    client.recv(4096)
                    client.sendall(b"HTTP/1.0 200 OK\r\nContent-Length: 10\r\n\r\ntest host\n")
                else:
                    client.sendall(b"test host\n")
            except (OSError, struct.error):
                pass

    while True:
        client, _ = server.accept()
        threading.Thread(target=one, args=(client,), daemon=True).start()


def serve_udp(address, port):
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    server = socket.socket(family, socket.SOCK_DGRAM)
    server.bind((address, port))
    while True:
        data, peer = server.recvfrom(2048)
        try:
            server.sendto(dns_answer(data) if port == 53 and len(data) > 16 else b"test host\n", peer)
        except OSError:
            pass


def main():
    import netns

    netns.die_with_parent()
    netns.own_network()
    print("ready", flush=True)
    for line in sys.stdin:
        command = line.strip()
        if command == "listen":  # the addresses are there now
            threading.Thread(target=sniff, daemon=True).start()
            for address in ADDRESSES:
                for port in (*ALLOWED_TCP, *REFUSED_TCP):
                    threading.Thread(target=serve_tcp, args=(address, port), daemon=True).start()
                for port in UDP:
                    threading.Thread(target=serve_udp, args=(address, port), daemon=True).start()
            time.sleep(0.2)
            print("ok", flush=True)
        elif command == "clear":
            with lock:
                seen.clear()
            print("ok", flush=True)
        elif command == "seen":
            time.sleep(0.1)  # a packet sent just before the question is counted too
            with lock:
                print(json.dumps(seen), flush=True)


if __name__ == "__main__":
    threading.stack_size(256 * 1024)
    main()
