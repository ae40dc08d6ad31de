"""The other end of tests/fault/faults.c: what fails from now on, and how much did."""

import ctypes
import errno
import mmap
import os
from pathlib import Path

READ, WRITE, SYNC, NAMES, OPEN, MAKE, MAP, LENGTH, MEMORY = (1 << i for i in range(9))
CHANGES = WRITE | SYNC | NAMES | MAKE | LENGTH


class Control(ctypes.Structure):  # struct faults
    _fields_ = [(name, ctypes.c_int64 if name in ("skip", "times") else ctypes.c_uint64)
                for name in ("device", "classes", "error", "skip", "times", "delay_us", "stuck", "seen", "failed")]


class Faults:
    """Injects into processes that were started with its environment, in calls on the file system of FOLDER."""

    def __init__(self, control_file, build, folder):
        Path(control_file).write_bytes(bytes(ctypes.sizeof(Control)))
        with open(control_file, "r+b") as f:
            self._map = mmap.mmap(f.fileno(), 0)
        self._control = Control.from_buffer(self._map)
        self._control.device = os.stat(folder).st_dev
        self.environment = {"LD_PRELOAD": str(Path(build) / "tests" / "fault" / "libfaults.so"),
                            "FSYNCFS_FAULTS": str(control_file)}

    def fail(self, classes, number=errno.EIO, skip=0, times=-1):
        """The calls of these CLASSES fail with errno NUMBER: TIMES of them after the first SKIP."""
        c = self._control
        c.error = 0
        c.skip, c.times, c.classes = skip, times, classes
        c.error = number

    def hang(self, classes, times=1, skip=0):
        """The calls of these CLASSES do not return: TIMES of them after the first SKIP. Those that are in one stay there."""
        self._control.stuck = 1
        self.fail(classes, skip=skip, times=times)

    def slow(self, classes, seconds):
        self._control.classes, self._control.delay_us = classes, int(seconds * 1e6)

    def end(self):
        """Nothing fails any more; how many calls did since the last time."""
        c = self._control
        c.error = c.delay_us = c.classes = 0
        failed, c.failed, c.seen = c.failed, 0, 0
        return failed

    @property
    def failed(self):
        return self._control.failed

    @property
    def seen(self):
        return self._control.seen
