"""What containers of the beds do on their network.

    container.py listen PORT …            answers on TCP over both families, until killed
    container.py send ADDRESS,PORT …      a second of datagrams and connections, from its first instruction
    container.py spoof SOURCE TARGET PORT a datagram from a packet socket, with whatever source
"""

import contextlib
import socket
import struct
import sys
import threading
import time


def family(address):
    return socket.AF_INET6 if ":" in address else socket.AF_INET


def listen(*ports):
    def serve(listener):
        while True:
            with contextlib.suppress(OSError):
                client, _ = listener.accept()
                client.close()

    for port in ports:
        listener = socket.create_server(("::", int(port)), family=socket.AF_INET6, dualstack_ipv6=True)
        threading.Thread(target=serve, args=(listener,)).start()


def send(*targets):
    until = time.monotonic() + 1
    while time.monotonic() < until:
        for target in targets:
            address, port = target.rsplit(",", 1)
            for kind in (socket.SOCK_DGRAM, socket.SOCK_STREAM):
                with socket.socket(family(address), kind) as client, contextlib.suppress(OSError):
                    client.setblocking(False)
                    client.connect((address, int(port)))
                    client.send(b"x")
        time.sleep(0.02)


def checksum(data):
    data += b"\0" * (len(data) % 2)
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def gateway():
    """The link-layer address of the default route's gateway."""
    with open("/proc/net/route") as routes:
        default = next(line.split() for line in routes if line.split()[1] == "00000000")
    address = socket.inet_ntoa(struct.pack("=I", int(default[2], 16)))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        for _ in range(50):
            with contextlib.suppress(OSError):
                client.sendto(b"x", (address, 9))
            with open("/proc/net/arp") as known:
                found = [line.split()[3] for line in known if line.split()[0] == address]
            if found and found[0] != "00:00:00:00:00:00":
                return bytes.fromhex(found[0].replace(":", "")), default[0]
            time.sleep(0.05)
    raise SystemExit("the gateway is not found")


def spoof(source, target, port):
    to, device = gateway()
    v6 = ":" in source
    src, dst = (socket.inet_pton(family(source), address) for address in (source, target))
    body = b"spoof"
    udp = struct.pack("!HHHH", 40000, int(port), 8 + len(body), 0) + body
    if v6:
        pseudo = src + dst + struct.pack("!II", len(udp), 17)
        udp = udp[:6] + struct.pack("!H", checksum(pseudo + udp) or 0xFFFF) + udp[8:]
        packet = struct.pack("!IHBB", 6 << 28, len(udp), 17, 64) + src + dst + udp
    else:
        header = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(udp), 1, 0, 64, 17, 0) + src + dst
        packet = header[:10] + struct.pack("!H", checksum(header)) + header[12:] + udp
    kind = 0x86DD if v6 else 0x0800
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as wire:
        wire.bind((device, kind))
        wire.send(to + wire.getsockname()[4] + struct.pack("!H", kind) + packet)


{"listen": listen, "send": send, "spoof": spoof}[sys.argv[1]](*sys.argv[2:])
