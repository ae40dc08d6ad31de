"""Proof 3: many tasks of one spider at once cost the master one scan, one hash a file, one transfer a content and worker."""

import hashlib
import json
import os
import sys
from pathlib import Path

from harness import case, check, equal, main, program, run
from trees import make_tree

FILES, BYTES = 400, 20_000_000

# A task: mounts the spider in a folder of its own, reads all of it, prints what it saw, unmounts.
TASK = r'''
import hashlib, json, os, subprocess, sys
fsyncfs, source, point, cache = sys.argv[1:]
os.makedirs(point)
subprocess.run([fsyncfs, "mount", source, point, "-o", f"cache={cache},timeout=60"], check=True)
total = hashlib.sha256()
try:
    files = size = 0
    for folder, folders, names in os.walk(point):
        folders.sort()
        for name in sorted(names):
            with open(os.path.join(folder, name), "rb") as f:
                data = f.read()
            total.update(name.encode() + b"\0" + data)
            files, size = files + 1, size + len(data)
finally:
    subprocess.run(["umount", point], check=True)
print(json.dumps([files, size, total.hexdigest()]))
'''


def expected(tree):
    total, files, size = hashlib.sha256(), 0, 0
    for folder, folders, names in os.walk(tree):
        folders.sort()
        for name in sorted(names):
            data = (Path(folder) / name).read_bytes()
            total.update(name.encode() + b"\0" + data)
            files, size = files + 1, size + len(data)
    return [files, size, total.hexdigest()]


def run_tasks(w, source, count, caches):
    """COUNT tasks at once, over CACHES cache folders (workers) in turn; what each saw."""
    started = len(w.processes)
    tasks = [w.spawn([sys.executable, "-c", TASK, program("fsyncfs"), source, w.path("points", f"{started + i}"),
                      w.path(f"worker{i % caches}")], f"task{started + i:02d}.log") for i in range(count)]
    codes = [task.wait(300) for task in tasks]
    equal(codes, [0] * count, "the tasks' exit codes")
    return [json.loads(task.output().splitlines()[-1]) for task in tasks]


@case("10 tasks on two workers at once: 1 scan, each file hashed once, each content sent once a worker; then 50 at once")
def tasks(w):
    make_tree(w.tree, FILES, BYTES)
    want = expected(w.tree)
    server = w.server()
    equal(run_tasks(w, server.source(), 10, 2), [want] * 10, "what 10 tasks saw")
    counted = {name: server.counter(f"fsyncfs_{name}_total")
               for name in ("scans", "files_hashed", "bytes_sent", "downloads")}
    equal(counted, {"scans": 1, "files_hashed": want[0], "bytes_sent": 2 * want[1], "downloads": 2 * want[0]},
          "the server's counters after 10 tasks on two workers")
    check(server.counter("fsyncfs_scan_requests_total") >= 10, "every task asked for the tree")
    equal(run_tasks(w, server.source(), 50, 2), [want] * 50, "what 50 tasks saw")
    again = {name: server.counter(f"fsyncfs_{name}_total") for name in counted}
    equal(again, counted, "the server's counters after 50 more (nothing changed, all is cached)")


@case("50 tasks at once on a cold worker")
def cold_crowd(w):
    make_tree(w.tree, 200, 5_000_000)
    want = expected(w.tree)
    server = w.server()
    equal(run_tasks(w, server.source(), 50, 1), [want] * 50, "what they saw")
    equal(server.counter("fsyncfs_bytes_sent_total"), want[1], "content bytes sent")


@case("spiders that hold the same content share it on a worker")
def shared_content(w):
    make_tree(w.root / "one", 50, 1_000_000, seed=9)
    make_tree(w.root / "two", 50, 1_000_000, seed=9)
    server = w.server()
    run_tasks(w, server.source("one"), 1, 1)
    sent = server.counter("fsyncfs_bytes_sent_total")
    equal(run_tasks(w, server.source("two"), 1, 1), [expected(w.root / "two")], "what the second spider's task saw")
    equal(server.counter("fsyncfs_bytes_sent_total"), sent, "content bytes sent for the second spider")


main()
