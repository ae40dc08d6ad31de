"""refresh=push: what changes on the master shows on its workers by itself."""

import os

from harness import case, check, equal, main, wait_until
from peers import master_digest
from trees import same_snapshot, snapshot

PUSH = ["refresh=push"]


def watching(w, server, **options):
    """A mount that listens to the master already."""
    m = w.mount(server, options=PUSH, **options)
    wait_until(lambda: m.status()["watching"], "the mount listens to the master")
    return m


def shows(m, tree):
    """Waits until the mount shows TREE, then compares all of it."""
    wait_until(lambda: sorted(os.listdir(m.point)) == sorted(os.listdir(tree)), "the new names show")
    wait_until(lambda: all((m.point / p).read_bytes() == (tree / p).read_bytes()
                           for p in os.listdir(tree) if (tree / p).is_file()), "the new contents show")
    same_snapshot(snapshot(m.point), snapshot(tree), "the tree after a push")


def make(w):
    w.tree.mkdir(parents=True)
    for i in range(20):
        (w.tree / f"f{i}").write_text(f"content {i}\n")
    (w.tree / "sub").mkdir()
    (w.tree / "sub/inner").write_text("inner\n")


@case("a file that is made, replaced, appended to and deleted on the master shows without a refresh")
def shows_by_itself(w):
    make(w)
    server = w.server()
    m = watching(w, server)
    (w.tree / "new").write_text("new\n")
    shows(m, w.tree)
    (w.tree / "tmp").write_text("second content\n")
    os.rename(w.tree / "tmp", w.tree / "f3")
    with open(w.tree / "f4", "a") as f:
        f.write("and more\n")
    (w.tree / "f5").unlink()
    shows(m, w.tree)
    status = m.status()
    check(status["pushes"] >= 2, f"versions were pushed: {status['pushes']}")
    equal(status["full_listings"], 1, "listings of everything")
    wait_until(lambda: m.version() == master_digest(server), "both ends have the same tree")


@case("a folder with all that is in it, moved, shows; contents that were read are not fetched again")
def moved_folder(w):
    make(w)
    server = w.server()
    m = watching(w, server)
    equal((m.point / "sub/inner").read_text(), "inner\n", "content")
    fetched = m.status()["fetched_files"]
    os.rename(w.tree / "sub", w.tree / "elsewhere")
    wait_until(lambda: (m.point / "elsewhere/inner").exists(), "the moved folder shows")
    equal((m.point / "elsewhere/inner").read_text(), "inner\n", "content after the move")
    check(not (m.point / "sub").exists(), "the old name is gone")
    equal(m.status()["fetched_files"], fetched, "contents fetched")


@case("a large change is announced, and every worker asks for it")
def large_change(w):
    make(w)
    server = w.server()
    mounts = [watching(w, server, cache=f"cache{i}") for i in range(3)]
    new = w.path("new")
    new.mkdir()
    for i in range(3000):
        (new / f"n{i}").write_text(str(i))
    os.rename(new, w.tree / "many")
    for m in mounts:
        wait_until(lambda m=m: (m.point / "many").exists() and len(os.listdir(m.point / "many")) == 3000,
                   "the large change shows")
        equal(m.status()["full_listings"], 1, "listings of everything")
        wait_until(lambda m=m: m.version() == master_digest(server), "both ends have the same tree")


@case("a master that was restarted pushes what changed while it was away")
def restarted(w):
    make(w)
    server = w.server()
    m = watching(w, server)
    port, index = server.port, server.index
    server.stop()
    wait_until(lambda: not m.status()["watching"], "the mount sees that the master is gone")
    equal((m.point / "f1").read_text() if m.status()["cached_files"] else "content 1\n", "content 1\n", "content")
    (w.tree / "meanwhile").write_text("while nobody looked\n")
    server = w.server(port=port, index=index)
    wait_until(lambda: (m.point / "meanwhile").exists(), "what changed meanwhile shows", 60)
    shows(m, w.tree)
    equal(m.status()["full_listings"], 1, "listings of everything")


@case("an open file goes on with its content while a new one is pushed")
def open_file(w):
    make(w)
    server = w.server()
    m = watching(w, server)
    with open(m.point / "f7") as f:
        equal(f.read(4), "cont", "the beginning")
        (w.tree / "tmp").write_text("another content\n")
        os.rename(w.tree / "tmp", w.tree / "f7")
        wait_until(lambda: (m.point / "f7").read_text() == "another content\n", "the new content shows")
        equal(f.read(), "ent 7\n", "the rest of the old content")


@case("refresh=off shows nothing new until it is asked")
def off(w):
    make(w)
    server = w.server()
    listener = watching(w, server, cache="cache1")
    m = w.mount(server, cache="cache2", options=["refresh=off"])
    (w.tree / "new").write_text("new\n")
    wait_until(lambda: (listener.point / "new").exists(), "the listener shows it")
    check(not (m.point / "new").exists(), "the other does not")
    m.refresh()
    check((m.point / "new").exists(), "after a refresh it does")


main()
