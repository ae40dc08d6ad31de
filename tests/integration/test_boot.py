"""What happens when a machine starts: the network comes up after the mount was asked for, the master after the network."""

import json
import os
import re
import shutil
import signal
from pathlib import Path

from certs import Authority
from harness import (SOURCE as REPOSITORY, SPIDER, case, check, equal, is_alive, is_mounted, main, one_line, processes_naming, program, run,
                     run_ok, say, skip, wait_until)
from room import fenced, steps, typed
from trees import make_tree

SOURCE = f"127.0.0.1:9666:/{SPIDER}"  # of a network of the case's own
FAILED = 32  # of mount(8)


class Network:
    """A network namespace whose only interface is down, as a machine's before its network is up; no name is known there but those of HOSTS (`hosts`)."""

    def __init__(self, w):
        self.work = w
        self.hosts = w.path("hosts")
        self.hosts.touch()
        holder = w.spawn(["unshare", "--net", "--mount", "--propagation", "slave", "sh", "-c", 'mount --bind "$0" /etc/hosts && echo there && exec sleep infinity',
                          self.hosts], "network.log")
        holder.wait_output("there")
        self.within = ["nsenter", f"--net=/proc/{holder.pid}/ns/net"]
        self.with_names = [*self.within, f"--mount=/proc/{holder.pid}/ns/mnt"]

    def up(self):
        run_ok([*self.within, "ip", "link", "set", "lo", "up"])

    def serve(self, *options):
        self.work.tree.mkdir(parents=True, exist_ok=True)
        server = self.work.spawn([*self.within, program("fsyncfs-server"), "--workspace", self.work.root, "--listen", "127.0.0.1:9666",
                                  "--index", self.work.path("index"), *options], "server.log")
        server.wait_output("ready")
        return server

    def mount_argv(self, *options, source=SOURCE):
        point = self.work.path("mnt")
        point.mkdir(exist_ok=True)
        return [*(self.within if source == SOURCE else self.with_names), program("fsyncfs"), "mount", source, point, "-o",
                ",".join([f"cache={self.work.path('cache')}", "refresh=off", *options])]


@case("retry: a mount waits for the network, and then for the master")
def late(w):
    make_tree(w.tree, 5, 1000)
    network = Network(w)
    daemon = w.spawn([*network.mount_argv("retry=600"), "-f"], "mount.log")
    daemon.wait_output(r"No route to host\n.*not mounted yet, trying again for 600 s")
    network.up()
    daemon.wait_output(r"is fsyncfs-server running there, .*\n.*trying again")
    check(not is_mounted(w.path("mnt")), "nothing is mounted yet")
    network.serve()
    wait_until(lambda: is_mounted(w.path("mnt")), "the mount")
    equal(sorted(os.listdir(w.path("mnt"))), sorted(os.listdir(w.tree)), "the tree")
    run_ok(["umount", w.path("mnt")])
    equal(daemon.wait(), 0, "the daemon's exit code")


@case("retry: a mount waits until the name of its master is known")
def unnamed(w):
    make_tree(w.tree, 5, 1000)
    network = Network(w)
    network.up()
    daemon = w.spawn([*network.mount_argv("retry=600", source=f"master.invalid:/{SPIDER}"), "-f"], "mount.log")
    daemon.wait_output(r"master master\.invalid:9666 is not found: no address for 'master\.invalid' .*\n.*not mounted yet, trying again for 600 s")
    # Of two addresses the one counts to which there is a way, in whatever order they are told.
    network.hosts.write_text("2001:db8::1 master.invalid\n127.0.0.1 master.invalid\n")
    daemon.wait_output(r"master master\.invalid:9666: is fsyncfs-server running there, .*\n.*trying again")
    done = run([*network.with_names, program("fsyncfs"), "doctor", f"master.invalid:/{SPIDER}", "-o", f"cache={w.path('cache')}"])
    check("FAIL  master master.invalid:9666: cannot connect: Connection refused" in done.stdout, done.stdout)
    network.serve()
    wait_until(lambda: run([*network.with_names, "mountpoint", "-q", w.path("mnt")]).returncode == 0, "the mount")
    run_ok([*network.with_names, "umount", w.path("mnt")])
    equal(daemon.wait(), 0, "the daemon's exit code")


@case("without it, and when its time is over, the mount fails and says why")
def gone(w):
    network = Network(w)
    one_line(run(network.mount_argv()), FAILED, "127.0.0.1:9666", "No route to host")
    one_line(run(network.mount_argv("retry=1")), FAILED, "127.0.0.1:9666", "No route to host")
    equal(processes_naming(str(w.path("cache"))), [], "what is left")


@case("a master that refuses is not asked again")
def refused(w):
    w.path("tokens").write_text("secret\n")
    network = Network(w)
    network.up()
    network.serve("--token-file", w.path("tokens"))
    one_line(run(network.mount_argv("retry=86400")), FAILED, "127.0.0.1:9666", "token_file")


@case("a mount that waits for its master ends when it is told to")
def told(w):
    network = Network(w)
    daemon = w.spawn([*network.mount_argv("retry=86400"), "-f"], "mount.log")
    daemon.wait_output("trying again")
    daemon.signal(signal.SIGTERM)
    check(daemon.wait() != 0, "the mount failed")
    check(not any(is_alive(pid) for pid in processes_naming(str(w.path("cache")))), "what is left")


# ---- a whole machine: systemd as process 1, on which the page is followed, with the units and files of examples/ as they are ----

EXAMPLES = REPOSITORY / "examples"
PAGE = REPOSITORY / "docs" / "systemd.md"
SPIDERS = ("shop", "report", "quotes")  # that the examples mount
AUTOFS = Path("/dev/autofs").exists()
LATE = """[Service]
ExecStartPre=+/bin/sh -c 'until [ -e /run/go ]; do sleep 0.1; done'
"""


class Machine:
    """See machine.sh. Its services' control groups lie below one of its own, which goes with it."""

    def __init__(self, w):
        self.groups = self._make_group()
        script = Path(__file__).with_name("machine.sh")
        self.process = w.spawn(["unshare", "--mount", "--pid", "--net", "--uts", "--ipc", "--cgroup", "--fork", "--kill-child", "--propagation", "private",
                                script, w.dir], "machine.log", preexec_fn=self._enter_group)
        self.init = None
        wait_until(self._is_up, "systemd")

    def _make_group(self):
        mounts = [line.split() for line in Path("/proc/self/mounts").read_text().splitlines()]
        where = next((fields[1] for fields in mounts if fields[2] == "cgroup2"), None)
        own = re.search(r"^0::(.*)$", Path("/proc/self/cgroup").read_text(), re.M)
        if not where or not own:
            skip("there is no cgroup2 here, which systemd needs")
        group = Path(where + own[1]) / f"fsyncfs-test-{os.getpid()}"
        try:
            group.mkdir()
        except OSError as error:
            skip(f"no control group can be made: {error}")
        return group

    def _enter_group(self):
        (self.groups / "cgroup.procs").write_text(str(os.getpid()))

    def _is_up(self):
        if not self.process.running():
            if self.process.popen.returncode == 77:
                skip(self.process.output().strip().splitlines()[-1])
            self.process.wait_output("systemd is up")  # fails with the log's end
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        if not children or Path(f"/proc/{children[0]}/comm").read_text().strip() != "systemd":
            return False
        self.init = int(children[0])
        return self.try_run("systemctl", "show", "--property=Version").returncode == 0

    def try_run(self, *argv):
        return run(["nsenter", f"--target={self.init}", "--all", "env", "-i", "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", *argv])

    def run(self, *argv):
        done = self.try_run(*argv)
        equal(done.returncode, 0, f"exit code of {argv}: {done.stderr.strip()}{done.stdout[-500:]}")
        return done.stdout

    def follow(self, blocks):
        """Types them where a clone of the source is: what they wrote."""
        return "".join(self.run("bash", "-euc", f"cd /src/fsyncfs\n{block.text}", block.place) for block in typed(blocks))

    def show(self, unit, name):
        return self.run("systemctl", "show", unit, f"--property={name}", "--value").strip()

    def await_state(self, unit, state):
        wait_until(lambda: self.show(unit, "ActiveState") == state, f"{unit} {state}")

    def journal(self, *argv):
        return [json.loads(line) for line in self.run("journalctl", "--no-pager", "-o", "json", *argv).splitlines()]

    def end(self):
        """Stops all units in their order, as a shutdown does; the exit code of process 1."""
        self.try_run("systemctl", "exit", "7")
        return self.process.wait()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        wait_until(self._group_is_gone, "the end of the machine's control groups")

    def _group_is_gone(self):
        try:
            for folder, _, _ in os.walk(self.groups, topdown=False):
                os.rmdir(folder)
        except OSError:
            return False
        return True


def prepare_machine(w):
    """WORK/etc and WORK/master, with what who reads the page has at hand."""
    etc = w.path("etc")
    (etc / "fsyncfs").mkdir(parents=True)
    for spider in SPIDERS:
        (w.root / spider).mkdir(parents=True)
        (w.root / spider / "name").write_text(spider)
    shutil.copy(EXAMPLES / "client.conf", etc / "fsyncfs")
    wants = etc / "systemd" / "system" / "multi-user.target.wants"
    wants.mkdir(parents=True)
    (wants / "remote-fs.target").symlink_to("/lib/systemd/system/remote-fs.target")
    (wants.parent / "default.target").symlink_to("/lib/systemd/system/multi-user.target")
    (etc / "hosts").write_text("127.0.0.1 localhost master.example\n")
    ca = Authority(w.path("ca"))
    certificate, key = ca.issue("master", "DNS:master.example")
    for path, name in ((certificate, "master.pem"), (key, "master.key"), (ca.cert, "ca.pem")):
        shutil.copy(path, etc / "fsyncfs" / name)
    for name in ("tokens", "token"):
        (etc / "fsyncfs" / name).write_text("secret\n")
        (etc / "fsyncfs" / name).chmod(0o600)


def served(m, _blocks):
    m.await_state("fsyncfs-server", "active")
    equal(m.show("fsyncfs-server", "UnitFileState"), "enabled", "at the next boot")


def mounted(m, _blocks):
    equal(m.run("cat", "/mnt/shop/name"), "shop", "/mnt/shop")
    equal(m.show("mnt-quotes.automount", "UnitFileState"), "enabled", "at the next boot")
    m.run("systemctl", "start", "mnt-quotes.mount")
    line = re.sub(r"\d+", r"\\d+", re.escape(fenced(PAGE, "text")[0].strip()))
    wait_until(lambda: re.search(f"^ *{line}$", m.run("systemctl", "status", "fsyncfs-server"), re.M), "the server's status, as the page has it")


def logged(m, blocks):
    """The journal may be a moment late."""
    wait_until(lambda: re.search(r" systemd\[1\]: Mounted .* mount\.fsyncfs\[", m.follow(blocks), re.S), "the mounts' lines in the journal")


# Each heading under which something is typed: what must be so then.
FOLLOWED = {"The server": served, "Mounts": mounted, "Logs": logged}


def follow_page(m):
    line = fenced(PAGE, "fstab")[0]
    check(line in (EXAMPLES / "fstab").read_text(), f"the line is in examples/fstab: {line}")
    page = steps(PAGE, __file__)
    equal([heading for heading, _, _ in page], list(FOLLOWED), "the page's headings")
    for heading, blocks, _ in page:
        if heading == "Mounts":
            m.run("cp", "/src/fsyncfs/examples/fstab", "/etc/fstab")
        m.follow(blocks)
        FOLLOWED[heading](m, blocks)


def boots(m):
    wait_until(lambda: any("trying again" in line["MESSAGE"] for line in m.journal("-t", "mount.fsyncfs")), "a mount that waits")
    m.await_state("fsyncfs-server", "activating")
    equal(m.show("srv-shop.mount", "ActiveState"), "inactive", "a mount that requires it")
    m.run("touch", "/run/go")
    for unit in ("fsyncfs-server.service", "mnt-shop.mount", "srv-shop.mount"):
        m.await_state(unit, "active")
    for spider in ("report", "quotes"):
        equal(m.show(f"mnt-{spider}.mount", "ActiveState"), "inactive", f"{spider}, into which nobody has looked")
        if AUTOFS:
            m.await_state(f"mnt-{spider}.automount", "active")
        else:
            say(f"this kernel has no autofs: mnt-{spider}.mount is started in its automount's place")
            m.run("systemctl", "start", f"mnt-{spider}.mount")
    for folder, spider in (("mnt/shop", "shop"), ("srv/shop", "shop"), ("mnt/report", "report"), ("mnt/quotes", "quotes")):
        equal(m.run("cat", f"/{folder}/name"), spider, folder)
    wait_until(lambda: "spiders in use: 3, workers: 1" in m.show("fsyncfs-server", "StatusText"), "the status")
    check(int(m.show("fsyncfs-server", "WatchdogTimestampMonotonic")) > 0, "the watchdog heard of it")


def goes_on(m):
    m.run("systemctl", "reload", "fsyncfs-server")
    lines = wait_until(lambda: [x for x in m.journal("-u", "fsyncfs-server", "-t", "fsyncfs-server")
                                if "was read again" in x["MESSAGE"]], "the reload in the journal")
    equal({(line["PRIORITY"], line["MESSAGE"][0]) for line in lines}, {("6", "t")}, "priority, and the line without a prefix")
    m.await_state("fsyncfs-server", "active")

    m.run("systemctl", "restart", "fsyncfs-server")
    equal(m.run("cat", "/mnt/shop/name"), "shop", "what is cached")
    m.run("systemctl", "stop", "mnt-shop.mount")
    check("/mnt/shop" not in m.run("cat", "/proc/mounts"), "it is unmounted")


@case("a machine on which docs/systemd.md was followed boots: the mounts wait for their master, the automounts for somebody to look")
def boot(w):
    if not shutil.which("/lib/systemd/systemd"):
        skip("systemd is not installed")
    prepare_machine(w)
    with Machine(w) as m:
        follow_page(m)
        equal(m.end(), 7, "process 1's exit code, after a shutdown")
    drop_ins = w.path("etc", "systemd", "system", "fsyncfs-server.service.d")
    drop_ins.mkdir()
    (drop_ins / "late.conf").write_text(LATE)
    with Machine(w) as m:
        boots(m)
        goes_on(m)
        equal(m.end(), 7, "process 1's exit code, after a shutdown")


main()
