"""Mounts while masters and daemons are killed, networks fail, disks fill and clocks jump: no wrong byte, no hang, no lost mount.

Readers compare each byte with all that ever was (tests/peers/random_reader.py). Every few seconds all faults end, and each mount must come to show the
master's present version by itself. FSYNCFS_TEST_SEED repeats faults and changes, as far as time allows; FSYNCFS_CHAOS_FAULTS leaves out all but some.
"""

import collections
import contextlib
import json
import os
import random
import signal
import time

from world import READ_SEC, World, threads_of  # first: it puts the harness on the path
from changing_files import at_rest
from faults import FAULTS, MASTER
from harness import FULL, Failure, case, check, equal, fail, main, program, report, run_ok, say, wait_until

SECONDS = int(os.environ.get("FSYNCFS_CHAOS_SEC", "0")) or (1800 if FULL else 120)
STORM_SEC = (4, 12)   # how long faults come before all is healed
LAST_SEC = (0.2, 6)   # how long one lasts
QUIET_SEC = 150       # within which every mount shows the latest again: what pushes may be silent for 75 s on a spoiled connection, then there is a pause
AT_A_TIME = 3
CHOSEN = {fault: weight for fault, weight in FAULTS.items()
          if fault.__name__ in os.environ.get("FSYNCFS_CHAOS_FAULTS", fault.__name__).split(",")}
SEED = int(os.environ.get("FSYNCFS_TEST_SEED", "0")) or random.SystemRandom().randrange(1, 10**9)


class Storm:
    """Faults, several at a time, until they are healed."""

    def __init__(self, world, rng, log):
        self.world, self.rng, self.log = world, rng, log
        self.active = {}  # fault: (when it ends, what ends it)
        self.counts = collections.Counter()

    def note(self, what):
        print(f"{time.monotonic():.2f} {what}", file=self.log, flush=True)

    def begin(self):
        fault = self.rng.choices(list(CHOSEN), CHOSEN.values())[0]
        lasts = self.rng.uniform(*LAST_SEC)
        if fault in self.active or (fault in MASTER and MASTER & set(self.active)):
            return
        self.note(f"{fault.__name__} for {lasts:.1f} s")
        self.counts[fault.__name__] += 1
        end = fault(self.world, self.rng)
        if end:
            self.active[fault] = (time.monotonic() + lasts, end)

    def end(self, fault):
        _, end = self.active.pop(fault)
        end()
        self.note(f"{fault.__name__} is over")

    def step(self):
        for fault in [fault for fault, (until, _) in self.active.items() if until < time.monotonic()]:
            self.end(fault)
        if len(self.active) < AT_A_TIME:
            self.begin()

    def heal(self):
        for fault in list(self.active):
            self.end(fault)


def remount_dead(world, storm):
    for worker in world.workers:
        if not worker.stopped and not worker.mounted():
            storm.note(f"mount {worker.number} anew")
            worker.mount_anew()


def at_last(world, storm):
    """All is well: each mount shows the latest soon, without being asked to."""
    class Mount(collections.namedtuple("Mount", "point")):
        pass
    reason = None

    def same():
        nonlocal reason
        world.watch()
        remount_dead(world, storm)
        try:
            at_rest(world.master, [Mount(worker.point) for worker in world.workers])
            return True
        except (Failure, OSError) as error:
            reason = error
            time.sleep(0.2)
            return False
    with world.editor.running:
        began = time.monotonic()
        while not same():
            if time.monotonic() > began + QUIET_SEC:
                stuck = [f"{s['state']} {s['version']} {s['revision']}\n{threads_of(worker.mount.serving_pid())}"
                         for s, worker in zip(world.status(), world.workers)]
                fail("\n".join([f"not the latest {QUIET_SEC} s after all was well: {reason}", *stuck]))
    storm.note(f"the latest everywhere after {time.monotonic() - began:.1f} s")
    return time.monotonic() - began


def sound(world):
    """All unmounts in order; no daemon stays, nothing of a cache is damaged, nothing is left of what was under way."""
    for worker in world.workers:
        run_ok(["umount", worker.point])
    for worker in world.workers:
        for mount in worker.mounts:
            try:
                mount.daemon.wait()
            except Failure as failure:
                fail(f"mount {worker.number}: {failure}\n{threads_of(mount.serving_pid())}")
        check(worker.mount.daemon.popen.returncode == 0, "the exit code of the last daemon")
    for cache in sorted({world.w.path(worker.cache) for worker in world.workers}):
        run_ok([program("fsyncfs"), "cache", "verify", "--cache", cache])
        equal(os.listdir(cache / "quarantine"), [], "blobs in quarantine")
        run_ok([program("fsyncfs"), "cache", "gc", "--cache", cache])
        equal(os.listdir(cache / "partial"), [], "partial contents left")
    equal(world.server.stop(), 0, "the server's exit code")


def end_readers(world):
    world.stop.touch()
    total = collections.Counter()
    for worker in world.workers:
        code = worker.reader.wait(READ_SEC)
        check(code == 0, f"the reader of mount {worker.number}: {worker.reader.output().strip()[-1500:]}")
        for what, number in json.loads(worker.reader.output().splitlines()[-1]).items():
            total[what] = max(total[what], number) if what.startswith("longest") else total[what] + number
    return total


def found(look, *words):
    """LOOK() comes to fail with a text that holds one of WORDS."""
    def failed():
        try:
            look()
        except Failure as failure:
            check(any(word in str(failure) for word in words), f"another failure: {failure}")
            return True
        return False
    wait_until(failed, f"a failure that names {words}")


@case("planted wrong bytes, a lost name and a hang are found")
def checks(w):
    world = World(w, SEED, pause_sec=0.3)
    byte, name, hang = world.workers
    with world.editor.running:
        hang.stop()
        hang.stopped = False
        found(lambda: hang.check_reader(read_sec=1, other_sec=1), "hangs")
        hang.stopped = True
        hang.proceed()
        planted = sorted(world.master.kept)[-1]
        right = world.master.now[planted]
        name.reader.signal(signal.SIGSTOP)
        (world.master.tree / planted).write_bytes(right[:-1] + bytes([right[-1] ^ 1]))
        found(byte.check_reader, f"WRONG {planted}")
        world.master.replace(planted, right)
        wait_until(lambda: (name.point / planted).read_bytes() == right, "the right bytes")
        name.reader.signal(signal.SIGCONT)
        (world.master.tree / planted).unlink()
        found(name.check_reader, f"{planted} is not there", f"a listing lacks ['{planted}']")


@case(f"readers on three mounts while everything fails, for {SECONDS} s")
def everything(w):
    say(f"seed {SEED} (FSYNCFS_TEST_SEED)")
    world = World(w, SEED, pause_sec=1 if FULL else 0.3)
    until, slowest, rounds = time.monotonic() + SECONDS, 0, 0
    with open(w.path("events.log"), "w", encoding="utf-8") as log, contextlib.ExitStack() as stack:
        storm = Storm(world, random.Random(SEED + 2), log)
        stack.callback(storm.heal)
        while time.monotonic() < until:
            round_end = time.monotonic() + storm.rng.uniform(*STORM_SEC)
            while time.monotonic() < round_end:
                storm.step()
                world.watch()
                remount_dead(world, storm)
                time.sleep(storm.rng.uniform(0.05, 0.6))
            storm.heal()
            slowest, rounds = max(slowest, at_last(world, storm)), rounds + 1
        world.editor.over.set()
        world.editor.join()
        total = end_readers(world)
        proxies = [proxy.do() for proxy in world.proxies]
    say(f"faults: {dict(storm.counts)}")
    say(f"{world.editor.changes} changes; {rounds} times the latest everywhere, after {slowest:.1f} s at most; readers: {dict(total)}; proxies: {proxies}")
    for way in ("at_random", "in_order", "mapped", "by_sendfile", "listings"):
        check(total[way] > 50, f"only {total[way]} reads {way}")
    sound(world)
    reads = sum(total[way] for way in ("at_random", "in_order", "mapped", "by_sendfile"))
    errors = {what: number for what, number in total.items() if what.isupper()}
    report("Chaos", f"{sum(storm.counts.values())} faults of {len(storm.counts)} kinds in {SECONDS} s, {world.editor.changes} changes",
           "no wrong byte, no hang, no lost mount; the latest everywhere when all is well",
           f"{reads} reads on three mounts, all right, but for {errors or 'no'} errors; the longest took {total['longest_read_ms'] / 1000:.1f} s; "
           f"{rounds} times the latest everywhere, after {slowest:.1f} s at most")


main()
