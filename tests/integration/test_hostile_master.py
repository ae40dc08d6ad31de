"""Masters that misbehave in one way each (tests/peers/hostile_master.py), as our own kind and as the stock kind.

A bad listing is refused whole: the mount fails with one line. A bad download is an error of the read, never a wrong byte.
"""

import errno
import os

from harness import case, check, equal, fails_with, is_mounted, main, one_line
from peers import hostile_master, hostile_modes

FAILED = 32  # mount(8)
BAD_BYTES = {errno.EIO, errno.EBADMSG, errno.ESTALE, errno.ETIMEDOUT, errno.EPROTO, errno.EHOSTUNREACH, errno.EFBIG}
HARMLESS = {"good", "fewer-than-total"}  # the digest proves that nothing is missing, whatever the count says
HARMLESS_STOCK = {"good", "unordered",  # as stock masters do
                  "wrong-digest", "short-digest", "no-digest", "unknown-kind", "unknown-hash"}  # in fields it does not have
OWN_ONLY = {"unasked-unchanged", "nul-in-target", "empty-target", "huge-target", "under-symlink"}
ONLY_TIME = {"fetch-silence"}
GOOD_NAMES = ["folder", "good.txt"]


def refuses(w, mode, stock):
    """The mount fails with one line, nothing is mounted, nothing written outside the cache folder."""
    master = hostile_master(w, mode, stock)
    one_line(w.try_mount(master.source, ["timeout=3"]), FAILED)
    check(not is_mounted(w.path("mnt")), "something is mounted")
    equal([str(p) for p in w.dir.rglob("*evil*")] + [p for p in ["/tmp/evil"] if os.path.lexists(p)], [], "files written")
    master.stop()


def accepts(w, mode, stock):
    master = hostile_master(w, mode, stock)
    m = w.mount(master.source, cache=f"cache-{mode}-{stock}")
    equal(sorted(os.listdir(m.point)), GOOD_NAMES, f"{mode}: the tree")
    equal((m.point / "good.txt").read_text(), "good content\n", f"{mode}: a file")
    m.unmount()
    master.stop()


def refuses_bytes(w, mode, stock):
    """The tree is there; a read fails with a clear errno, and never gives a wrong byte."""
    master = hostile_master(w, mode, stock)
    m = w.mount(master.source, cache=f"cache-{mode}-{stock}", options=["timeout=3"])
    if mode == "download-slow":
        equal((m.point / "folder/inner.txt").read_bytes(), b"inner content\n" * 10_000, "a slow master's bytes")
    else:
        fails_with(BAD_BYTES, (m.point / "good.txt").read_bytes)
        fails_with(BAD_BYTES, (m.point / "folder/inner.txt").read_bytes)
    equal(sorted(os.listdir(m.point)), GOOD_NAMES, "the listing afterwards")
    m.unmount()
    master.stop()


def fetches(w, mode):
    """Downloads one by one still work, so the bytes come in the end; but for a master that shows no fault of its own, only time."""
    master = hostile_master(w, mode)
    m = w.mount(master.source, cache=f"cache-{mode}", options=["timeout=3"])
    for path, content in (("good.txt", b"good content\n"), ("folder/inner.txt", b"inner content\n" * 10_000)):
        if mode in ONLY_TIME:
            fails_with(BAD_BYTES, (m.point / path).read_bytes)
        else:
            equal((m.point / path).read_bytes() == content, True, f"{mode}: the bytes of {path}")
    m.unmount()
    master.stop()


def register(mode, stock):
    kind = "a stock master" if stock else "a master"
    if mode.startswith("fetch-"):
        case(f"{kind}'s Fetch: {mode[6:]}")(lambda w: fetches(w, mode))
    elif mode.startswith("download-"):
        case(f"{kind}'s download: {mode[9:]}")(lambda w: refuses_bytes(w, mode, stock))
    elif mode in (HARMLESS_STOCK if stock else HARMLESS):
        case(f"{kind}: {mode} is accepted")(lambda w: accepts(w, mode, stock))
    else:
        case(f"{kind}: {mode} is refused")(lambda w: refuses(w, mode, stock))


for each_mode in hostile_modes():
    register(each_mode, stock=False)
    if each_mode not in OWN_ONLY and not each_mode.startswith("fetch-"):
        register(each_mode, stock=True)


main(at_a_time=6)  # most cases wait for a time-out
