"""Starts counterparts in Python quickly: their modules are loaded once, and a process is forked for each.

    forker.py MODULE...     the first one's main() is run

For each line of JSON on stdin, [LOG, ARGUMENT...], prints the id of a process of its own session that does so, with its output in LOG. Nothing may
have started threads by then: importing grpc does not.
"""

import importlib
import json
import os
import signal
import sys


def run(main, log, *arguments):
    os.setsid()
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND), 1)
    os.dup2(1, 2)
    sys.argv[1:] = arguments
    main()


def main():
    modules = [importlib.import_module(name) for name in sys.argv[1:]]
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for them
    for line in sys.stdin:
        pid = os.fork()
        if pid == 0:
            return run(modules[0].main, *json.loads(line))
        print(pid, flush=True)
    return None


if __name__ == "__main__":
    main()
