"""Files on a master that change in every way, and all that they ever held, for random_reader.py to compare with."""

import os

from tap import check, equal

SIZES = (0, 1, 255, 256, 257, 4095, 4096, 4097, 262143, 262144, 262145, 524288, 524289, (1 << 20) + 7, 3 << 20)


class Master:
    """The files of a workspace, and all that each of them ever held. Of sizes KEPT there are some more whose names are never gone for a moment."""

    def __init__(self, tree, versions, rng, kept=()):
        self.tree, self.folder, self.rng = tree, versions, rng
        self.now, self.counts = {}, {}  # by name: bytes; versions
        self.changes = [self.replace, self.replace, self.append, self.append, self.shrink, self.grow, self.poke, self.poke,
                        self.write_anew, self.swap, self.remove, self.touch, self.back]
        tree.mkdir(parents=True)
        for i, size in enumerate(SIZES + kept):
            name = f"{'f' if i < len(SIZES) else 'kept'}{i:02}-{size}"
            (versions / name).mkdir(parents=True)
            self.note(name, rng.randbytes(size))
            (tree / name).write_bytes(self.now[name])
        self.names = sorted(self.now)
        self.kept = {name for name in self.names if name.startswith("kept")}

    def note(self, name, data, low=None):
        """NAME is about to hold DATA; meanwhile the first LOW bytes of it, or more."""
        number = self.counts[name] = self.counts.get(name, 0) + 1
        folder = self.folder / name
        (folder / ".new").write_bytes(data)
        (folder / ".new").rename(folder / f"{number}-{len(data) if low is None else low}-{len(data)}")
        self.now[name] = data

    def size(self):
        size = self.rng.choice(SIZES) if self.rng.random() < 0.7 else self.rng.randrange(2 << 20)
        return max(0, size + self.rng.choice((0, 0, -1, 1)))

    def replace(self, name, data=None):
        data = self.rng.randbytes(self.size()) if data is None else data
        (self.tree / ".new").write_bytes(data)
        self.note(name, data)
        (self.tree / ".new").rename(self.tree / name)

    def append(self, name):
        more = self.rng.randbytes(self.rng.choice((1, 100, 4096, 8192)))
        self.note(name, self.now[name] + more, low=len(self.now[name]))
        with open(self.tree / name, "ab", buffering=0) as f:
            f.write(more)

    def _truncate(self, name, data):
        self.note(name, data)
        os.truncate(self.tree / name, len(data))

    def shrink(self, name):
        self._truncate(name, self.now[name][:self.rng.randrange(len(self.now[name]) + 1)])

    def grow(self, name):
        self._truncate(name, self.now[name] + bytes(self.rng.randrange(300_000)))

    def poke(self, name):
        """A byte in the middle, in place."""
        if data := self.now[name]:
            at = self.rng.randrange(len(data))
            self.note(name, data[:at] + bytes([data[at] ^ self.rng.randrange(1, 256)]) + data[at + 1:])
            with open(self.tree / name, "r+b", buffering=0) as f:
                os.pwrite(f.fileno(), self.now[name][at:at + 1], at)

    def write_anew(self, name):
        self.note(name, self.rng.randbytes(self.size()), low=0)
        (self.tree / name).write_bytes(self.now[name])

    def swap(self, name):
        """Another name gets this file, and this one another file."""
        if name in self.kept:
            return
        other = self.rng.choice([n for n in self.names if n != name])
        self.note(other, self.now[name])
        (self.tree / name).rename(self.tree / other)
        self.replace(name)

    def remove(self, name):
        if name in self.kept:
            return
        (self.tree / name).unlink()
        self.replace(name)

    def touch(self, name):
        os.utime(self.tree / name)

    def back(self, name):
        """What it held before: equal contents come and go and come again."""
        versions = [v for v in os.listdir(self.folder / name) if not v.startswith(".")]
        self.replace(name, (self.folder / name / self.rng.choice(versions)).read_bytes())

    def change(self):
        self.rng.choice(self.changes)(self.rng.choice(self.names))


def at_rest(master, mounts):
    """Nothing has changed since the refresh: each file is the latest, on every mount."""
    for m in mounts:
        equal(sorted(os.listdir(m.point)), master.names, "the names")
        for name in master.names:
            data = (m.point / name).read_bytes()
            if data != master.now[name]:
                versions = [v for v in os.listdir(master.folder / name)
                            if not v.startswith(".") and (master.folder / name / v).read_bytes() == data]
                check(False, f"{name} at rest on {m.point.name}: {len(data)} bytes, of version {versions or 'none'}, "
                             f"not {len(master.now[name])} bytes, of version {master.counts[name]}")
