"""Debian packages of this tree, and a Debian to live in: a folder with a root of its own, which nothing of this machine is seen from."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "integration"))

from harness import FULL, SOURCE, check, run, run_ok, skip  # noqa: E402

NAMES = ("fsyncfs", "fsyncfs-server", "fsyncfs-common")
ARCHIVES = "/var/cache/apt/archives"
APT = "apt-get -y -qq --no-install-recommends"
ANSWERED = f'apt-get() {{ command {APT} "$@"; }}\n'  # where somebody would type Y
LONG_SEC = 1800  # a build on a machine with much else to do
ENVIRONMENT = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8", "HOME": "/root", "DEBIAN_FRONTEND": "noninteractive",
               **{name: value for name, value in os.environ.items() if name.lower().endswith("_proxy")}}


def in_private_namespaces():
    """Starts this program once more with mounts and processes of its own, if it is to do more than to skip: whatever it leaves ends with it."""
    if FULL and os.geteuid() == 0 and os.environ.get("FSYNCFS_PRIVATE") != "1":
        os.environ["FSYNCFS_PRIVATE"] = "1"
        os.execvp("unshare", ["unshare", "--mount", "--pid", "--fork", "--mount-proc", "--kill-child", sys.executable, *sys.argv])


def need(*programs):
    """Skips what cannot be done here, or takes minutes."""
    if not FULL:
        skip("minutes long: scripts/test --full")
    if os.environ.get("FSYNCFS_PRIVATE") != "1":
        skip("wants root")
    if codename() is None:
        skip("this is no Debian")
    for name in programs:
        if run(["sh", "-c", f"command -v {name}"]).returncode != 0:
            skip(f"{name} is not installed")


def codename():
    """Of the Debian that this machine is, since what is built here runs on its like; None: of another distribution."""
    words = dict(line.split("=", 1) for line in shlex.split(Path("/etc/os-release").read_text()))
    return words.get("VERSION_CODENAME") if words.get("ID") == "debian" else None


def take_sources(folder):
    """What git has of this tree, with changes that are not committed yet."""
    git = ["git", "-c", "safe.directory=*", "-c", "user.name=test", "-c", "user.email=test", "-C", SOURCE]
    commit = run_ok([*git, "stash", "create"]).stdout.strip() or "HEAD"
    folder.mkdir(parents=True)
    archive = folder.with_suffix(".tar")
    run_ok([*git, "archive", "--output", archive, commit])
    run_ok(["tar", "-C", folder, "-xf", archive])
    archive.unlink()


def type_in(folder, block, before="", **environment):
    """Types BLOCK (of room.py) in FOLDER of this machine, after what BEFORE defines."""
    run_ok(["bash", "-euc", before + block.text, block.place], cwd=folder, timeout=LONG_SEC, env={**os.environ, **environment})


def version_of(folder):
    return run_ok(["dpkg-parsechangelog", "-SVersion"], cwd=folder).stdout.strip()


def packages_of(folder):
    """The files that dpkg-buildpackage made in FOLDER's parent."""
    version = version_of(folder)
    files = [next(folder.parent.glob(f"{name}_{version}_*.deb"), None) for name in NAMES]
    check(all(files), f"packages of version {version}: {files}")
    return files


def debootstrap(folder):
    """A minimal Debian in FOLDER, which is to be absent."""
    mirror = os.environ.get("FSYNCFS_DEBIAN_MIRROR", "http://deb.debian.org/debian")
    made = run(["debootstrap", "--variant=minbase", f"--cache-dir={ARCHIVES}", codename(), folder, mirror], timeout=LONG_SEC,
               env={**ENVIRONMENT, "PATH": os.environ["PATH"]})
    if made.returncode != 0:
        skip(f"debootstrap cannot make a Debian (no mirror?): {' '.join(made.stdout.splitlines()[-1:])[:200]}")


class Root:
    """A Debian that is there in FOLDER, as if it ran."""

    def __init__(self, folder):
        self.folder = folder
        run_ok(["mount", "-t", "proc", "proc", self.path("proc")])
        run_ok(["mount", "-t", "sysfs", "-o", "ro", "sysfs", self.path("sys")])
        os.mknod(self.path("dev/fuse"), 0o20666, os.makedev(10, 229))

    def path(self, name):
        return self.folder / name.lstrip("/")

    def argv(self, *argv, user=None):
        """What runs ARGV in it, as USER (or as root)."""
        return ["chroot", *([f"--userspec={user}:{user}"] if user else []), self.folder, *argv]

    def run(self, *argv):
        return run_ok(self.argv(*argv), env=ENVIRONMENT, timeout=LONG_SEC)

    def type(self, block, before=ANSWERED, folder="/packages"):
        """Types BLOCK (of room.py) in FOLDER, after what BEFORE defines: what it wrote."""
        return self.run("bash", "-euc", f"{before}cd {folder}\n{block.text}", block.place).stdout

    def bring(self, files):
        """Has them in /packages, their names there; of what they depend on, what this machine has fetched before need not come again."""
        place = self.path("packages")
        place.mkdir(exist_ok=True)
        for file in files:
            run_ok(["cp", file, place])
        names = [f"/packages/{file.name}" for file in files]
        for line in self.run(*APT.split(), "install", "--print-uris", *names).stdout.splitlines():
            found = re.match(r"'.*' (\S+\.deb) ", line)
            if found and Path(ARCHIVES, found[1]).exists():
                run_ok(["cp", Path(ARCHIVES, found[1]), self.path(ARCHIVES)])
        return names

    def install(self, files):
        """As an administrator would, with what they depend on."""
        self.run(*APT.split(), "install", *self.bring(files))

    def named(self, word):
        """All files whose name holds WORD, but for those of file systems mounted there."""
        return sorted(run_ok(["find", self.folder, "-xdev", "-name", f"*{word}*", "-printf", "/%P\n"]).stdout.splitlines())
