"""A wall clock that a process sees shifted, by as much as one likes, at any time: clock_shim.c under it."""

import contextlib
import os
import struct

from harness import BUILD


class Clock:
    """The wall clock of a process that is started within shown()."""

    def __init__(self, w, name):
        self.path = w.path(f"{name}.clock")
        self.set(0)

    def set(self, seconds):
        with open(self.path, "r+b" if self.path.exists() else "wb") as f:
            f.write(struct.pack("=q", seconds * 10**9))

    @contextlib.contextmanager
    def shown(self):
        os.environ.update(LD_PRELOAD=str(BUILD / "tests" / "peers" / "clock_shim.so"), FSYNCFS_CLOCK=str(self.path))
        try:
            yield
        finally:
            del os.environ["LD_PRELOAD"], os.environ["FSYNCFS_CLOCK"]
