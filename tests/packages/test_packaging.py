"""What distributions and orchestrators are given, held against the tree: nothing is built here (test_packages.py and test_images.py do that)."""

import os
import re
import shutil
from fnmatch import fnmatch
from pathlib import Path

import debianlab  # noqa: F401 (it knows where harness is)
import yaml
from harness import BUILD, SOURCE, case, check, equal, main, program, run_ok, skip

SPEC = SOURCE / "packaging/fsyncfs.spec"
MANIFESTS = sorted((SOURCE / "packaging/kubernetes").glob("*.yaml"))
COMES_ALONG = {"gcc", "libc6-dev", "ninja-build"}  # with build-essential and meson


def installed(w):
    """What `meson install` installs, as for a prefix of /usr: paths without the first slash."""
    run_ok(["meson", "install", "-C", BUILD, "--no-rebuild", "--quiet"], env={**os.environ, "DESTDIR": str(w.path("dest"))})
    files = [path.relative_to(w.path("dest")) for path in w.path("dest").rglob("*") if path.is_symlink() or path.is_file()]
    check(len(files) > 8, f"installed: {files}")
    return {re.sub("^usr/local/", "usr/", str(path)) for path in files}


def claims(pattern, file):
    """As dh_install and rpm understand a line: a file, or a folder with all in it."""
    return fnmatch(file, pattern) or fnmatch(file, pattern.rstrip("/") + "/*")


def claimed_once(files, patterns, also=lambda pattern: False):
    """PATTERNS is {pattern: package}; ALSO: whether a pattern that claims no file is good for something else."""
    for file in sorted(files):
        owners = [owner for pattern, owner in patterns.items() if claims(pattern, file)]
        equal(len(owners), 1, f"packages that take {file} ({owners})")
    for pattern, owner in patterns.items():
        check(also(pattern) or any(claims(pattern, file) for file in files), f"{owner} takes {pattern}, which is not there")


@case("each file that meson installs is in one Debian package, and each of these is named")
def debian_files(w):
    folder = re.search(r"-Dzshcompletiondir=(\S+)", (SOURCE / "debian/rules").read_text())[1]
    files = {file.replace("share/zsh/site-functions", folder) for file in installed(w)}
    patterns = {line.split()[0]: path.stem for path in (SOURCE / "debian").glob("*.install") for line in path.read_text().splitlines()}
    claimed_once(files, patterns, lambda pattern: (SOURCE / pattern).exists())


def spec_lines():
    if not shutil.which("rpmspec"):
        skip("rpmspec (package rpm) is not installed")
    defined = {"_unitdir": "/usr/lib/systemd/system", "_sysusersdir": "/usr/lib/sysusers.d"}
    return run_ok(["rpmspec", "-P", *(f"--define={name} {value}" for name, value in defined.items()), SPEC]).stdout.splitlines()


def spec_patterns(lines):
    package = None
    for line in lines:
        if re.match(r"%(files|changelog)\b", line):
            package = line
        path = re.match(r"(?:%config\(noreplace\) )?/(\S+)$", line)
        if package and path:
            yield path[1], package


def spec_installs(lines):
    """What the spec adds to what meson installs."""
    for line in lines:
        more = re.match(r"install -D -m 0644 -t \S*?/BUILDROOT/[^/]+/(\S+) (\S+)$", line)
        if more:
            check((SOURCE / more[2]).is_file(), f"{more[2]} is there")
            yield f"{more[1]}/{Path(more[2]).name}"


@case("each file that meson and the RPM spec install is in one package of it, and each of these is named")
def spec_files(w):
    lines = spec_lines()
    claimed_once({re.sub("^sbin/", "usr/sbin/", file) for file in installed(w)} | set(spec_installs(lines)), dict(spec_patterns(lines)))


@case("what is wanted for a build is the same in Debian's control, scripts/packages, the RPM spec and meson.build")
def build_dependencies(w):
    control = (SOURCE / "debian/control").read_text()
    wanted = re.search(r"^Build-Depends: (.*?)^\S", control, re.M | re.S)[1]
    names = {word.split()[0] for word in wanted.split(",") if "<!nocheck>" not in word}
    listed = (SOURCE / "scripts/packages").read_text().partition("# to build\n")[2].partition("#")[0].split()
    equal(sorted(name for name in names if not name.startswith(("debhelper", "dh-"))), sorted(set(listed) - COMES_ALONG), "Build-Depends")
    known = set(re.findall(r"= dependency\('([^']+)'", (SOURCE / "meson.build").read_text())) - {"threads"}
    equal(set(re.findall(r"^BuildRequires: +pkgconfig\(([^)]+)\)", SPEC.read_text(), re.M)), known, "BuildRequires")
    to_run = (SOURCE / "scripts/packages").read_text().partition("# to run\n")[2].partition("#")[0].split()
    worker = control.partition("\nPackage: fsyncfs\n")[2].partition("\nDescription")[0]
    for name in to_run:
        check(re.search(rf"\b{name}\b", worker), f"the worker's package depends on {name}")


def containers():
    for path in MANIFESTS:
        for thing in yaml.safe_load_all(path.read_text()):
            pod = thing["spec"].get("template", thing)["spec"]
            for container in pod.get("initContainers", []) + pod.get("containers", []):
                yield path.name, pod, container


@case("one version everywhere")
def versions(w):
    version = re.search(r"version: '([^']+)'", (SOURCE / "meson.build").read_text())[1]
    equal(re.match(r"fsyncfs \(([^)]+)\)", (SOURCE / "debian/changelog").read_text())[1], version, "debian/changelog")
    equal(re.search(r"^Version: +(\S+)", SPEC.read_text(), re.M)[1], version, "the RPM spec")
    images = {c["image"] for _, _, c in containers() if c["image"].startswith("fsyncfs")}
    equal(images, {f"fsyncfs-server:{version}", f"fsyncfs-worker:{version}"}, "images")


@case("what Kubernetes' examples say to the programs is known to them, and their volumes are there")
def manifests(w):
    server_help = run_ok([program("fsyncfs-server"), "--help"]).stdout
    mount_help = run_ok([program("fsyncfs"), "mount", "--help"]).stdout
    for name, pod, container in containers():
        for mount in container["volumeMounts"]:
            claims_of = [t["metadata"]["name"] for p in MANIFESTS for o in yaml.safe_load_all(p.read_text()) for t in o["spec"].get("volumeClaimTemplates", [])]
            check(mount["name"] in [v["name"] for v in pod.get("volumes", [])] + claims_of, f"{name}: volume {mount['name']}")
        for option in [a for a in container.get("args", []) if a.startswith("--")]:
            check(f"{option} " in server_help, f"{name}: {option} is in --help of the server")
        for variable in [e["name"] for e in container.get("env", [])]:
            check(f"{variable.removeprefix('FSYNCFS_').lower()}=" in mount_help, f"{name}: {variable} is an option of a mount")
    targets = re.findall(r"^FROM .* AS (\S+)$", (SOURCE / "packaging/Dockerfile").read_text(), re.M)
    equal(targets, ["build", "server", "worker"], "targets of the Dockerfile")


@case("the packages' server.conf is right, and the unit takes it")
def service(w):
    run_ok([program("fsyncfs-server"), "--check-config", "--config", SOURCE / "packaging/server.conf"])
    if not shutil.which("systemd-analyze"):
        skip("systemd-analyze is not installed")
    unit = w.path("fsyncfs-server.service")
    text = (SOURCE / "examples/fsyncfs-server.service").read_text()
    unit.write_text(text.replace("/usr/bin/fsyncfs-server", program("fsyncfs-server")))
    equal(run_ok(["systemd-analyze", "verify", "--man=no", unit]).stderr, "", "what systemd-analyze says")
    equal(re.findall(r"^ExecStart=(.+)$", text, re.M), ["/usr/bin/fsyncfs-server --config /etc/fsyncfs/server.conf"],
          "what is started: all else is in server.conf")


main()
