"""Masters of our own kind that misbehave in one way each (tests/peers/hostile_own.py): packs, differences, pushes, single folders, Fetch.

What is shown is right or not shown: a bad first listing fails the mount with one line, a bad difference or push leaves the tree as it is or is asked
for in full, a bad folder or content is an errno in time. The daemon lives on, in bounded memory.
"""

import concurrent.futures
import errno
import os
import re
import threading
import time
from pathlib import Path

from harness import case, check, equal, is_mounted, main, one_line, program, report, run, wait_until
from peers import hostile_own, hostile_own_modes

FAILED = 32  # mount(8)
TIMEOUT = 2
LISTEN_SEC = 4  # how long a bad pusher is watched
AT_A_TIME = 6   # most cases wait for a time-out
SLACK = 6  # seconds beyond TIMEOUT that a task may wait
REPEATS = 4  # of a read that fails, by the kernel
MEMORY_KIB = 200 << 10
FOLDERS_KIB = 700 << 10  # while folders are listed by themselves: 188 MiB of entries, arrays that grow, and what malloc keeps
BAD_BYTES = {errno.EIO, errno.ESTALE, errno.ETIMEDOUT, errno.EHOSTUNREACH}
FIRST = {"a/one": b"1\n", "a/two": b"22\n", "b/deep/x": b"xx\n", "good.txt": b"good content\n",
         "large": bytes(range(256)) * (4 << 10) + b"a megabyte"}
SECOND = {**FIRST, "new": b"new\n", "a/two": b"changed\n"}

# The digests prove what came, however oddly it was sent.
SHOWN = {"good", "data-of-another", "in-pieces", "folders-out-of-order", "extra-folder", "whole-folder", "total-too-large",
         "strategy-says-changes", "two-versions", "resumed-well", "resumed-with-another-version", "resumed-with-wrong-entries"}
# Differences after which the worker has SECOND; of those HEALED it was sent everything.
HEALED = {"that-does-not-add-up", "with-nothing", "that-takes-all-away", "with-an-empty-root", "with-orphans", "below-a-file",
          "notice", "gone-and-there", "begins-in-the-middle"}
TAKEN = {"good", "in-packs", "from-the-past", "older-revision"} | HEALED
# Pushes that must not keep the worker from the version that there is: it asks.
ASKED_FOR = {"good", "notice", "that-does-not-add-up", "takes-all-away", "from-the-future", "older-revision", "garbage-entries",
             "unchanged-to-another", "bomb", "short-digest", "notices-at-full-speed", "lies-at-full-speed"}
LISTED = {"good"}


def tree(point):
    """All files with their contents, as a task sees them."""
    return {os.path.relpath(os.path.join(folder, f), point): Path(folder, f).read_bytes()
            for folder, _, files in os.walk(point) for f in files}


def names(point):
    return sorted(os.path.relpath(os.path.join(folder, f), point) for folder, _, files in os.walk(point) for f in files)


def peak_kib(m):
    return int(re.search(r"VmHWM:\s+(\d+)", Path(f"/proc/{m.serving_pid()}/status").read_text())[1])


def alive(w, m, memory_kib=MEMORY_KIB):
    """The daemon answers, has kept within its memory, and nothing was written outside the cache folder."""
    check(m.daemon.running(), "the daemon lives")
    m.status()
    peak = peak_kib(m)
    check(peak < memory_kib, f"memory of the daemon: {peak} KiB at most, expected less than {memory_kib}")
    nothing_outside(w)
    check("\x1b" not in m.daemon.output() and "\x07" not in m.daemon.output(), "control characters in the log")


def same(got, want, what):
    """Equal trees, as TREE gives them."""
    different = sorted(path for path in set(got) | set(want) if got.get(path) != want.get(path))
    check(not different, f"{what}: different in {different}")


def nothing_outside(w):
    here = []
    for folder, below, files in os.walk(w.dir):
        here += [os.path.join(folder, n) for n in below + files]
        below[:] = [n for n in below if not n.startswith("mnt")]  # nobody waits for what is mounted there
    evil = [p for p in here if "evil" in p] + [p for p in ["/tmp/evil", "/evil"] if os.path.lexists(p)]
    equal(evil, [], "files written")


def calls(master, word):
    return len(re.findall(rf"^[\d.]+ {word}\b", master.output(), re.M))


def in_time(began, what):
    took = time.monotonic() - began
    check(took < TIMEOUT + SLACK, f"{what} took {took:.1f} s with timeout={TIMEOUT}")


# ---- first listings ----

def shows(w, name):
    master = hostile_own(w, "snapshot-" + name)
    m = w.mount(master.source, options=[f"timeout={TIMEOUT}"])
    same(tree(m.point), SECOND if name.endswith("another-version") else FIRST, "the tree")
    equal(m.status()["full_scans"], int(name == "resumed-with-wrong-entries"), "listings asked for once more")
    alive(w, m)
    m.unmount()


def shows_deep(w, _name):
    master = hostile_own(w, "snapshot-deep")
    m = w.mount(master.source, options=[f"timeout={TIMEOUT}"])
    check(os.path.isdir(m.point / "/".join(["d"] * 299)), "the deepest folder")
    alive(w, m)
    m.unmount()


def refuses(w, name):
    master = hostile_own(w, "snapshot-" + name)
    done = w.try_mount(master.source, [f"timeout={TIMEOUT}", "lazy=off"])
    one_line(done, FAILED)
    check("\x1b" not in done.stderr, "control characters on stderr")
    check(not is_mounted(w.path("mnt")), "something is mounted")
    nothing_outside(w)


# ---- differences ----

def steps(w, name):
    """After a refresh the worker has FIRST or SECOND, whole; the next refresh still works."""
    master = hostile_own(w, "difference-" + name)
    m = w.mount(master.source, options=[f"timeout={TIMEOUT}"])
    same(tree(m.point), FIRST, "the tree before")
    done = run([program("fsyncfs"), "refresh", m.point])
    if name in TAKEN:
        equal(done.returncode, 0, f"refresh: {done.stderr}")
        same(tree(m.point), SECOND, "the tree after")
    else:
        one_line(done, 1)
        check("\x1b" not in done.stderr, "control characters on stderr")
        same(tree(m.point), FIRST, "the tree stays")
    equal(m.status()["full_scans"], int(name in HEALED), "listings asked for once more, in full")
    alive(w, m)
    m.unmount()


# ---- pushes ----

def listens(w, name):
    master = hostile_own(w, "watch-" + name)
    m = w.mount(master.source, options=[f"timeout={TIMEOUT}", "refresh=push"])
    began = time.monotonic()
    if name in ASKED_FOR:
        wait_until(lambda: names(m.point) == sorted(SECOND), "the present version shows")
    time.sleep(max(0.0, LISTEN_SEC - (time.monotonic() - began)))
    seconds = time.monotonic() - began
    scans, watches = calls(master, "scan"), calls(master, "watch")
    same(tree(m.point), SECOND if name in ASKED_FOR else FIRST, "the tree")
    check(scans <= 4 + 4 * seconds, f"{scans} scans in {seconds:.1f} s")
    check(watches <= 8, f"{watches} streams in {seconds:.1f} s: the pauses must grow")
    began = time.monotonic()
    run([program("fsyncfs"), "refresh", m.point])
    in_time(began, "a refresh")
    same(tree(m.point), SECOND, "the tree after a refresh")
    alive(w, m)
    m.unmount()


# ---- single folders ----

def lists(w, name):
    """A folder of a first version that is still coming: right, or an error in time."""
    master = hostile_own(w, "folder-" + name)
    m = w.mount(master.source, options=[f"timeout={TIMEOUT}", "lazy=0"])
    equal(sorted(os.listdir(m.point)), ["a", "b", "good.txt", "large"], "the top folder")
    for look, right in ((lambda: sorted(os.listdir(m.point / "a")), ["one", "two"]),
                        (lambda: os.stat(m.point / "a/one").st_size, 2)):
        began = time.monotonic()
        try:
            equal(look(), right, "what is in the folder")
            check(name in LISTED, "it could be proved")
        except OSError as error:
            check(name not in LISTED and error.errno in BAD_BYTES, f"{error}")
        in_time(began, "a look into a folder")
    alive(w, m, FOLDERS_KIB if name == "endless-children" else MEMORY_KIB)
    m.unmount()


def lists_one(w, _name):
    """Folders that wait for the present version do not keep others from being listed."""
    master = hostile_own(w, "folder-stale-but-one")
    m = w.mount(master.source, options=[f"timeout={TIMEOUT}", "lazy=0"])
    looks = [w.spawn(["ls", m.point / f"{i:02}"], f"ls{i}.log") for i in range(30) if i != 1]
    wait_until(lambda: calls(master, "folder") >= 16, "the folders are asked for")
    began = time.monotonic()
    equal(os.listdir(m.point / "39"), ["one"], "a folder that can be listed")
    in_time(began, "its listing")
    check(all(look.wait() != 0 for look in looks), "a stale folder was listed")
    in_time(began, "the looks into stale folders")
    alive(w, m)
    m.unmount()


def lists_large(w, _name):
    """Large folders at the same time: one after the other, and all of them."""
    master = hostile_own(w, "folder-large-ones")
    m = w.mount(master.source, options=["timeout=60", "lazy=0"])
    with concurrent.futures.ThreadPoolExecutor(3) as pool:
        equal([len(names) for names in pool.map(os.listdir, [m.point / str(i) for i in (0, 2, 3)])], [12_000] * 3, "names")
    alive(w, m)
    m.unmount()


def lists_in_its_turn(w, _name):
    """A folder that is too large to be listed by itself: who looks into it waits for the listing of all."""
    master = hostile_own(w, "folder-too-large")
    m = w.mount(master.source, options=["timeout=60", "lazy=0"])
    equal(sorted(os.listdir(m.point / "a")), ["one", "two"], "what is in the folder")
    equal(calls(master, "folder"), 1, "calls for it")
    same(tree(m.point), FIRST, "the tree")
    alive(w, m, FOLDERS_KIB)
    m.unmount()


def lists_many(w, _name):
    """However many folders without an end are looked into at a time, what has come of them is bounded, and each look ends."""
    master = hostile_own(w, "folder-endless-many")
    m = w.mount(master.source, options=["timeout=20", "lazy=0"])  # for some gigabytes
    looks = [w.spawn(["ls", m.point / f"{i:02}"], f"ls{i}.log") for i in range(2, 40)]
    wait_until(lambda: calls(master, "folder") >= 16, "the folders are asked for")
    check(all(look.wait() != 0 for look in looks), "a folder without an end was listed")
    report("Master that lies: folders without an end", f"{len(looks)} of them looked into at a time", "bounded memory; each look ends",
           f"{peak_kib(m) >> 10} MiB at most; each ended with an error")
    alive(w, m, FOLDERS_KIB)
    m.unmount()


# ---- contents ----

def fetches_one(m, name, path):
    began = time.monotonic()
    try:
        check((m.point / path).read_bytes() == FIRST[path], f"the content of {path}")
        check(name not in UNFETCHABLE, f"{path} cannot have come")
    except OSError as error:
        check(error.errno in BAD_BYTES, f"{path}: {error}")
        stale = "stale" in name and error.errno == errno.ESTALE  # what the master says of its file counts
        check(name.startswith("only-") or name in PATIENT or stale, f"{path} can be had by a download: {error}")
        check(name not in FETCHABLE, f"{path} came rightly: {error}")
    in_time(began, f"a read of {path}")


def fetches(w, name):
    """Small and large: the right bytes, or an errno in time. With a right download there is no excuse but a master that seems to be away."""
    master = hostile_own(w, "fetch-" + name)
    m = w.mount(master.source, options=[f"timeout={TIMEOUT}"])
    with concurrent.futures.ThreadPoolExecutor() as pool:
        for read in [pool.submit(fetches_one, m, name, path) for path in ("good.txt", "large", "a/one")]:
            read.result()
    shown = SECOND if "stale" in name else FIRST  # for then the worker looks at the present version
    equal(names(m.point), sorted(shown), "the listing afterwards")
    check(calls(master, "fetch") <= 40, f"{calls(master, 'fetch')} streams")
    alive(w, m)
    m.unmount()


def withholds(w, _name):
    """A piece that does not come is an error in time, however much of the same file comes meanwhile; the others are there."""
    master = hostile_own(w, "withhold-one")
    m = w.mount(master.source, options=[f"timeout={TIMEOUT}"])
    with open(m.point / "big", "rb", buffering=0) as f, concurrent.futures.ThreadPoolExecutor(1) as pool:
        over = threading.Event()

        def read_on():
            for at in range(2 << 20, 24 << 20, 256 << 10):
                if not over.is_set():
                    os.pread(f.fileno(), 4096, at)
        check(len(os.pread(f.fileno(), 4096, 0)) == 4096, "the first piece")
        reading = pool.submit(read_on)
        began = time.monotonic()
        try:
            os.pread(f.fileno(), 4096, 256 << 10)
            raise AssertionError("what was never sent was read")
        except OSError as error:
            check(error.errno in BAD_BYTES, f"{error}")
        finally:
            over.set()
        took = time.monotonic() - began
        check(took < REPEATS * TIMEOUT + SLACK, f"a read of a piece that does not come took {took:.1f} s")
        reading.result()
        check(len(os.pread(f.fileno(), 4096, 600 << 10)) == 4096, "the third piece")
    alive(w, m)
    m.unmount()


FETCHABLE = {"only-good", "only-slow", "only-unasked-first", "only-again", "only-ends-after-each"}
# Here the worker hopes for the stream until the time-out: it does not turn to downloads.
PATIENT = {"silent", "unasked-only", "empty-messages-for-ever", "away-for-ever", "ends-at-once", "ends-when-asked", "huge-message"}
UNFETCHABLE = {"only-wrong-bytes", "only-wrong-bytes-in-pieces", "only-too-long", "only-too-short", "only-silent",
               "only-status-99", "only-ends-at-once", "only-unimplemented"}


# ---- all of them ----

# What sends as fast as it can leaves others no processor.
BUSY = ("unasked-only", "empty-parts", "heartbeats-", "empty-packs", "begins-anew", "other-version-for-ever", "same-folders",
        "full-speed", "version-without-end", "endless", "same-children")


def register(mode):
    kind, _, name = mode.partition("-")
    what, how = {
        "snapshot": ("a first listing", shows_deep if name == "deep" else shows if name in SHOWN else refuses),
        "difference": ("a difference", steps),
        "watch": ("pushes", listens),
        "folder": ("a folder", {"stale-but-one": lists_one, "endless-many": lists_many, "large-ones": lists_large,
                                    "too-large": lists_in_its_turn}.get(name, lists)),
        "fetch": ("Fetch", fetches),
        "withhold": ("pieces but", withholds),
    }[kind]
    busy = any(word in name for word in BUSY)
    case(f"{what}: {name}", alone=busy)(lambda w: how(w, name))


for each_mode in hostile_own_modes():
    if not each_mode.startswith("paths-"):  # test_paths.py
        register(each_mode)


main(at_a_time=AT_A_TIME)
