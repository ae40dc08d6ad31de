"""The Debian packages: built from what git has, judged by lintian, and lived through in a Debian of their own: installed, served from, mounted,
upgraded beneath a mount, removed, purged. And that the RPM spec builds."""

import json
import os
import shutil
import sys

from debianlab import ENVIRONMENT, LONG_SEC, Root, build_packages, debootstrap, in_private_namespaces, need, packages_of, take_sources, version_of
from harness import BUILD, SOURCE, case, check, equal, free_port, main, run, run_ok
from trees import make_tree, same_snapshot, snapshot

FOLDER = BUILD / "packages"
SPIDER = "/srv/workspaces/quotes"
POINT = "/mnt/quotes"

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


def built():
    """The sources' folder, with the packages of their version beside it; built once a run."""
    folder = FOLDER / "fsyncfs"
    if not built.done:
        shutil.rmtree(FOLDER, ignore_errors=True)
        take_sources(folder)
        build_packages(folder)
        built.done = True
    return folder


built.done = False


def built_later(folder):
    """The packages of a later version, of what FOLDER has compiled already."""
    changelog = folder / "debian/changelog"
    entry = changelog.read_text().partition("\n\n ")[0].replace(version_of(folder), version_of(folder) + "+later")
    changelog.write_text(f"{entry}\n\n  * Later.\n\n -- Nobody <nobody@fsyncfs.example>  Sun, 22 Nov 2026 12:00:00 +0000\n\n{changelog.read_text()}")
    build_packages(folder, "-nc")
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
    """A master as the unit starts it: its user, its state directory (which systemd would make), and all else from server.conf."""
    make_tree(root.path(SPIDER), 200, 4_000_000)
    port = free_port()
    with open(root.path("/etc/fsyncfs/server.conf"), "a") as conf:
        conf.write(f"listen = 127.0.0.1:{port}\n")
    root.run("install", "-d", "-o", "fsyncfs", "-g", "fsyncfs", "-m", "0700", "/var/lib/fsyncfs")
    equal(root.run("fsyncfs-server", "--check-config").stderr, "", "faults in server.conf")
    start(w, root)
    return port


def start(w, root):
    server = w.spawn(root.argv("fsyncfs-server", user="fsyncfs"), "server.log", env=ENVIRONMENT)
    server.wait_output(r"listening on 127\.0\.0\.1:\d+")
    return server


def mount(root, port):
    """By a line of fstab."""
    root.path(POINT).mkdir()
    root.path("/etc/fstab").write_text(f"127.0.0.1:{port}:/quotes  {POINT}  fsyncfs  defaults,_netdev,nofail  0 0\n")
    root.run("mount", POINT)
    same_snapshot(snapshot(root.path(POINT)), snapshot(root.path(SPIDER)), "the tree")


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
    root.install(first)
    check("fsyncfs:" in root.path("/etc/passwd").read_text(), "the server's user")
    equal(root.run("dpkg-query", "-W", "-f=${Conffiles}", "fsyncfs-server").stdout.split()[0], "/etc/fsyncfs/server.conf", "the conffile")
    check("/usr/share/man/man5/fsyncfs.conf.5.gz" in lists_files(root, "fsyncfs-common"), "man pages")
    port = serve(w, root)
    mount(root, port)

    stop = w.path("stop")
    reader = read_on(w, root, stop)
    upgrade(root, later)
    check("listen = 127.0.0.1" in root.path("/etc/fsyncfs/server.conf").read_text(), "the conffile keeps what was written to it")
    same_snapshot(snapshot(root.path(POINT)), snapshot(root.path(SPIDER)), "the tree after the upgrade")
    equal(root.run("dpkg-query", "-W", "-f=${Version}", "fsyncfs").stdout, version_of(folder), "the version that is installed")

    kept = root.run("apt-get", "-y", "-qq", "purge", "fsyncfs").stderr
    check("something is mounted still" in kept and root.path("/var/cache/fsyncfs").is_dir(), f"the cache of what is mounted stays: {kept}")
    check(not root.path("/usr/bin/fsyncfs").exists(), "the program is gone")
    check(reader.running(), f"what is mounted goes on without it: {reader.output()}")
    stop.touch()
    equal(reader.wait(), 0, f"exit code of the reader ({reader.output()[-500:]})")
    root.run("umount", POINT)

    root.install(later[:1])
    root.run("apt-get", "-y", "-qq", "remove", "fsyncfs", "fsyncfs-server")
    for name in ("/etc/fsyncfs/server.conf", "/var/cache/fsyncfs", "/var/lib/fsyncfs"):
        check(root.path(name).exists(), f"{name} is there until the purge")
    root.run("apt-get", "-y", "-qq", "purge", "fsyncfs", "fsyncfs-server", "fsyncfs-common")
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
    sources = w.path(f"fsyncfs-{version}")
    take_sources(sources)
    run_ok(["tar", "-C", w.dir, "-czf", f"{sources}.tar.gz", sources.name])
    macros = {**MACROS, "_topdir": w.path("rpm"), "_sourcedir": w.dir}
    run_ok(["rpmbuild", "-bb", "--nodeps", *(f"--define={name} {value}" for name, value in macros.items()), SOURCE / "packaging/fsyncfs.spec"],
           timeout=LONG_SEC)
    made = {path.name.partition(f"-{version}-")[0]: path for path in w.path("rpm/RPMS").rglob("*.rpm")}
    for name, file in {"fsyncfs": "/usr/sbin/mount.fsyncfs", "fsyncfs-server": "/etc/fsyncfs/server.conf",
                       "fsyncfs-common": "/usr/share/zsh/site-functions/_fsyncfs"}.items():
        check(name in made and file in run_ok(["rpm", "-qpl", made[name]]).stdout.split(), f"{file} in {name} of {sorted(made)}")


in_private_namespaces()
main()
