"""fsyncfs prefetch: everything at or below a path into the store, with progress, going on where it was broken off."""

import json
import re
import signal

from harness import case, check, equal, main, on_terminal, program, run, run_ok, wait_until
from trees import make_tree, same_snapshot, set_times, settle, snapshot

FILES, BYTES = 2000, 8_000_000


def prefetch(*paths):
    done = run_ok([program("fsyncfs"), "prefetch", *paths, "--json"])
    return json.loads(done.stdout)


@case("a whole tree: afterwards every file can be read without the master")
def whole(w):
    make_tree(w.tree, FILES, BYTES)
    server = w.server()
    m = w.mount(server)
    told = prefetch(m.point)
    equal((told["total_files"], told["files"], told["fetched_files"], told["failed"]), (FILES, FILES, FILES, 0), "files")
    equal(told["bytes"], told["total_bytes"], "bytes")
    check(told["finished"] and told["counted"], "it says that it has finished")
    downloads = server.counter("fsyncfs_downloads_total")
    server.stop()
    same_snapshot(snapshot(m.point), snapshot(w.tree), "the tree, with the master gone")
    check(downloads <= FILES, "no content was sent twice")


@case("a folder and a file; what is here already is not fetched again")
def parts(w):
    make_tree(w.tree, 300, 1_000_000)
    server = w.server()
    m = w.mount(server)
    told = prefetch(m.point / "d0001")
    equal(told["fetched_files"], 100, "files of the folder")
    equal(m.status()["cached_files"], 100, "files in the store")
    equal(prefetch(m.point / "d0002/f000200.bin")["fetched_files"], 1, "the one file")
    again = prefetch(m.point)
    equal((again["files"], again["fetched_files"]), (300, 199), "the whole tree afterwards")
    equal(prefetch(m.point)["fetched_files"], 0, "and once more")


@case("broken off by Ctrl-C it goes on when it is asked for anew")
def broken_off(w):
    make_tree(w.tree, FILES, 4 * BYTES)
    server = w.server()
    m = w.mount(server)
    job = w.spawn([program("fsyncfs"), "prefetch", m.point], "prefetch.log")
    wait_until(lambda: server.counter("fsyncfs_downloads_total") > 50, "it is at work")
    job.signal(signal.SIGINT)
    equal(job.wait(), -signal.SIGINT, "how it ended")
    check("goes on from there" in job.output(), f"what to do next: {job.output()}")
    told = prefetch(m.point)
    equal((told["files"], told["failed"]), (FILES, 0), "files in the end")
    check(server.counter("fsyncfs_downloads_total") <= FILES + 1100, "little more than each file once was sent")


@case("on a terminal it shows a bar, how much and how fast")
def terminal(w):
    make_tree(w.tree, 500, 60_000_000)
    m = w.mount(w.server())
    code, shown = on_terminal([program("fsyncfs"), "prefetch", m.point])
    equal(code, 0, "exit code")
    check("[#" in shown or "[ " in shown, f"a bar: {shown[:300]}")
    bars = [line for line in shown.split("\r") if " %  " in line]
    check(all(len(re.sub(r"\033\[.", "", line)) < 80 for line in bars), f"no bar wraps: {shown[:300]}")
    check("/s" in shown, "how fast")
    check("500 files" in shown, f"a summary: {shown[-300:]}")
    check("500 fetched" in shown, "what was fetched")


@case("one that is slowed down holds no old version of the catalog: its log is emptied as ever")
def slowed_down(w):
    make_tree(w.tree, 20_000, 40_000_000, per_folder=20_000)
    server = w.server()
    m = w.mount(server, options=["prefetch_rate=100K"])
    w.spawn([program("fsyncfs"), "prefetch", m.point], "prefetch.log")
    wait_until(lambda: server.counter("fsyncfs_downloads_total") > 20, "it is at work")
    log, sizes = next(m.cache.glob("catalogs/*/slot0.db-wal")), []
    for version in range(1, 7):
        for path in (w.tree / "d0000").iterdir():
            set_times(path, version * 10**15)
        settle()
        m.refresh()
        sizes.append(log.stat().st_size)
    check(sizes[-1] < 12 << 20, f"the log stays within 4 MiB and a version: {sizes}")


@case("without a master it says so; a path that is not in a mount is an error")
def errors(w):
    make_tree(w.tree, 20, 100_000)
    server = w.server()
    m = w.mount(server, options=["timeout=2"])
    server.stop()
    done = run([program("fsyncfs"), "prefetch", m.point])
    equal(done.returncode, 1, "exit code without a master")
    check("could not be fetched" in done.stderr, done.stderr)
    done = run([program("fsyncfs"), "prefetch", w.tree])
    check(done.returncode == 1 and "not in a mount" in done.stderr, done.stderr)
    equal(run([program("fsyncfs"), "prefetch"]).returncode, 2, "exit code of a wrong call")


main()
