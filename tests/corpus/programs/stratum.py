"""Speaks stratum to a pool on another host and hashes meanwhile: stratum.py PORT DIALECT [HASH].

DIALECT is `login` (as RandomX's miners speak it) or `mining` (as Bitcoin's descendants do); HASH is
`sha256` or `yespower`. It connects again now and then, as miners do.
"""
import hashlib
import itertools
import json
import os
import socket
import sys
import time

DIALECTS = {
    "login": [("login", {"login": "NOBODY", "pass": "x", "agent": "corpus/1", "algo": ["rx/0"]}),
              ("submit", {"id": "1", "job_id": "1", "nonce": "00000000", "result": "00" * 32})],
    "mining": [("mining.subscribe", ["corpus/1"]), ("mining.authorize", ["NOBODY.1", "x"]),
               ("mining.submit", ["NOBODY.1", "1", "00000000", "00000000", "00000000"])],
}
orders = DIALECTS[sys.argv[2]]
if sys.argv[3:] == ["yespower"]:
    from bitweb_yespower import getPoWHash as work
else:
    def work(header):
        return hashlib.sha256(hashlib.sha256(header).digest()).digest()

nonces = itertools.count()
while True:
    with socket.create_connection((os.environ["OTHER_HOST"], int(sys.argv[1])), timeout=10) as pool:
        answers = pool.makefile()
        for number, (method, parameters) in enumerate(orders):
            order = {"id": number, "jsonrpc": "2.0", "method": method, "params": parameters}
            # One message, one segment, as miners write them.
            pool.sendall(json.dumps(order, separators=(",", ":")).encode() + b"\n")
            answers.readline()
        end = time.monotonic() + 10
        while time.monotonic() < end:
            work(next(nonces).to_bytes(80, "little"))
