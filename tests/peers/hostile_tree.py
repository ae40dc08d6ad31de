"""The small tree that the hostile master serves, as FileInfo messages for our own workers and for stock ones."""

import hashlib

import digest
import protos

sync, workspace = protos.load_own()

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
            info.hash_algorithm = digest.XXH3
            info.digest = digest.xxh3(data)
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
    inner = (b"inner.txt", digest.KIND_FILE, 0o644, ns, len(INNER), digest.xxh3(INNER))
    folder = digest.folder_digest([inner])
    top = [(b"folder", digest.KIND_FOLDER, 0o755, ns, 0, folder),
           (b"good.txt", digest.KIND_FILE, 0o644, ns, len(GOOD), digest.xxh3(GOOD))]
    return digest.root_digest(0o755, ns, digest.folder_digest(top))
