"""What the tests of large and often changed trees share."""

import contextlib
import os
import stat
import sys
from pathlib import Path

TESTS = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(TESTS / "integration"))
sys.path.insert(1, str(TESTS / "peers"))

import digest  # noqa: E402
from harness import BUILD, check, equal, fail, run, run_ok, wait_until  # noqa: E402

LONG_SEC = 900


@contextlib.contextmanager
def environment(**variables):
    """Programs that are started meanwhile have these variables in their environment; None: not."""
    before = {name: os.environ.get(name) for name in variables}

    def put(values):
        for name, value in values.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = str(value)
    put(variables)
    try:
        yield
    finally:
        put(before)


def make_tree(root, kind, folders, files):
    """A tree of KIND (wide or deep) by tests/peers/maketree.c."""
    program = BUILD / "tests" / "peers" / "maketree"
    check(program.is_file(), f"maketree is not built in {BUILD}")
    Path(root).parent.mkdir(parents=True, exist_ok=True)
    run_ok([program, root, kind, str(folders), str(files)], timeout=LONG_SEC)


def _child(folder, name, known):
    """(the entry as digest.folder_digest wants it, how many entries it stands for)."""
    path = os.path.join(folder, name)
    st = os.lstat(path)
    mode = stat.S_IMODE(st.st_mode)
    if stat.S_ISDIR(st.st_mode):
        own, count = _folder(path, known)
        return (name, digest.KIND_FOLDER, mode, st.st_mtime_ns, 0, own), count
    if stat.S_ISLNK(st.st_mode):
        target = os.readlink(path)
        return (name, digest.KIND_SYMLINK, mode, st.st_mtime_ns, len(target), digest.xxh3(target)), 1
    if not stat.S_ISREG(st.st_mode):
        return None, 0
    with open(path, "rb", buffering=0) as f:
        data = f.readall()
    return (name, digest.KIND_FILE, mode, st.st_mtime_ns, len(data), digest.content(data)), 1


def _folder(path, known):
    """(digest of the children, number of entries with the folder itself)."""
    if path not in known:
        found = [_child(path, name, known) for name in os.listdir(path)]
        known[path] = digest.folder_digest([child for child, _ in found if child]), 1 + sum(count for _, count in found)
    return known[path]


def root_digest(root, known=None):
    """(root digest in hex, entries) of a folder, by reading every byte of it: it owes nothing to any index, watcher or stamp. KNOWN: what was found out
    of folders, by path, to be added to; who changes what is in one, or below it, takes it out."""
    root = os.fsencode(root)
    st = os.lstat(root)
    own, count = _folder(root, {} if known is None else known)
    return digest.root_digest(stat.S_IMODE(st.st_mode), st.st_mtime_ns, own).hex(), count


def nothing_to_sync(master, mount):
    """rsync, comparing contents, permissions, owners and times to the nanosecond, has nothing to do."""
    done = run(["rsync", "-nac", "--modify-window=-1", "--delete", "--itemize-changes", f"{master}/", f"{mount}/"],
               timeout=LONG_SEC)
    equal((done.returncode, done.stdout[:2000], done.stderr[:500]), (0, "", ""), "rsync's exit code, differences, complaints")


def is_complete(mount, entries):
    """Whether all metadata of a mount has arrived."""
    status = mount.status()
    return not status.get("loading") and status["entries"] == entries


def wait_complete(mount, entries, timeout=LONG_SEC):
    wait_until(lambda: is_complete(mount, entries), f"all {entries} entries in {mount.point}", timeout)


def rss_bytes(pid):
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    return fail(f"process {pid} has no memory")
