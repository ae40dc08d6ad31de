"""Proof 7: kill -9 of either side at random points: no wrong byte, no corrupted store, the next mount works."""

import os
import random
import time

from harness import FULL, case, check, equal, main, program, run_ok
from trees import make_tree, same_snapshot, snapshot

ROUNDS = 200 if FULL else 24  # of each side
FILES, BYTES = 300, 30_000_000
SEED = int(os.environ.get("FSYNCFS_TEST_SEED", "0")) or random.SystemRandom().randrange(1, 10**9)

# Reads all of a tree; what it cannot read (the daemon or the master was killed) it leaves out, what it reads must be right.
READER = r'''
import hashlib, os, sys
wrong = 0
for folder, _, names in os.walk(sys.argv[1]):
    for name in names:
        path = os.path.join(folder, name)
        try:
            with open(path, "rb") as f:
                data = f.read()
        except OSError:
            continue
        with open(os.path.join(sys.argv[2], os.path.relpath(path, sys.argv[1])), "rb") as f:
            wrong += f.read() != data
print("wrong", wrong, flush=True)
'''


def read_all(w, m, number):
    return w.spawn(["/usr/bin/python3", "-c", READER, m.point, w.tree], f"reader{number}.log")


def sound(w, m, expected, number):
    """The next mount shows the tree, and the store holds nothing damaged."""
    same_snapshot(snapshot(m.point), expected, f"the tree after round {number}")
    m.unmount()
    run_ok([program("fsyncfs"), "cache", "verify", "--cache", m.cache])
    quarantine = m.cache / "quarantine"
    equal(os.listdir(quarantine) if quarantine.exists() else [], [], "blobs in quarantine")


def rounds(w, kill_one):
    """ROUNDS times: readers at work, a kill after a random while, then proof of soundness every few rounds."""
    rng = random.Random(SEED)
    print(f"# seed {SEED} (FSYNCFS_TEST_SEED)")
    make_tree(w.tree, FILES, BYTES)
    expected = snapshot(w.tree)
    server = w.server()
    for number in range(ROUNDS):
        fresh = f"cache{number // 3}"  # some rounds go on with what the last kill left, some begin anew
        m = w.mount(server, cache=fresh, options=["timeout=5"], point="mnt")
        reader = read_all(w, m, number)
        time.sleep(rng.random() * 0.25)
        server = kill_one(server, m)
        reader.wait(60)
        check("wrong 0" in reader.output(), f"round {number}: the reader says {reader.output()}")
        if m.daemon.running():
            m.unmount()
        if number % 3 == 2 or number == ROUNDS - 1:
            sound(w, w.mount(server, cache=fresh, point="mnt"), expected, number)


@case(f"the worker's daemon, {ROUNDS} times")
def worker(w):
    def kill(server, m):
        m.kill()
        return server
    rounds(w, kill)


@case(f"the server, {ROUNDS} times")
def server_side(w):
    def kill(server, _m):
        server.kill()
        return w.server(port=server.port)
    rounds(w, kill)


@case("the worker's daemon while it takes new versions")
def during_sync(w):
    rng = random.Random(SEED)
    make_tree(w.tree, 2000, 2_000_000)
    server = w.server()
    for number in range(10):
        m = w.mount(server, point="mnt")
        for path in rng.sample(sorted(w.tree.rglob("*.bin")), 300):
            path.write_bytes(rng.randbytes(500))
        refresh = w.spawn([program("fsyncfs"), "refresh", m.point], "refresh.log")
        time.sleep(rng.random() * 0.1)
        m.kill()
        refresh.wait()
        again = w.mount(server, point="mnt")
        same_snapshot(snapshot(again.point), snapshot(w.tree), f"the tree after round {number}")
        again.unmount()


main()
