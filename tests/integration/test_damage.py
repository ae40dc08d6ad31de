"""One byte of the cache folder is another: in any file, at any place, with the mount stopped and while it runs. No wrong byte, no wrong name, and all is whole again."""

import json
import os
import random
import shutil
import stat
from pathlib import Path

from faultlab import MIB, ends_well, files_of, forget, report, verify
from harness import FULL, case, check, equal, main, program, run, run_ok, say
from trees import make_tree

SEED = int(os.environ.get("FSYNCFS_TEST_SEED", "1"))
ROUNDS = 40 if FULL else 2  # of each kind of file
PAGES = 80 if FULL else 8   # of a large catalog


def tree_of(w):
    make_tree(w.tree, 30, MIB // 2)
    rng = random.Random(7)
    for i in range(20):
        (w.tree / f"tiny{i}").write_bytes(rng.randbytes(40 + i))
    os.symlink("tiny1", w.tree / "link")
    (w.tree / "large").write_bytes(rng.randbytes(6 * MIB))


def read_part(path):
    """One piece, so that the content stays a part."""
    fd = os.open(path, os.O_RDONLY)
    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_RANDOM)
    os.pread(fd, 4096, 2 * MIB)
    os.close(fd)


def is_right(m, w):
    """Names, kinds, modes, times, sizes, targets and bytes are the master's."""
    names = sorted(p.relative_to(w.tree) for p in w.tree.rglob("*"))
    equal(sorted(p.relative_to(m.point) for p in m.point.rglob("*")), names, "names")
    for name in names:
        ours, theirs = os.lstat(m.point / name), os.lstat(w.tree / name)
        same = ("st_mode", "st_mtime_ns") + (("st_size",) if not stat.S_ISDIR(theirs.st_mode) else ())
        for field in same:
            equal(getattr(ours, field), getattr(theirs, field), f"{field} of {name}")
        if stat.S_ISLNK(theirs.st_mode):
            equal(os.readlink(m.point / name), os.readlink(w.tree / name), f"target of {name}")
        elif stat.S_ISREG(theirs.st_mode):
            check((m.point / name).read_bytes() == (w.tree / name).read_bytes(), f"wrong bytes in {name}")


def flip(path, at):
    """Another value for one byte, past every permission."""
    with open(path, "r+b") as f:
        f.seek(at)
        old = f.read(1)[0]
        f.seek(at)
        f.write(bytes([old ^ (1 << (at % 8))]))


def kinds_of(cache):
    """The files of a cache folder by what they are."""
    kinds = {}
    for path in sorted(p for p in cache.rglob("*") if p.is_file() and p.stat().st_size > 0):
        if path.name == "format":
            continue  # another number in it is another format: a case of its own
        name = ("blob" if "blobs" in path.parts and path.suffix != ".part" else
                {".part": "part", ".db": "catalog", ".db-wal": "catalog's log", ".db-shm": "catalog's index of the log"}.get(
                    path.suffix, path.name))
        kinds.setdefault(name, []).append(path.relative_to(cache))
    return kinds


def pristine(w, server, log=False):
    """A cache folder in which there is something of everything, its mount stopped; LOG: the catalog is still in its log."""
    m = w.mount(server, cache="pristine", options=["prefetch=off"])
    for name in [n for n in files_of(w.tree) if n != "large"][::2]:
        (m.point / name).read_bytes()
    read_part(m.point / "large")
    run_ok([program("fsyncfs"), "cache", "pin", m.point / "large"])
    m.unmount()
    if not log:
        verify(m.cache, "--repair")
    return Path(w.path("pristine"))


def offsets(path, rng, n):
    """The first byte that is written, the last one, and some of each stretch."""
    size, written = path.stat().st_size, []
    with open(path, "rb") as f:
        at = os.lseek(f.fileno(), 0, os.SEEK_DATA)
        while at < size:
            end = os.lseek(f.fileno(), at, os.SEEK_HOLE)
            written.append((at, end))
            try:
                at = os.lseek(f.fileno(), end, os.SEEK_DATA)
            except OSError:
                break
    return [written[0][0], size - 1] + [rng.randrange(*written[i % len(written)]) for i in range(n)]


def flip_stopped(w, log, wanted):
    rng = random.Random(SEED)
    tree_of(w)
    server = w.server()
    cache = pristine(w, server, log)
    kinds = kinds_of(cache)
    say(f"seed {SEED}; {({k: len(v) for k, v in kinds.items()})}")
    for kind in wanted:
        check(kind in kinds, f"no {kind} in {sorted(kinds)}")
    for kind in wanted:
        paths = kinds[kind]
        rounds = noticed = 0
        for turn in range(ROUNDS + 2):
            path = rng.choice(paths)
            at = offsets(cache / path, rng, ROUNDS)[turn]
            shutil.rmtree(w.path("cache"), ignore_errors=True)
            run_ok(["cp", "-a", cache, w.path("cache")])
            flip(w.path("cache") / path, at)
            try:
                m = w.mount(server, options=["prefetch=off"])
                is_right(m, w)
            except BaseException:
                say(f"{path} at {at}")
                raise
            noticed += any(word in m.daemon.output() for word in ("damaged", "quarantine"))
            check(m.daemon.running(), "the daemon ended")
            m.kill()
            run([program("fsyncfs"), "cache", "verify", "--repair", "--cache", m.cache])
            verify(m.cache)
            rounds += 1
        report(f"Byte flipped: {kind}", f"{rounds} times, stopped", "no wrong byte, name or attribute; whole again", f"all right; {noticed} noticed and logged")


@case("a byte flipped in any file, the mount stopped")
def _(w):
    flip_stopped(w, False, ("blob", "part", "catalog", "usage", "source"))


@case("a byte flipped in a catalog that is still in its log")
def _(w):
    flip_stopped(w, True, ("catalog", "catalog's log", "catalog's index of the log"))


@case("a byte flipped in many pages of a large catalog, the mount stopped")
def _(w):
    rng = random.Random(SEED)
    for i in range(3000):
        (w.tree / f"d{i % 50}").mkdir(parents=True, exist_ok=True)
        (w.tree / f"d{i % 50}" / f"a file with a long name, number {i}").write_bytes(b"%d" % i)
    server = w.server()
    m = w.mount(server, cache="pristine", options=["prefetch=off"])
    m.unmount()
    verify(m.cache, "--repair")
    database = next(w.path("pristine").rglob("slot0.db"))
    size = database.stat().st_size
    check(size > 300_000, f"{size} bytes in the database")
    noticed = 0
    for turn in range(PAGES):
        shutil.rmtree(w.path("cache"), ignore_errors=True)
        run_ok(["cp", "-a", w.path("pristine"), w.path("cache")])
        at = rng.randrange(size)
        flip(w.path("cache") / database.relative_to(w.path("pristine")), at)
        for again in range(2):  # what a reader meets is mended by the next mount
            m = w.mount(server, options=["prefetch=off"])
            try:
                is_right(m, w)
                right = True
            except OSError as error:
                right = False
                say(f"byte {at}: {error}")
            damaged = "damaged" in m.daemon.output()
            noticed += damaged
            check(right or (damaged and again == 0), "an error without a word, or for the second time")
            check(m.daemon.running(), "the daemon ended")
            m.kill()
    check(noticed > 0, "nothing was noticed")
    report("Byte flipped: catalog of 3,000 files", f"{PAGES} times, stopped", "no wrong name or attribute; whole again with the next mount",
           f"{noticed} noticed, the others in pages that nobody uses; begun anew")


@case("a byte flipped in blobs, parts and the accounting while the mount runs, open and not")
def _(w):
    rng = random.Random(SEED)
    tree_of(w)
    m = w.mount(w.server(), options=["prefetch=off", "passthrough=off"])
    is_right(m, w)
    (w.tree / "large2").write_bytes(rng.randbytes(2 * MIB))
    m.refresh()
    read_part(m.point / "large2")
    flipped = 0
    for turn in range(ROUNDS * 5):
        paths = [p for p in (w.path("cache") / "blobs").rglob("*") if p.is_file()] + [w.path("cache") / "usage"]
        path = rng.choice(paths if turn % 3 else [p for p in paths if p.stat().st_size > 5 * MIB])  # few are large, and open for long
        flip(path, rng.randrange(path.stat().st_size))
        flipped += 1
        for name in files_of(w.tree):
            forget(m.point / name)
        is_right(m, w)
        (w.tree / "large2").write_bytes(rng.randbytes(2 * MIB))
        m.refresh()
        read_part(m.point / "large2")
    output = m.daemon.output()
    check("quarantine" in output or "damaged" in output, "nothing was noticed")
    ends_well(m)
    run([program("fsyncfs"), "cache", "verify", "--cache", m.cache])
    verify(m.cache)
    report("Byte flipped while mounted", f"{flipped} times in blobs, parts and usage", "no wrong byte", "all right")


@case("cache verify --repair: what it finds, mends and leaves")
def _(w):
    tree_of(w)
    server = w.server()
    cache = pristine(w, server)
    kinds = kinds_of(cache)
    words = [program("fsyncfs"), "cache", "verify", "--cache", cache, "--json"]
    for kind in ("blob", "part", "catalog"):
        path = cache / kinds[kind][0]
        # of a part the piece that is here; of a catalog a page that is used
        flip(path, 2 * MIB + 5 if kind == "part" else 9000 if kind == "catalog" else 5)
    found = run(words)
    equal(found.returncode, 1, "exit code")
    result = json.loads(found.stdout)
    equal((result["damaged"], result["catalogs_damaged"], result["catalogs_removed"]), (2, 1, 0), "found")
    result = json.loads(run([*words, "--repair"]).stdout)
    equal((result["damaged"], result["catalogs_damaged"], result["catalogs_removed"]), (0, 1, 1), "mended")
    m = w.mount(server, cache="pristine", options=["prefetch=off"])
    is_right(m, w)
    equal(json.loads(run_ok([*words, "--repair"]).stdout)["catalogs"], 1, "catalogs while it is mounted")
    ends_well(m)
    (cache / "format").write_text("fsynCfs-store 1\n")
    check(run(words).returncode == 1, "a damaged format is refused")
    equal(run([*words, "--repair"]).returncode, 0, "exit code once it is mended")
    equal((cache / "format").read_text(), "fsyncfs-store 1\n", "format")
    (cache / "format").write_text("fsyncfs-store 77\n")
    check(run([*words, "--repair"]).returncode == 1, "another build's format is left alone")
    equal((cache / "format").read_text(), "fsyncfs-store 77\n", "another build's format")


main()
