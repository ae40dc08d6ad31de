"""Who shows which version: fsyncfs-server fence, and what mounts hear of a master that is restarted."""

import re
import threading

from harness import SPIDER, case, check, equal, main, one_line, program, run, wait_until
import peers  # noqa: F401 (finds the next ones)
import hostile_worker

SHOWN, BEHIND, USAGE, TROUBLE = 0, 1, 2, 3
NAMED_MAX = 1000  # by one fence


def fence(server, *words, spider=SPIDER):
    return run([program("fsyncfs-server"), "fence", spider, "--index", server.index, *words])


def prepare(w):
    for name in ("top", "sub/inner"):
        (w.tree / name).parent.mkdir(parents=True, exist_ok=True)
        (w.tree / name).write_text(name)
    return w.server()


def attending(server, n):
    """Waits until N mounts have said which version they show."""
    def look():
        mounts = server.status()["mounts"]
        return mounts["count"] == n and all(m["version"] for m in mounts["rows"])
    wait_until(look, f"{n} mounts that attend")


@case("fence names who does not show the present version; who is refreshed shows it")
def named(w):
    server = prepare(w)
    mount = w.mount(server, options=["node_name=first"])
    pushed = w.mount(server, cache="other", options=["node_name=second", "refresh=push"])
    attending(server, 2)
    equal(fence(server).returncode, SHOWN, "fence of what nobody changed")
    old = mount.version()
    (w.tree / "new").write_text("new")
    done = fence(server, "--wait=1")
    equal(done.returncode, BEHIND, f"fence of what the first does not take ({done.stdout})")
    check(re.search(rf"^behind:  first \(.*127\.0\.0\.1:\d+\): shows version {old}", done.stdout, re.M), done.stdout)
    check("second" not in done.stdout and "1 mounts show it, 1 do not" in done.stdout, done.stdout)
    row = next(r for r in server.status()["mounts"]["rows"] if r["node"] == "first")
    check(row["state"] == "behind" and row["lag_seconds"] >= 1, f"the first's row is {row}")
    equal(server.counter("fsyncfs_mounts_behind"), 1, "mounts behind")
    equal(fence(server, "--version", old, "--wait=20").returncode, SHOWN, "fence of the old version: one shows it, one a later one")
    mount.refresh()
    done = fence(server, "--wait=20")
    equal(done.returncode, SHOWN, f"fence after the refresh ({done.stdout})")
    check(pushed.version() in done.stdout, done.stdout)
    equal(server.counter("fsyncfs_mounts_behind"), 0, "mounts behind")


@case("fence --wait ends as soon as the last one shows the version, not before")
def waited(w):
    server = prepare(w)
    mount = w.mount(server)
    attending(server, 1)
    (w.tree / "new").write_text("new")
    waiting = w.spawn([program("fsyncfs-server"), "fence", SPIDER, "--index", server.index, "--wait"], "fence.log")
    # The fence has begun once the version it asks for is there.
    wait_until(lambda: server.status()["mounts"]["rows"][0]["state"] == "behind", "the new version at the master")
    check(waiting.running(), f"it ended before the refresh: {waiting.output()}")
    mount.refresh()
    equal(waiting.wait(), SHOWN, "exit code")
    check((mount.point / "new").exists(), "the mount does not show what the fence was for")


@case("a mount of a folder is judged by that folder; unmounted ones are not asked for")
def folder(w):
    server = prepare(w)
    whole, part = w.mount(server), w.mount(server.source(path="/sub"), cache="other")
    attending(server, 2)
    (w.tree / "elsewhere").write_text("x")
    whole.refresh()
    done = fence(server, "--wait=20")
    equal(done.returncode, SHOWN, f"a change that is nothing to the folder ({done.stdout})")
    (w.tree / "sub/inner").write_text("changed")
    whole.refresh()
    equal(fence(server).returncode, BEHIND, "a change in the folder")
    part.unmount()
    equal(fence(server, "--wait=20").returncode, SHOWN, "after umount")


@case("a stock worker is named as unknown")
def stock(w):
    server = prepare(w)
    client = hostile_worker.Client(f"127.0.0.1:{server.port}")
    client.call(hostile_worker.SCAN, hostile_worker.sync.FileSyncRequest(spider_id=SPIDER, node_key="old-one"))
    done = fence(server)
    equal(done.returncode, BEHIND, "fence with a stock worker")
    check(re.search(r"^unknown: old-one \(.*\): a stock worker", done.stdout, re.M), done.stdout)
    equal([r["node"] for r in server.status()["stock_workers"]["rows"]], ["old-one"], "stock workers shown")


@case("all stock workers are counted, however few of them are named")
def many_stock(w):
    server = prepare(w)
    client = hostile_worker.Client(f"127.0.0.1:{server.port}")
    for i in range(NAMED_MAX + 3):
        client.call(hostile_worker.SCAN, hostile_worker.sync.FileSyncRequest(spider_id=SPIDER, node_key=f"old-{i}"))
    done = fence(server)
    check(f"0 mounts show it, {NAMED_MAX + 3} do not" in done.stdout, done.stdout[:200])
    equal(len(re.findall(r"^unknown: old-\d+ \(", done.stdout, re.M)), NAMED_MAX, "stock workers named")
    check(re.search(r"^and 3 more$", done.stdout, re.M), done.stdout[-200:])


@case("fence says in one line what is wrong with the call, or that no server answers")
def wrong(w):
    server = prepare(w)
    one_line(fence(server, "--version", "12"), USAGE, "--version", "12")
    one_line(fence(server, "--wait=soon"), USAGE, "--wait", "soon")
    one_line(fence(server, "other"), USAGE, "other")
    one_line(fence(server, "--what"), USAGE, "--what")
    one_line(fence(server, spider="nobody"), TROUBLE, "nobody")
    equal(oct(server.index.joinpath("control").stat().st_mode & 0o777), "0o700", "who may use the control socket")
    server.stop()
    one_line(fence(server), TROUBLE, "control")


@case("a restart is announced: mounts say so, attend the new master, and count it as no error")
def restarted(w):
    server = prepare(w)
    mount = w.mount(server, options=["node_name=worker", "refresh=push"])
    attending(server, 1)
    equal(server.stop(), 0, "exit code")
    mount.daemon.wait_output("is closing, by intention")
    server = w.server(port=server.port)
    attending(server, 1)
    equal(server.status()["mounts"]["rows"][0]["node"], "worker", "who attends")
    equal(re.findall(r"^fsyncfs: (?:error|warning): .*", mount.daemon.output(), re.M), [], "what the mount complains of")
    (w.tree / "new").write_text("new")
    equal(fence(server, "--wait=30").returncode, SHOWN, "a version that comes after the restart")


@case("Attend refuses what makes no sense, and a second spider changes nothing")
def hostile(w):
    server = prepare(w)
    client = hostile_worker.Client(f"127.0.0.1:{server.port}")
    presence = hostile_worker.workspace.Presence
    bad = [b"\xff", presence(spider_id="../x"), presence(spider_id=""), presence(spider_id=SPIDER, path="/abs"),
           presence(spider_id=SPIDER, path="a/../b"), presence(spider_id=SPIDER, digest=b"short"),
           presence(spider_id=SPIDER, path="a", raw_path=b"b"), presence(spider_id=SPIDER, node_name="n" * 100000)]
    for request in bad:
        code, answers = client.conversation(hostile_worker.ATTEND, [request] if not isinstance(request, bytes) else [Raw(request)])
        equal((code.name, answers), ("INVALID_ARGUMENT", []), f"{str(request)[:60]}")
    gate = threading.Event()

    def say():
        yield presence(spider_id=SPIDER, node_name="one").SerializeToString()
        yield presence(spider_id="other", node_name="two", digest=b"d" * 16, revision=7).SerializeToString()
        gate.wait(60)
    call = client.channel.stream_stream(hostile_worker.ATTEND, request_serializer=None, response_deserializer=None)(say(), timeout=60)
    attending(server, 1)
    row = server.status()["mounts"]["rows"][0]
    equal((row["node"], row["spider"], row["revision"]), ("one", SPIDER, 7), "the row")
    gate.set()
    equal(call.code().name, "OK", "how it ends")


class Raw:
    def __init__(self, data):
        self.data = data

    def SerializeToString(self):
        return self.data


main()
