"""metrics_flood.py SECONDS CONNECTIONS AT     AT is HOST:PORT or a socket's path

Connections that ask for the metrics by a byte now and then, and are made anew when they are closed.
Prints how many were open at most.
"""

import selectors
import signal
import socket
import sys
import time

REQUEST = b"GET /metrics HTTP/1.1\r\nHost: slow\r\nX-Slow: " + b"x" * 4000


def connect(at):
    if at.startswith("/"):
        client = socket.socket(socket.AF_UNIX)
        address = at
    else:
        client = socket.socket()
        host, port = at.rsplit(":", 1)
        address = (host, int(port))
    client.settimeout(2)
    try:
        client.connect(address)
        client.setblocking(False)
        return client
    except OSError:
        client.close()
        return None


def is_closed(client):
    try:
        return client.recv(4096) == b""
    except OSError:
        return True


def main():
    seconds, connections, at = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
    signal.alarm(seconds + 10)
    end, open_now, most = time.monotonic() + seconds, {}, 0
    print("at work", flush=True)
    with selectors.DefaultSelector() as answers:
        while time.monotonic() < end:
            for _ in range(connections - len(open_now)):
                if not (client := connect(at)):
                    break
                open_now[client] = 0
                answers.register(client, selectors.EVENT_READ)
            most = max(most, len(open_now))
            gone = [key.fileobj for key, _ in answers.select(0) if is_closed(key.fileobj)] if open_now else []
            for client, sent in open_now.items():
                try:
                    client.send(REQUEST[sent:sent + 1])
                    open_now[client] = sent + 1
                except OSError:
                    gone.append(client)
            for client in set(gone):
                answers.unregister(client)
                client.close()
                del open_now[client]
            time.sleep(0.5)
    print(f"open at once: {most}", flush=True)


if __name__ == "__main__":
    main()
