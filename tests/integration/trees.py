"""Trees to serve and ways to compare them: made by seed, odd in every way, and equal by rsync, tar or one by one."""

import hashlib
import os
import random
import socket
import stat
import time
from pathlib import Path

from harness import check, equal, run, run_ok

SPECIALS = "*.special"  # names of sockets, fifos and devices in the odd tree: left out by the master and the comparison


TINY_MAX = 256  # bytes of a file that comes with its name, and is never asked for


def make_tree(root, files, total_bytes, seed=1, per_folder=100):
    """FILES files of pseudo-random content, TOTAL_BYTES in all, of uneven sizes (none is tiny), PER_FOLDER in a folder."""
    rng = random.Random(seed)
    root = Path(root)
    weights = [rng.random() ** 3 + 0.02 for _ in range(files)]
    scale = total_bytes / sum(weights)
    for i, weight in enumerate(weights):
        folder = root / f"d{i // per_folder:04d}"
        if i % per_folder == 0:
            folder.mkdir(parents=True, exist_ok=True)
        (folder / f"f{i:06d}.bin").write_bytes(rng.randbytes(max(int(weight * scale), TINY_MAX + 1)))
    settle()
    return root


def settle():
    """Lets the clock that stamps files move on: what was written within a tick of a scan is hashed again, rightly (docs/formats.md)."""
    time.sleep(0.05)


def set_times(path, ns, **options):
    os.utime(path, ns=(ns, ns), **options)


def _odd_names(root):
    names = [b"with space", b" leading and trailing ", b"new\nline", b"tab\tand\rreturn", b"quote'\"`$\\", b"-rf", b"*?[a]",
             "Unicode-\u00e4\u4e2d\U0001f600".encode(), b"latin1-\xe4\xff\xfe", b"half-surrogate-\xed\xa0\x80", b"\x01\x7f",
             b"x" * 255, "\u00e9".encode() * 127 + b"y", b"...", b"..hidden", b".", b"~"]
    for name in names:
        if name != b".":
            with open(os.path.join(os.fsencode(root), name), "wb") as f:
                f.write(b"content of " + name)
            os.mkdir(os.path.join(os.fsencode(root), b"D" + name[:254]))


def _links(root):
    (root / "links").mkdir()
    (root / "links/target.txt").write_text("target")
    os.link(root / "links/target.txt", root / "links/hard1")
    os.link(root / "links/target.txt", root / "hard2")
    for name, target in {"relative": "target.txt", "up": "../links/target.txt", "absolute": "/etc/hostname",
                         "dangling": "no such file", "out": "../../../../etc/passwd", "loop1": "loop2", "loop2": "loop1",
                         "self": "self", "folder": "../links", "newline": "a\nb", "bytes": b"\xff\xfe",
                         "long": "t" * 4000}.items():
        os.symlink(target, root / "links" / name)
    set_times(root / "links/dangling", 1_234_567_890_123_456_789, follow_symlinks=False)


def _modes_and_times(root):
    (root / "modes").mkdir()
    for mode in (0o000, 0o400, 0o644, 0o755, 0o777, 0o4755, 0o2755, 0o6711, 0o1644):
        path = root / "modes" / f"f{mode:04o}"
        path.write_text(f"{mode:o}")
        path.chmod(mode)
    for mode in (0o700, 0o1777, 0o2775, 0o555):
        path = root / "modes" / f"d{mode:04o}"
        path.mkdir()
        path.chmod(mode)
    (root / "times").mkdir()
    for name, ns in {"epoch": 0, "before": -1, "1901": -2_147_483_648_000_000_001, "ns": 1_600_000_000_123_456_789,
                     "2200": 7_258_118_400_999_999_999}.items():
        (root / "times" / name).write_text(name)
        set_times(root / "times" / name, ns)


def _specials(root):
    os.mkfifo(root / "fifo.special")
    with socket.socket(socket.AF_UNIX) as s:
        here = os.getcwd()
        os.chdir(root)  # a socket's path must be short
        try:
            s.bind("socket.special")
        finally:
            os.chdir(here)
    try:
        os.mknod(root / "null.special", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    except PermissionError:
        pass


def make_deep(root, path_bytes):
    """A file at the end of a path of PATH_BYTES bytes below ROOT. Returns its names; each step by descriptor, as it must be."""
    names, left = [], path_bytes
    while left > 201:
        names.append("deep" * 49 + "d" * 4)
        left -= 201
    names.append("f" * left)
    fd = os.open(root, os.O_RDONLY)
    for name in names[:-1]:
        os.mkdir(name, dir_fd=fd)
        below = os.open(name, os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = below
    with open(os.open(names[-1], os.O_WRONLY | os.O_CREAT, 0o644, dir_fd=fd), "wb") as f:
        f.write(b"down here")
    os.close(fd)
    return names


def read_deep(root, names):
    """The bytes of the file that make_deep made, as seen below ROOT."""
    fd = os.open(root, os.O_RDONLY)
    for name in names[:-1]:
        below = os.open(name, os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = below
    with open(os.open(names[-1], os.O_RDONLY, dir_fd=fd), "rb") as f:
        os.close(fd)
        return f.read()


def make_odd_tree(root):
    """Every odd name and kind of entry that a workspace may hold."""
    root = Path(root)
    root.mkdir(parents=True, exist_ok=True)
    _odd_names(root)
    _links(root)
    _specials(root)
    (root / "empty").write_bytes(b"")
    (root / "empty folder/in/it").mkdir(parents=True)
    (root / "big").write_bytes(random.Random(7).randbytes(5_000_001))
    (root / "same1").write_bytes(b"same" * 1000)
    (root / "same2").write_bytes(b"same" * 1000)
    make_deep(root, 3800)
    _modes_and_times(root)
    set_times(root, 1_500_000_000_000_000_001)
    return root


def snapshot(root):
    """{path: (kind and mode, mtime in ns, size, content hash or target)}, bytes paths; specials left out."""
    found, top = {}, os.fsencode(root)

    def take(path):
        st = os.lstat(path)
        what = None
        if stat.S_ISREG(st.st_mode):
            with open(path, "rb") as f:
                what = hashlib.file_digest(f, "md5").hexdigest()
        elif stat.S_ISLNK(st.st_mode):
            what = os.readlink(path)
        elif not stat.S_ISDIR(st.st_mode):
            return
        size = 0 if stat.S_ISDIR(st.st_mode) else st.st_size
        found[path[len(top):].lstrip(b"/")] = (oct(st.st_mode), st.st_mtime_ns, size, what)
    take(top)
    for folder, folders, files in os.walk(top):
        for name in folders + files:
            take(os.path.join(folder, name))
    return found


def same_snapshot(got, want, what):
    """Equal entry by entry; a Failure names the first few differences."""
    different = [f"{path!r}: got {got.get(path)}, expected {want.get(path)}"
                 for path in sorted(set(got) | set(want)) if got.get(path) != want.get(path)]
    check(not different, f"{what}: {len(different)} differences: " + "; ".join(different[:5]))


def tar_hash(root):
    """SHA-256 of a tar of ROOT in which nothing depends on the file system but what fsyncfs promises."""
    done = run_ok(["sh", "-c", 'tar --sort=name --numeric-owner --owner=0 --group=0 --format=posix --hard-dereference '
                   '--pax-option=delete=atime,delete=ctime,exthdr.name=%d/h/%f --exclude="$2" -C "$1" -cf - . | sha256sum',
                   "sh", root, SPECIALS], timeout=600)
    check("rror" not in done.stderr, f"tar of {root}: {done.stderr[:500]}")
    return done.stdout.split()[0]


def compare_trees(master, mount):
    """Nothing to do for rsync (contents, kinds, permissions, times to the nanosecond; owners aside), and equal tars."""
    done = run(["rsync", "-nrlptc", "--modify-window=-1", "--delete", "--itemize-changes", "--exclude", SPECIALS,
                f"{master}/", f"{mount}/"], timeout=600)
    equal((done.returncode, done.stdout, done.stderr), (0, "", ""), "rsync's exit code, differences, complaints")
    equal(tar_hash(mount), tar_hash(master), "tar's hash")
