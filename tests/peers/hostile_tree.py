"""The small trees that the hostile master serves: as FileInfo messages for our own workers and for stock ones, and as packs."""

import hashlib
import sys

import digest
import packs
import protos

sync, workspace = protos.load_own()
sys.setrecursionlimit(10000)  # a deep tree is one of the tricks

GO_DIR, GO_SYMLINK, GO_DEVICE = 1 << 31, 1 << 27, 1 << 26
MTIME_SEC = 1_600_000_000
GOOD, INNER = b"good content\n", b"inner content\n" * 10_000


class Entries:
    """Makes FileInfo messages for our own workers or for stock ones."""

    def __init__(self, stock):
        self.stock = stock

    def _info(self, path, kind, go_mode, size=0):
        info = sync.FileInfo(mod_time=MTIME_SEC, mode=go_mode, is_dir=kind == digest.KIND_FOLDER, file_size=size)
        if self.stock:
            info.path = path.decode() or "."
            info.name = path.decode().rpartition("/")[2]
            info.full_path = "/srv/" + path.decode()
        else:
            info.kind = kind
            info.path = path.decode()
        return info

    def folder(self, path):
        return self._info(path, digest.KIND_FOLDER, 0o755 | GO_DIR)

    def file(self, path, data, mode=0o644):
        info = self._info(path, digest.KIND_FILE, mode, len(data))
        if self.stock:
            info.hash = hashlib.md5(data).hexdigest()
        else:
            info.hash_algorithm = digest.algorithm(digest.KIND_FILE, len(data))
            info.digest = digest.content(data)
        return info

    def symlink(self, path, target):
        info = self._info(path, digest.KIND_SYMLINK, 0o777 | GO_SYMLINK)
        info.link_target = target
        return info

    def good_tree(self):
        root = self.folder(b"")
        if not self.stock:
            root.whole = True
        return [root, self.folder(b"folder"), self.file(b"folder/inner.txt", INNER),
                self.file(b"good.txt", GOOD)]


def good_digest():
    ns = MTIME_SEC * 10**9
    inner = (b"inner.txt", digest.KIND_FILE, 0o644, ns, len(INNER), digest.content(INNER))
    folder = digest.folder_digest([inner])
    top = [(b"folder", digest.KIND_FOLDER, 0o755, ns, 0, folder),
           (b"good.txt", digest.KIND_FILE, 0o644, ns, len(GOOD), digest.content(GOOD))]
    return digest.root_digest(0o755, ns, digest.folder_digest(top))


OWN_MODE = {digest.KIND_FILE: 0o644, digest.KIND_FOLDER: 0o755, digest.KIND_SYMLINK: 0o777}
MTIME_NS = MTIME_SEC * 10**9


def entry(path, kind=digest.KIND_FILE, data=b"", **fields):
    """An entry as packs have it. DATA: a file's content, a symlink's target; a folder's digest."""
    e = packs.Entry(path, kind, OWN_MODE.get(kind, 0), MTIME_NS, 0, b"", b"", False, False, False)
    if kind == digest.KIND_FILE:
        e = e._replace(size=len(data), digest=digest.content(data))
    elif kind == digest.KIND_FOLDER:
        e = e._replace(digest=data or digest.xxh3(b""))
    elif kind == digest.KIND_SYMLINK:
        e = e._replace(target=data)
    return e._replace(**fields)


def gone(path):
    return entry(path, kind=0, gone=True)


def info(e):
    """E as a FileInfo for our own workers."""
    kinds = {digest.KIND_FOLDER: GO_DIR, digest.KIND_SYMLINK: GO_SYMLINK}
    return sync.FileInfo(path=e.path.decode(), kind=e.kind, mode=e.mode | kinds.get(e.kind, 0), mod_time=e.mtime_ns // 10**9,
                         mtime_nsec=e.mtime_ns % 10**9, file_size=e.size, link_target=e.target, unknown=e.unknown,
                         hash_algorithm=digest.algorithm(e.kind, e.size) if e.kind == digest.KIND_FILE and e.digest else 0,
                         digest=e.digest, gone=e.gone, whole=e.whole, content=e.data)


class Version:
    """A tree at one revision. CONTENTS: by path, a file's bytes or None for a folder."""

    def __init__(self, contents, revision):
        self.contents, self.revision = contents, revision
        self._known = {}  # children by folder
        self.root = self._folder(b"")._replace(whole=True)
        self.digest = digest.root_digest(self.root.mode, self.root.mtime_ns, self.root.digest)

    def _folder(self, path):
        records = [(packs.split_path(e.path)[1], e.kind, e.mode, e.mtime_ns, e.size, e.digest) for e in self.children(path)]
        return entry(path, digest.KIND_FOLDER, digest.folder_digest(records))

    def children(self, folder):
        """The entries of FOLDER by name."""
        if folder not in self._known:
            self._known[folder] = self._list(folder)
        return self._known[folder]

    def _list(self, folder):
        below = folder + b"/" if folder else b""
        paths = sorted(p for p in self.contents if p.startswith(below) and b"/" not in p[len(below):])
        return [self._folder(p) if self.contents[p] is None else entry(p, data=self.contents[p]) for p in paths]

    def groups(self, folder=b""):
        """The entries of a snapshot, folder by folder; the root with its children."""
        children = self.children(folder)
        found = [([self.root] if not folder else []) + children]
        for e in children:
            if e.kind == digest.KIND_FOLDER and self.children(e.path):
                found += self.groups(e.path)
        return found

    def entries(self):
        return [e for group in self.groups() for e in group]
