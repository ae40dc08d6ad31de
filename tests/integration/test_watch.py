"""A fresh answer without a walk: what the watcher tells is looked at, and nothing else; and what it cannot tell is found all the same."""

import contextlib
import os
from pathlib import Path

from harness import case, check, equal, main, run, run_ok, skip, wait_until
from peers import master_digest
from trees import same_snapshot, snapshot

QUIET = ["refresh=off"]
WATCHERS = ("fanotify", "inotify")

# name: a shell command, run in the spider's folder.
EDITS = {
    "a new file": "echo new > src/new",
    "appended to": "echo more >> src/file1",
    "written in place": "printf X | dd of=src/file2 bs=1 seek=1 conv=notrunc status=none",
    "replaced as editors do": "echo edited > src/.file3.swp && mv src/.file3.swp src/file3",
    "folders and a file at once": "mkdir -p a/b/c && echo 1 > a/b/c/f",
    "a change deep in what is new": "echo 22 > a/b/c/f && mkdir a/b/d && echo 1 > a/b/d/f",
    "a folder moved within": "mv src/deep a/moved",
    "a change in what was moved": "echo changed > a/moved/er/1",
    "a folder moved out": "mv a/moved ../../out",
    "a folder moved in, with changes made outside": "echo 1 > ../../out/er/outside && mv ../../out in",
    "away and back again": "mv in away && echo changed again > away/er/1 && mv away in",
    "two folders change places": "mv in t && mv src in && mv t src && mv src t && mv in src && mv t in",
    "a folder takes its parent's place": "mkdir -p p/q/r && echo 1 > p/q/r/f && mv p/q t && rmdir p && mv t p",
    "mode of a file, of a folder, of all of it": "chmod 640 src/file4; chmod 750 src/lib; chmod 751 .",
    "only times": "touch -d 2002-02-02 src/file5 src/lib",
    "links": "ln src/file6 src/hard && ln -s file6 src/soft && ln -sfn nowhere src/soft",
    "a file in a folder's place and back": "rm -r a/b && echo file > a/b && rm a/b && mkdir a/b && echo 1 > a/b/f",
    "deleted": "rm -r in src/file7",
    "git checkout": "git checkout -qf two",
    "git checkout back": "git checkout -qf one && git clean -qfd",
    "rsync": "cp -a . ../../copy && cd ../../copy && rm -r lib && mkdir -p x/y && echo 1 > x/y/z && echo 2 > src/file1 && "
             "cd - && rsync -a --delete ../../copy/ ./ && rm -r ../../copy",
    "tar": "tar cf ../../t.tar src && rm -r src && tar xf ../../t.tar && rm ../../t.tar",
}

REPOSITORY = """mkdir -p src/deep/er src/lib lib && for i in 1 2 3 4 5 6 7 8 9; do
    echo $i > src/file$i; echo $i > src/deep/er/$i; echo $i > lib/$i; echo $i > src/lib/$i; done
git init -q -b one . && git config user.email a@b.c && git config user.name n && git add . && git commit -qm 1
git checkout -qb two && git rm -qr lib && git mv src/lib src/other && echo two > src/file1 && mkdir extra && echo 1 > extra/f
git add . && git commit -qm 2 && git checkout -q one"""


def shell(folder, command):
    done = run(["sh", "-ec", command], cwd=folder)
    check(done.returncode == 0, f"{command}: {done.stderr.strip()}")


def passes(server):
    return server.counter("fsyncfs_stat_passes_total")


def fanotify_works():
    """Whether this process may mark a whole file system."""
    status = Path("/proc/self/status").read_text()
    effective = int(next(line.split()[1] for line in status.splitlines() if line.startswith("CapEff")), 16)
    return bool(effective >> 21 & 1)


def begin(w, how, **options):
    if how == "fanotify" and not fanotify_works():
        skip("fanotify needs CAP_SYS_ADMIN")
    w.tree.mkdir(parents=True)
    shell(w.tree, REPOSITORY)
    server = w.server(options=["--watch", how, "--stat-pass", "86400"], **options)
    return server, w.mount(server, options=QUIET)


def all_edits(w, how):
    server, m = begin(w, how)
    same_snapshot(snapshot(m.point), snapshot(w.tree), "the first mount")
    for name, command in EDITS.items():
        before, version = passes(server), m.version()
        shell(w.tree, command)
        m.refresh()
        same_snapshot(snapshot(m.point), snapshot(w.tree), f"after '{name}'")
        check(m.version() != version, f"'{name}' gave a new version")
        if how == "off":
            check(passes(server) > before, f"'{name}': no watcher, so it was walked")
        else:
            equal(passes(server), before, f"walks for '{name}'")
    equal(m.version(), master_digest(server), "the root digest")
    before = server.counter("fsyncfs_partial_passes_total"), passes(server)
    for _ in range(3):
        m.refresh()
    if how != "off":
        equal(passes(server), before[1], "walks when nothing changed")


@case("each kind of edit is seen by a refresh, and nothing is walked: fanotify")
def edits_fanotify(w):
    all_edits(w, "fanotify")


@case("each kind of edit is seen by a refresh, and nothing is walked: inotify")
def edits_inotify(w):
    all_edits(w, "inotify")


@case("each kind of edit is seen by a refresh without a watcher, by walking")
def edits_off(w):
    all_edits(w, "off")


@case("a refresh right after each of 200 quick edits shows it: the watcher is never behind")
def never_behind(w):
    server, m = begin(w, "auto")
    before = passes(server)
    for i in range(200):
        path = w.tree / f"src/file{i % 9 + 1}"
        path.write_text(f"edit {i}\n")
        m.refresh()
        equal((m.point / "src" / path.name).read_text(), f"edit {i}\n", f"content after edit {i}")
    equal(passes(server), before, "walks")


@case("what happens elsewhere on the same file system, or in a spider that nobody mounts, is not told")
def elsewhere(w):
    for how in WATCHERS:
        (w.root / "other").mkdir(parents=True, exist_ok=True)
        server, m = begin(w, how)
        m.refresh()
        before = [server.counter(f"fsyncfs_{n}_total") for n in ("watch_events", "partial_passes", "stat_passes")]
        beside = w.path("beside")
        for folder in (beside, w.root / "other"):
            shell(w.dir, f"mkdir -p {folder}/a/b && for i in $(seq 100); do echo $i > {folder}/a/b/$i; done && rm -r {folder}/a")
        shell(w.tree, "cat src/* lib/* >/dev/null 2>&1 || true; ls -lR >/dev/null")
        m.refresh()
        after = [server.counter(f"fsyncfs_{n}_total") for n in ("watch_events", "partial_passes", "stat_passes")]
        equal(after, before, f"{how}: events told, passes")
        m.unmount()
        server.stop()
        run_ok(["rm", "-r", w.root])


@case("a spider's folder that is moved away, or replaced by another, is noticed")
def replaced(w):
    for how in WATCHERS:
        server, m = begin(w, how)
        other = w.root / "other"
        other.mkdir()
        (other / "theirs").write_text("theirs\n")
        os.rename(w.tree, w.path("kept"))
        os.rename(other, w.tree)
        m.refresh()
        same_snapshot(snapshot(m.point), snapshot(w.tree), f"{how}: another folder in its place")
        before = passes(server)
        (w.tree / "more").write_text("more\n")
        m.refresh()
        same_snapshot(snapshot(m.point), snapshot(w.tree), f"{how}: a change in it")
        equal(passes(server), before, f"{how}: walks for it")
        run_ok(["rm", "-r", w.tree])
        w.tree.mkdir()
        (w.tree / "third").write_text("third\n")
        m.refresh()
        same_snapshot(snapshot(m.point), snapshot(w.tree), f"{how}: deleted and made anew")
        m.unmount()
        server.stop()
        run_ok(["rm", "-r", w.root, w.path("kept")])


@case("what changed while the server was down is found by a walk, once")
def restart(w):
    server, m = begin(w, "auto")
    server.stop()
    shell(w.tree, "echo changed > src/file1; rm -r lib; mkdir -p n/m; echo 1 > n/m/f")
    again = w.server(port=server.port, options=["--watch", "auto", "--stat-pass", "86400"])
    m.refresh()
    same_snapshot(snapshot(m.point), snapshot(w.tree), "after the restart")
    equal(passes(again), 1, "walks")
    shell(w.tree, "echo 2 > n/m/f")
    m.refresh()
    same_snapshot(snapshot(m.point), snapshot(w.tree), "after a change in a new folder")
    equal(passes(again), 1, "walks")


@contextlib.contextmanager
def queue_length(how, length):
    """Queues that are made meanwhile hold LENGTH events."""
    setting = Path(f"/proc/sys/fs/{how}/max_queued_events")
    before = setting.read_text()
    try:
        setting.write_text(str(length))
    except OSError as error:
        skip(f"the length of the queue cannot be set: {error}")
    try:
        yield
    finally:
        setting.write_text(before)


@case("a queue of the kernel's that runs over costs a walk, and nothing is missed")
def overflow(w):
    for how in WATCHERS:
        with queue_length(how, 8):
            server, m = begin(w, how)
        overflows, walked = server.counter("fsyncfs_watch_overflows_total"), passes(server)

        def run_over():
            shell(w.tree, "for i in $(seq 500); do echo $i >> src/many$i; done")
            return server.counter("fsyncfs_watch_overflows_total") > overflows
        wait_until(run_over, f"{how}: the queue runs over")
        m.refresh()
        same_snapshot(snapshot(m.point), snapshot(w.tree), f"{how}: after the queue ran over")
        check(passes(server) > walked, f"{how}: it was walked again")
        m.unmount()
        server.stop()
        run_ok(["rm", "-r", w.root])


@case("a watcher that loses events is put right by a stat pass, and by that only")
def lying(w):
    if not fanotify_works():
        skip("fanotify needs CAP_SYS_ADMIN")
    os.environ["FSYNCFS_TEST_WATCH_DROP"] = "100"
    try:
        server, m = begin(w, "fanotify")
    finally:
        del os.environ["FSYNCFS_TEST_WATCH_DROP"]
    before = passes(server)
    (w.tree / "src/file1").write_text("nobody was told\n")
    m.refresh()
    equal(passes(server), before, "walks for a refresh")
    equal((m.point / "src/file1").read_text(), "1\n", "content, as far as the watcher knows")
    run_ok([m.daemon.argv[0], "refresh", "--stat-pass", m.point])
    same_snapshot(snapshot(m.point), snapshot(w.tree), "after a stat pass")
    equal(passes(server), before + 1, "walks for a stat pass")


main()
