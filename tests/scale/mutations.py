"""Random changes of a folder as people and programs make them. All by one random number generator: the same seed, the same
changes."""

import os
import shutil

ENTRIES_MIN = 600    # below that more is made
ENTRIES_MAX = 1200   # beyond that more is removed
REMOVED_MAX = 60     # entries that one change removes: what is left is to be worth a test
SMALL_BYTES = 4000
LARGE_BYTES = 300_000
MODES = (0o644, 0o600, 0o755, 0o444, 0o4755, 0o000)
FOLDER_MODES = (0o755, 0o700, 0o2775, 0o1777)
NAMES = (b"plain", b"with space", b" lead", b"trail ", b"new\nline", b"latin1-\xe4\xff", "unicode-\u4e2d\U0001f600".encode(),
         b"x" * 250, b"-rf", b".hidden", b"half-\xed\xa0\x80")


class Tree:
    """The folder ROOT and what is in it: paths relative to it, as bytes.

    WRITE_LINKED: files that have several names are written to, too, under one of them.
    """

    def __init__(self, root, rng, write_linked=False):
        self.root = os.fsencode(root)
        self.rng = rng
        self.write_linked = write_linked
        self.folders = {b""}
        self.files = set()  # regular ones
        self.links = set()
        self.history = []   # what was done, for who has to find out why

    def entries(self):
        return len(self.folders) + len(self.files) + len(self.links)

    def full(self, path):
        return os.path.join(self.root, path) if path else self.root

    # ---- choosing ----

    def _pick(self, paths):
        return self.rng.choice(sorted(paths)) if paths else None

    def _folder(self, root_too=False):
        return self._pick(self.folders if root_too else self.folders - {b""})

    def _writable(self):
        """A file that may be changed in place."""
        path = self._pick(self.files)
        if path is None or (os.lstat(self.full(path)).st_nlink > 1 and not self.write_linked):
            return None
        return path

    def _small_folder(self):
        path = self._folder()
        below = path + b"/" if path else b""
        size = sum(p.startswith(below) for paths in (self.folders, self.files, self.links) for p in paths)
        return path if size <= REMOVED_MAX else None

    def _new_path(self, folder=None):
        folder = self._folder(True) if folder is None else folder
        while True:
            name = self.rng.choice(NAMES)[:240] + b"%d" % self.rng.randrange(10_000)
            path = os.path.join(folder, name)
            if len(path) < 3000 and not os.path.lexists(self.full(path)):
                return path
            folder = b""

    def _data(self):
        kind = self.rng.random()
        if kind < 0.05:
            return b""
        return self.rng.randbytes(self.rng.randrange(LARGE_BYTES if kind > 0.97 else SMALL_BYTES))

    # ---- keeping count ----

    def _forget(self, path):
        """PATH and what is below it is gone."""
        below = path + b"/"
        for paths in (self.folders, self.files, self.links):
            paths -= {p for p in paths if p == path or p.startswith(below)}

    def _moved(self, old, new):
        below = old + b"/"
        for paths in (self.folders, self.files, self.links):
            moved = {p for p in paths if p == old or p.startswith(below)}
            paths -= moved
            paths |= {new + p[len(old):] for p in moved}

    # ---- the changes: each does one, or returns False if there is nothing to do it with ----

    def create(self):
        path = self._new_path()
        self._write(path, self._data())
        self.files.add(path)
        return path

    def _write(self, path, data, mode="wb"):
        with open(self.full(path), mode) as f:
            f.write(data)

    def overwrite(self):
        path = self._writable()
        if path is None:
            return False
        size = os.path.getsize(self.full(path))
        with open(self.full(path), "r+b") as f:  # in place; often of the same size
            f.write(self.rng.randbytes(size if self.rng.random() < 0.7 else size // 2 + 1))
        return path

    def append(self):
        path = self._writable()
        if path is None:
            return False
        self._write(path, self.rng.randbytes(1 + self.rng.randrange(500)), "ab")
        return path

    def truncate(self):
        path = self._writable()
        if path is None:
            return False
        os.truncate(self.full(path), self.rng.randrange(SMALL_BYTES))
        return path

    def replace(self):
        """As an editor saves: a new file is renamed over the old one."""
        path = self._pick(self.files)
        if path is None:
            return False
        aside = self._new_path(os.path.dirname(path))
        self._write(aside, self._data())
        os.rename(self.full(aside), self.full(path))
        return path

    def delete(self):
        path = self._pick(self.files | self.links)
        if path is None:
            return False
        os.unlink(self.full(path))
        self._forget(path)
        return path

    def rename(self):
        """To a name that is free, or over another file."""
        old = self._pick(self.files)
        if old is None:
            return False
        new = self._pick(self.files - {old}) if self.rng.random() < 0.3 else None
        new = self._new_path() if new is None else new
        same = os.path.lexists(self.full(new)) and os.path.samefile(self.full(old), self.full(new))
        os.rename(self.full(old), self.full(new))
        if not same:  # two links to one file: rename(2) does nothing
            self._forget(old)
            self.files.add(new)
        return old, new

    def make_folder(self):
        path = self._new_path()
        os.mkdir(self.full(path))
        self.folders.add(path)
        return path

    def make_folders(self):
        """mkdir -p a/b/c, and files in it at once."""
        path = self._new_path()
        top = path
        os.mkdir(self.full(path))
        self.folders.add(path)
        for _ in range(1 + self.rng.randrange(3)):
            for _ in range(self.rng.randrange(4)):
                file = self._new_path(path)
                self._write(file, self._data())
                self.files.add(file)
            path = self._new_path(path)
            if os.path.dirname(path) == b"":
                break
            os.mkdir(self.full(path))
            self.folders.add(path)
        return top

    def remove_folder(self):
        path = self._small_folder()
        if path is None:
            return False
        shutil.rmtree(self.full(path))
        self._forget(path)
        return path

    def rename_folder(self):
        old = self._folder()
        if old is None:
            return False
        into = self._pick({f for f in self.folders if f != old and not f.startswith(old + b"/")})
        new = self._new_path(into)
        os.rename(self.full(old), self.full(new))
        self._moved(old, new)
        return old, new

    def swap_folders(self):
        """Two folders side by side take each other's names."""
        a = self._folder()
        b = self._pick({f for f in self.folders - {a, b""} if os.path.dirname(f) == os.path.dirname(a)}) if a else None
        if b is None:
            return False
        aside = self._new_path(b"")
        for old, new in ((a, aside), (b, a), (aside, b)):
            os.rename(self.full(old), self.full(new))
            self._moved(old, new)
        return a, b

    def chmod(self):
        path = self._writable()
        if path is None:
            return False
        os.chmod(self.full(path), self.rng.choice(MODES))
        return path

    def chmod_folder(self):
        path = self._folder(True)
        os.chmod(self.full(path), self.rng.choice(FOLDER_MODES))
        return path

    def touch(self):
        path = self._writable() if self.rng.random() < 0.7 else self._folder(True)
        if path is None:
            return False
        ns = self.rng.randrange(-10**18, 4 * 10**18)
        os.utime(self.full(path), ns=(ns, ns))
        return path

    def symlink(self):
        path = self._new_path()
        os.symlink(self.rng.choice((b"no such file", b"../x", b"\xff\xfe", b"plain1", b"/etc/hostname")), self.full(path))
        self.links.add(path)
        return path

    def relink(self):
        """ln -sfn: another target under the old name."""
        path = self._pick(self.links)
        if path is None:
            return False
        os.unlink(self.full(path))
        os.symlink(b"target %d" % self.rng.randrange(1000), self.full(path))
        return path

    def hard_link(self):
        old = self._pick(self.files)
        if old is None:
            return False
        new = self._new_path()
        os.link(self.full(old), self.full(new))
        self.files.add(new)
        return old, new

    def file_to_folder(self):
        path = self._pick(self.files | self.links)
        if path is None:
            return False
        os.unlink(self.full(path))
        self._forget(path)
        os.mkdir(self.full(path))
        self.folders.add(path)
        below = self._new_path(path)
        self._write(below, self._data())
        self.files.add(below)
        return path

    def folder_to_file(self):
        path = self._small_folder()
        if path is None:
            return False
        shutil.rmtree(self.full(path))
        self._forget(path)
        self._write(path, self._data())
        self.files.add(path)
        return path

    CHANGES = {create: 10, overwrite: 8, append: 6, truncate: 2, replace: 6, delete: 6, rename: 6, make_folder: 3,
               make_folders: 3, remove_folder: 1, rename_folder: 3, swap_folders: 1, chmod: 3, chmod_folder: 2, touch: 4,
               symlink: 3, relink: 2, hard_link: 3, file_to_folder: 2, folder_to_file: 1}
    GROWING = {**CHANGES, create: 60, make_folder: 10, make_folders: 25}
    SHRINKING = {**CHANGES, delete: 60, remove_folder: 30}

    def step(self):
        """One random change."""
        n = self.entries()
        weights = self.GROWING if n < ENTRIES_MIN else self.SHRINKING if n > ENTRIES_MAX else self.CHANGES
        change = self.rng.choices(list(weights), list(weights.values()))[0]
        what = change(self)
        self.history.append((change.__name__, what))
        return what is not False
