"""The servers of those that fsyncfs is compared with: an rsync daemon, an sshd, rclone's WebDAV. All on the loopback interface."""

import os
import pwd
import shutil
import subprocess
from contextlib import contextmanager
from pathlib import Path

from harness import free_port, is_mounted, run_ok, wait_until


class RsyncDaemon:
    """Serves folders under names: MODULES. PREFIX: a command that runs it."""

    def __init__(self, work, modules, prefix=()):
        self.port = free_port()
        config = work.path("rsyncd.conf")
        config.write_text(f"use chroot = no\nuid = {os.getuid()}\ngid = {os.getgid()}\nmax connections = 0\n" + "".join(
            f"[{name}]\npath = {path}\nread only = yes\n" for name, path in modules.items()))
        work.spawn([*prefix, "rsync", "--daemon", "--no-detach", f"--config={config}", "--address=127.0.0.1",
                    f"--port={self.port}", f"--log-file={work.path('rsyncd.log')}"], "rsync.log")
        wait_until(self._answers, "rsync --daemon")

    def _answers(self):
        return subprocess.run(["rsync", f"rsync://127.0.0.1:{self.port}/"], capture_output=True).returncode == 0

    def copy(self, name, folder):
        """The command that makes FOLDER what the module NAME is."""
        return ["rsync", "-a", "--delete", f"rsync://127.0.0.1:{self.port}/{name}/", f"{folder}/"]


@contextmanager
def privilege_separation():
    """/run/sshd, which sshd insists on, for as long as it is needed."""
    folder = Path("/run/sshd")
    made = not folder.exists()
    folder.mkdir(mode=0o755, exist_ok=True)
    try:
        yield
    finally:
        if made:
            folder.rmdir()


class Sshd:
    """An sshd of our own, with keys made for the run, and sshfs mounts from it with every cache set to last."""

    PATH = f"{os.environ.get('PATH', '')}:/usr/sbin"
    CACHES = "ro,kernel_cache,dcache_timeout=3600,entry_timeout=3600,attr_timeout=3600,dcache_max_size=1000000"

    def __init__(self, work, prefix=()):
        self.port = free_port()
        self.folder = work.path("ssh")
        self.folder.mkdir()
        for name in ("host", "client"):
            run_ok(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", self.folder / name])
        config = self.folder / "sshd_config"
        config.write_text(f"Port {self.port}\nListenAddress 127.0.0.1\nHostKey {self.folder}/host\nPidFile none\n"
                          f"AuthorizedKeysFile {self.folder}/client.pub\nStrictModes no\nUsePAM no\n"
                          "PasswordAuthentication no\nPermitRootLogin prohibit-password\nSubsystem sftp internal-sftp\n")
        sshd = shutil.which("sshd", path=self.PATH)
        work.spawn([*prefix, sshd, "-D", "-e", "-f", config], "sshd.log").wait_output("listening on")

    @classmethod
    def missing(cls):
        """Why there can be none, or None."""
        for name in ("sshfs", "ssh", "ssh-keygen", "sshd"):
            if not shutil.which(name, path=cls.PATH):
                return f"{name} is not installed"
        return None

    def mount(self, folder, point, port=None):
        """Mounts FOLDER on POINT; PORT: of a proxy before this server."""
        user = pwd.getpwuid(os.getuid()).pw_name
        options = [self.CACHES, f"IdentityFile={self.folder}/client", "UserKnownHostsFile=/dev/null",
                   "StrictHostKeyChecking=no", "LogLevel=ERROR"]
        run_ok(["sshfs", f"{user}@127.0.0.1:{folder}", point, "-p", str(port or self.port), "-F", "/dev/null",
                "-o", ",".join(options)])


class Webdav:
    """`rclone serve webdav` of a folder, and `rclone mount` from it: a request over a kept connection for each file."""

    PROGRAM = ("rclone", "--config", "", "--log-level", "NOTICE")  # no configuration of the machine's

    def __init__(self, work, folder):
        self.work, self.port = work, free_port()
        work.spawn([*self.PROGRAM, "serve", "webdav", "--read-only", "--addr", f"127.0.0.1:{self.port}", folder], "webdav.log",
                   env=self._environment()).wait_output("WebDav Server started|Serving|started on")

    @staticmethod
    def missing():
        """Why there can be none, or None."""
        return None if shutil.which("rclone") else "rclone is not installed"

    def _environment(self):
        return {**os.environ, "HOME": str(self.work.dir)}

    def mount(self, point, cache, port=None):
        """Mounts it on POINT, caching contents in the folder CACHE; PORT: of a proxy before this server. Returns its process."""
        process = self.work.spawn(
            [*self.PROGRAM, "mount", ":webdav:", point, "--webdav-url", f"http://127.0.0.1:{port or self.port}",
             "--cache-dir", cache, "--vfs-cache-mode", "full", "--dir-cache-time", "1h", "--attr-timeout", "1h",
             "--read-only", "--no-checksum"], f"{Path(point).name}.log", env=self._environment())
        wait_until(lambda: is_mounted(point), f"rclone mount on {point}")
        return process
