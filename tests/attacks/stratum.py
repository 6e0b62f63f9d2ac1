"""stratum.py echo SECONDS PORT               a neighbour's service that returns what it is sent
stratum.py send SECONDS HOST PORT          sends it a miner's first words, again and again

The wallet is no wallet and nothing is mined. Prints how often the words came back.
"""

import json
import signal
import socket
import sys
import threading
import time

LOGIN = json.dumps({"id": 1, "jsonrpc": "2.0", "method": "login", "params": {"login": "no-wallet", "pass": "x", "agent": "attack"}}).encode() + b"\n"
SUBSCRIBE = json.dumps({"id": 1, "method": "mining.subscribe", "params": []}).encode() + b"\n"


def give_back(client):
    try:
        while data := client.recv(4096):
            client.sendall(data)
    except OSError:
        pass
    client.close()


def echo(port):
    server = socket.create_server(("", port))
    print("at work", flush=True)
    while True:
        client, _ = server.accept()
        threading.Thread(target=give_back, args=(client,), daemon=True).start()


def send(host, port, end):
    came_back = refused = 0
    print("at work", flush=True)
    while time.monotonic() < end:
        for words in (LOGIN, SUBSCRIBE):
            try:
                with socket.create_connection((host, port), 5) as client:
                    client.sendall(words)
                    came_back += client.recv(4096) == words
            except OSError:
                refused += 1
            time.sleep(0.1)
    print(f"came back {came_back} times, refused {refused} times", flush=True)


def main():
    role, seconds, *rest = sys.argv[1:]
    # One that is held up ends all the same.
    signal.alarm(int(seconds) + 10)
    if role == "echo":
        signal.alarm(int(seconds))
        echo(int(rest[0]))
    else:
        send(rest[0], int(rest[1]), time.monotonic() + int(seconds))


if __name__ == "__main__":
    main()
