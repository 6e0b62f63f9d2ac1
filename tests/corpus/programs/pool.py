"""A made-up pool on a host of its own: gives work that cannot be solved. pool.py PORT."""
import json
import os
import socketserver
import sys

WORK = {"job_id": "1", "blob": "00" * 76, "target": "00000000", "algo": "none"}


class Talk(socketserver.StreamRequestHandler):
    def handle(self):
        for line in self.rfile:
            order = json.loads(line)
            answers = {
                "mining.subscribe": [[["mining.notify", "1"]], "00000000", 4],
                "login": {"id": "1", "job": WORK, "status": "OK"},
            }
            answer = {"id": order.get("id"), "result": answers.get(order.get("method"), True), "error": None}
            self.wfile.write(json.dumps(answer).encode() + b"\n")


class Pool(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True


Pool((os.environ["OTHER_HOST"], int(sys.argv[1])), Talk).serve_forever()
