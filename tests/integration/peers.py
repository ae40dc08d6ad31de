"""How the tests start the counterparts in tests/peers."""

import json
import os
import shutil
import sys

from harness import BUILD, PEERS, SPIDER, check, fail, run, skip

sys.path.insert(0, str(PEERS))  # so that tests can import hostile_worker and protos

LISTENING = r"listening on 127\.0\.0\.1:(\d+)"


def _start(work, argv, log, **options):
    process = work.spawn(argv, log, **options)
    process.port = int(process.wait_output(LISTENING)[1])
    process.source = f"127.0.0.1:{process.port}:/spider"
    return process


def hostile_master(work, mode, stock=False):
    argv = [sys.executable, PEERS / "hostile_master.py", "--mode", mode, *(["--stock"] if stock else [])]
    return _start(work, argv, f"hostile-{mode}{'-stock' if stock else ''}.log")


def hostile_modes():
    done = run([sys.executable, PEERS / "hostile_master.py", "--list"])
    return done.stdout.split() or fail(f"hostile_master.py --list: {done.stderr}")


def hostile_own(work, mode):
    return _start(work, [sys.executable, PEERS / "hostile_own.py", "--mode", mode], f"hostile-{mode}.log")


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
