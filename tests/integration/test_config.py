"""Settings from files, the environment and the command line: which counts, what is wrong with them, and that a mount keeps its own."""

import os
import re
import signal
import tarfile

from harness import SOURCE, SPIDER, case, check, equal, is_mounted, main, one_line, program, run, run_ok, wait_until

USAGE = 1  # of mount(8)


def write(path, *lines):
    path.write_text("\n".join(lines) + "\n")
    return path


def check_mount(config, *argv, **environment):
    return run([program("fsyncfs"), "mount", "--check-config", "--config", config, *argv], env={**os.environ, **environment})


def check_server(config, *argv, **environment):
    return run([program("fsyncfs-server"), "--check-config", "--config", config, *argv], env={**os.environ, **environment})


def settings(done):
    """{key: [(value, where from)]} of what --check-config printed; defaults left out."""
    found = {}
    for key, value, origin in re.findall(r"^([\w-]+) = (.*) ; (.*)$", done.stdout, re.M):
        found.setdefault(key, []).append((value, origin))
    return found


@case("server.conf, FSYNCFS_SERVER_ and the command line, in rising order; lists are replaced, not mixed")
def server_layers(w):
    config = write(w.path("s.conf"), "# a server", "workspace = /srv/a", "listen = 127.0.0.1:1", "listen = unix:/x", "stat-pass = 5 ; often",
                   "[server]", "insecure = yes", "scan-ttl = 7")
    done = check_server(config)
    equal((done.returncode, done.stderr), (0, ""), "a file without faults")
    at = f"{config}:"
    equal(settings(done), {"workspace": [("/srv/a", at + "2")], "listen": [("127.0.0.1:1", at + "3"), ("unix:/x", at + "4")],
                           "stat-pass": [("5", at + "5")], "insecure": [("yes", at + "7")], "scan-ttl": [("7", at + "8")]},
          "the file alone")
    done = check_server(config, "--scan-ttl", "9", "--no-insecure", FSYNCFS_SERVER_LISTEN="127.0.0.1:2,127.0.0.1:3",
                        FSYNCFS_SERVER_SCAN_TTL="8", FSYNCFS_SERVER_WORKSPACE="")
    found = settings(done)
    equal(found["listen"], [("127.0.0.1:2", "FSYNCFS_SERVER_LISTEN"), ("127.0.0.1:3", "FSYNCFS_SERVER_LISTEN")], "listen")
    equal((found["scan-ttl"], found["insecure"]), ([("9", "command line")], [("no", "command line")]), "the command line")
    equal(found["workspace"], [("/srv/a", at + "2")], "an empty variable says nothing")
    # What was printed is a configuration, and the same one.
    printed = w.path("printed.conf")
    printed.write_text(done.stdout)
    again = settings(check_server(printed))
    equal({key: [value for value, _ in rows] for key, rows in again.items()},
          {key: [value for value, _ in rows] for key, rows in found.items()}, "what was printed, read again")


@case("a server that has all from its file, and one that overrides it")
def server_from_file(w):
    w.tree.mkdir(parents=True)
    (w.tree / "f").write_text("content")
    write(w.path("tokens"), "secret")
    w.path("tokens").chmod(0o600)
    config = write(w.path("s.conf"), f"workspace = {w.root}", "listen = 127.0.0.1:0", f"index = {w.path('index')}",
                   f"token-file = {w.path('tokens')}")
    process = w.spawn([program("fsyncfs-server"), "--config", config], "own.log")
    port = process.wait_output(r"listening on 127\.0\.0\.1:(\d+)")[1]
    one_line(w.try_mount(f"127.0.0.1:{port}:/{SPIDER}"), 32, "token")
    write(w.path("tokens"), "other")
    write(config, "nonsense")
    process.signal(signal.SIGHUP)  # reads the tokens, and not the configuration
    process.wait_output("was read again")
    m = w.mount(f"127.0.0.1:{port}:/{SPIDER}", options=[f"token_file={w.path('tokens')}"])
    equal((m.point / "f").read_text(), "content", "with the new token")
    m.unmount()
    equal(process.stop(), 0, "exit code")


@case("each fault with its line, what it says and what was expected")
def faults(w):
    config = write(w.path("s.conf"), "workspace = relative", "tokenfile = hush-hush", "stat-pass = soon", "insecure = perhaps", "watch = now",
                   "help = yes", "[mount]", "listen = x", "listen =")
    done = check_server(config, FSYNCFS_SERVER_PEER_CALLS="many")
    equal(done.returncode, 1, "exit code")
    for line, words in zip(done.stderr.splitlines(), (
            [f"{config}:1: workspace = relative", "begins with '/'"], [f"{config}:2: unknown key 'tokenfile'", "'token-file'"],
            [f"{config}:3: stat-pass = soon", "from 1 to 86400"], [f"{config}:4: insecure = perhaps", "yes or no"],
            [f"{config}:5: watch = now", "auto, fanotify, inotify or off"], [f"{config}:6: 'help' is for the command line only"],
            [f"{config}:8: unknown section [mount]", "[server]"], [f"{config}:9: unknown section"],
            ["FSYNCFS_SERVER_PEER_CALLS=many", "from 1 to 1000000"]), strict=True):
        for word in words:
            check(word in line, f"{word!r} is not in {line!r}")
    check("hush-hush" not in done.stderr + done.stdout, "what may be a secret is not shown")
    one_line(run([program("fsyncfs-server"), "--config", config]), 2, f"{config}:1: ")
    done = check_mount(write(w.path("c.conf"), "cache = /c", "[muont]", "tls = yes", "[mount x]", "tls = yes", "[mount]", "nonsense"))
    one_line(done, USAGE, "c.conf:7: expected KEY = VALUE")
    done = check_mount(write(w.path("c.conf"), "cache = /c", "[muont]", "tls = yes", "[mount x]", "timeot = 1"))
    equal(done.returncode, USAGE, "exit code")
    for word in ("c.conf:1: 'cache' is in no section", "c.conf:3: unknown section [muont]; did you mean [mount]?",
                 "c.conf:5: nothing is mounted by [mount x]", "c.conf:5: unknown key 'timeot'; did you mean 'timeout'?"):
        check(word in done.stderr, f"{word!r} is not in {done.stderr!r}")
    one_line(check_mount(write(w.path("c.conf"), "[mount]", "ca = /etc/ca.pem")), USAGE, "'ca' needs the option tls")


@case("a file that is absent, unreadable, a link, a folder, a device, too large or no text")
def files(w):
    server = program("fsyncfs-server")
    plain = write(w.path("plain.conf"), "[mount]", "timeout = 5")
    w.path("link.conf").symlink_to(plain)
    equal(settings(check_mount(w.path("link.conf")))["timeout"], [("5", f"{w.path('link.conf')}:2")], "through a link")
    w.path("dangling").symlink_to(w.path("nothing"))
    w.path("folder").mkdir()
    w.path("large").write_bytes(b"# x\n" * 2_500_000)
    w.path("binary").write_bytes(bytes(range(256)) * 16)
    w.path("long").write_text("[mount]\ncache = /" + "x" * 300 + "\n")
    os.mkfifo(w.path("pipe"))
    for path, words in ((w.path("absent"), "No such file"), (w.path("dangling"), "No such file"), (w.path("folder"), "is a folder"),
                        (w.path("large"), "larger than 256 KiB"), (w.path("binary"), "control character"),
                        (w.path("long"), ":2: the line is too long"), ("/dev/zero", "not a regular file"), (w.path("pipe"), "not a regular file")):
        one_line(check_mount(path), USAGE, str(path), words)
        one_line(run([server, "--config", path, "--workspace", w.dir]), 2, str(path), words)
    plain.chmod(0)
    drop = ["setpriv", "--reuid=65534", "--clear-groups", "--bounding-set=-all"]
    w.dir.chmod(0o755)
    one_line(run([*drop, server, "--config", plain, "--workspace", w.dir]), 2, str(plain), "Permission denied")
    equal(check_mount("/dev/null").returncode, 0, "none at all")


@case("client.conf: of all mounts, of some by source and by mount point, and what overrides it")
def client_layers(w):
    config = write(w.path("c.conf"), "[mount]", "timeout = 5", "xattr = yes", "options = noexec", "[mount shops]", "match = *:/shop-*", "match = /srv/shop/*",
                   "timeout = 6", "[mount german]", "match = m:/*-de", "timeout = 7", "lazy = off")

    def timeout(*argv, **environment):
        done = check_mount(config, *argv, **environment)
        equal(done.returncode, 0, f"{argv}: {done.stderr}")
        return settings(done)["timeout"][0]
    at = f"{config}:"
    equal(timeout(), ("5", at + "2"), "of all")
    equal(timeout("m:/news", "/mnt"), ("5", at + "2"), "of one that matches none")
    equal(timeout("m:/shop-fr", "/mnt"), ("6", at + "8"), "by its source")
    equal(timeout("m:/news", "/srv/shop/fr"), ("6", at + "8"), "by its mount point")
    equal(timeout("m:/shop-de", "/mnt"), ("7", at + "11"), "the later one of two")
    equal(timeout("m:/shop-de", "/mnt", FSYNCFS_TIMEOUT="8"), ("8", "FSYNCFS_TIMEOUT"), "the environment")
    equal(timeout("m:/shop-de", "/mnt", "-o", "timeout=9", FSYNCFS_TIMEOUT="8"), ("9", "command line"), "the command line")
    found = settings(check_mount(config, "m:/shop-de", "/mnt", "-o", "noxattr"))
    equal((found["xattr"], found["lazy"], found["options"]),
          ([("no", "command line")], [("off", at + "12")], [("noexec", at + "4")]), "what else there is")


@case("a mount by its file alone, which it keeps whatever the file says later; the store's commands find its cache")
def mounted(w):
    w.tree.mkdir(parents=True)
    (w.tree / "f").write_text("content" * 100)
    server = w.server()
    point = w.path("mnt")
    point.mkdir()
    config = write(w.path("c.conf"), "[mount]", f"cache = {w.path('cache')}", "refresh = off", "options = noexec,relatime", "[mount it]",
                   f"match = {w.dir}/*", "xattr = yes")
    environment = {**os.environ, "FSYNCFS_CONFIG": str(config)}
    daemon = w.spawn([program("fsyncfs"), "mount", server.source(), point, "-f"], "mount.log", env=environment)
    wait_until(lambda: is_mounted(point) or not daemon.running(), "the mount")
    equal((point / "f").read_text(), "content" * 100, "what is read")

    def as_told(what):
        line = next(line for line in open("/proc/self/mounts").read().splitlines() if str(point) in line)
        check("noexec" in line, f"{what}: {line}")
        wait_until(lambda: os.getxattr(point / "f", "user.fsyncfs.cached") == b"100", f"{what}: xattr")  # it goes to the store when it was read
        check(w.path("cache", "format").exists(), f"{what}: the cache is where it was told")
    as_told("mounted")
    equal(run_ok([program("fsyncfs"), "cache", "stat"], env=environment).stdout.splitlines()[0], str(w.path("cache")), "cache stat")
    write(config, "nonsense")
    one_line(run([program("fsyncfs"), "cache", "stat"], env=environment), 1, f"{config}:1: ")
    run_ok([program("fsyncfs"), "cache", "stat", "--cache", w.path("cache")], env=environment)
    done = run([program("fsyncfs"), "upgrade", point], env=environment)
    if done.returncode == 0:  # this kernel hands mounts over
        as_told("taken over")
    run_ok(["umount", point])
    equal(daemon.wait(), 0, "the daemon's exit code")


@case("the examples are right")
def examples(w):
    done = check_server(SOURCE / "examples" / "server.conf")
    equal((done.returncode, done.stderr), (0, ""), "server.conf")
    check(settings(done)["workspace"], "it says something")
    done = check_mount(SOURCE / "examples" / "client.conf", "m:/report-de", "/mnt/report-de")
    equal((done.returncode, done.stderr), (0, ""), "client.conf")
    equal(settings(done)["refresh"][0][0], "off", "of a mount that a section matches")


@case("a token is never a setting, and a file that all may read names one")
def secrets(w):
    w.tree.mkdir(parents=True)
    server = w.server()
    write(w.path("token"), "hush-hush")
    config = write(w.path("c.conf"), "[mount]", f"token_file = {w.path('token')}")
    done = check_mount(config, "-o", "token=hush-hush")
    one_line(done, USAGE, "'token'", "'token_file'")
    check("hush-hush" not in done.stderr + done.stdout, "a token that is no option is not shown")
    config.chmod(0o644)
    done = run([program("fsyncfs"), "mount", server.source(), w.path("mnt"), "--config", config, "-o", f"cache={w.path('cache')}"])
    check("hush-hush" not in done.stderr, "nor the one in the file")
    equal(done.returncode, 32, "there is no such folder")


@case("ls, cat, export, doctor and bugreport have the settings that a mount of their source has")
def without_mount(w):
    w.tree.mkdir(parents=True)
    (w.tree / "f").write_text("content" * 100)
    write(w.path("token"), "secret-word")
    w.path("token").chmod(0o600)
    server = w.server(options=["--token-file", w.path("token")])
    config = write(w.path("c.conf"), "[mount]", f"cache = {w.path('cache')}", "domain = own", "[mount it]", f"match = {server.source()}*",
                   f"token_file = {w.path('token')}")

    def fsyncfs(*words, **more):
        return run([program("fsyncfs"), *words], env={**os.environ, "FSYNCFS_CONFIG": str(config), **more})
    one_line(fsyncfs("ls", server.source(), FSYNCFS_CONFIG="/dev/null"), 4, "token")
    equal(fsyncfs("ls", server.source()).stdout, "f\n", "ls")
    equal(fsyncfs("cat", server.source(path="/f")).stdout, "content" * 100, "cat")
    check(w.path("cache", "domains", "own", "format").exists(), "the cache of the file, which was not there, is made and used")
    equal(fsyncfs("export", server.source(), w.path("out")).returncode, 0, "export")
    equal((w.path("out") / "f").read_text(), "content" * 100, "what was exported")
    done = fsyncfs("doctor", server.source())
    for line in (f"ok    token file: '{w.path('token')}'", f"ok    cache folder: '{w.path('cache')}/domains/own'", "ok    workspace: "):
        check(line in done.stdout, f"{line!r} is not in {done.stdout}")
    one_line(fsyncfs("cat", server.source(path="/f"), "-o", f"config={w.path('absent')}"), 2, "absent")
    write(config, "[mount]", "timeot = 1", "tls = perhaps")
    for words in (["ls", server.source()], ["doctor"]):
        one_line(fsyncfs(*words), 2, f"{config}:2: ")
    equal(fsyncfs("bugreport", "-o", w.path("b.tar.gz"), FSYNCFS_REFRESH="off").returncode, 0, "a report, whatever is wrong with the settings")
    with tarfile.open(w.path("b.tar.gz")) as tar:
        member = next(one for one in tar.getmembers() if one.name.endswith("/settings.conf"))
        text = tar.extractfile(member).read().decode()
    for words in (f"# {config}:2: unknown key 'timeot'", f"# {config}:3: tls = perhaps", "\nrefresh = off ; FSYNCFS_REFRESH"):
        check(words in text, f"{words!r} is not in {text}")


main()
