"""What happens when a machine starts: the network comes up after the mount was asked for, the master after the network."""

import os
import signal

from harness import SPIDER, case, check, equal, is_alive, is_mounted, main, one_line, processes_naming, program, run, run_ok, wait_until
from trees import make_tree

SOURCE = f"127.0.0.1:9666:/{SPIDER}"  # of a network of the case's own
FAILED = 32  # of mount(8)


class Network:
    """A network namespace whose only interface is down, as a machine's before its network is up."""

    def __init__(self, w):
        self.work = w
        holder = w.spawn(["unshare", "--net", "sleep", "infinity"], "network.log")
        ours = os.readlink("/proc/self/ns/net")
        wait_until(lambda: os.readlink(f"/proc/{holder.pid}/ns/net") != ours, "a network namespace")
        self.within = ["nsenter", f"--net=/proc/{holder.pid}/ns/net"]

    def up(self):
        run_ok([*self.within, "ip", "link", "set", "lo", "up"])

    def serve(self, *options):
        self.work.tree.mkdir(parents=True, exist_ok=True)
        server = self.work.spawn([*self.within, program("fsyncfs-server"), "--workspace", self.work.root, "--listen", "127.0.0.1:9666",
                                  "--index", self.work.path("index"), *options], "server.log")
        server.wait_output("ready")
        return server

    def mount_argv(self, *options):
        point = self.work.path("mnt")
        point.mkdir(exist_ok=True)
        return [*self.within, program("fsyncfs"), "mount", SOURCE, point, "-o",
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


main()
