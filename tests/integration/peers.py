"""How the tests start the counterparts in tests/peers."""

import json
import os
import select
import shutil
import signal
import subprocess
import sys
import threading

from harness import BUILD, PEERS, SPIDER, check, fail, run, skip

sys.path.insert(0, str(PEERS))  # so that tests can import hostile_worker and protos

LISTENING = r"listening on 127\.0\.0\.1:(\d+)"


def _start(work, argv, log, **options):
    process = work.spawn(argv, log, **options)
    process.port = int(process.wait_output(LISTENING)[1])
    process.source = f"127.0.0.1:{process.port}:/spider"
    return process


class _Forked:
    """What a Process wants of subprocess.Popen, of one that is no child of ours: with what code it ended is not known."""

    def __init__(self, pid):
        self.pid, self.returncode, self._fd = pid, None, os.pidfd_open(pid)

    def wait(self, timeout=None):
        if self.returncode is None:
            if not select.select([self._fd], [], [], timeout)[0]:
                raise subprocess.TimeoutExpired(str(self.pid), timeout)
            os.close(self._fd)
            self.returncode = 0
        return self.returncode

    def poll(self):
        try:
            return self.wait(0)
        except subprocess.TimeoutExpired:
            return None

    def send_signal(self, number):
        if self.poll() is None:
            signal.pidfd_send_signal(self._fd, number)


class _Forker:
    """tests/peers/forker.py with MODULES: to load them takes longer than most cases do. It ends with us."""

    def __init__(self, *modules):
        self._modules, self._process, self._lock = modules, None, threading.Lock()

    def start(self, argv, stdout, **_options):
        with self._lock:
            if not self._process:
                self._process = subprocess.Popen([sys.executable, PEERS / "forker.py", *self._modules], stdin=subprocess.PIPE,
                                                 stdout=subprocess.PIPE, text=True)
            print(json.dumps([stdout.name, *argv[1:]]), file=self._process.stdin, flush=True)
            return _Forked(int(self._process.stdout.readline()))


_HOSTILE_MASTER = _Forker("hostile_master")
_HOSTILE_OWN = _Forker("hostile_own", "hostile_contents", "hostile_listings", "hostile_paths", "hostile_pushes")


def hostile_master(work, mode, stock=False):
    return _start(work, ["hostile_master", "--mode", mode, *(["--stock"] if stock else [])],
                  f"hostile-{mode}{'-stock' if stock else ''}.log", start=_HOSTILE_MASTER.start)


def hostile_modes():
    done = run([sys.executable, PEERS / "hostile_master.py", "--list"])
    return done.stdout.split() or fail(f"hostile_master.py --list: {done.stderr}")


def hostile_own(work, mode):
    return _start(work, ["hostile_own", "--mode", mode], f"hostile-{mode}.log", start=_HOSTILE_OWN.start)


def hostile_own_modes():
    done = run([sys.executable, PEERS / "hostile_own.py", "--list"])
    return done.stdout.split() or fail(f"hostile_own.py --list: {done.stderr}")


def delay_proxy(work, port, *options):
    return _start(work, [sys.executable, PEERS / "delay_proxy.py", "--to", f"127.0.0.1:{port}", *options], "proxy.log")


_npm_refused = None  # why, once npm could not fetch the packages: the next case need not wait for it again


def _install_packages(folder):
    global _npm_refused
    if _npm_refused is None:
        install = run(["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--fetch-retries=1", "--fetch-timeout=20000"],
                      cwd=folder, timeout=200)
        _npm_refused = "" if install.returncode == 0 else " ".join(install.stderr.split())[:200]
    if _npm_refused:
        skip("npm ci could not fetch @grpc/grpc-js (no network?): " + _npm_refused)


def node_environment():
    """An environment in which node finds the packages of tests/peers/js, installed once per build folder."""
    if not shutil.which("npm"):
        skip("npm is not installed")
    folder = BUILD / "tests" / "peers-js"
    folder.mkdir(parents=True, exist_ok=True)
    lock = (PEERS / "js" / "package-lock.json").read_bytes()
    done = folder / "package-lock.json"
    if not (folder / "node_modules" / "@grpc" / "grpc-js").is_dir() or done.read_bytes() != lock:
        shutil.copy(PEERS / "js" / "package.json", folder)
        done.write_bytes(lock)
        _install_packages(folder)
    return {**os.environ, "NODE_PATH": str(folder / "node_modules")}


def stock_master(work, root, *options):
    """Crawlab's kind of master, in JavaScript, over ROOT."""
    return _start(work, ["node", PEERS / "js" / "stock_master.js", root, *options], "stock_master.log",
                  env=node_environment())


def stock_worker(address, folder, *options, spider="spider"):
    """One run of Crawlab's kind of worker, in JavaScript: what it counted."""
    done = run(["node", PEERS / "js" / "stock_worker.js", address, spider, folder, *options], env=node_environment())
    return json.loads(done.stdout) if done.returncode == 0 else fail(done.stderr.strip() or "stock_worker failed")


def master_digest(server, spider=SPIDER):
    """The root digest in hex that SERVER states for SPIDER, asked for by python3-grpcio."""
    import hostile_worker  # not above: its messages and stock.proto's have the same names, and a process can load one only
    client = hostile_worker.Client(f"127.0.0.1:{server.port}")
    code, chunks = client.scan(spider)
    client.close()
    check(chunks and chunks[-1].root_digest, f"the server's scan for our own worker: {code}")
    return chunks[-1].root_digest.hex()
