"""What operators and machines see of a master and its mounts: metrics, health, status page, alerts, dashboard."""

import html
import json
import re
import shutil
import signal
import socket
import subprocess
import threading
import urllib.error
import urllib.request
from pathlib import Path

import grpc

from harness import SOURCE, SPIDER, WAIT_SEC, case, check, equal, main, report, run_ok, skip, wait_until
import peers  # noqa: F401 (finds the next ones)
import hostile_worker
import protos

health = protos.load(protos.PROTO / "health.proto")[0]
HEALTH = "/grpc.health.v1.Health/"
SERVICES = ("", "grpc.SyncService", "fsyncfs.v1.Workspace")
Status = health.HealthCheckResponse
PAGES = ("/", "/status.json", "/metrics", "/healthz", "/readyz")
HOME, FLOODER = "127.0.0.1", "127.0.0.2"
CONNECTIONS = 16  # that the listener has
ASKS = b"GET /metrics HTTP/1.1\r\nHost: master\r\n"


def fetch(server, path, method="GET"):
    """(code, headers, text)"""
    request = urllib.request.Request(f"http://127.0.0.1:{server.metrics_port}{path}", method=method)
    try:
        with urllib.request.urlopen(request, timeout=WAIT_SEC) as reply:
            return reply.status, reply.headers, reply.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.headers, error.read().decode()


def prepare(w, **options):
    w.tree.mkdir(parents=True)
    (w.tree / "a").write_text("a")
    return w.server(**options)


def need_promtool():
    if not shutil.which("promtool"):
        skip("promtool (package prometheus) is not installed")


def promtool_likes(text):
    equal(run_promtool(["check", "metrics"], text), "", "what promtool says of the metrics")


def run_promtool(argv, text):
    done = subprocess.run(["promtool", *argv], input=text, capture_output=True, text=True, timeout=WAIT_SEC)
    return (done.stdout + done.stderr).strip() or ("" if done.returncode == 0 else f"exit code {done.returncode}")


@case("each page answers, to GET and HEAD alone, and lets nothing in from elsewhere")
def pages(w):
    server = prepare(w)
    for path in PAGES:
        code, headers, text = fetch(server, path)
        equal(code, 200, path)
        check("default-src 'none'" in headers["Content-Security-Policy"], f"{path}: no policy")
        equal(headers["Cache-Control"], "no-store", path)
        equal(fetch(server, path, "HEAD")[::2], (200, ""), f"HEAD {path}")
        equal(fetch(server, path, "POST")[0], 405, f"POST {path}")
    equal(fetch(server, "/nothing")[0], 404, "/nothing")


@case("the page and its JSON show mounts and workspaces; names cannot break out, and no token is shown")
def shown(w):
    node, secret = "<script>alert(1)</script>&\"'", "top-secret-token"
    spider = "<b>spider&"
    (w.root / spider).mkdir(parents=True)
    (w.root / spider / "f").write_text("content")
    w.path("tokens").write_text(f"# comment\nother\n{secret}\n")
    w.path("tokens").chmod(0o600)
    server = prepare(w, options=["--token-file", w.path("tokens")])
    w.path("token").write_text(secret)
    mount = w.mount(server.source(spider), options=[f"token_file={w.path('token')}", f"node_name={node}"])
    status = wait_until(lambda: next((s for s in [server.status()] if s["mounts"]["count"] == 1
                                      and s["mounts"]["rows"][0]["version"]), None), "the mount's word")
    row = status["mounts"]["rows"][0]
    equal((row["node"], row["spider"], row["path"], row["state"], row["lag_seconds"], row["key"]),
          (node, spider, "", "current", 0, "token of line 3"), "the mount's row")
    equal(row["version"], mount.version(), "the version that it shows")
    equal([(s["spider"], s["version"], s["entries"]) for s in status["workspaces"]["rows"]], [(spider, mount.version(), 2)],
          "the workspaces")
    page = fetch(server, "/")[2]
    for name in (node, spider):
        check(name not in page, f"{name} stands in the page as it is")
        check(html.escape(name, quote=True).replace("&#x27;", "&#39;") in page, f"{name} is not in the page")
    for path in PAGES:
        check(secret not in fetch(server, path)[2], f"{path} shows the token")
    mount.unmount()
    wait_until(lambda: server.status()["mounts"]["count"] == 0, "the row's end with the mount")


@case("tables are bounded: the first 200 mounts, and how many more there are")
def bounded(w):
    server = prepare(w)
    workspace = hostile_worker.workspace
    client = hostile_worker.Client(f"127.0.0.1:{server.port}")
    presence = workspace.Presence(spider_id=SPIDER, node_key="k", node_name="\x1b[2J\n" + "n" * 3000).SerializeToString()
    calls = []
    for _ in range(210):
        call = client.channel.stream_stream(hostile_worker.ATTEND, request_serializer=None, response_deserializer=None)
        calls.append(call(hold(presence), timeout=60))
    wait_until(lambda: server.status()["mounts"]["count"] == 210, "210 rows")
    rows = server.status()["mounts"]["rows"]
    equal(len(rows), 200, "rows shown")
    check(len(rows[0]["node"]) < 200 and rows[0]["node"].startswith("?[2J?nn"), f"the name is {rows[0]['node']!r}")
    check("and 10 more" in fetch(server, "/")[2], "the page does not say how many more")
    equal(rows[0]["state"], "unknown", "the state of a mount that says no version")
    for call in calls:
        call.cancel()
    wait_until(lambda: server.status()["mounts"]["count"] == 0, "their end")


def hold(*messages, seconds=60):
    """These, and the stream stays open until the call is cancelled."""
    yield from messages
    threading.Event().wait(seconds)


@case("warnings and errors of the log are shown and counted")
def log(w):
    w.path("tokens").write_text("right\n")
    w.path("tokens").chmod(0o600)
    server = prepare(w, options=["--token-file", w.path("tokens")])
    client = hostile_worker.Client(f"127.0.0.1:{server.port}", "wrong")
    equal(client.call(hostile_worker.HANDSHAKE, b"")[0], grpc.StatusCode.UNAUTHENTICATED, "a wrong token")
    lines = wait_until(lambda: server.status()["log"], "a line")
    check("wrong token" in lines[0]["text"] and lines[0]["level"] == "warning", f"the line is {lines[0]}")
    equal(server.counters()['fsyncfs_log_lines_total{level="warning"}'], len(lines), "warnings counted")


@case("/readyz and gRPC's health service follow the index, ask for no token, and say when the server stops")
def ready(w):
    w.path("tokens").write_text("right\n")
    w.path("tokens").chmod(0o600)
    server = prepare(w, options=["--token-file", w.path("tokens")])
    server.wait_output("ready$")
    client = hostile_worker.Client(f"127.0.0.1:{server.port}")  # without a token
    watched = client.stream(HEALTH + "Watch", health.HealthCheckRequest())
    unknown = client.stream(HEALTH + "Watch", health.HealthCheckRequest(service="what"))
    equal(Status.FromString(next(unknown)).status, Status.SERVICE_UNKNOWN, "Watch of an unknown service")
    unknown.cancel()

    def agree(serving):
        server.signal(signal.SIGHUP)  # it looks after itself whenever it is woken
        code = 200 if serving else 503
        text = wait_until(lambda: fetch(server, "/readyz")[2] if fetch(server, "/readyz")[0] == code else None, f"{code} of /readyz")
        status = Status.SERVING if serving else Status.NOT_SERVING
        equal(Status.FromString(next(watched)).status, status, "Health.Watch")
        for service in SERVICES:
            code, replies = client.call(HEALTH + "Check", health.HealthCheckRequest(service=service))
            equal((code, [Status.FromString(r).status for r in replies]), (grpc.StatusCode.OK, [status]), f"Check of {service!r}")
        equal(server.counter("fsyncfs_ready"), int(serving), "fsyncfs_ready")
        equal(fetch(server, "/healthz")[0], 200, "/healthz")
        return text

    agree(True)
    equal(client.call(HEALTH + "Check", health.HealthCheckRequest(service="what"))[0], grpc.StatusCode.NOT_FOUND, "an unknown service")
    equal(client.call(HEALTH + "Check", b"\xff")[0], grpc.StatusCode.INVALID_ARGUMENT, "what is no message")
    index = w.path("index.db")
    index.rename(w.path("aside"))
    check("index" in agree(False), "/readyz does not name the index")
    w.path("aside").rename(index)
    agree(True)

    # A call that goes on keeps the server for a while, in which it is alive and not ready.
    call = client.channel.stream_stream(hostile_worker.SYNC, request_serializer=None, response_deserializer=None)
    held = call(hold(), metadata=[("authorization", "right")], timeout=60)
    wait_until(lambda: server.status()["transfers"]["calls"] == 2, "the watched one and another under way")
    server.signal(signal.SIGTERM)
    wait_until(lambda: fetch(server, "/readyz")[2] == "stopping\n", "503 of a server that stops")
    equal(Status.FromString(next(watched)).status, Status.NOT_SERVING, "Health.Watch of a server that stops")
    held.cancel()
    equal(server.wait(), 0, "exit code")


def all_metrics(w):
    """What a server and a mount print: two texts."""
    server = prepare(w)
    file = w.path('odd "name".prom')
    mount = w.mount(server, options=[f"metrics={file}"])
    (mount.point / "a").read_bytes()
    client = hostile_worker.Client(f"127.0.0.1:{server.port}")
    client.call(hostile_worker.HANDSHAKE, hostile_worker.workspace.HandshakeRequest(protocol=1))
    wait_until(lambda: "rpc_duration_seconds_count" in fetch(server, "/metrics")[2], "a call that has ended")
    wait_until(file.exists, "the mount's metrics")
    return mount, file, fetch(server, "/metrics")[2], file.read_text()


@case("promtool accepts all metrics; a mount's file is whole, and gone with the mount")
def valid(w):
    need_promtool()
    mount, file, server_text, mount_text = all_metrics(w)
    promtool_likes(server_text)
    promtool_likes(mount_text)
    check("fsyncfs_mount_online{" in mount_text, "no word whether a master is there")
    equal([p.name for p in w.dir.glob("*.draft")], [], "drafts left")
    mount.unmount()
    check(not file.exists(), "the file is still there after umount")


@case("every metric that the alerts and the dashboard name exists; promtool has the alerts fire as they should")
def named(w):
    need_promtool()
    _, _, server_text, mount_text = all_metrics(w)
    types = set(re.findall(r"^# TYPE (fsyncfs_\w+)", server_text + mount_text, re.M))
    printed = types | set(re.findall(r"^(fsyncfs_\w+)", server_text + mount_text, re.M))
    names = re.compile(r"\bfsyncfs_\w+")
    alerts = (SOURCE / "examples/alerts.yml").read_text()
    board = json.loads((SOURCE / "examples/grafana-dashboard.json").read_text())
    asked = [t["expr"] for p in board["panels"] for t in p.get("targets", [])]
    check(len(asked) > 10, "the dashboard asks for nothing")
    used = set(names.findall(alerts)) | {n for expr in asked for n in names.findall(expr)}
    used |= set(names.findall(json.dumps(board["templating"])))
    documented = set(re.findall(r"`(fsyncfs_\w+)", (SOURCE / "docs/monitoring.md").read_text()))
    equal(sorted(used - printed), [], "metrics that nobody prints")
    equal(sorted(documented - printed), [], "documented metrics that nobody prints")
    equal(sorted(types - documented), [], "metrics that are not documented")
    shutil.copy(SOURCE / "examples/alerts.yml", w.dir)
    shutil.copy(SOURCE / "tests/alerts/alerts_test.yml", w.dir)
    run_ok(["promtool", "check", "rules", "alerts.yml"], cwd=w.dir)
    run_ok(["promtool", "test", "rules", "alerts_test.yml"], cwd=w.dir)


class Crowd:
    """64 connections of FLOODER's that say FIRST, and then, now and then, THEN, and read a little, so that none is silent. LASTING: who is ended comes again."""

    def __init__(self, server, first, then=b"", lasting=False):
        self._address, self._first, self._then, self._lasting = (HOME, server.metrics_port), first, then, lasting
        self._left = threading.Event()
        self._begun = {self._come(): False for _ in range(4 * CONNECTIONS)}
        self._thread = threading.Thread(target=self._run)
        self.ended = 0

    def _come(self):
        """One that takes little at a time, and does not wait until it is let in."""
        comer = socket.socket()
        comer.setblocking(False)
        comer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        comer.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, 536)
        comer.bind((FLOODER, 0))
        comer.connect_ex(self._address)
        return comer

    def _lives(self, one):
        try:
            one.sendall(self._then if self._begun[one] else self._first)
            self._begun[one] = True
            return one.recv(256) != b""
        except BlockingIOError:
            return True
        except OSError:
            return False

    def _run(self):
        while not self._left.wait(0.1):
            for one in [one for one in self._begun if not self._lives(one)][:8]:
                one.close()
                del self._begun[one]
                self.ended += 1
                if self._lasting:
                    self._begun[self._come()] = False

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._left.set()
        self._thread.join()
        for one in self._begun:
            one.close()


def taken(server):
    """How many connections the listener has a descriptor for."""
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return sum(local.endswith(f":{server.metrics_port:04X}") and state != "0A" and inode != "0"  # nobody's, or it listens
               for _, local, _, state, _, _, _, _, _, inode, *_ in rows)


def come(server, source):
    """A connection that has not finished its request."""
    connection = socket.create_connection((HOME, server.metrics_port), WAIT_SEC, (source, 0))
    connection.sendall(ASKS + b"X: ")
    return connection


def go(connection):
    """It has, is answered, and ends."""
    connection.sendall(b"\r\n\r\n")
    with connection, connection.makefile("rb") as reply:
        text = reply.read()
    check(text.startswith(b"HTTP/1.1 200") and b"fsyncfs_ready " in text, f"/metrics is {text[:200]}")


def bears_crowds(server, first, then=b""):
    """Everybody is answered beside a crowd, and who comes from elsewhere is not ended for one of the crowd."""
    with Crowd(server, first, then):
        wait_until(lambda: taken(server) >= CONNECTIONS, "a listener that is full")
        for source in (HOME, FLOODER):
            for _ in range(50):
                go(come(server, source))
    with Crowd(server, first, then, lasting=True) as crowd:
        patient = come(server, HOME)
        for _ in range(50):
            ended = crowd.ended
            go(come(server, HOME))
            wait_until(lambda: crowd.ended > ended, "the end of another one of the crowd")
            patient.sendall(b"x")
        go(patient)
    wait_until(lambda: taken(server) == 0, "the end of all connections")


@case("connections that never finish their request are ended for others; whoever comes from elsewhere is answered, and stays")
def slow_askers(w):
    bears_crowds(prepare(w), ASKS + b"X: ", b"x")
    report("Flood of the status listener", f"{4 * CONNECTIONS} connections that never finish their request, and new ones for those that are ended",
           "whoever comes is answered; who comes from elsewhere is not ended", "100 and 50 of them were; a slow one stayed")


@case("connections that hardly read are, too")
def slow_readers(w):
    server, spider = prepare(w), "&" * 255  # five times as long in the page
    (w.root / spider).mkdir()
    client = hostile_worker.Client(f"127.0.0.1:{server.port}")
    presence = hostile_worker.workspace.Presence(spider_id=spider, node_key="k", node_name="n").SerializeToString()
    stream = client.channel.stream_stream(hostile_worker.ATTEND, request_serializer=None, response_deserializer=None)
    calls = [stream(hold(presence, seconds=300), timeout=300) for _ in range(200)]
    wait_until(lambda: len(fetch(server, "/")[2]) > 250_000, "a page that is too long for a socket's buffers")
    bears_crowds(server, b"GET / HTTP/1.1\r\nHost: master\r\n\r\n")
    for call in calls:
        call.cancel()


main()
