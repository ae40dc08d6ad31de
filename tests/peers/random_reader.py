"""A reader that believes nothing: reads files of a mount in every way while they change, and compares each byte.

    random_reader.py POINT VERSIONS SEED STOP [BEATS]

VERSIONS/NAME/ holds, as files N-LO-HI, what the file NAME ever held: the first LO to HI bytes of file N (more than one size where a write
shows while it goes on), put there before the master's file got it. All that one open file yields must be of one of them.
Reads until the file STOP is there. Prints one line of JSON at the end; "WRONG …" and exit code 1 at the first byte that is nobody's.

With BEATS, a file, what a read may fail with is wider: a master that is away, a disk that is full, a daemon that was killed. What asks for no
content may fail with a killed daemon only, and names that begin with "kept" are there whenever the mount is. The file says what each thread
waits for: a record each, RECORD, with the time (CLOCK_MONOTONIC) since when, 0 if nothing, and whether it is a content.
"""

import collections
import errno
import json
import mmap
import os
import random
import struct
import sys
import threading
import time

THREADS = 2
HANDLES = 12  # held open by each thread
SIZES = (1, 2, 100, 511, 4096, 5000, 65536, 131072, 262144, 262145, 1 << 20)
EDGES = (0, 256, 4096, 262144, 524288, 1 << 20)

RECORD = struct.Struct("d?7x")  # in the native way, so that a time is written at once
CALM_ERRORS = {errno.ESTALE, errno.EFAULT}
READ_ERRORS = CALM_ERRORS | {errno.EIO, errno.ETIMEDOUT, errno.EHOSTUNREACH, errno.ENOSPC}
DEAD_ERRORS = {errno.ENOTCONN, errno.ECONNABORTED}  # the daemon was killed

Version = collections.namedtuple("Version", "number low high data")


class Wrong(Exception):
    pass


class Gone(Exception):
    """The mount is not there, or not the same any more."""


class Beats:
    """What one thread waits for, for others to see; and how long it waited at most."""

    def __init__(self, path, index):
        self.index, self.started, self.longest = index, None, {False: 0.0, True: 0.0}
        with open(path, "r+b") as f:
            self.shared = mmap.mmap(f.fileno(), 0)

    def _put(self, *record):
        RECORD.pack_into(self.shared, self.index * RECORD.size, *record)

    def begin(self, content):
        self.started, self.content = time.monotonic(), content
        self._put(self.started, content)

    def end(self):
        if self.started:
            self.longest[self.content] = max(self.longest[self.content], time.monotonic() - self.started)
        self.started = None
        self._put(0.0, False)


class NoBeats:
    longest = {}

    def begin(self, content):
        pass

    def end(self):
        pass


class Point:
    """The mount, which may come and go: names are looked up below a descriptor of its root, so that an empty folder in its place is not taken for it."""

    def __init__(self, path):
        self.path = path
        self.fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
        self.device = os.fstat(self.fd).st_dev

    def close(self):
        os.close(self.fd)

    def check(self):
        """Raises Gone unless it is (still) what is mounted."""
        if self.device == os.stat(os.path.dirname(self.path)).st_dev or os.stat(self.path).st_dev != self.device:
            raise Gone


class Histories:
    """What the files held, of all names; shared by the threads."""

    def __init__(self, folder):
        self.folder = folder
        self.known = {}  # by path

    def _load(self, path, name):
        number, low, high = (int(n) for n in name.split("-"))
        with open(path, "rb") as f:
            data = mmap.mmap(f.fileno(), 0, prot=mmap.PROT_READ) if high else b""
        return Version(number, low, high, data)

    def versions(self, name):
        """All that NAME ever held, by now."""
        folder = os.path.join(self.folder, name)
        paths = [(os.path.join(folder, v), v) for v in os.listdir(folder) if not v.startswith(".")]
        for path, version in paths:
            if path not in self.known:
                self.known[path] = self._load(path, version)
        return [self.known[path] for path, _ in paths]


class Handle:
    """An open file, and the versions that it may be."""

    def __init__(self, point, name, histories, beats):
        self.name, self.histories, self.beats = name, histories, beats
        self.fd = os.open(name, os.O_RDONLY, dir_fd=point.fd)
        self.opened_size = os.fstat(self.fd).st_size
        self.candidates = None  # once something was read: Versions, their sizes narrowed down
        self.last = "nothing"

    def close(self):
        os.close(self.fd)

    def _may_be(self):
        return self.histories.versions(self.name) if self.candidates is None else self.candidates

    def _settle(self, what, narrow):
        """Keeps of what it may be what NARROW leaves of each version; WHAT says in words what was seen, for when nothing is left."""
        known = self._may_be()
        left = [v for v in map(narrow, known) if v]
        if not left:
            sizes = [(v.number, v.low, v.high) for v in known]
            raise Wrong(f"{self.name}: {what()} is of none of {sizes}; before: {self.last}; size at open {self.opened_size}")
        return left

    def _difference(self, offset, got):
        near = {v.number: first_difference(v.data[offset:offset + len(got)], got) for v in self._may_be()}
        return f"{len(got)} bytes at {offset} (versions differ at {near})"

    def took(self, how, offset, got):
        """GOT was read at OFFSET."""
        end = offset + len(got)
        if not got:
            return
        self.candidates = self._settle(
            lambda: f"{how}: {self._difference(offset, got)}",
            lambda v: v._replace(low=max(v.low, end)) if end <= v.high and v.data[offset:end] == got else None)
        self.last = f"{how} of {len(got)} at {offset}"

    def ends(self, how, end):
        """It was seen to be END bytes long, or less if END is where nothing was."""
        if end == self.opened_size:  # a file that was bound anew after it was opened may keep its size for a moment
            return
        left = self._settle(lambda: f"{how}: the end at {end}", lambda v: v._replace(high=min(v.high, end)) if v.low <= end else None)
        if self.candidates is not None:
            self.candidates = left

    def _pread(self, asked, offset):
        self.beats.begin(True)
        got = os.pread(self.fd, asked, offset)
        self.beats.end()
        return got

    def read(self, how, offset, asked):
        """pread(2), compared. A short one says that the file ends, or that what follows is an error: the next tells which."""
        got = self._pread(asked, offset)
        self.took(how, offset, got)
        if len(got) < asked:
            more = self._pread(1, offset + len(got)) if got else b""
            self.took(how + " again", offset + len(got), more)
            if not more:
                self.ends(how, offset + len(got))
        return len(got)

    def size(self):
        """How many bytes it has in any case. fstat(2) may know better, and after a file that was open was bound anew to a smaller one, worse."""
        return min(os.fstat(self.fd).st_size, *(v.high for v in self.candidates), self.opened_size)


def first_difference(a, b):
    return next((i for i, (x, y) in enumerate(zip(a, b)) if x != y), min(len(a), len(b)) if len(a) != len(b) else "no")


class Reader:
    """One thread's work."""

    def __init__(self, path, histories, seed, beats=None):
        self.path, self.histories, self.rng = path, histories, random.Random(seed)
        self.names = sorted(os.listdir(histories.folder))
        self.kept = {name for name in self.names if name.startswith("kept")}
        self.point, self.handles = None, []
        self.chaos, self.beats = beats is not None, beats or NoBeats()
        self.errors = READ_ERRORS if self.chaos else CALM_ERRORS
        self.counts = collections.Counter()
        self.spare = os.memfd_create("mapped")

    def _place(self, size):
        """An offset, often near to where pieces, pages and the file end."""
        if self.rng.random() < 0.5:
            return self.rng.randrange(size + 10)
        return max(0, self.rng.choice(EDGES + (size,)) + self.rng.randrange(-5000, 5000))

    def at_random(self, handle):
        handle.read("pread", self._place(handle.opened_size), self.rng.choice(SIZES))

    def in_order(self, handle):
        step, offset = self.rng.choice(SIZES[3:]), 0
        while got := handle.read("in order", offset, step):
            offset += got

    def by_sendfile(self, handle):
        offset, asked = self._place(handle.opened_size), self.rng.choice(SIZES)
        os.ftruncate(self.spare, 0)
        os.lseek(self.spare, 0, os.SEEK_SET)
        self.beats.begin(True)
        sent = os.sendfile(self.spare, handle.fd, offset, asked)
        self.beats.end()
        handle.took("sendfile", offset, os.pread(self.spare, sent, 0))

    def mapped(self, handle):
        """By way of write(2), so that a page that cannot be had is an error and no signal."""
        if not handle.read("pread", 0, 4096):  # from here on it is known what is open
            return
        size = handle.size()
        with mmap.mmap(handle.fd, size, prot=mmap.PROT_READ) as pages, memoryview(pages) as view:
            offset = min(self._place(size), size - 1)
            asked = min(self.rng.choice(SIZES), size - offset)
            with view[offset:offset + asked] as part:
                self.beats.begin(True)
                written = os.pwrite(self.spare, part, 0)
                self.beats.end()
            handle.took("mapping", offset, os.pread(self.spare, written, 0))

    def _open(self):
        name = self.rng.choice(self.names)
        self.beats.begin(False)
        try:
            self.handles.append(Handle(self.point, name, self.histories, self.beats))
            self.counts["opens"] += 1
        except FileNotFoundError:
            self.counts["gone"] += 1
            if self.chaos and name in self.kept:
                raise Wrong(f"{name} is not there") from None
        self.beats.end()

    def _list(self):
        """A listing names what is always there, and nothing that never was; the root's attributes and statfs(2) are answered."""
        self.beats.begin(False)
        self.point.check()
        names = {name for name in os.listdir(self.point.fd) if not name.startswith(".")}
        os.fstatvfs(self.point.fd)
        self.beats.end()
        self.counts["listings"] += 1
        if not self.kept <= names <= set(self.names):
            raise Wrong(f"a listing lacks {sorted(self.kept - names)}, has {sorted(names - set(self.names))}")

    def _use(self, handle):
        """Reads of HANDLE; whether it is of use any longer."""
        how = self.rng.choices((self.at_random, self.in_order, self.mapped, self.by_sendfile), (8, 2, 4, 3))[0]
        try:
            how(handle)
            self.counts[how.__name__] += 1
        except OSError as error:
            if self.chaos and error.errno in DEAD_ERRORS:
                raise
            if error.errno not in self.errors:
                raise Wrong(f"{handle.name}: {how.__name__}: {error}") from None
            self.counts[errno.errorcode[error.errno]] += 1
            return self.chaos and self.rng.random() < 0.5  # what failed may be right later
        finally:
            self.beats.end()
        return self.rng.random() >= 0.1

    def step(self):
        self.point = self.point or Point(self.path)
        if self.chaos and self.rng.random() < 0.05:
            self._list()
        if len(self.handles) < HANDLES and (not self.handles or self.rng.random() < 0.3):
            self._open()
        if self.handles:
            handle = self.rng.choice(self.handles)
            if not self._use(handle):
                handle.close()
                self.handles.remove(handle)

    def leave(self):
        """Gives up all that is open."""
        for handle in self.handles:
            handle.close()
        self.handles = []
        if self.point:
            self.point.close()
        self.point = None
        self.beats.end()

    def brave_step(self):
        """A step on a mount whose daemon may be killed and which may be unmounted."""
        try:
            self.beats.begin(False)
            if not self.point:
                self.point = Point(self.path)
                self.point.check()
            self.beats.end()
            self.step()
        except Gone:
            self.counts["moved"] += 1
        except OSError as error:
            if error.errno not in DEAD_ERRORS:
                raise Wrong(f"what needs no content: {error}") from None
            self.counts["dead"] += 1
        else:
            return
        self.leave()
        time.sleep(0.05)

    def run(self, stop, wrong):
        try:
            while not os.path.exists(stop) and not wrong:
                (self.brave_step if self.chaos else self.step)()
        except Wrong as error:
            wrong.append(str(error))
        finally:
            self.leave()


def main():
    point, versions, seed, stop, *beats = sys.argv[1:]
    histories, wrong = Histories(versions), []
    readers = [Reader(point, histories, int(seed) * THREADS + i, Beats(beats[0], i) if beats else None) for i in range(THREADS)]
    threads = [threading.Thread(target=reader.run, args=(stop, wrong)) for reader in readers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for line in wrong:
        print("WRONG", line, flush=True)
    total = dict(sum((reader.counts for reader in readers), collections.Counter()))
    for content, name in ((False, "longest_other_ms"), (True, "longest_read_ms")):
        total[name] = round(1000 * max(reader.beats.longest.get(content, 0) for reader in readers))
    print(json.dumps(total), flush=True)
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
