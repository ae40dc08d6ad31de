"""docs/crawlab.md, followed: from a stock cluster to mounts and our server, each step taken back once, and in the end all of them."""

import json

from harness import PEERS, SOURCE, case, check, equal, main
from peers import node_environment
from room import TOKEN, Room, steps

PAGE = SOURCE / "docs" / "crawlab.md"
TREE = "find . -type f ! -path '*/__pycache__/*' -printf '%P %m %s\\n' | sort; cat run.py"
HEALTH = """import grpc
try:
    grpc.insecure_channel("crawl-master:9866").unary_unary("/grpc.health.v1.Health/Check")(b"", timeout=10)
except grpc.RpcError as error:
    print(error.code())
"""


class Cluster:
    """A room with a stock master at crawl-master:9666, and a stock worker that has synced."""

    def __init__(self, w):
        node = node_environment()
        self.room = Room(w)
        self.keep = f"{self.room.home}/crawlab_workspace"
        self.room.sh(f"export CRAWLAB_GRPC_AUTHKEY={TOKEN} NODE_PATH={node['NODE_PATH']}; rm -r /etc/fsyncfs /srv/workspaces/quotes/data/latest\n"
                     f"node {PEERS}/js/stock_master.js /srv/workspaces --port 9666 --token {TOKEN} --scan-ttl 0 >{w.dir}/stock.log &\n"
                     f"until grep -q listening {w.dir}/stock.log; do sleep 0.05; done\n")
        self.sync("9666", self.keep)
        self.before = self.worker()

    def sh(self, text):
        return self.room.sh(text)

    def sync(self, port, folder):
        """A stock worker syncs: what it counted."""
        return json.loads(self.sh(f"node {PEERS}/js/stock_worker.js crawl-master:{port} quotes {folder}/quotes --token {TOKEN}\n"))

    def worker(self):
        """All that the page touches on the worker."""
        return self.sh(f"cd {self.keep}/quotes; {TREE}; cd; ls {self.keep}; cat /etc/fstab; grep ' fuse.fsyncfs ' /proc/mounts || true\n")

    def mounted(self, folder):
        """What /proc/mounts says is mounted there last, or ''."""
        return self.sh(f"awk '$2 == \"{folder}\" {{ last = $1 }} END {{ printf \"%s\", last }}' /proc/mounts\n")

    def state(self, folder):
        return json.loads(self.sh(f"fsyncfs status {folder} --json\n"))["state"]

    def same(self, folder):
        equal(self.sh(f"cd {folder}; {TREE}; cd\n"), self.sh(f"cd /srv/workspaces/quotes; {TREE}; cd\n"), f"what {folder} shows")


def allowed(c, shown):
    check(shown.startswith("ok ") and "FAIL" not in shown, shown)


def looked(c, shown):
    check("run.py" in shown, shown)


def beside(c, shown):
    check(shown.endswith("same\n"), shown)
    equal(c.state("/mnt/quotes"), "stock", "state")


def tasks(c, shown):
    check("Read-only" not in shown and c.sh("python3 /srv/workspaces/quotes/run.py\n").split()[0] in shown, shown)


def placed(c, shown):
    equal(c.mounted(c.keep + "/quotes"), "crawl-master:/quotes", "mounted")
    c.same(c.keep + "/quotes")


def lasting(c, shown):
    placed(c, shown)
    c.sh(f"umount {c.keep}/quotes && mount -a -t fsyncfs\n")
    placed(c, shown)


def beside_master(c, shown):
    check("run.py" in c.sh("fsyncfs ls -o token_file=/etc/fsyncfs/token crawl-master:9766:/quotes\n"), "our server's listing")


def pushed(c, shown):
    equal(c.state(c.keep + "/quotes"), "online", "state")
    for change in ("cp run.py new.py", "rm new.py"):
        c.sh(f"cd /srv/workspaces/quotes && {change} && cd && fsyncfs-server fence quotes --wait=60\n")
        c.same(c.keep + "/quotes")


def parted(c, shown):
    """The proxy has our server answer for files, and the stock master, which knows no health service, for all else."""
    c.sh("rm -rf ~/other\n")
    got = c.sync("9866", "~/other")
    check(got["complete"] and got["downloaded"] > 0, f"the stock worker: {got}")
    c.same("~/other/quotes")
    check("stock" in c.sh("fsyncfs-server fence quotes || true\n"), "our server was asked by it")
    equal(c.sh(f"python3 -c '{HEALTH}'\n").strip(), "StatusCode.UNIMPLEMENTED", "another service, through the proxy")


def as_before(c, _shown):
    equal(c.worker(), c.before, "the worker")


def copy_is_back(c, _shown):
    equal((c.mounted("/mnt/quotes"), c.mounted(c.keep + "/quotes")), ("crawl-master:/quotes", ""), "mounted")
    equal(c.sync("9666", c.keep)["downloaded"], 0, "contents that the worker's own sync brings")


def not_lasting(c, _shown):
    placed(c, "")
    equal(c.sh("grep crawl /etc/fstab || true\n"), "", "fstab")


def nobody_serves(c, _shown):
    c.sh("test -z \"$(pgrep -x fsyncfs-server)\" && test ! -e /var/lib/fsyncfs/index\n")


def stock_again(c, _shown):
    equal(c.state(c.keep + "/quotes"), "stock", "state")
    lasting(c, "")


def no_proxy(c, _shown):
    c.sh("! fsyncfs ls -o token_file=/etc/fsyncfs/token,timeout=2 crawl-master:9866:/quotes\n")


# The number of each step that is followed: what must be so then, and once it was taken back.
STEPS = {
    "Before": (allowed, None),
    "1.1": (looked, None),
    "1.2": (beside, as_before),
    "1.3": (tasks, tasks),
    "1.4": (placed, copy_is_back),
    "1.5": (lasting, not_lasting),
    "2.1": (beside_master, nobody_serves),
    "2.2": (pushed, stock_again),
    "2.3": (parted, no_proxy),
    "All": (nobody_serves, None),
}


@case("each step of the page, back, and again; then all the way back")
def follow(w):
    c = Cluster(w)
    page = steps(PAGE, __file__)
    equal([heading.split()[0] for heading, _, _ in page], list(STEPS), "the page's steps")
    for heading, forward, back in page:
        after, undone = STEPS[heading.split()[0]]
        equal(bool(back), bool(undone), f"whether {heading} can be taken back")
        for blocks, proof in ((forward, after), (back, undone), (back and forward, after)):
            shown = "".join(c.room.follow(block) for block in blocks)
            if blocks and proof:
                proof(c, shown)
    as_before(c, "")


main()
