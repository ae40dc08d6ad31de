"""Proof 1: real trees and odd ones are, mounted, what they are on the master."""

import mmap
import os
import random
import sysconfig
from pathlib import Path

from harness import case, check, equal, main
from trees import compare_trees, make_deep, make_odd_tree, read_deep, same_snapshot, set_times, snapshot


@case("the machine's whole Python library folder")
def python_library(w):
    library = Path(sysconfig.get_path("stdlib", "posix_prefix", {"installed_base": "/usr"}))
    compare_trees(library, w.mount(w.server(root=library.parent).source(library.name)).point)


@case("a tree of every odd name, kind, mode and time")
def odd_tree(w):
    make_odd_tree(w.tree)
    m = w.mount(w.server())
    compare_trees(w.tree, m.point)
    same_snapshot(snapshot(m.point), snapshot(w.tree), "one by one")
    equal([name for name in os.listdir(m.point) if name.endswith(".special")], [], "sockets, fifos and devices shown")


@case("a path of PATH_MAX - 1 bytes")
def deepest(w):
    w.tree.mkdir(parents=True)
    names = make_deep(w.tree, 4095)
    equal(len("/".join(names)), 4095, "the path's length")
    equal(read_deep(w.mount(w.server()).point, names), b"down here", "its bytes")


@case("an empty workspace")
def empty(w):
    w.tree.mkdir(parents=True)
    set_times(w.tree, 1_000_000_000_123_456_789)
    m = w.mount(w.server())
    compare_trees(w.tree, m.point)
    equal(m.status()["entries"], 1, "entries")


@case("a folder of 20,000 names lists whole, each once")
def wide(w):
    w.tree.mkdir(parents=True)
    for i in range(20_000):
        os.close(os.open(w.tree / f"name-{i:05d}", os.O_CREAT | os.O_WRONLY, 0o644))
    m = w.mount(w.server())
    names = os.listdir(m.point)
    equal(len(names), 20_000, "names listed")
    equal(set(names), set(os.listdir(w.tree)), "the names")
    with os.scandir(m.point) as entries:
        check(all(e.is_file() for e in entries), "all are files")


@case("random access, seeks and mmap read the right bytes")
def random_access(w):
    rng = random.Random(3)
    data = rng.randbytes(9_000_001)
    w.tree.mkdir(parents=True)
    (w.tree / "big").write_bytes(data)
    m = w.mount(w.server())
    fd = os.open(m.point / "big", os.O_RDONLY)
    for _ in range(200):
        at, size = rng.randrange(len(data) + 10), rng.randrange(70_000)
        equal(os.pread(fd, size, at) == data[at:at + size], True, f"pread of {size} at {at}")
    equal(os.pread(fd, 10, len(data)), b"", "a read at the end")
    with mmap.mmap(fd, 0, prot=mmap.PROT_READ) as mapped:
        check(mapped[:] == data, "the mapping's bytes")
    os.close(fd)


main()
