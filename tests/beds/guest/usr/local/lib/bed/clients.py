"""Runs programs side by side and says what came of each, as JSON.

Reads from stdin {name: {"argv": [...], "env": {...}, "timeout": seconds}}; answers
{name: {"code": exit code or null, "said": what it printed, "seconds": …}}.
"""

import concurrent.futures
import json
import os
import subprocess
import sys
import time


def run(what):
    started = time.monotonic()
    environment = {"PATH": os.environ.get("PATH", "/usr/bin:/bin"), "HOME": "/tmp", "LANG": "C", **what.get("env", {})}
    try:
        done = subprocess.run(what["argv"], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                              env=environment, timeout=what.get("timeout", 10))
        code, said = done.returncode, done.stdout
    except subprocess.TimeoutExpired as late:
        code, said = None, late.stdout or b""
    except OSError as error:
        code, said = 127, str(error).encode()
    return {"code": code, "said": said.decode(errors="replace")[-600:], "seconds": round(time.monotonic() - started, 2)}


wanted = json.load(sys.stdin)
with concurrent.futures.ThreadPoolExecutor(4) as pool:
    print(json.dumps(dict(zip(wanted, pool.map(run, wanted.values())))))
