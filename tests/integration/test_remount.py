"""Proof 4: a remount costs the delta."""

import os
from pathlib import Path

from harness import case, check, equal, main
from peers import master_digest
from trees import make_tree, same_snapshot, set_times, snapshot

FILES = 10_000


def inodes(root):
    return {str(Path(folder, name).relative_to(root)): os.lstat(os.path.join(folder, name)).st_ino
            for folder, _, files in os.walk(root) for name in files}


def change(tree):
    """The issue's changes. Returns (paths of changed content, of deleted, of added files, renames old -> new)."""
    files = sorted(p for p in tree.rglob("*") if p.is_file())
    renamed_folder = tree / "d0007"
    pool = [p for p in files if renamed_folder not in p.parents]
    changed, deleted, modes, touched = pool[100:110], pool[200:205], pool[300:303], pool[400:403]
    for path in changed:
        path.write_bytes((b"changed " + path.name.encode()).ljust(1000))
    for path in deleted:
        path.unlink()
    added = [tree / f"added{i}" for i in range(5)]
    for path in added:
        path.write_bytes((b"added " + path.name.encode()).ljust(1000))
    renamed_folder.rename(tree / "renamed")
    for path in modes:
        path.chmod(0o751)
    for path in touched:
        set_times(path, 1_700_000_000_000_000_007)
    relative = lambda paths: {str(p.relative_to(tree)) for p in paths}  # noqa: E731
    return relative(changed), relative(deleted), relative(added)


@case("after changes in a tree of 10,000 files: only changed contents fetched, unchanged inode numbers kept, digests equal")
def delta(w):
    make_tree(w.tree, FILES, 40_000_000)
    server = w.server()
    m = w.mount(server)
    same_snapshot(snapshot(m.point), snapshot(w.tree), "the first mount")
    before = inodes(m.point)
    m.unmount()

    changed, deleted, added = change(w.tree)
    hashed, downloads = (server.counter(f"fsyncfs_{n}_total") for n in ("files_hashed", "downloads"))
    m = w.mount(server, point="mnt1", options=["prefetch=off"])  # otherwise what the first mount read is brought anew
    after = inodes(m.point)
    equal(server.counter("fsyncfs_downloads_total"), downloads, "contents sent for the remount itself")
    same_snapshot(snapshot(m.point), snapshot(w.tree), "the second mount")
    equal(server.counter("fsyncfs_downloads_total") - downloads, len(changed) + len(added), "contents sent")
    check(server.counter("fsyncfs_files_hashed_total") - hashed <= len(changed) + len(added) + 200,
          "only new states of files (and those of the renamed folder at most) are hashed")
    equal(m.version(), master_digest(server), "the root digest")

    kept = {path for path in set(before) & set(after) if path not in changed}
    equal(len(kept), FILES - len(deleted) - len(changed) - 100, "files that stayed at their path")
    equal([p for p in kept if before[p] != after[p]], [], "unchanged files with another inode number")
    equal([p for p in changed if before[p] == after[p]], [], "changed files with the old inode number")
    equal(set(before.values()) & {after[p] for p in changed | added}, set(), "inode numbers used a second time")


@case("a remount with nothing changed fetches nothing and lists nothing")
def nothing(w):
    make_tree(w.tree, 500, 2_000_000)
    server = w.server()
    m = w.mount(server)
    tree, version = snapshot(m.point), m.version()
    m.unmount()
    names = ("bytes_sent", "downloads", "entries_sent", "files_hashed", "scans")
    before = {n: server.counter(f"fsyncfs_{n}_total") for n in names}
    m = w.mount(server)
    same_snapshot(snapshot(m.point), tree, "the second mount")
    equal({n: server.counter(f"fsyncfs_{n}_total") for n in names}, before, "the server's counters")
    equal((m.version(), m.status()["fetched_files"]), (version, 0), "version and contents fetched")


@case("a file that turns into a folder, a folder into a file, a link into another")
def kinds(w):
    (w.tree / "folder/in").mkdir(parents=True)
    (w.tree / "folder/in/x").write_text("x")
    (w.tree / "file").write_text("f")
    (w.tree / "link").symlink_to("file")
    server = w.server()
    m = w.mount(server)
    snapshot(m.point)
    for step in range(2):
        if step == 0:
            (w.tree / "folder/in/x").unlink()
            (w.tree / "folder/in").rmdir()
            (w.tree / "folder").rmdir()
            (w.tree / "folder").write_text("now a file")
            (w.tree / "file").unlink()
            (w.tree / "file").mkdir()
            (w.tree / "file/below").write_text("below")
            (w.tree / "link").unlink()
            (w.tree / "link").symlink_to("folder")
        else:
            (w.tree / "link").unlink()
            (w.tree / "link").write_text("a file at last")
            (w.tree / "file/below").rename(w.tree / "file/else")
        m.refresh()
        same_snapshot(snapshot(m.point), snapshot(w.tree), f"step {step}")
        equal(m.version(), master_digest(server), "the root digest")


@case("the server keeps its hashes over a restart; a file changed meanwhile is hashed again")
def restart(w):
    make_tree(w.tree, 300, 1_000_000)
    server = w.server()
    m = w.mount(server)
    snapshot(m.point)
    equal(server.stop(), 0, "exit code")
    changed = next(w.tree.rglob("*.bin"))
    changed.write_bytes(b"changed while away")
    server = w.server(port=server.port)
    m.refresh()
    same_snapshot(snapshot(m.point), snapshot(w.tree), "the tree")
    check(1 <= server.counter("fsyncfs_files_hashed_total") <= 10, "files hashed after the restart")


main()
