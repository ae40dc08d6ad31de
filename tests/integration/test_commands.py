"""The operator's commands: a master's files without a mount, what tasks wait for, what is wrong with a machine."""

import json
import os
import pty
import re
import select
import signal
import stat
import subprocess
import tarfile
import termios

from certs import Authority
from harness import case, check, equal, main, on_terminal, one_line, program, run, run_ok, wait_until, waits
from peers import stock_master
from shifted_clock import Clock
from trees import make_odd_tree, make_tree, same_snapshot, set_times, settle, snapshot

NOT_THERE, NO_MASTER = 3, 4  # exit codes


def fsyncfs(w, *words, **options):
    """Without a cache, unless one is named; what is temporary lies in the work folder."""
    w.path("tmp").mkdir(exist_ok=True)
    return run([program("fsyncfs"), *words], env={**os.environ, "TMPDIR": str(w.path("tmp"))}, **options)


def cache(w, name="cache"):
    return ["-o", f"cache={w.path(name)}"]


def nothing_left(w):
    equal(list(w.path("tmp").iterdir()), [], "what is left of temporary folders")


def without_setid(tree):
    """An export hands setuid and setgid on to nobody."""
    return {path: (oct(int(mode, 8) & ~0o6000), *rest) for path, (mode, *rest) in tree.items()}


def same_export(folder, tree, but=()):
    got, want = snapshot(folder), without_setid(snapshot(tree))
    for path in (b"", *but):  # the folder itself is whose it was
        got.pop(path, None)
        want.pop(path, None)
    same_snapshot(got, want, f"what is in {folder}")


@case("ls: one folder, everything below, details, JSON; a file by itself")
def ls(w):
    make_odd_tree(w.tree)
    server = w.server()
    listed = json.loads(fsyncfs(w, "ls", "-R", "--json", server.source()).stdout)
    want = snapshot(w.tree)
    want.pop(b"")
    equal(len(listed), len(want), "entries")
    one = next(entry for entry in listed if entry["path"] == "links/relative")
    equal((one["kind"], one["target"]), ("symlink", "target.txt"), "a symlink")
    for entry in listed:
        if entry["path"].isascii() and "?" not in entry["path"]:
            st = os.lstat(w.tree / entry["path"])
            equal((entry["mode"], entry["mtime_ns"]), (stat.S_IMODE(st.st_mode), st.st_mtime_ns), entry["path"])
    plain = fsyncfs(w, "ls", server.source(path="/modes"))
    equal(plain.stdout.split(), sorted(os.listdir(w.tree / "modes")), "names of a folder")
    detailed = fsyncfs(w, "ls", "-l", server.source(path="/modes")).stdout
    for name, mode in {"d1777": "drwxrwxrwt", "f4755": "-rwsr-xr-x", "f1644": "-rw-r--r-T", "f0000": "----------"}.items():
        check(any(line.startswith(mode) and line.endswith(name) for line in detailed.splitlines()), f"{mode} {name} in {detailed}")
    alone = json.loads(fsyncfs(w, "ls", "--json", server.source(path="/big")).stdout)
    equal([(entry["path"], entry["size"]) for entry in alone], [("big", 5_000_001)], "a file by itself")
    nothing_left(w)


@case("cat: a tiny file, a small one, a large one; who stops reading is no error to speak of")
def cat(w):
    make_odd_tree(w.tree)
    server = w.server()
    w.path("tmp").mkdir()
    for name in ("modes/f0644", "same1", "big", "empty"):
        done = subprocess.run([program("fsyncfs"), "cat", server.source(path=f"/{name}")], capture_output=True, timeout=60,
                              env={**os.environ, "TMPDIR": str(w.path("tmp"))})
        equal((done.returncode, done.stdout, done.stderr), (0, (w.tree / name).read_bytes(), b""), name)
    done = fsyncfs(w, "cat", server.source(path="/links"))
    one_line(done, 1, "directory")
    done = run(["sh", "-c", '"$1" cat "$2" | head -c 3 | wc -c', "sh", program("fsyncfs"), server.source(path="/big")],
               env={**os.environ, "TMPDIR": str(w.path("tmp"))})
    equal((done.stdout.strip(), done.stderr), ("3", ""), "bytes for who reads three, and complaints")
    nothing_left(w)


@case("cat ends by a signal where its reader reads no more, and in the middle of a file; it leaves nothing behind")
def cat_signalled(w):
    w.tree.mkdir(parents=True)
    (w.tree / "big").write_bytes(os.urandom(20_000_000))
    server = w.server()
    w.path("tmp").mkdir()
    for reads_on in (False, True, True):  # at first its pieces come, then it is all here
        with subprocess.Popen([program("fsyncfs"), "cat", *cache(w), server.source(path="/big")], stdout=subprocess.PIPE,
                              env={**os.environ, "TMPDIR": str(w.path("tmp"))}) as job:
            try:
                wait_until(lambda: any("pipe_w" in line for line in waits(job.pid)), "a write that waits for its reader")
                job.send_signal(signal.SIGTERM)
                wait_until(lambda: not any(line.startswith("fetch") for line in waits(job.pid)), "it has seen the signal")
                got = len(job.stdout.read()) if reads_on else 0
                equal(job.wait(60), -signal.SIGTERM, "how it ended")
            finally:
                job.kill()
        check(got < 20_000_000, "it went on to the end of the file")
        nothing_left(w)
        if reads_on:
            equal(fsyncfs(w, "export", *cache(w), server.source(path="/big"), w.path("out")).returncode, 0, "export")


@case("exit codes: 2 a wrong call, 3 nothing there, 4 no master or no admission; one line each")
def exit_codes(w):
    make_tree(w.tree, 3, 3000)
    w.path("token").write_text("secret-word\n")
    w.path("token").chmod(0o600)
    server = w.server(options=["--token-file", w.path("token")])
    token = ["-o", f"token_file={w.path('token')}"]
    equal(fsyncfs(w, "ls", *token, server.source()).stdout.split(), ["d0000"], "with the token")
    one_line(fsyncfs(w, "ls", server.source()), NO_MASTER, "token")
    one_line(fsyncfs(w, "cat", *token, server.source(path="/nothing")), NOT_THERE, "nothing")
    one_line(fsyncfs(w, "export", *token, server.source(spider="nobody"), w.path("out")), NOT_THERE, "nobody")
    one_line(fsyncfs(w, "ls", *token, "127.0.0.1:1:/spider"), NO_MASTER, "127.0.0.1:1")
    one_line(fsyncfs(w, "ls", *token, "nowhere.invalid:/spider"), NO_MASTER, "no address for 'nowhere.invalid'")
    equal(fsyncfs(w, "export", *token, server.source()).returncode, 2, "an operand is missing")
    equal(fsyncfs(w, "cat", "-l", server.source()).returncode, 2, "an option of another command")
    equal(fsyncfs(w, "ls", "-o", "offline", server.source()).returncode, 2, "offline")
    check("usage:" in fsyncfs(w, "cat", "--help").stdout, "help")
    nothing_left(w)


@case("export into a folder: every odd entry; again nothing is fetched, and what differs is mended")
def export(w):
    make_odd_tree(w.tree)
    server = w.server()
    out = w.path("out")
    told = json.loads(fsyncfs(w, "export", "--json", *cache(w, "none"), server.source(), out).stdout)
    same_export(out, w.tree)
    equal((told["written_files"], told["same_files"], told["failed"]), (told["files"], 0, 0), "files")
    downloads = server.counter("fsyncfs_downloads_total")
    (out / "big").write_bytes(b"x" * 5_000_001)
    set_times(out / "big", (w.tree / "big").stat().st_mtime_ns)
    (out / "links/relative").unlink()
    (out / "same1").unlink()
    (out / "same1").symlink_to(w.path("elsewhere"))
    (out / "same2").chmod(0o600)
    (out / "of my own").write_text("mine")
    told = json.loads(fsyncfs(w, "export", "--json", *cache(w, "none"), server.source(), out).stdout)
    equal((told["written_files"], told["files"] - told["same_files"], told["fetched_bytes"]), (2, 2, 0),
          "written, not the same, fetched: the cache had it all")
    equal(server.counter("fsyncfs_downloads_total"), downloads, "downloads")
    check(not w.path("elsewhere").exists(), "nothing was written through a symlink")
    equal((out / "of my own").read_text(), "mine", "what else is in the folder")
    (out / "of my own").unlink()
    same_export(out, w.tree)
    nothing_left(w)


@case("nothing is written outside of the folder, whatever lies in it")
def hostile_folder(w):
    make_tree(w.tree, 4, 4000, per_folder=2)
    (w.tree / "plain").write_text("a file")
    server = w.server()
    out, victim = w.path("out"), w.path("victim")
    out.mkdir()
    victim.mkdir()
    (out / "d0000").symlink_to(victim)
    (out / "plain").mkdir()
    (out / "plain/keep").write_text("kept")
    done = fsyncfs(w, "export", server.source(), out)
    equal(done.returncode, 1, "exit code")
    check("'d0000'" in done.stderr and "'plain'" in done.stderr, done.stderr)
    equal(list(victim.iterdir()), [], "what was written through the symlink")
    equal((out / "plain/keep").read_text(), "kept", "what was in the way")
    same_snapshot(snapshot(out / "d0001"), snapshot(w.tree / "d0001"), "the rest")
    equal([path for path in out.rglob(".fsyncfs-export*")], [], "temporary files")


@case("export that is interrupted ends, leaves nothing behind, and goes on when it is asked for anew")
def interrupted(w):
    make_tree(w.tree, 1500, 60_000_000)
    server = w.server()
    out = w.path("out")
    w.path("tmp").mkdir()
    job = w.spawn([program("fsyncfs"), "export", *cache(w), server.source(), out], "export.log",
                  env={**os.environ, "TMPDIR": str(w.path("tmp"))})
    wait_until(lambda: out.exists() and (out / "d0001").exists(), "it is at work")
    server.signal(signal.SIGSTOP)
    job.signal(signal.SIGINT)
    equal(job.wait(), -signal.SIGINT, "how it ended")
    server.signal(signal.SIGCONT)
    nothing_left(w)
    there = sum(1 for path in out.rglob("*.bin"))
    check(there < 1500, "it was broken off")
    equal([path for path in out.rglob(".fsyncfs-export*")], [], "temporary files")
    told = json.loads(fsyncfs(w, "export", "--json", *cache(w), server.source(), out).stdout)
    equal(told["same_files"], there, "files that were there")
    same_export(out, w.tree)


@case("export where an export of the same process number was killed: what that left is in nobody's way")
def export_after_kill(w):
    w.tree.mkdir(parents=True)
    (w.tree / "file").write_text("content")
    (w.tree / "link").symlink_to("file")
    server = w.server()
    w.path("out").mkdir()
    run_ok(["sh", "-c", 'for n in 1 2 3; do echo left >"$2/.fsyncfs-export-$$-$n"; done; exec "$0" export "$1" "$2" -o "cache=$3"',
            program("fsyncfs"), server.source(), w.path("out"), w.path("cache")])
    equal(((w.path("out") / "file").read_text(), os.readlink(w.path("out") / "link")), ("content", "file"), "what was exported")
    equal(len(list(w.path("out").glob(".fsyncfs-export-*"))), 3, "what is not ours stays")


@case("export as a tar stream: tar unpacks just what the master has")
def tar(w):
    make_odd_tree(w.tree)
    server = w.server()
    out = w.path("unpacked")
    out.mkdir()
    w.path("tmp").mkdir()
    done = run(["bash", "-c", 'set -o pipefail; "$1" export "$2" - | tar -xpf - -C "$3"', "bash", program("fsyncfs"),
                server.source(), out], env={**os.environ, "TMPDIR": str(w.path("tmp")), "LC_ALL": "C.UTF-8"})
    equal(done.returncode, 0, done.stderr)
    same_export(out, w.tree, but=(b"times/before", b"times/1901"))  # to the second alone
    one_line(fsyncfs(w, "export", "--json", server.source(), "-"), 2, "tar")
    nothing_left(w)


@case("without its master an export fails at once as far as it is not cached; a file alone is exported under its name")
def parts(w):
    make_tree(w.tree, 20, 400_000, per_folder=10)
    server = w.server()
    told = json.loads(fsyncfs(w, "export", "--json", *cache(w), server.source(path="/d0001"), w.path("part")).stdout)
    equal((told["files"], told["fetched_files"]), (10, 10), "files of a folder")
    same_export(w.path("part"), w.tree / "d0001")
    fsyncfs(w, "export", server.source(path="/d0001/f000010.bin"), w.path("one"))
    equal((w.path("one") / "f000010.bin").read_bytes(), (w.tree / "d0001/f000010.bin").read_bytes(), "the file")
    m = w.mount(server)
    equal(m.status()["cached_files"], 10, "what a mount finds in the cache that was exported through")


def read_by_another(path):
    """PATH read by a process of its own: its id."""
    job = subprocess.Popen(["cat", path], stdout=subprocess.DEVNULL)
    equal(job.wait(60), 0, f"cat {path}")
    return job.pid


@case("the same from a stock master: ls, cat, export, diff")
def stock(w):
    make_tree(w.tree, 120, 3_000_000)
    for path in sorted(w.tree.rglob("*"), reverse=True):
        set_times(path, 1_650_000_000 * 10**9)
    master = stock_master(w, w.root)
    listed = json.loads(fsyncfs(w, "ls", "-R", "--json", master.source).stdout)
    equal(sorted(entry["path"] for entry in listed), sorted(str(path.relative_to(w.tree)) for path in w.tree.rglob("*")), "entries")
    out = w.path("out")
    told = json.loads(fsyncfs(w, "export", "--json", *cache(w), master.source, out).stdout)
    equal((told["files"], told["failed"]), (120, 0), "files")
    same_export(out, w.tree)
    told = json.loads(fsyncfs(w, "export", "--json", *cache(w, "other"), master.source, out).stdout)
    equal((told["same_files"], told["fetched_files"]), (120, 0), "again, without the cache")
    one = w.tree / "d0001/f000100.bin"
    done = run(["sh", "-c", '"$1" cat "$2" | cmp - "$3"', "sh", program("fsyncfs"), f"{master.source}/d0001/f000100.bin", one])
    equal((done.returncode, done.stdout + done.stderr), (0, ""), "cat")
    m = w.mount(master.source)
    check("0 added, 0 removed, 0 modified" in run_ok([program("fsyncfs"), "diff", m.point]).stdout, "diff")
    nothing_left(w)


@case("trace: a read that waits is shown as it happens, with who and why; explain sums them up for a process and a group")
def trace(w):
    make_tree(w.tree, 20, 400_000)
    (w.tree / "big").write_bytes(os.urandom(3_000_000))
    m = w.mount(w.server(), options=["prefetch=off"])
    job = w.spawn([program("fsyncfs"), "trace", m.point, "--json"], "trace.json.log")
    job.wait_output('"source"')
    pid = read_by_another(m.point / "d0000/f000003.bin")
    job.wait_output("f000003")
    read_by_another(m.point / "d0000/f000003.bin")  # from the page cache or the store: nothing waits
    big = read_by_another(m.point / "big")
    job.wait_output('"big"')
    lines = [json.loads(line) for line in job.output().splitlines()[1:]]
    small = [line for line in lines if line["path"] == "d0000/f000003.bin"]
    equal(len(small), 1, f"waits for the small file in {lines}")
    equal((small[0]["pid"], small[0]["command"], small[0]["why"], small[0]["bytes"]),
          (pid, "cat", "miss", (w.tree / "d0000/f000003.bin").stat().st_size), "the wait")
    check(small[0]["milliseconds"] > 0 and abs(small[0]["time"] - m.point.stat().st_atime) < 10**9, "time and duration")
    check(any(line["path"] == "big" and line["why"] == "piece" and line["pid"] == big for line in lines), f"a piece in {lines}")
    plain = run_ok([program("fsyncfs"), "explain", str(big), m.point]).stdout
    check("big" in plain and "piece" in plain and f"{big} cat" in plain, plain)
    told = json.loads(run_ok([program("fsyncfs"), "explain", str(pid), m.point, "--json"]).stdout)
    task = told["mounts"][0]["tasks"][0]
    equal((told["waits"], task["why"], task["files"][0]["path"]), (1, {"miss": 1}, "d0000/f000003.bin"), "of one process")
    check(task["wait_seconds"] > 0 and task["unlisted_seconds"] > 0, "what it waited")
    group = json.loads(run_ok([program("fsyncfs"), "explain", task["cgroup"], m.point, "--json"]).stdout)
    check({pid, big} <= {one["pid"] for one in group["mounts"][0]["tasks"]}, f"both are in the group {task['cgroup']}")
    nobody = json.loads(run_ok([program("fsyncfs"), "explain", "/no/such/group", m.point, "--json"]).stdout)
    equal(nobody["waits"], 0, "waits of a group that is not there")


def doctor(w, *words):
    """(exit code, {name: (state, text)})"""
    done = fsyncfs(w, "doctor", "--json", *words)
    told = json.loads(done.stdout)
    equal(done.returncode, 1 if told["failed"] else 0, "exit code")
    for check_ in told["checks"]:
        check(("advice" in check_) == (check_["state"] != "ok"), f"advice where something is to be done: {check_}")
    return {one["name"]: (one["state"], one["text"]) for one in told["checks"]}


@case("doctor: this machine, a master, its certificate, a token; what is wrong is named, with what to do")
def doctor_of_master(w):
    make_tree(w.tree, 3, 3000)
    ca = Authority(w.path("ca"))
    pair = ca.issue("master", "IP:127.0.0.1", days=5)
    w.path("token").write_text("secret-word\n")
    w.path("token").chmod(0o644)
    server = w.server(options=["--tls-cert", pair[0], "--tls-key", pair[1], "--token-file", w.path("token")])
    options = f"tls,ca={ca.cert},token_file={w.path('token')},cache={w.path('cache')}"
    told = doctor(w, server.source(), "-o", options)
    address = f"127.0.0.1:{server.port}"
    for name in ("/dev/fuse", "libfuse", "cache folder", f"master {address}", "workspace"):
        equal(told[name][0], "ok", f"{name}: {told[name]}")
    equal((told[f"certificate of {address}"][0], told["token file"][0]), ("warn", "warn"), f"certificate and token: {told}")
    check(re.search("in [45] days", told[f"certificate of {address}"][1]), told[f"certificate of {address}"][1])
    equal(doctor(w, server.source(spider="nobody"), "-o", options)["workspace"][0], "fail", "a spider that is not there")
    told = doctor(w, f"127.0.0.1:1,127.0.0.1:{server.port}:/spider", "-o", f"cache={w.path('token')}/x")
    equal({name: told[name][0] for name in ("master 127.0.0.1:1", "cache folder", "workspace")},
          {"master 127.0.0.1:1": "fail", "cache folder": "fail", "workspace": "fail"}, f"what fails: {told}")
    told = doctor(w, "nowhere.invalid:/spider")
    for name in ("master nowhere.invalid:9666", "workspace"):
        check(told[name][0] == "fail" and "no address for 'nowhere.invalid'" in told[name][1], f"a host that is not known: {told[name]}")
    plain = fsyncfs(w, "doctor", "127.0.0.1:1:/spider")
    equal(plain.returncode, 1, "exit code")
    check("FAIL  master 127.0.0.1:1" in plain.stdout and "      -> " in plain.stdout, plain.stdout)
    check("\033" not in plain.stdout, "no colour without a terminal")
    code, shown = on_terminal(["env", "NO_COLOR=1", program("fsyncfs"), "doctor", "127.0.0.1:1:/spider"])
    check(code == 1 and "\033" not in shown and "FAIL" in shown, shown)
    check("\033[" in on_terminal([program("fsyncfs"), "doctor", "127.0.0.1:1:/spider"])[1], "colour on a terminal")
    nothing_left(w)


@case("where it cannot be found out what is mounted nobody is told that nothing is")
def without_proc(w):
    for words in (["status"], ["status", "--json"], ["top", "--batch", "1"], ["trace"], ["bugreport", "-o", w.path("report")]):
        done = run(["unshare", "--mount", "sh", "-c", 'mount -t tmpfs none /proc && exec "$@"', "sh", program("fsyncfs"), *words])
        equal(done.returncode, 1, f"exit code of {words}")
        check("cannot find out what is mounted: No such file" in done.stderr and "nothing is mounted" not in done.stdout + done.stderr,
              f"{words}: {done.stdout}{done.stderr}")


@case("doctor: a master whose clock is not in step")
def doctor_of_clock(w):
    make_tree(w.tree, 3, 3000)
    clock = Clock(w, "server")
    with clock.shown():
        server = w.server()
    told = {}
    for seconds, state in ((0, "ok"), (30, "warn"), (-3600, "warn")):
        clock.set(seconds)
        told[seconds] = doctor(w, server.source(), "-o", f"cache={w.path('cache')}")["master's clock"]
        equal(told[seconds][0], state, f"a clock that is {seconds} s ahead: {told[seconds]}")
    check("ahead of" in told[30][1] and "behind" in told[-3600][1], f"which way: {told}")
    nothing_left(w)


@case("bugreport: status, versions, the log's end; no token, no key; the list of what is in it is printed")
def bugreport(w):
    make_tree(w.tree, 3, 3000)
    w.path("token").write_text("secret-word-1234\n")
    w.path("token").chmod(0o600)
    server = w.server(options=["--token-file", w.path("token")])
    m = w.mount(server, options=[f"token_file={w.path('token')}"])
    report = w.path("report.tar.gz")
    done = fsyncfs(w, "bugreport", m.point, "-o", report)
    equal(done.returncode, 0, done.stderr)
    equal(stat.S_IMODE(report.stat().st_mode), 0o600, "mode of the report")
    with tarfile.open(report) as tar:
        files = {member.name.partition("/")[2]: tar.extractfile(member).read() for member in tar.getmembers()}
    for name in ("versions.txt", "proc-mountinfo", "doctor.json", "mount1/status.json", "mount1/cache.json", "mount1/proc-limits"):
        check(name in files, f"{name} in {sorted(files)}")
    equal(sorted(line.split()[0] for line in done.stdout.splitlines() if line.startswith("  ")), sorted(files), "the list")
    equal(json.loads(files["mount1/status.json"])["target"], str(m.point), "the mount's status")
    check(server.source() in files["mount1/status.json"].decode(), "hosts are kept")
    for name, text in files.items():
        check(b"secret-word" not in text, f"a token in {name}")
    one_line(fsyncfs(w, "bugreport", m.point, "-o", report), 1, "File exists")
    w.mount(server, options=[f"token_file={w.path('token')}"]).die()
    equal(fsyncfs(w, "bugreport", w.path("mnt2"), "-o", w.path("dead.tar.gz")).returncode, 0, "of a mount whose daemon is gone")


@case("trace: a read that fails says how; top says how many wait")
def trace_failed(w):
    make_tree(w.tree, 2, 4000)
    server = w.server()
    m = w.mount(server, options=["prefetch=off", "timeout=20"])
    server.signal(signal.SIGSTOP)
    job = subprocess.Popen(["cat", m.point / "d0000/f000000.bin"], stdout=subprocess.DEVNULL)
    wait_until(lambda: counters(m)["waiting"] == 1, "a read that waits")
    server.signal(signal.SIGCONT)
    equal(job.wait(60), 0, "cat")
    wait_until(lambda: counters(m)["waiting"] == 0, "it is answered")
    hasty = w.mount(server, cache="other", options=["prefetch=off", "timeout=1"])
    follower = w.spawn([program("fsyncfs"), "trace", hasty.point, "--json"], "trace.json.log")
    follower.wait_output('"source"')
    server.kill()
    equal(run(["cat", hasty.point / "d0000/f000001.bin"]).returncode, 1, "cat without a master")
    line = json.loads(follower.wait_output("^.*f000001.*$")[0])
    check(line["why"] == "miss" and line["error"], f"the error: {line}")


def counters(m):
    """What top shows of one mount."""
    done = run_ok([program("fsyncfs"), "top", m.point, "--batch", "1", "--interval", "0.1", "--json"])
    return json.loads(done.stdout.splitlines()[-1])["mounts"][0]


@case("top: rates of what is read between two looks, as lines and as JSON; on a terminal until q, which leaves it as it was")
def top(w):
    make_tree(w.tree, 20, 400_000)
    m = w.mount(w.server(), options=["prefetch=off"])
    before = counters(m)
    for path in sorted(m.point.rglob("*.bin")):
        path.read_bytes()
    after = counters(m)
    equal(after["misses"] - before["misses"], 20, "misses")
    check(after["reply_bytes"] - before["reply_bytes"] >= 400_000, f"bytes that the kernel got: {after}")
    equal((after["fetched_files"], len(after["slowest"])), (20, 10), "files fetched, and the slowest")
    slow = [one["milliseconds"] for one in after["slowest"]]
    equal(slow, sorted(slow, reverse=True), "the slowest first")
    plain = run_ok([program("fsyncfs"), "top", m.point, "--batch", "2", "--interval", "0.1"]).stdout
    equal(plain.count("REQ/s"), 2, f"looks: {plain}")
    check("online" in plain and "d0000/f0" in plain and "\033" not in plain, plain)
    ours, theirs = pty.openpty()
    job = subprocess.Popen([program("fsyncfs"), "top", m.point], stdin=theirs, stdout=theirs, stderr=theirs)
    modes = termios.tcgetattr(theirs)
    shown = b""
    while b"slowest" not in shown:
        check(select.select([ours], [], [], 30)[0], f"something is shown: {shown!r}")
        shown += os.read(ours, 4096)
    os.write(ours, b"q")
    equal(job.wait(30), 0, "exit code after q")
    while select.select([ours], [], [], 0)[0]:
        shown += os.read(ours, 4096)
    equal(termios.tcgetattr(theirs)[3], modes[3] | termios.ICANON | termios.ECHO | termios.ISIG, "the terminal's modes afterwards")
    os.close(theirs)
    os.close(ours)
    check(shown.startswith(b"\033[?1049h") and shown.rstrip().endswith(b"\033[?1049l"), f"the screen before is back: {shown[-60:]!r}")
    check(f"{m.point}"[-24:].encode() in shown, "the mount is named")


@case("diff: what a refresh would change, and nothing does; after the refresh there is no difference")
def diff(w):
    make_tree(w.tree, 20, 200_000, per_folder=5)
    (w.tree / "link").symlink_to("here")
    set_times(w.tree / "d0001", 10**18)
    server = w.server()
    m = w.mount(server)
    version = m.version()
    settle()
    (w.tree / "d0000/f000000.bin").write_bytes(b"n" * 7000)
    (w.tree / "d0000/f000001.bin").unlink()
    (w.tree / "d0000/f000002.bin").chmod(0o600)
    (w.tree / "d0003").rename(w.tree / "moved")
    (w.tree / "new").mkdir()
    (w.tree / "new/er").mkdir()
    (w.tree / "new/er/file").write_bytes(b"f" * 3000)
    (w.tree / "link").unlink()
    (w.tree / "link").write_text("a file now")
    settle()
    told = json.loads(run_ok([program("fsyncfs"), "diff", m.point, "--json"]).stdout)
    got = {(one["change"], one["path"]) for one in told["changes"]}
    moved = [f"f{i:06d}.bin" for i in range(15, 20)]
    want = {("modified", path) for path in ("", "d0000", "d0000/f000000.bin", "d0000/f000002.bin", "link")}
    want |= {("added", path) for path in ("new", "new/er", "new/er/file", "moved", *(f"moved/{name}" for name in moved))}
    want |= {("removed", path) for path in ("d0000/f000001.bin", "d0003", *(f"d0003/{name}" for name in moved))}
    equal(sorted(got ^ want), [], "missing or too much")
    equal([one["path"] for one in told["changes"]], sorted((one["path"] for one in told["changes"]), key=lambda p: p.split("/")),
          "the order")
    one = next(one for one in told["changes"] if one["path"] == "d0000/f000000.bin")
    equal((one["after"]["size"], one["before"]["size"]), (7000, (m.point / "d0000/f000000.bin").stat().st_size), "sizes")
    equal((told["added"], told["removed"], told["modified"], told["left_out"]), (9, 7, 5, 0), "sums")
    equal(m.version(), version, "the version that is mounted")
    check((m.point / "d0000/f000001.bin").exists() and not (m.point / "new").exists(), "nothing was applied")
    plain = run_ok([program("fsyncfs"), "diff", m.point]).stdout.splitlines()
    for line in ("+ new/er/file  2.9 KiB", "~ d0000/f000002.bin  mode 644 -> 600", "- d0003/", "~ link  symlink -> file"):
        check(line in plain, f"{line!r} in {plain}")
    m.refresh()
    told = json.loads(run_ok([program("fsyncfs"), "diff", m.point, "--json"]).stdout)
    equal((told["changes"], told["bytes"]), ([], 0), "after the refresh")
    same_snapshot(snapshot(m.point), snapshot(w.tree), "the tree")
    check("0 added" in run_ok([program("fsyncfs"), "diff", m.point]).stdout, "plain")
    server.stop()
    one_line(run([program("fsyncfs"), "diff", m.point]), 1, "127.0.0.1")


@case("diff: the same however the master answers: as changes, in packs, or with everything")
def diff_strategies(w):
    make_tree(w.tree, 20, 200_000, per_folder=5)
    server = w.server()
    mounts = [w.mount(server, cache=how, prefix=["env", f"FSYNCFS_TEST_STRATEGY={how}"]) for how in ("changes", "batches", "snapshot")]
    settle()
    (w.tree / "d0000/f000000.bin").unlink()
    (w.tree / "d0001/new").write_bytes(b"n" * 3000)
    for m in mounts:
        told = json.loads(run_ok([program("fsyncfs"), "diff", m.point, "--json"]).stdout)
        equal([(one["change"], one["path"]) for one in told["changes"]],
              [("modified", "d0000"), ("removed", "d0000/f000000.bin"), ("modified", "d0001"), ("added", "d0001/new")], m.cache.name)
        m.refresh()
        same_snapshot(snapshot(m.point), snapshot(w.tree), f"the tree, {m.cache.name}")


main()
