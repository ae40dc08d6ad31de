"""The Debian packages, as docs/install.md has it: built from what git has, judged by lintian, and lived through in a Debian of their own: installed,
served from, mounted, upgraded beneath a mount, removed, purged. And that the RPM spec builds."""

import json
import os
import shlex
import shutil
import sys

from debianlab import ANSWERED, ENVIRONMENT, Root, debootstrap, in_private_namespaces, need, packages_of, take_sources, type_in, version_of
from harness import BUILD, SOURCE, case, check, equal, main, run, run_ok
from room import steps
from trees import make_tree, same_snapshot, snapshot

FOLDER = BUILD / "packages"
SPIDER = "/srv/workspaces/quotes"
POINT = "/mnt/quotes"
MASTER = "127.9.6.66"  # by an address of its own it listens at the port that the page's fstab line means

# All that the page has typed here.
NEEDS, MAKE, ON_MASTER, ON_WORKER, SPEC, REMOVE, PURGE = (
    block for _, forward, _ in steps(SOURCE / "docs/install.md", __file__) for block in forward if not block.reason)

# What somebody does in the editor, and that nobody is there to start a unit at once.
ADMINISTRATOR = f"""editor() {{ echo 'listen = {MASTER}:9666' >>"$1"; }}
systemctl() {{ command systemctl ${{@#--now}}; }}
"""

# Reads an open file, and opens and reads another one, again and again until told to stop: any error, any difference ends it.
READER = r'''
import os, sys
held, other, true_held, true_other, stop = sys.argv[1:]
want, want_other = open(true_held, "rb").read(), open(true_other, "rb").read()
fd, rounds = os.open(held, os.O_RDONLY), 0
while rounds == 0 or not os.path.exists(stop):
    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
    assert os.pread(fd, len(want) + 1, 0) == want, "what was open"
    assert open(other, "rb").read() == want_other, "what is opened"
    rounds += 1
    if rounds == 1:
        print("reading", flush=True)
'''


def make(folder, before=""):
    """The packages, without the tests, which are what is running."""
    type_in(folder, MAKE, before, DEB_BUILD_OPTIONS="nocheck parallel=2", DEB_BUILD_PROFILES="nocheck")


def built():
    """The sources' folder, with the packages of their version beside it; built once a run."""
    folder = FOLDER / "fsyncfs"
    if not built.done:
        shutil.rmtree(FOLDER, ignore_errors=True)
        take_sources(folder)
        make(folder)
        built.done = True
    return folder


built.done = False


def built_later(folder):
    """The packages of a later version, of what FOLDER has compiled already."""
    changelog = folder / "debian/changelog"
    entry = changelog.read_text().partition("\n\n ")[0].replace(version_of(folder), version_of(folder) + "+later")
    changelog.write_text(f"{entry}\n\n  * Later.\n\n -- Nobody <nobody@fsyncfs.example>  Sun, 22 Nov 2026 12:00:00 +0000\n\n{changelog.read_text()}")
    make(folder, 'dpkg-buildpackage() { command dpkg-buildpackage "$@" -nc; }\n')
    return packages_of(folder)


@case("lintian has nothing to say of the packages")
def lintian(w):
    need("dpkg-buildpackage", "dh", "lintian")
    done = run(["lintian", "--allow-root", "--fail-on=error,warning", *packages_of(built())], timeout=300)
    check(done.returncode == 0 and not done.stdout.strip(), f"lintian: {done.stdout}{done.stderr}")


def new_root(w):
    debootstrap(w.path("root"))
    root = Root(w.path("root"))
    root.run("apt-get", "-qq", "update")
    return root


def serve(w, root):
    """A master as the unit that was enabled starts it: its user, its state directory (which systemd would make), and all else from server.conf."""
    make_tree(root.path(SPIDER), 200, 4_000_000)
    root.type(ON_MASTER, ANSWERED + ADMINISTRATOR)
    check(root.path("/etc/systemd/system/multi-user.target.wants/fsyncfs-server.service").is_symlink(), "the unit is enabled")
    root.run("install", "-d", "-o", "fsyncfs", "-g", "fsyncfs", "-m", "0700", "/var/lib/fsyncfs")
    w.spawn(root.argv("fsyncfs-server", user="fsyncfs"), "server.log", env=ENVIRONMENT).wait_output("ready")


def mount(root):
    """By a line of fstab."""
    with open(root.path("/etc/hosts"), "a") as hosts:
        hosts.write(f"{MASTER} master\n")
    root.type(ON_WORKER)
    same_snapshot(snapshot(root.path(POINT)), snapshot(root.path(SPIDER)), "the tree")


def build_needs(root, folder):
    """apt-get finds all that the page and debian/control ask for. That they are enough is seen where the images are built."""
    root.path("/packages/fsyncfs/debian").mkdir(parents=True)
    shutil.copy(folder / "debian/control", root.path("/packages/fsyncfs/debian"))
    shown = root.type(NEEDS, 'apt-get() { command apt-get --simulate "$@"; }\n', "/packages/fsyncfs")
    for name in ("build-essential", "libfuse3-dev"):
        check(f"\nInst {name} " in shown, f"{name} is among what is installed: {shown}")


def status(root):
    return json.loads(root.run("fsyncfs", "status", POINT, "--json").stdout)


def read_on(w, root, stop):
    files = sorted(path.relative_to(root.path(SPIDER)) for path in root.path(SPIDER).rglob("*.bin"))[:2]
    reader = w.spawn([sys.executable, "-c", READER, *(root.path(POINT) / file for file in files),
                      *(root.path(SPIDER) / file for file in files), stop], "reader.log")
    reader.wait_output("reading")
    return reader


def program_of(pid):
    return os.readlink(f"/proc/{pid}/exe")


def upgrade(root, files):
    """The mount is another program's afterwards: the one that is installed now."""
    before = status(root)
    root.install(files)
    after = status(root)
    equal((after["upgrades"], after["failed_upgrades"], after["restarts"]), (1, 0, 0), "upgrades, failed ones, and deaths of the daemon")
    check(after["pid"] != before["pid"], "another daemon serves")
    equal(program_of(after["pid"]), str(root.path("/usr/bin/fsyncfs")), "the program that serves")


def lists_files(root, package):
    return set(root.run("dpkg", "-L", package).stdout.split())


@case("installed, served from, mounted, upgraded beneath a mount, removed, purged")
def life(w):
    need("dpkg-buildpackage", "dh", "debootstrap")
    folder = built()
    first, later = packages_of(folder), built_later(folder)
    root = new_root(w)
    equal(root.named("fsyncfs"), [], "files before")
    root.bring(first)
    build_needs(root, folder)
    serve(w, root)
    mount(root)
    check("fsyncfs:" in root.path("/etc/passwd").read_text(), "the server's user")
    equal(root.run("dpkg-query", "-W", "-f=${Conffiles}", "fsyncfs-server").stdout.split()[0], "/etc/fsyncfs/server.conf", "the conffile")
    check("/usr/share/man/man5/fsyncfs.conf.5.gz" in lists_files(root, "fsyncfs-common"), "man pages")

    stop = w.path("stop")
    reader = read_on(w, root, stop)
    upgrade(root, later)
    check(f"listen = {MASTER}" in root.path("/etc/fsyncfs/server.conf").read_text(), "the conffile keeps what was written to it")
    same_snapshot(snapshot(root.path(POINT)), snapshot(root.path(SPIDER)), "the tree after the upgrade")
    equal(root.run("dpkg-query", "-W", "-f=${Version}", "fsyncfs").stdout, version_of(folder), "the version that is installed")

    kept = root.run("apt-get", "-y", "-qq", "purge", "fsyncfs").stderr
    check("something is mounted still" in kept and root.path("/var/cache/fsyncfs").is_dir(), f"the cache of what is mounted stays: {kept}")
    check(not root.path("/usr/bin/fsyncfs").exists(), "the program is gone")
    check(reader.running(), f"what is mounted goes on without it: {reader.output()}")
    stop.touch()
    equal(reader.wait(), 0, f"exit code of the reader ({reader.output()[-500:]})")

    root.install(later[:1])
    root.type(REMOVE)
    for name in ("/etc/fsyncfs/server.conf", "/var/cache/fsyncfs", "/var/lib/fsyncfs"):
        check(root.path(name).exists(), f"{name} is there until the purge")
    root.type(PURGE)
    shutil.rmtree(root.path("packages"))
    equal(root.named("fsyncfs"), [], "files that are left")
    check(root.path(SPIDER).is_dir(), "workspaces are not ours to remove")


# What Fedora's rpm knows and Debian's does not.
MACROS = {
    "meson": "meson setup build --prefix=%{_prefix} --buildtype=plain",
    "meson_build": "ninja -C build -j 2",
    "meson_install": "DESTDIR=%{buildroot} meson install -C build --no-rebuild",
    "_unitdir": "%{_prefix}/lib/systemd/system",
    "_sysusersdir": "%{_prefix}/lib/sysusers.d",
    **{f"systemd_{name}()": ":" for name in ("post", "preun", "postun_with_restart")},
}


@case("rpmbuild makes three packages of the spec")
def rpm(w):
    need("rpmbuild")
    version = version_of(SOURCE)
    clone = w.path("fsyncfs")
    take_sources(clone)
    for words in (("init", "-q"), ("add", "--all", "--force"), ("commit", "-q", "-m", "All")):
        run_ok(["git", "-c", "user.name=test", "-c", "user.email=test", "-C", clone, *words])
    defines = shlex.join(f"--define={name} {value}" for name, value in {**MACROS, "_topdir": w.path("rpm")}.items())
    type_in(clone, SPEC, f'rpmbuild() {{ command rpmbuild --nodeps {defines} "$@"; }}\n')
    made = {path.name.partition(f"-{version}-")[0]: path for path in w.path("rpm/RPMS").rglob("*.rpm")}
    for name, file in {"fsyncfs": "/usr/sbin/mount.fsyncfs", "fsyncfs-server": "/etc/fsyncfs/server.conf",
                       "fsyncfs-common": "/usr/share/zsh/site-functions/_fsyncfs"}.items():
        check(name in made and file in run_ok(["rpm", "-qpl", made[name]]).stdout.split(), f"{file} in {name} of {sorted(made)}")


in_private_namespaces()
main()
