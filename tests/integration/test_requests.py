"""The daemon's control socket, asked anything by its owner: it answers or hangs up, goes on serving, and ends when it is unmounted."""

import json
import os
import random
import socket
import stat
from pathlib import Path

from harness import FULL, case, check, equal, main, say

SEED = int(os.environ.get("FSYNCFS_TEST_SEED", "0")) or 20
COMMANDS = (b"status", b"version", b"refresh", b"refresh stat-pass", b"progress", b"stat 1", b"stat 2", b"prefetch 1", b"prefetch 2")
REQUESTS = 20000 if FULL else 1500


def control_socket(point):
    device = os.stat(point).st_dev
    return f"/run/fsyncfs/{os.major(device)}:{os.minor(device)}.sock"


def damaged(rng, command):
    data = bytearray(command)
    for _ in range(rng.randrange(4)):
        how = rng.randrange(4)
        at = rng.randrange(len(data) + 1)
        if how == 0 and at < len(data):
            data[at] = rng.randrange(256)
        elif how == 1:
            data[at:at] = rng.randbytes(rng.choice((1, 3, 5000)))
        elif how == 2:
            del data[at:]
        else:
            data += b" %d" % rng.choice((-1, 0, 2**31, 2**63, 2**64, 10**30))
    return bytes(data)


def ask(path, request, patient=True):
    """What is answered to REQUEST; impatient: hangs up at once."""
    with socket.socket(socket.AF_UNIX) as s:
        s.settimeout(60)
        s.connect(path)
        try:
            s.sendall(request)
            if not patient:
                return b""
            s.shutdown(socket.SHUT_WR)
            return b"".join(iter(lambda: s.recv(65536), b""))
        except (BrokenPipeError, ConnectionResetError):
            return b""


@case(f"{REQUESTS} requests that are damaged, cut off or not waited for")
def requests(w):
    say(f"seed {SEED} (FSYNCFS_TEST_SEED)")
    rng = random.Random(SEED)
    w.tree.mkdir(parents=True)
    (w.tree / "file").write_bytes(b"x" * 1000)
    m = w.mount(w.server())
    path = control_socket(m.point)
    check(Path(path).is_socket(), f"{path} is no socket")
    answered = 0
    for _ in range(REQUESTS):
        reply = ask(path, damaged(rng, rng.choice(COMMANDS)) + b"\n" * (rng.random() < 0.9), rng.random() < 0.8)
        for line in reply.splitlines():
            json.loads(line)
            answered += 1
    check(answered > REQUESTS / 4, f"only {answered} answers")
    equal(m.status()["state"], "online", "the state")
    equal((m.point / "file").read_bytes(), b"x" * 1000, "a file")
    equal(len(os.listdir(f"/proc/{m.serving_pid()}/fd")) < 100, True, "descriptors of the daemon")
    m.unmount()


@case("only the owner may connect, whatever the umask is")
def mode(w):
    w.tree.mkdir(parents=True)
    server = w.server()
    before = os.umask(0)
    try:
        m = w.mount(server)
    finally:
        os.umask(before)
    equal(oct(stat.S_IMODE(os.stat(control_socket(m.point)).st_mode)), "0o600", "mode of the socket")


main()
