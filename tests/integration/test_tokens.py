"""Token files: several tokens, each with the spiders that it opens, asked for by every method; read again on SIGHUP."""

import errno
import signal

import grpc

from certs import Authority
from harness import case, check, equal, fails_with, main, one_line, program, run, wait_until
import peers  # noqa: F401 (finds the next one)
import hostile_worker
from hostile_worker import (ATTEND, DOWNLOAD, FETCH, HANDSHAKE, LEARNED, LIST_FOLDER, REPORT, SCAN, SYNC, WATCH, sync, workspace)
from trees import same_snapshot, snapshot

FAILED = 32  # exit code of mount(8)
Code = grpc.StatusCode
FILE = """# who may read what
all-of-it
team-red   red-* shared
team-blue\tblue-* shared\r

two-lines  red-one
two-lines  blue-one
"""
TOKENS = ("all-of-it", "team-red", "team-blue", "two-lines")


def prepare(w, text=FILE, options=()):
    for spider in ("red-one", "blue-one", "shared"):
        (w.root / spider).mkdir(parents=True)
        (w.root / spider / "f").write_text(spider)
    w.path("tokens").write_text(text)
    w.path("tokens").chmod(0o600)
    return w.server(options=["--token-file", w.path("tokens"), *options])


def client(server, token):
    return hostile_worker.Client(f"127.0.0.1:{server.port}", token)


def reload(w, server, text, word):
    """SIGHUP with TEXT in the file; returns once the log says WORD again."""
    before = server.output().count(word)
    w.path("tokens").write_text(text)
    server.signal(signal.SIGHUP)
    wait_until(lambda: server.output().count(word) > before, f"{word!r} in the log")


def requests(spider):
    """A request of every method that names a spider."""
    return {SCAN: sync.FileSyncRequest(spider_id=spider, fsyncfs_protocol=1),
            SYNC: sync.FileSyncRequest(spider_id=spider, fsyncfs_protocol=1),
            DOWNLOAD: sync.FileDownloadRequest(spider_id=spider, path="f", fsyncfs_protocol=1),
            WATCH: sync.FileSyncRequest(spider_id=spider, fsyncfs_protocol=1),
            LIST_FOLDER: workspace.FolderRequest(spider_id=spider),
            FETCH: workspace.FetchRequest(spider_id=spider, wants=[workspace.FetchWant(id=1, path="f")]),
            REPORT: workspace.AccessReport(spider_id=spider, paths=[b"f"]),
            LEARNED: workspace.LearnedRequest(spider_id=spider),
            ATTEND: workspace.Presence(spider_id=spider)}


@case("every method asks for a token, and refuses a spider that the token does not open")
def every_method(w):
    server = prepare(w)
    wrong = [client(server, token) for token in (None, "", "all-of-i", "all-of-it2", "team-red red-*", "#", "name:x")]
    red = client(server, "team-red")
    described = {f"/{s.full_name}/{m.name}" for file in (hostile_worker.sync, hostile_worker.workspace)
                 for s in file.DESCRIPTOR.services_by_name.values() for m in s.methods}
    equal(described, set(requests("x")) | {HANDSHAKE}, "the methods that this test knows")
    for method in described:
        request = requests("red-one").get(method) or workspace.HandshakeRequest(protocol=1)
        for c in wrong:
            equal(c.first(method, request), (Code.UNAUTHENTICATED, None), f"{method} with {c.metadata}")
    for method, request in requests("blue-one").items():
        equal(red.first(method, request), (Code.PERMISSION_DENIED, None), f"{method} of a foreign spider")
    for method, request in requests("red-one").items():
        check(red.first(method, request)[0] not in (Code.PERMISSION_DENIED, Code.UNAUTHENTICATED), f"{method} of its own")
    equal(red.call(HANDSHAKE, workspace.HandshakeRequest(protocol=1))[0], Code.OK, "the handshake")
    check(not any(token in server.output() for token in TOKENS), "no token in the log")


@case("patterns: which token opens which spider")
def patterns(w):
    server = prepare(w)
    opens = {"all-of-it": {"red-one", "blue-one", "shared"}, "team-red": {"red-one", "shared"},
             "team-blue": {"blue-one", "shared"}, "two-lines": {"red-one", "blue-one"}}
    for token, spiders in opens.items():
        c = client(server, token)
        for spider in ("red-one", "blue-one", "shared"):
            for own in (True, False):
                code, chunks = c.scan(spider, own=own)
                equal(code, Code.OK if spider in spiders else Code.PERMISSION_DENIED, f"{token}, {spider}, own={own}")
                check(bool(chunks) == (spider in spiders), f"{token}, {spider}: {len(chunks)} chunks")
        equal(c.scan("red-one\0")[0], Code.INVALID_ARGUMENT, "a name with a NUL")


@case("each request of SyncFiles is looked at; of two names in one message both count")
def requests_within(w):
    server = prepare(w)
    red = client(server, "team-red")
    mine, foreign = requests("red-one")[SYNC], requests("blue-one")[SYNC]
    code, answers = red.conversation(SYNC, [mine, mine, foreign])
    equal(code, Code.PERMISSION_DENIED, "after a foreign spider")
    equal(sum(a.is_complete for a in answers), 2, "the answers before")
    equal(red.conversation(FETCH, [requests("red-one")[FETCH], requests("blue-one")[FETCH]])[0], Code.PERMISSION_DENIED,
          "a foreign spider in a later message of Fetch")
    for method in (SCAN, DOWNLOAD):
        one, two = (requests(s)[method].SerializeToString() for s in ("red-one", "blue-one"))
        for data in (one + two, two + one):
            equal(red.call(method, data), (Code.PERMISSION_DENIED, []), f"two spiders, {method}")
        equal(red.call(method, b"\x08\x01" + one), (Code.INVALID_ARGUMENT, []), "a spider that is a number")


@case("a mount without right to the spider says so; with the right one it reads")
def mounts(w):
    server = prepare(w)
    w.path("red").write_text("team-red\n")
    option = f"token_file={w.path('red')}"
    one_line(w.try_mount(server.source("blue-one"), [option]), FAILED, "127.0.0.1", "token", "spider")
    m = w.mount(server.source("red-one"), options=[option, "timeout=5"])
    same_snapshot(snapshot(m.point), snapshot(w.root / "red-one"), "the tree")
    reload(w, server, "all-of-it\nteam-red shared\n", "read again")
    (w.root / "red-one" / "new").write_text("new")
    done = run([program("fsyncfs"), "refresh", m.point])
    check(done.returncode != 0, "refresh after the right was taken away")
    one_line(done, done.returncode, "token")
    equal((m.point / "f").read_text(), "red-one", "what is here stays readable")


@case("contents that are not here are EACCES once the right is gone")
def no_content(w):
    server = prepare(w)
    w.path("red").write_text("team-red\n")
    (w.root / "red-one" / "big").write_bytes(b"x" * 300_000)
    m = w.mount(server.source("red-one"), options=[f"token_file={w.path('red')}", "timeout=5", "prefetch=off"])
    reload(w, server, "all-of-it\n", "read again")
    fails_with(errno.EACCES, (m.point / "big").read_bytes)


@case("SIGHUP: a bad file keeps the old tokens; a token that is gone ends what it began")
def reloads(w):
    server = prepare(w)
    blue, red = client(server, "team-blue"), client(server, "team-red")
    for text, word in (("", "holds no token"), ("# nothing\n", "holds no token"), ("all-of-it\nt\u00f6ken x\n", "line 2"),
                       ("a\0b\n", "NUL"), ("name: x\n", "line 1")):
        reload(w, server, text, word)
        equal(red.scan("red-one")[0], Code.OK, f"the old token after {text!r}")
    w.path("tokens").unlink()
    server.signal(signal.SIGHUP)
    server.wait_output("No such file")
    equal(red.scan("red-one")[0], Code.OK, "the old token without a file")
    watches = {c: c.stream(WATCH, requests("shared")[WATCH]) for c in (red, blue)}
    for watch in watches.values():
        next(watch)
    reload(w, server, "team-blue shared\n", "read again")
    (w.root / "shared" / "new").write_text("x")
    try:
        for _ in range(1000):
            next(watches[red])
        raise AssertionError("a thousand messages for a token that is gone")
    except grpc.RpcError as error:
        equal(error.code(), Code.UNAUTHENTICATED, "the end of the watch")
    next(watches[blue])
    equal(red.scan("shared")[0], Code.UNAUTHENTICATED, "a token that is gone")
    equal(blue.scan("shared")[0], Code.OK, "one that is still there")
    check(not any(token in server.output() for token in TOKENS), "no token in the log")


@case("the common name of a worker's certificate stands in for a token")
def certificate_names(w):
    ca = Authority(w.path("ca"))
    master, worker, guest = ca.issue("master", "IP:127.0.0.1"), ca.issue("red-worker"), ca.issue("guest")
    server = prepare(w, "secret\nname:red-worker red-*\n",
                     ["--tls-cert", master[0], "--tls-key", master[1], "--tls-client-ca", ca.cert,
                      "--listen", f"unix:{w.path('s')}"])

    def options(pair):
        return ["tls", f"ca={ca.cert}", f"cert={pair[0]}", f"key={pair[1]}"]
    m = w.mount(server.source("red-one"), options=options(worker))
    equal((m.point / "f").read_text(), "red-one", "by the certificate's name")
    one_line(w.try_mount(server.source("blue-one"), options(worker)), FAILED, "spider")
    one_line(w.try_mount(server.source("red-one"), options(guest)), FAILED, "token")
    w.path("t").write_text("secret\n")
    both = w.mount(server.source("blue-one"), options=[*options(guest), f"token_file={w.path('t')}"], cache="both")
    equal((both.point / "f").read_text(), "blue-one", "by a token beside a certificate")
    # A name is nothing that one can say.
    w.path("t").write_text("name:red-worker\n")
    one_line(w.try_mount(f"unix:{w.path('s')}:/red-one", [f"token_file={w.path('t')}"]), FAILED, "token")


@case("a file that others can read is warned about, one that cannot be used is refused")
def files(w):
    server = prepare(w)
    check("can be read or changed by others" not in server.output(), "a warning about a file of mode 0600")
    server.stop()
    w.path("tokens").chmod(0o644)
    w.server(options=["--token-file", w.path("tokens")]).wait_output("can be read or changed by others.*0644")
    for text, word in (("", "holds no token"), ("ok\nb\u00e4d\n", "line 2")):
        w.path("bad").write_text(text)
        done = run([program("fsyncfs-server"), "--workspace", w.root, "--listen", "127.0.0.1:0", "--token-file", w.path("bad")],
                   timeout=20)
        one_line(done, 1, str(w.path("bad")), word)


main()
