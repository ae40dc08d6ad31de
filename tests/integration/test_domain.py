"""Trust domains: in one cache folder, what a mount of one domain has is nothing to a mount of another."""

import json
import os
import sys

from harness import PEERS, case, check, equal, main, program, run, run_ok, wait_until

sys.path.insert(0, str(PEERS))

from collision import pair  # noqa: E402
from digest import xxh3  # noqa: E402

SIZE = 1000


def contents():
    """The victim's file and the attacker's: one XXH3-128, one size, other bytes."""
    good, evil = pair(os.urandom(SIZE), 1000, 2000)
    check(good != evil and xxh3(good) == xxh3(evil), "two contents with one hash")
    return good, evil


def masters(w):
    """A master that each party runs itself; the attacker's comes second."""
    good, evil = contents()
    servers = []
    for name, data in (("victim", good), ("attacker", evil)):
        folder = w.path(name, "spider")
        folder.mkdir(parents=True)
        folder.joinpath("run.py").write_bytes(data)
        servers.append(w.server(root=w.path(name)))
    return servers, good, evil


def read(mount):
    return mount.point.joinpath("run.py").read_bytes()


def blobs(folder):
    return sorted(str(p.relative_to(folder)) for p in folder.joinpath("blobs").rglob("*") if p.is_file())


def cache(w, *words):
    done = run([program("fsyncfs"), "cache", *words, "--cache", w.path("cache"), "--json"])
    equal(done.returncode, 0, f"cache {words}: {done.stderr}")
    decoder, text, found = json.JSONDecoder(), done.stdout.strip(), []
    while text:
        value, end = decoder.raw_decode(text)
        found.append(value)
        text = text[end:].strip()
    return found


@case("a planted content: mounts of one domain serve it, those of another never do")
def planted(w):
    (victim, attacker), good, evil = masters(w)
    a = w.mount(attacker, options=["domain=attacker"])
    equal(read(a), evil, "the attacker's mount")
    b = w.mount(victim, options=["domain=victim"])
    equal(read(b), good, "the victim's, of another domain")
    # The same without domains: so this is an attack, and the hash alone does not hold it off.
    c = w.mount(attacker)
    equal(read(c), evil, "the attacker's mount without a domain")
    d = w.mount(victim)
    equal(read(d), evil, "the victim's beside it: what the documentation says of mounts without a domain")
    equal(d.status()["fetched_files"], 0, "files that came from the victim's master")


@case("a content that another domain has is not served by its hash alone")
def by_hash_alone(w):
    w.tree.mkdir(parents=True)
    w.tree.joinpath("run.py").write_bytes(os.urandom(SIZE))
    server = w.server()
    a = w.mount(server, options=["domain=one"])
    b = w.mount(server, options=["domain=two"])
    c = w.mount(server, options=["domain=one"])
    data = read(a)
    server.stop()
    equal(read(c), data, "in the same domain without a master")
    try:
        read(b)
    except OSError:
        return
    check(False, "another domain's mount read a content that its master never sent")


@case("fsyncfs cache knows each domain, and a quota is its domain's")
def commands(w):
    for i in range(8):
        w.tree.mkdir(parents=True, exist_ok=True)
        w.tree.joinpath(f"f{i}").write_bytes(os.urandom(1 << 16))
    server = w.server()
    plain = w.mount(server)
    small = w.mount(server, options=["domain=small", "quota=200K"])
    large = w.mount(server, options=["domain=large"])
    for mount in (plain, small, large):
        for i in range(8):
            mount.point.joinpath(f"f{i}").read_bytes()
    folder = w.path("cache")
    wait_until(lambda: len(blobs(folder)) == 8, "contents without a domain")  # they go to the store when they were read
    wait_until(lambda: len(blobs(folder / "domains" / "large")) == 8, "contents of a domain without a quota")
    equal([m.status()["quota_bytes"] for m in (plain, small, large)], [0, 200 << 10, 0], "a quota is its domain's")
    equal(small.status()["cache_dir"], str(folder / "domains" / "small"), "the cache that status names")

    equal([s["cache_dir"] for s in cache(w, "stat", "--all")],
          [str(folder), str(folder / "domains" / "large"), str(folder / "domains" / "small")], "stat --all")
    equal([s["blobs"] for s in cache(w, "stat", "--domain", "large")], [8], "stat --domain")
    equal([s["blobs"] for s in cache(w, "stat")], [8], "stat")
    run_ok([program("fsyncfs"), "cache", "pin", large.point / "f0"])
    equal([len(pins) for pins in cache(w, "pins", "--all")], [0, 1, 0], "pins")
    for mount in (plain, small, large):
        mount.unmount()

    spoilt = folder / "domains" / "large" / next(b for b in blobs(folder / "domains" / "large"))
    spoilt.chmod(0o600)
    with open(spoilt, "r+b") as f:
        f.write(b"not this")
    done = run([program("fsyncfs"), "cache", "verify", "--all", "--cache", folder])
    equal(done.returncode, 1, "verify --all with damage in one domain")
    check(done.stderr.count("damaged:") == 1, f"verify --all names the damage: {done.stderr}")
    equal([s["removed"] for s in cache(w, "gc", "--all")], [0, 1, 0], "gc --all")
    cache(w, "evict", "--domain", "large")
    check(len(blobs(folder / "domains" / "large")) <= 1 and len(blobs(folder)) == 8, "evict --domain leaves the others alone")
    equal(run([program("fsyncfs"), "cache", "stat", "--domain", "none", "--cache", folder]).returncode, 1, "a domain that is not there")
    equal(run([program("fsyncfs"), "cache", "stat", "--domain", "../x", "--cache", folder]).returncode,
          run([program("fsyncfs"), "cache", "stat", "--bad"]).returncode, "a domain that is no name: usage")
    check(not folder.joinpath("domains", "none").exists(), "looking made no domain")


main()
