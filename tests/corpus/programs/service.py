"""Logs in to a service that is no pool, by JSON-RPC over TCP, and computes meanwhile: service.py PORT."""
import json
import os
import socket
import sys
import time

while True:
    with socket.create_connection((os.environ["OTHER_HOST"], int(sys.argv[1])), timeout=10) as service:
        order = {"jsonrpc": "2.0", "id": 1, "method": "login", "params": {"user": "alice", "token": "secret"}}
        service.sendall(json.dumps(order).encode() + b"\n")
        service.makefile().readline()
        end = time.monotonic() + 5
        while time.monotonic() < end:
            sum(number * number for number in range(10_000))
