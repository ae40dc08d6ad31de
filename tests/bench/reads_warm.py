"""The rows of `reads` in which everything is in the store: hot in the page cache, or dropped from it. The peer is the master's folder."""

import os

import gauge

OPEN_FILES = 10_000
PASSES = 3  # of what is hot; the fastest counts


def hot(lab, report):
    """tar of the small files."""
    tree, mount = lab.tree("small"), lab.filled("small")
    for _ in range(lab.args.rounds):
        report.keep("hot.native", lab.tar(tree, tree))
        report.keep("hot.ours", lab.tar(mount.point, tree))
    mount.unmount()
    report.ratio("tar of small files, hot", 1.15, "hot.ours", "hot.native", "native")


def open_read_close(lab, report):
    tree, mount = lab.tree("small"), lab.filled("small")
    names = sorted(str(path.relative_to(tree)) for path in tree.rglob("*.bin"))[:OPEN_FILES]
    for _ in range(lab.args.rounds):
        report.keep("open.native", gauge.open_read_close(lab.openloop, tree, names))
        report.keep("open.ours", gauge.open_read_close(lab.openloop, mount.point, names))
    mount.unmount()
    report.ratio(f"open+read+close of {len(names):,} files, hot", 1.3, "open.ours", "open.native", "native", "us")


def dropped(lab, report):
    """tar of the small files, which only the disk remembers."""
    tree, mount = lab.tree("small"), lab.filled("small")
    for _ in range(lab.args.rounds):
        for who, folder in (("native", tree), ("ours", mount.point)):
            gauge.drop_caches()
            report.keep(f"dropped.{who}", lab.tar(folder, tree))
    mount.unmount()
    report.ratio("tar of small files, page cache dropped", 1.3, "dropped.ours", "dropped.native", "native")


def large(lab, report):
    """A large file: through it, hot and dropped, and anywhere in it."""
    tree, mount = lab.tree("large"), lab.filled("large")
    files = {"native": tree / "file", "ours": mount.point / "file"}
    for _ in range(lab.args.rounds):
        for who, file in files.items():
            os.sync()
            lab.read("sequential", file)
            report.keep(f"large.hot.{who}", min(lab.read("sequential", file) for _ in range(PASSES)))
            report.keep(f"large.random.{who}", min(lab.read("random", file) for _ in range(PASSES)))
            gauge.drop_caches()
            report.keep(f"large.dropped.{who}", lab.read("sequential", file))
    report.keep("large.passthrough", int(bool(mount.status().get("passthrough"))))
    mount.unmount()
    size = f"{lab.large_bytes >> 20} MiB file"
    report.speed(f"{size} in the store, read through, hot", 0.95, "large.hot.ours", "large.hot.native", "native", "ms")
    report.speed("  page cache dropped", 0.9, "large.dropped.ours", "large.dropped.native", "native", "ms")
    report.speed("  random 4 KiB reads, hot", 0.9, "large.random.ours", "large.random.native", "native", "ms")
