"""What the kernel is used for: large files read without the daemon (passthrough), whether and why, and what it asks for otherwise."""

import json
import mmap
import os
import shutil
import signal
import threading
from pathlib import Path

from harness import case, check, equal, main, program, run, run_ok, skip, wait_until
from trees import same_snapshot, settle, snapshot

LARGE = 3 * (1 << 20) + 12_345
SMALL = 10_000


def large_tree(w, small=5):
    """A large file beside a few small ones: passthrough pays."""
    w.tree.mkdir(parents=True)
    (w.tree / "large.bin").write_bytes(os.urandom(LARGE))
    for i in range(small):
        (w.tree / f"small{i}").write_bytes(os.urandom(SMALL))
    settle()
    return w.server()


def need_passthrough(m):
    feature = m.status()["features"]["passthrough"]
    if "kernel" in feature["reason"] and not feature["on"]:
        skip(f"passthrough: {feature['reason']}")
    check(feature["on"], f"passthrough is off: {feature['reason']}")


def opens(m):
    return m.status()["passthrough_opens"]


def bring(m, *names):
    """Reads the files, and waits until they are whole in the store."""
    for name in names:
        (m.point / name).read_bytes()
        wait_until(lambda n=name: "cached  100 %" in run_ok([program("fsyncfs"), "stat", m.point / n]).stdout, f"{name} in the store")


def opened_through(path, m):
    """A descriptor of PATH that the kernel reads by itself. A release comes after close(2) has returned: until then a file stays what it was."""
    def attempt():
        before = opens(m)
        fd = os.open(path, os.O_RDONLY)
        if opens(m) > before:
            return fd + 1
        os.close(fd)
        return 0
    return wait_until(attempt, f"passthrough of {path}") - 1


def blob_of(m, path):
    """Where the content of PATH lies in the store of mount M."""
    line = [line for line in run_ok([program("fsyncfs"), "stat", path]).stdout.splitlines() if line.startswith("  hash")][0]
    algorithm, digest = line.split()[1].split(":")
    return m.cache / "blobs" / algorithm / digest[:2] / digest[2:]


@case("on: a large file that is here is read by the kernel, byte by byte the same; small ones through the page cache")
def on(w):
    m = w.mount(large_tree(w), options=["passthrough=on"])
    need_passthrough(m)
    equal(opens(m), 0, "opens of a fresh mount")
    bring(m, "large.bin", "small0")
    fd = opened_through(m.point / "large.bin", m)
    before = m.status()
    same = os.pread(fd, LARGE + 1, 0) == (w.tree / "large.bin").read_bytes()
    tail = os.pread(fd, 100, LARGE - 50)
    after = m.status()
    os.close(fd)
    check(same, "bytes by passthrough differ")
    equal(tail, (w.tree / "large.bin").read_bytes()[-50:], "the end")
    equal(after["hits"] + after["misses"], before["hits"] + before["misses"], "read requests during passthrough")
    same_snapshot(snapshot(m.point), snapshot(w.tree), "the tree")
    before = opens(m)
    (m.point / "small0").read_bytes()
    equal(opens(m), before, "passthrough opens by a small file")


@case("off: no open asks, nothing is passed through")
def off(w):
    m = w.mount(large_tree(w), options=["passthrough=off"])
    bring(m, "large.bin")
    (m.point / "large.bin").read_bytes()
    status = m.status()
    equal((status["passthrough"], status["passthrough_opens"]), (False, 0), "passthrough")
    features = status["features"]
    equal((features["no_open"]["on"], features["passthrough"]["on"]), (True, False), "no_open, passthrough")
    check("option" in features["passthrough"]["reason"], f"the reason: {features['passthrough']['reason']}")
    same_snapshot(snapshot(m.point), snapshot(w.tree), "the tree")


@case("auto: on where large files have most of the bytes, off where there are many small ones")
def auto(w):
    server = large_tree(w)
    (w.tree / "larger.bin").write_bytes(bytes(16 << 20))
    settle()
    m = w.mount(server)
    need_passthrough(m)
    equal(m.status()["features"]["no_open"]["on"], False, "no_open with passthrough")
    m.unmount()
    for i in range(200):
        (w.tree / f"more{i}").write_bytes(b"%d" % i)
    settle()
    m = w.mount(server)
    feature = m.status()["features"]["passthrough"]
    equal(feature["on"], False, "passthrough with 200 small files beside 19 MiB")
    check("round trip" in feature["reason"], f"the reason: {feature['reason']}")
    equal(m.status()["features"]["no_open"]["on"], True, "no_open without passthrough")


@case("status tells people what is used, and why there is no passthrough")
def told(w):
    server = large_tree(w)
    m = w.mount(server, options=["passthrough=off"])
    lines = run_ok([program("fsyncfs"), "status", m.point]).stdout.splitlines()
    line = [line for line in lines if line.startswith("  kernel")]
    equal(len(line), 1, "lines about the kernel")
    for word in ("no_open", "readdirplus", "no passthrough: off by the mount option"):
        check(word in line[0], f"status does not say {word!r}: {line[0]}")
    m.unmount()
    m = w.mount(server, options=["passthrough=on"])
    need_passthrough(m)
    check("  kernel    passthrough," in run_ok([program("fsyncfs"), "status", m.point]).stdout, "status with passthrough")


@case("what the kernel agreed to is what is shown: reads of 1 MiB, several look-ups at once")
def agreed(w):
    server = large_tree(w)
    m = w.mount(server, options=["passthrough=off"])
    bring(m, "large.bin")
    m.unmount()
    m = w.mount(server, options=["passthrough=off"])
    features = m.status()["features"]
    for name in ("no_opendir", "readdirplus", "keep_cache", "max_read", "read_ahead", "async_read", "parallel_dirops"):
        check(features[name]["on"], f"{name} is off: {features[name]['reason']}")
    equal((features["max_read"]["value"], features["read_ahead"]["value"]), (1 << 20, 1 << 20), "max_read, read_ahead")
    number = next(line.split()[2] for line in Path("/proc/self/mountinfo").read_text().splitlines() if f" {m.point} " in line)
    equal(int(Path(f"/sys/class/bdi/{number}/read_ahead_kb").read_text()), 1024, "read_ahead_kb")
    (m.point / "large.bin").read_bytes()
    requests = m.status()["hits"]
    check(requests <= 8, f"{requests} requests for 3 MiB: they are not of the size that was agreed")


@case("a file that is opened before it is whole stays in the page cache until it is closed last")
def before_whole(w):
    m = w.mount(large_tree(w), options=["passthrough=on"])
    need_passthrough(m)
    first = os.open(m.point / "large.bin", os.O_RDONLY)
    bring(m, "large.bin")
    second = os.open(m.point / "large.bin", os.O_RDONLY)
    equal(opens(m), 0, "opens in passthrough while the first is open")
    data = (w.tree / "large.bin").read_bytes()
    equal(os.pread(second, LARGE, 0) == data, True, "bytes by the second")
    equal(os.pread(first, LARGE, 0) == data, True, "bytes by the first")
    os.close(first)
    os.close(second)
    third = opened_through(m.point / "large.bin", m)
    equal(os.pread(third, LARGE, 0) == data, True, "bytes by passthrough")
    os.close(third)


@case("replaced while it is open: who has it open keeps the old content, who opens it gets the new one")
def replaced(w):
    server = large_tree(w)
    m = w.mount(server, options=["passthrough=on"])
    need_passthrough(m)
    bring(m, "large.bin")
    old = (w.tree / "large.bin").read_bytes()
    fd = opened_through(m.point / "large.bin", m)
    (w.tree / "new").write_bytes(os.urandom(LARGE + 999))
    (w.tree / "new").rename(w.tree / "large.bin")
    settle()
    m.refresh()
    equal((m.point / "large.bin").read_bytes() == (w.tree / "large.bin").read_bytes(), True, "the new content")
    equal(os.pread(fd, 2 * LARGE, 0) == old, True, "the old content")
    bring(m, "large.bin")
    other = opened_through(m.point / "large.bin", m)
    equal(os.pread(other, 2 * LARGE, 0) == (w.tree / "large.bin").read_bytes(), True, "the new content by passthrough")
    equal(os.pread(fd, 2 * LARGE, 0) == old, True, "the old content, still")
    os.close(fd)
    os.close(other)


@case("mapped, and run: programs and mappings by passthrough, after close, too")
def mapped(w):
    server = large_tree(w)
    interpreter = Path("/bin/bash").resolve()
    shutil.copy(interpreter, w.tree / "shell")
    (w.tree / "shell").chmod(0o755)
    settle()
    m = w.mount(server, options=["passthrough=on"])
    need_passthrough(m)
    bring(m, "large.bin", "shell")
    fd = opened_through(m.point / "large.bin", m)
    view = mmap.mmap(fd, LARGE, prot=mmap.PROT_READ)
    os.close(fd)
    equal(view[:] == (w.tree / "large.bin").read_bytes(), True, "mapped bytes")
    before = opens(m)
    equal(run_ok([m.point / "shell", "-c", "echo ran"]).stdout, "ran\n", "a program's output")
    check(opens(m) > before, "the program was not run by passthrough")
    equal((m.point / "large.bin").read_bytes() == view[:], True, "read beside the mapping")
    view.close()


@case("what is open by passthrough counts as open: it is evicted after the last close, and not before")
def evicted(w):
    server = large_tree(w)
    m = w.mount(server, options=["passthrough=on"])
    need_passthrough(m)
    bring(m, "large.bin")
    m.unmount()
    m = w.mount(server, options=["passthrough=on"])  # a daemon that has not read the blob itself
    data = (w.tree / "large.bin").read_bytes()
    blob = blob_of(m, m.point / "large.bin")
    fd = opened_through(m.point / "large.bin", m)
    run_ok([program("fsyncfs"), "cache", "evict", "--cache", m.cache])
    check(blob.exists(), "an open blob was evicted")
    os.close(fd)

    def gone():
        run_ok([program("fsyncfs"), "cache", "evict", "--cache", m.cache])
        return not blob.exists()
    wait_until(gone, "eviction after the last close")
    equal((m.point / "large.bin").read_bytes() == data, True, "bytes fetched again")


@case("a blob that loses its name while it is open can be read on, and opened again")
def nameless(w):
    m = w.mount(large_tree(w), options=["passthrough=on"])
    need_passthrough(m)
    bring(m, "large.bin")
    data = (w.tree / "large.bin").read_bytes()
    fd = opened_through(m.point / "large.bin", m)
    blob_of(m, m.point / "large.bin").unlink()
    equal(os.pread(fd, LARGE, 0) == data, True, "bytes after the blob's name is gone")
    before = opens(m)
    again = os.open(m.point / "large.bin", os.O_RDONLY)
    equal(opens(m), before + 1, "passthrough of a second open")
    equal(os.pread(again, LARGE, 0) == data, True, "bytes by the second open")
    os.close(fd)
    os.close(again)


@case("hundreds of opens at the same time, while the blob comes and goes: no error, no wrong byte")
def together(w):
    m = w.mount(large_tree(w), options=["passthrough=on"])
    need_passthrough(m)
    bring(m, "large.bin")
    data = (w.tree / "large.bin").read_bytes()
    blob, aside = blob_of(m, m.point / "large.bin"), m.cache / "aside"
    os.link(blob, aside)
    problems, end = [], threading.Event()

    def reader(number):
        for turn in range(100):
            at = (number * 7919 + turn * 104_729) % (LARGE - 4096)
            try:
                with open(m.point / "large.bin", "rb") as f:
                    if os.pread(f.fileno(), 4096, at) != data[at:at + 4096]:
                        problems.append(f"wrong bytes at {at}")
            except OSError as error:
                problems.append(str(error))

    def remover():
        while not end.wait(0.002):
            if blob.exists():
                blob.unlink()
            else:
                os.link(aside, blob)

    threads = [threading.Thread(target=reader, args=(n,)) for n in range(8)]
    vandal = threading.Thread(target=remover)
    vandal.start()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    end.set()
    vandal.join()
    equal(problems[:3], [], "problems")
    check(opens(m) > 0, "no open was answered by passthrough")
    blob.unlink(missing_ok=True)

    def through_cache():
        before = opens(m)
        with open(m.point / "large.bin", "rb") as f:
            return opens(m) == before and f.read() == data
    wait_until(through_cache, "a read through the page cache, of a blob that is gone")
    if not blob.exists():
        os.link(aside, blob)
    os.close(opened_through(m.point / "large.bin", m))


@case("the daemon dies, and its keeper: what is open by passthrough goes on, nothing else hangs")
def killed(w):
    m = w.mount(large_tree(w), options=["passthrough=on"])
    need_passthrough(m)
    bring(m, "large.bin")
    fd = opened_through(m.point / "large.bin", m)
    m.die()
    equal(os.pread(fd, LARGE, 0) == (w.tree / "large.bin").read_bytes(), True, "bytes after the daemon's death")
    os.close(fd)
    m.kill()


@case("a cache on a stacked file system: read through the daemon, and status says why")
def stacked(w):
    server = large_tree(w)
    for name in ("lower", "upper", "work", "merged"):
        w.path(name).mkdir()
    done = run(["mount", "-t", "overlay", "overlay", "-o",
                f"lowerdir={w.path('lower')},upperdir={w.path('upper')},workdir={w.path('work')}", w.path("merged")])
    if done.returncode != 0:
        skip(f"no overlay here: {done.stderr.strip()}")
    m = w.mount(server, cache="merged/cache", options=["passthrough=on"])
    feature = m.status()["features"]["passthrough"]
    equal(feature["on"], False, "passthrough")
    check("stacked" in feature["reason"], f"the reason: {feature['reason']}")
    same_snapshot(snapshot(m.point), snapshot(w.tree), "the tree")
    m.unmount()


@case("root of a user namespace only: read through the daemon, and status says why")
def unprivileged(w):
    server = large_tree(w)
    point = w.path("inner")
    point.mkdir()
    daemon = w.spawn(["unshare", "--user", "--map-root-user", "--mount", program("fsyncfs"), "mount", server.source(), point, "-f",
                      "-o", f"cache={w.path('cache')},refresh=off,passthrough=on"], "inner.log")
    inside = ["nsenter", "--target", str(daemon.pid), "--user", "--mount"]

    def mounted():
        if not daemon.running():
            skip(f"no mount in a user namespace here: {daemon.output().strip()}")
        return str(point) in run([*inside, "cat", "/proc/self/mountinfo"]).stdout
    wait_until(mounted, "the mount")
    equal(run([*inside, "cmp", point / "large.bin", w.tree / "large.bin"]).returncode, 0, "cmp inside")
    status = json.loads(run_ok([*inside, program("fsyncfs"), "status", point, "--json"]).stdout)
    equal(status["passthrough"], False, "passthrough")
    reason = status["features"]["passthrough"]["reason"]
    check("CAP_SYS_ADMIN" in reason, f"the reason: {reason}")
    run_ok([*inside, "umount", point])
    equal(daemon.wait(), 0, "the daemon's exit code")


main()
