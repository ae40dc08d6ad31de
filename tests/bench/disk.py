"""A file system of the benchmark's own: ext4 with a journal, in a sparse file.

On the machine's own file system, what other programs do there gets into the figures; and ext4 without a journal avoids the
inodes that were freed in the last minutes, so that after a large tree was removed each new file costs many times as much.
"""

import os
import shutil
import tempfile
from contextlib import contextmanager
from pathlib import Path

from harness import run_ok

SIZE_BYTES = 16 << 30  # sparse


@contextmanager
def ext4(point, image, size_bytes):
    """A new file system in the sparse file IMAGE, mounted on POINT. With us goes its mount, in any case: the namespace is our own."""
    with open(image, "wb") as f:
        os.truncate(f.fileno(), size_bytes)
    run_ok(["mkfs.ext4", "-q", "-E", "lazy_itable_init=0,lazy_journal_init=0,nodiscard", "-O", "has_journal", image])
    run_ok(["mount", "-o", "loop", image, point])
    image.unlink()  # it lives as long as the mount
    try:
        yield
    finally:
        run_ok(["umount", "-l", point])


@contextmanager
def other_disk(size_bytes=SIZE_BYTES):
    """A folder on one more: of what a master serves. On the workers' own its watcher would see all that they write."""
    folder = Path(tempfile.mkdtemp(prefix="fsyncfs-bench-"))
    point = folder / "disk"
    try:
        point.mkdir()
        with ext4(point, folder / "image", size_bytes):
            yield point
    finally:
        shutil.rmtree(folder)


@contextmanager
def disk(size_bytes=SIZE_BYTES):
    """While it is mounted all temporary files go there."""
    with other_disk(size_bytes) as point:
        try:
            tempfile.tempdir = str(point)
            yield
        finally:
            tempfile.tempdir = None
