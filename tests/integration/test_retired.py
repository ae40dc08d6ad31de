"""A mount that lives for long over a tree that changes: its catalog does not grow with every change, and what is held of older versions goes on."""

import mmap
import os
import random
import sqlite3
import subprocess
import sys

from harness import FULL, case, check, equal, main

FILES, ROUNDS = 40, 100 if FULL else 25
AT_ONCE = ["env", "FSYNCFS_TEST_RETIRED_SEC=0"]  # else they are kept for a day
LARGE = 4_000_000


def rows(m, retired):
    """How many entries the mount's catalog holds."""
    db = sqlite3.connect(f"file:{next(m.cache.glob('catalogs/*/slot0.db'))}?mode=ro", uri=True, timeout=30)
    try:
        return db.execute(f"SELECT count(*) FROM entry WHERE died {'<>' if retired else '='} 0").fetchone()[0]
    finally:
        db.close()


def retired_names(m):
    db = sqlite3.connect(f"file:{next(m.cache.glob('catalogs/*/slot0.db'))}?mode=ro", uri=True, timeout=30)
    try:
        return {name for name, in db.execute("SELECT name FROM entry WHERE died <> 0")}
    finally:
        db.close()


def write(path, text):
    temporary = path.with_name(".new")
    temporary.write_text(text)
    temporary.rename(path)


def change(w, m, number):
    """One more version: every file is another one."""
    for i in range(FILES):
        write(w.tree / "d" / f"{i:03}", f"{number} {i} " * random.Random(i).randrange(10, 3000))
    m.refresh()


def grow(w, m, first, most):
    """ROUNDS versions; no more than MOST rows are kept of older ones at any time."""
    for number in range(first, first + ROUNDS):
        change(w, m, number)
        (m.point / "d" / "000").read_bytes()
        check(rows(m, retired=True) <= most, f"{rows(m, retired=True)} retired entries at version {number}, of at most {most}")


def set_up(w, prefix=AT_ONCE, **how):
    (w.tree / "d").mkdir(parents=True)
    m = w.mount(w.server(), prefix=prefix, **how)
    change(w, m, 0)
    return m


# What a change retires goes with the one after the next but one: it is noted when the kernel was told, asked about at the next change, and removed with the one after it.
OLDER = 4 * FILES


@case(f"{ROUNDS} versions of {FILES} files: the catalog stays as small as with a few")
def steady(w):
    m = set_up(w)
    grow(w, m, 1, OLDER)
    equal(rows(m, retired=False), FILES + 2, "entries that live")
    names = sorted(os.listdir(m.point / "d"))
    equal(names, [f"{i:03}" for i in range(FILES)], "the listing")
    equal((m.point / "d" / "017").read_bytes(), (w.tree / "d" / "017").read_bytes(), "a file")


@case("what is kept is kept for a day, if nobody says otherwise")
def for_a_day(w):
    m = set_up(w, prefix=[])
    for number in range(1, 6):
        change(w, m, number)
    equal(rows(m, retired=True), 5 * FILES, "retired entries")


class Held:
    """A file that is read, one that is mapped, a running program, a large one that was replaced before a byte of it was read, a folder that somebody stands in."""

    def __init__(self, w, m):
        self.m, self.now = m, os.urandom(LARGE)
        write(w.tree / "read", "read " * 1000)
        write(w.tree / "mapped", "mapped " * 1000)
        (w.tree / "unread").write_bytes(os.urandom(LARGE))
        (w.tree / "stand" / "below").mkdir(parents=True)
        write(w.tree / "stand" / "below" / "file", "below")
        write(w.tree / "program", "#!/bin/sh\necho begun\nread line\necho version 1\n")
        (w.tree / "program").chmod(0o755)
        m.refresh()
        self.read = open(m.point / "read", "rb", buffering=0)
        self.first = self.read.read(10)
        with open(m.point / "mapped", "rb") as f:
            self.mapped = mmap.mmap(f.fileno(), 0, prot=mmap.PROT_READ)
        self.mapped[0]
        self.unread = open(m.point / "unread", "rb", buffering=0)
        self.stand = os.open(m.point / "stand" / "below", os.O_RDONLY | os.O_DIRECTORY)
        self.program = subprocess.Popen([m.point / "program"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        equal(self.program.stdout.readline(), "begun\n", "the program's first word")
        self.replace(w)

    def replace(self, w):
        for name in ("read", "mapped", "program"):
            write(w.tree / name, "another")
        (w.tree / "unread").write_bytes(self.now)
        (w.tree / "stand" / "below" / "file").unlink()
        (w.tree / "stand" / "below").rmdir()
        (w.tree / "stand").rmdir()
        self.m.refresh()
        self.goes_on()
        (w.tree / "unread").unlink()
        self.m.refresh()

    def goes_on(self):
        equal(self.first + os.pread(self.read.fileno(), 10_000, 10), b"read " * 1000, "the file that is open")
        equal(os.fstat(self.read.fileno()).st_size, 5000, "its size")
        # Its own content was nowhere, and nobody had seen a byte of it: it is what took its place, and is retired itself by now.
        equal(os.pread(self.unread.fileno(), LARGE, 0) == self.now, True, "the file that was replaced before it was read")
        equal(os.fstat(self.unread.fileno()).st_size, LARGE, "its size")
        equal(self.mapped[:], b"mapped " * 1000, "the file that is mapped")
        equal(os.fstat(self.stand).st_mode & 0o777, 0o755, "the folder's mode")
        path = os.readlink(f"/proc/self/fd/{self.stand}")
        check(path.startswith(str(self.m.point / "stand" / "below")), f"its path is {path}")

    def release(self):
        output, _ = self.program.communicate("go on\n", timeout=60)
        equal(output, "version 1\n", "what the program says")
        for held in (self.read, self.mapped, self.unread):
            held.close()
        os.close(self.stand)


HELD = 7  # rows: four files, what one of them is bound to, the folder and the one around it
SMALL = 6  # at most, of what small changes have retired themselves, and is not asked about or not gone yet


def small_changes(w, m):
    for number in range(5):
        write(w.tree / "small", str(number))
        m.refresh()


@case("what is held of a version long gone goes on, and goes when it is let go of")
def held(w):
    m = set_up(w, options=["prefetch=off"])
    h = Held(w, m)
    grow(w, m, 1, OLDER + HELD)
    h.goes_on()
    small_changes(w, m)
    check(HELD <= rows(m, retired=True) <= HELD + SMALL, f"{rows(m, retired=True)} retired entries while all is held")
    h.release()
    small_changes(w, m)
    equal(retired_names(m) - {b"small"}, set(), "what is retired at last")


@case("a daemon that dies in between: the next one knows as well what is held")
def taken_over(w):
    m = set_up(w)
    h, crashes = Held(w, m), 0
    for number in range(1, ROUNDS):
        change(w, m, number)
        if number % (ROUNDS // 5) == 0:
            m.crash()
            crashes += 1
            equal(m.status()["restarts"], crashes, "restarts")
            h.goes_on()
        check(rows(m, retired=True) <= 2 * OLDER + HELD, f"{rows(m, retired=True)} retired entries at version {number}")
    h.goes_on()
    h.release()


@case("a listing that somebody is in the middle of goes on over all that changes: nothing twice, nothing missed")
def listing(w):
    (w.tree / "d").mkdir(parents=True)
    names = [f"{i:05}" for i in range(3000)]
    for name in names:
        (w.tree / "d" / name).write_text("first")
    m = w.mount(w.server(), prefix=AT_ONCE)
    with os.scandir(m.point / "d") as under_way:  # the library reads 32 KiB at once
        seen = [next(under_way).name for _ in range(10)]
        for number in range(6):
            for name in names[2000::7]:
                write(w.tree / "d" / name, f"another {number}")
            m.refresh()
        seen += [entry.name for entry in under_way]
    equal(seen, names, "the names")


main()
