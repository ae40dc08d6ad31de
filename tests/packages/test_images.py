"""The container images and Kubernetes' examples: checked against their schemas; built by buildah, which needs no daemon, on a base that is made here, so no registry either;
and what is in the images serves and mounts."""

import os
import shutil
from pathlib import Path

from debianlab import ENVIRONMENT, LONG_SEC, Root, debootstrap, in_private_namespaces, need, take_sources
from harness import BUILD, SOURCE, case, check, equal, free_port, is_mounted, main, run, run_ok, skip, wait_until
from trees import make_tree, same_snapshot, snapshot

JS = Path(__file__).with_name("js")
BASE = "docker.io/library/debian:bookworm-slim"


def checked(folder, *files):
    """What tests/packages/js finds wrong with FILES, with npm's packages in FOLDER."""
    return run(["node", JS / "check.js", *files], env={**os.environ, "NODE_PATH": str(folder / "node_modules")}).stdout


@case("manifests and Dockerfile are what their schemas want; a wrong field is found")
def schemas(w):
    need("npm", "node")
    folder = BUILD / "tests" / "packages-js"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for name in ("package.json", "package-lock.json"):
        shutil.copy(JS / name, folder)
    fetched = run(["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--fetch-retries=1"], cwd=folder, timeout=LONG_SEC)
    if fetched.returncode != 0:
        skip(f"npm ci could not fetch the schemas (no network?): {' '.join(fetched.stderr.split())[:200]}")
    manifests = sorted((SOURCE / "packaging/kubernetes").glob("*.yaml"))
    equal(checked(folder, *manifests, SOURCE / "packaging/Dockerfile"), "", "faults")
    text = (SOURCE / "packaging/kubernetes/server.yaml").read_text()
    for right, wrong in {"containerPort:": "port:", "readOnlyRootFilesystem": "readonlyRootFilesystem", "apps/v1": "apps/v0"}.items():
        w.path("wrong.yaml").write_text(text.replace(right, wrong))
        check(checked(folder, w.path("wrong.yaml")), f"{wrong} is found")
    w.path("Dockerfile").write_text("FROM a\nEXPOS 1\n")
    check(checked(folder, w.path("Dockerfile")), "a wrong instruction is found")


class Images:
    """buildah with a store of its own, of overlays where the kernel has them: copies of each layer would be gigabytes."""

    def __init__(self, w):
        self.command = ["buildah", "--root", w.path("store"), "--runroot", w.path("run")]

    def run(self, *argv):
        return run_ok([*self.command, *argv], timeout=LONG_SEC).stdout.strip()

    def make_base(self, folder):
        container = self.run("from", "scratch")
        self.run("add", container, folder, "/")
        self.run("commit", "--rm", container, BASE)

    def build(self, folder, target):
        self.run("build", "--isolation", "chroot", "--network", "host", "--pull-never", "--layers",
                 "-f", folder / "packaging/Dockerfile", "--target", target, "-t", f"fsyncfs-{target}", folder)

    def start(self, target):
        """(the root of a container, what it runs, as whom)"""
        container = self.run("from", "--pull-never", f"fsyncfs-{target}")
        config = "{{index .OCIv1.Config.Entrypoint 0}} {{.OCIv1.Config.User}}"
        program, _, user = self.run("inspect", "--format", config, container).partition(" ")
        return Root(Path(self.run("mount", container))), program, user.partition(":")[0]


@case("both images are built, and what is in them serves and mounts")
def built(w):
    need("buildah", "debootstrap")
    images = Images(w)
    debootstrap(w.path("base"))
    images.make_base(w.path("base"))
    shutil.rmtree(w.path("base"))
    take_sources(w.path("fsyncfs"))
    for target in ("server", "worker"):
        images.build(w.path("fsyncfs"), target)

    master, program, user = images.start("server")
    equal((program, user), ("fsyncfs-server", "10001"), "what the server's image runs, and as whom")
    make_tree(master.path("/srv/workspaces/quotes"), 50, 1_000_000)
    master.path("/etc/fsyncfs/tokens").write_text("secret\n")
    port = free_port()
    server = w.spawn(master.argv(program, "--token-file", "/etc/fsyncfs/tokens", "--listen", f"127.0.0.1:{port}", user=user),
                     "server.log", env=ENVIRONMENT)
    server.wait_output("listening on")

    worker, program, user = images.start("worker")
    equal((program, user), ("fsyncfs", ""), "what the worker's image runs, and as whom")
    worker.path("/mnt/quotes").mkdir()
    worker.path("/etc/fsyncfs/token").write_text("secret\n")
    mount = w.spawn(worker.argv(program, "mount", f"127.0.0.1:{port}:/quotes", "/mnt/quotes", "-f"), "mount.log",
                    env={**ENVIRONMENT, "FSYNCFS_TOKEN_FILE": "/etc/fsyncfs/token"})
    wait_until(lambda: is_mounted(worker.path("/mnt/quotes")), "the mount")
    same_snapshot(snapshot(worker.path("/mnt/quotes")), snapshot(master.path("/srv/workspaces/quotes")), "the tree")
    equal(mount.stop(), 0, "exit code of the mount after SIGTERM")
    check(not is_mounted(worker.path("/mnt/quotes")), "it is unmounted")
    equal(server.stop(), 0, "exit code of the server after SIGTERM")


in_private_namespaces()
main()
