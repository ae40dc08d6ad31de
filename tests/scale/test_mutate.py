"""Promise 8 under fire: random changes, and after each sync the worker's tree is the master's, proved by an implementation of
the digest that shares no code, and by rsync. By each strategy, with each watcher, and with a watcher that lies."""

import os
import random

from scalelib import environment, equal, nothing_to_sync, root_digest, wait_until
from harness import FULL, case, check, main, say
from mutations import Tree

STEPS = 2500 if FULL else 100  # of each case
START_STEPS = 500              # before the first mount
BATCH_MAX = 40                 # changes between two syncs, at most
PUSH_SEC = 10                  # until a change that is pushed must be shown
SEED = int(os.environ.get("FSYNCFS_TEST_SEED", "0")) or random.SystemRandom().randrange(1, 10**9)


def short(what):
    """Paths as Python writes them, with long names cut."""
    if isinstance(what, tuple):
        return " -> ".join(short(path) for path in what)
    if not isinstance(what, bytes):
        return ""
    return repr(b"/".join(name if len(name) < 30 else name[:4] + b".." + name[-6:] for name in what.split(b"/")))


class Run:
    """One master, one mount, and a folder that changes."""

    def __init__(self, w, name, options=(), lying=False, links=False):
        self.w, self.options, self.lying = w, list(options), lying
        self.rng = random.Random(f"{SEED} {name}")
        w.tree.mkdir(parents=True)
        self.tree = Tree(w.tree, self.rng, links)
        for _ in range(START_STEPS):
            self.tree.step()
        self.server = w.server(options=self.options)
        self.syncs = {}
        self._mount()

    def _mount(self):
        """With new versions pushed, or only when asked for."""
        self.pushed = self.rng.random() < 0.5
        self.mount = self.w.mount(self.server, point="mnt", options=["refresh=push" if self.pushed else "refresh=off"])

    # ---- ways to get the present version; each returns with it in place ----

    def refresh(self):
        self.mount.refresh(*(["--stat-pass"] if self.lying else []))

    def remount(self):
        self.mount.unmount()
        self._mount()
        if self.lying:
            self.refresh()

    def push(self):
        """Nobody asks; the master tells. (A watcher that lies has nothing to tell.)"""
        if self.lying or not self.pushed:
            self.refresh()
            return
        wanted = root_digest(self.w.tree)[0]
        wait_until(lambda: self.mount.version() == wanted, f"version {wanted} pushed", PUSH_SEC)

    def restart(self):
        """The master is away while some more changes."""
        self.server.stop()
        for _ in range(1 + self.rng.randrange(10)):
            self.tree.step()
        self.server = self.w.server(port=self.server.port, options=self.options)
        self.refresh()

    def behind(self):
        """Another mount sees several versions that this one does not."""
        self.mount.unmount()
        other = self.w.mount(self.server, cache="cache-other", point="other")
        for _ in range(1 + self.rng.randrange(4)):
            for _ in range(1 + self.rng.randrange(10)):
                self.tree.step()
            other.refresh(*(["--stat-pass"] if self.lying else []))
        other.unmount()
        self._mount()
        if self.lying:
            self.refresh()

    WAYS = {refresh: 10, remount: 3, push: 4, behind: 2, restart: 1}

    # ---- the test ----

    def sync(self):
        way = self.rng.choices(list(self.WAYS), list(self.WAYS.values()))[0]
        self.syncs[way.__name__] = self.syncs.get(way.__name__, 0) + 1
        self.tree.history.append((way.__name__, None))
        way(self)

    def same(self):
        got, wanted = self.mount.version(), root_digest(self.w.tree)[0]
        if got != wanted:
            say(f"the root digest: got {got}, expected {wanted}; what differs:")
        nothing_to_sync(self.w.tree, self.mount.point)
        equal(got, wanted, "the root digest")
        equal(self.mount.status()["full_scans"], 0, "differences that did not lead to the version they were of")

    def go(self, steps):
        done = 0
        try:
            self.same()
            while done < steps:
                number = 1 + self.rng.randrange(BATCH_MAX if self.rng.random() < 0.5 else 5)
                done += sum(self.tree.step() for _ in range(number))
                self.sync()
                self.same()
        except BaseException:
            say(f"seed {SEED} (FSYNCFS_TEST_SEED), {done} steps done; the last of them and of the syncs:")
            say("\n".join(f"{name} {short(what)}" for name, what in self.tree.history[-60:]))
            raise
        say(f"seed {SEED}: {done} steps, {self.tree.entries()} entries, {self.syncs}")

    def counter(self, name):
        """Counts begin anew with each master; this is of the present one, after one more difference."""
        self.tree.create()
        self.refresh()
        self.same()
        return self.server.counter(f"fsyncfs_{name}_total")


def by_strategy(w, strategy, counter, options=()):
    with environment(FSYNCFS_TEST_STRATEGY=strategy):
        r = Run(w, strategy, options)
        r.go(STEPS)
        check(r.counter(counter) > 0, f"fsyncfs_{counter}_total is 0: strategy {strategy} was not used")


@case("by the strategy that the master chooses")
def chosen(w):
    by_strategy(w, None, "deltas")


@case("as changes")
def changes(w):
    by_strategy(w, "changes", "deltas")


@case("in batches")
def batches(w):
    by_strategy(w, "batches", "deltas")


@case("as snapshots")
def snapshots(w):
    by_strategy(w, "snapshot", "snapshots_built")


@case("with inotify")
def inotify(w):
    Run(w, "inotify", ["--watch", "inotify"]).go(STEPS)


@case("with no watcher at all")
def no_watcher(w):
    Run(w, "off", ["--watch", "off", "--stat-pass", "1"]).go(STEPS)


@case("with a watcher that keeps 30 of 100 events for itself, and stat passes")
def lying(w):
    with environment(FSYNCFS_TEST_WATCH_DROP=30):
        r = Run(w, "lying", lying=True)
        r.go(STEPS)
        check(r.server.counter("fsyncfs_stat_passes_total") > 0, "no stat pass")


@case("with a journal that is always too short")
def short_journal(w):
    with environment(FSYNCFS_TEST_JOURNAL_MAX=3):
        r = Run(w, "journal")
        r.go(STEPS)
        r.behind()
        r.same()
        check(r.server.counter("fsyncfs_full_listings_total") > 0, "the full way was never taken")


@case("with files of several names that are written to under one of them")
def hard_links(w):
    Run(w, "links", links=True).go(STEPS)


main()
