"""A resolver with a zone of its own, and a client: as little DNS as the tests need."""

import contextlib
import socket
import struct
import threading

A, CNAME, AAAA, HTTPS = 1, 5, 28, 65
TYPES = {"A": A, "CNAME": CNAME, "AAAA": AAAA, "HTTPS": HTTPS}
CODES = {0: "NOERROR", 2: "SERVFAIL", 3: "NXDOMAIN", 5: "REFUSED"}
zone = {}
odd = {}
# Sockets that stay open.
kept = []
# Bytes a TCP answer is sent in at a time; 0 for all at once.
pieces = [0]


def wire(name):
    labels = [label for label in name.split(".") if label]
    return b"".join(bytes([len(label)]) + label.encode() for label in labels) + b"\0"


def read_name(message, at):
    labels, end = [], None
    for _ in range(128):
        length = message[at]
        if length >= 0xC0:
            end = end or at + 2
            at = (length & 0x3F) << 8 | message[at + 1]
        elif length == 0:
            return ".".join(labels), end or at + 1
        else:
            labels.append(message[at + 1 : at + 1 + length].decode())
            at += 1 + length
    raise ValueError("a name without end")


def add(name, kind, ttl, data):
    family = {"A": socket.AF_INET, "AAAA": socket.AF_INET6}.get(kind)
    if family:
        data = socket.inet_pton(family, data)
    elif kind == "CNAME":
        data = wire(data)
    else:
        data = bytes.fromhex(data)
    zone.setdefault(name, []).append((TYPES[kind], int(ttl), data))
    return "ok"


def flooding(name):
    """The 250 addresses of a name such as `7.flood.example`, which are no other name's."""
    number, _, rest = name.partition(".")
    if rest != "flood.example":
        return []
    first = int.from_bytes(socket.inet_pton(socket.AF_INET, "20.0.0.0"), "big") + 250 * int(number)
    return [(A, 86400, (first + one).to_bytes(4, "big")) for one in range(250)]


def answer(query, tcp):
    name, end = read_name(query, 12)
    kind = struct.unpack("!H", query[end : end + 2])[0]
    question = query[12 : end + 4]
    records, owner = [], name.lower()
    for _ in range(20):
        found = [(owner, *record) for record in zone.get(owner) or flooding(owner) if record[0] in (kind, CNAME)]
        records += found
        targets = [record[3] for record in found if record[1] == CNAME]
        if not targets:
            break
        owner = read_name(targets[0], 0)[0]
    known = name.lower() in zone or flooding(name.lower())
    flags = 0x8180 | (0 if known else 3)
    how = odd.get(name.lower())
    if how == "truncated" and not tcp:
        flags |= 0x0200
    body = b""
    for owner, record_kind, ttl, data in records:
        body += wire(owner) + struct.pack("!HHLH", record_kind, 1, ttl, len(data)) + data
    reply = query[:2] + struct.pack("!HHHHH", flags, 1, len(records), 0, 0) + question + body
    if how == "malformed":
        reply = reply[:-1]
    return reply


def forged(query, name, kind, address):
    """An answer that gives an address to another question than the one that was asked, by its kind."""
    query_id, asked, record_type = query[:2], name, A
    if kind == "id":
        query_id = bytes([query[0], query[1] ^ 1])
    elif kind == "name":
        asked = "good.example"
    elif kind == "type":
        record_type = AAAA
    question = wire(asked) + struct.pack("!HH", record_type, 1)
    record = wire(asked) + struct.pack("!HHLH", A, 1, 86400, 4) + socket.inet_pton(socket.AF_INET, address)
    return query_id + struct.pack("!HHHHH", 0x8180, 1, 1, 0, 0) + question + record


def replies(query, tcp):
    """The answer, with a forged one before or after it where that is asked for."""
    name = read_name(query, 12)[0]
    kind, _, address = odd.get(name.lower(), "").partition(":")
    if not address:
        return [answer(query, tcp)]
    pair = [forged(query, name, kind, address), answer(query, tcp)]
    return pair[::-1] if kind == "again" else pair


def serve_datagrams(server):
    while True:
        query, peer = server.recvfrom(4096)
        with contextlib.suppress(OSError, IndexError, ValueError):
            for reply in replies(query, False):
                server.sendto(reply, peer)


def serve_one(connection):
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    with connection, contextlib.suppress(OSError, IndexError, ValueError):
        while head := connection.recv(2, socket.MSG_WAITALL):
            query = connection.recv(struct.unpack("!H", head)[0], socket.MSG_WAITALL)
            stream = b"".join(struct.pack("!H", len(reply)) + reply for reply in replies(query, True))
            size = pieces[0] or len(stream)
            for at in range(0, len(stream), size):
                connection.sendall(stream[at : at + size])
                if pieces[0]:
                    threading.Event().wait(0.02)


def serve_streams(server):
    while True:
        connection, _ = server.accept()
        threading.Thread(target=serve_one, args=(connection,), daemon=True).start()


def serve(address):
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    for kind, run in ((socket.SOCK_DGRAM, serve_datagrams), (socket.SOCK_STREAM, serve_streams)):
        server = socket.socket(family, kind)
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        server.bind((address, 53))
        if kind == socket.SOCK_STREAM:
            server.listen(16)
        threading.Thread(target=run, args=(server,), daemon=True).start()
    return "ok"


def exactly(client, length):
    data = b""
    while len(data) < length:
        more = client.recv(length - len(data))
        if not more:
            raise ConnectionResetError(104, "closed")
        data += more
    return data


def ask(transport, address, name, kind, stays=""):
    query = struct.pack("!HHHHHH", 7, 0x0100, 1, 0, 0, 0) + wire(name) + struct.pack("!HH", TYPES[kind], 1)
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    tcp = transport == "tcp"
    with socket.socket(family, socket.SOCK_STREAM if tcp else socket.SOCK_DGRAM) as client:
        client.settimeout(1)
        client.connect((address, 53))
        if stays:
            # What comes after the answer finds the socket that asked.
            kept.append(client.dup())
        if tcp:
            client.sendall(struct.pack("!H", len(query)) + query)
            length = struct.unpack("!H", exactly(client, 2))[0]
            reply = exactly(client, length)
        else:
            client.sendall(query)
            reply = client.recv(4096)
    flags, _, answers, _, _ = struct.unpack("!HHHHH", reply[2:12])
    if flags & 0x0200:
        return "TRUNCATED"
    if flags & 15:
        return CODES.get(flags & 15, str(flags & 15))
    at = read_name(reply, 12)[1] + 4
    found = []
    for _ in range(answers):
        at = read_name(reply, at)[1]
        record_kind, _, _, length = struct.unpack("!HHLH", reply[at : at + 10])
        data = reply[at + 10 : at + 10 + length]
        at += 10 + length
        if record_kind == A:
            found.append(socket.inet_ntop(socket.AF_INET, data))
        elif record_kind == AAAA:
            found.append(socket.inet_ntop(socket.AF_INET6, data))
    return "NOERROR " + ",".join(found)


def set_odd(name, how):
    odd[name] = how
    return "ok"


def set_pieces(size):
    pieces[0] = int(size)
    return "ok"


def storm(address, name, count):
    """Asks without waiting for answers; of one socket the kernel keeps some hundred questions."""
    query = struct.pack("!HHHHHH", 7, 0x0100, 1, 0, 0, 0) + wire(name) + struct.pack("!HH", A, 1)
    with contextlib.ExitStack() as clients:
        for sent in range(int(count)):
            if sent % 100 == 0:
                client = clients.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
                client.connect((address, 53))
            # What is over a limit fails here.
            with contextlib.suppress(PermissionError):
                client.send(query)
            if sent % 20 == 19:
                # The resolver's own queue is short.
                threading.Event().wait(0.002)
        threading.Event().wait(0.2)
    return "ok"


def ask_many(address, count):
    """Asks for so many names of 250 addresses each; how many were answered."""
    answered, other = 0, ""
    for number in range(int(count)):
        for _ in range(3):
            # A slow machine takes longer than a second now and then, and programs ask again.
            try:
                said = ask("tcp", address, f"{number}.flood.example", "A")
                break
            except OSError as error:
                said = repr(error)
        if said.count(",") == 249:
            answered += 1
        else:
            other += f" {number} {said[:60]}"
    return f"{answered}{other}"


def relay(address, upstream):
    """A resolver on this node that asks another for whoever asks it."""
    server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    server.bind((address, 53))

    def run():
        while True:
            query, peer = server.recvfrom(4096)
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client, contextlib.suppress(OSError):
                client.settimeout(1)
                client.connect((upstream, 53))
                client.sendall(query)
                server.sendto(client.recv(4096), peer)

    threading.Thread(target=run, daemon=True).start()
    return "ok"


ORDERS = {"ask": ask, "ask_many": ask_many, "odd": set_odd, "pieces": set_pieces, "relay": relay, "serve": serve, "storm": storm, "zone": add}
