"""Files that change on the master all the time, read in every way by readers that compare each byte (tests/peers/random_reader.py).

All bytes of one open file belong to one version that existed (promise 3), and after a moment of quiet to the latest. FSYNCFS_TEST_SEED
repeats the changes and what is read, as far as time allows.
"""

import json
import os
import random
import sys
import time

from harness import FULL, PEERS, case, check, equal, main, program, run_ok, say
import peers  # noqa: F401 (tests/peers on the path)
from changing_files import Master, at_rest
from counting_proxy import CountingProxy

SECONDS = 300 if FULL else 18
BURST_SEC = 2
READERS = 2  # of each mount
SEED = int(os.environ.get("FSYNCFS_TEST_SEED", "0")) or random.SystemRandom().randrange(1, 10**9)


@case(f"readers on three mounts, one of little quota over a bad line, while files change in every way: {SECONDS} s")
def everything(w):
    say(f"seed {SEED} (FSYNCFS_TEST_SEED)")
    rng = random.Random(SEED)
    master = Master(w.tree, w.path("versions"), rng)
    server, stop = w.server(), w.path("stop")
    proxy = CountingProxy(server.port)
    mounts = [w.mount(server, options=["refresh=push"]), w.mount(server),
              w.mount(f"127.0.0.1:{proxy.port}:/spider", cache="small", options=["refresh=push", "quota=3M"])]
    readers = [w.spawn([sys.executable, PEERS / "random_reader.py", m.point, master.folder, str(SEED + 100 * i + j), stop],
                       f"reader{i}-{j}.log") for i, m in enumerate(mounts) for j in range(READERS)]
    until, changes = time.monotonic() + SECONDS, 0
    while time.monotonic() < until and all(r.running() for r in readers):
        burst = time.monotonic() + BURST_SEC
        while time.monotonic() < burst:
            master.change()
            changes += 1
            if rng.random() < 0.1:
                mounts[1].refresh()
            if rng.random() < 0.02:
                proxy.drop()
            time.sleep(rng.random() * 0.05)
        for m in mounts:
            m.refresh()
        at_rest(master, mounts)
    stop.touch()
    total = {}
    for reader in readers:
        code = reader.wait(60)
        check(code == 0, f"a reader: {reader.output().strip()[-1500:]}")
        for what, number in json.loads(reader.output().splitlines()[-1]).items():
            total[what] = total.get(what, 0) + number
    say(f"{changes} changes; {total}")
    for way in ("at_random", "in_order", "mapped", "by_sendfile"):
        check(total.get(way, 0) > 50, f"only {total.get(way, 0)} reads {way}")
    proxy.close()
    for m in mounts:
        m.unmount()
        run_ok([program("fsyncfs"), "cache", "verify", "--cache", m.cache])
        equal(os.listdir(m.cache / "quarantine"), [], "blobs in quarantine")


main()
