"""A machine of a test's own (room.sh), and the shell blocks of the pages, which are run in one.

A block fenced as ```sh is run as it stands. ```sh undo takes back what stands under the same heading before it. What cannot be run says why on the line above the fence:
<!-- not run: REASON -->. Blocks that are indented, or fenced as anything else, are calls in general terms, files and pictures: nobody runs them.
A line <!-- run by TEST --> says which test runs what stands below it; without one test_docs.py does.
"""

import os
import re
import subprocess
import time
from collections import namedtuple
from pathlib import Path

from harness import BUILD, COMMAND_SEC, SOURCE, TESTS, Process, check, fail, say, skip

FENCE = re.compile(r"(?:<!-- not run: (?P<reason>[^\n]+?) -->\n)?^```(?P<kind>[^\n]*)\n(?P<text>.*?)^```$|^(?P<heading>#+ [^\n]+)$"
                   r"|^<!-- run by (?P<test>\S+) -->$", re.M | re.S)
TOKEN = "Zt5bVq0yJm3w"
HOSTS = "127.0.0.1 localhost master master.example crawl-master\n"

Block = namedtuple("Block", "place heading text undo reason test")


def blocks(page):
    """The shell blocks of PAGE, in their order."""
    text, heading, test = page.read_text(), "", "tests/integration/test_docs.py"
    for m in FENCE.finditer(text):
        heading, test = m["heading"] or heading, m["test"] or test
        if m["kind"] in ("sh", "sh undo"):
            line = text.count("\n", 0, m.start("text")) + 1
            yield Block(f"{page.name}, line {line}", heading.lstrip("# "), m["text"], m["kind"] == "sh undo", m["reason"], test)


def steps(page, test):
    """Those that TEST (a path) runs, by heading: [(heading, what to do, what takes it back)]."""
    found = []
    for block in blocks(page):
        if SOURCE / block.test != Path(test).resolve():
            continue
        if not found or found[-1][0] != block.heading:
            found.append((block.heading, [], []))
        found[-1][2 if block.undo else 1].append(block)
    return found


def typed(wanted):
    """Those of the blocks WANTED that are to be run; of the others the reason is told."""
    for block in wanted:
        if block.reason:
            say(f"{block.place} is not run: {block.reason}")
        else:
            yield block


def fenced(page, kind):
    """What else PAGE has, fenced as KIND: texts."""
    return [m["text"] for m in FENCE.finditer(page.read_text()) if m["kind"] == kind]


class Room(Process):
    """PREPARED: our programs are installed, /srv/workspaces/quotes is a small spider, and /etc/fsyncfs holds what lets workers in. If not, it stands in a clone of the source."""

    def __init__(self, work, prepared=True):
        self.work, self.done, self.scripts = work, 0, 0
        self.text, self.home = work.path("room.log"), work.path("home")
        self.home.mkdir(exist_ok=True)
        environment = {name: value for name, value in os.environ.items() if not name.startswith("FSYNCFS_")}
        super().__init__(["unshare", "--mount", "--net", "--pid", "--fork", "--kill-child", "--mount-proc", "--propagation", "private",
                          TESTS / "integration" / "room.sh", work.dir, SOURCE, BUILD], work.path("room-ends.log"), stdin=subprocess.PIPE,
                         env={**environment, "HOME": str(self.home), "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"})
        work.own(self)
        self.sh(f"printf '{HOSTS}' >/etc/hosts")
        if prepared:
            self.sh("install_programs\n"
                    f"mkdir -p /mnt/quotes /srv/workspaces /etc/fsyncfs && cp -a {SOURCE}/examples/spider /srv/workspaces/quotes\n"
                    f"(umask 077 && echo {TOKEN} | tee /etc/fsyncfs/token >/etc/fsyncfs/tokens)\n"
                    "cd\n")

    def sh(self, text, what="a script"):
        """Runs TEXT in the shell, and returns what it wrote; a Failure if it fails."""
        self.scripts += 1
        script = self.work.path(f"script{self.scripts}.sh")
        script.write_text(text)
        begin = self.text.stat().st_size if self.text.exists() else 0
        try:
            self.popen.stdin.write(f"{script}\n".encode())
            self.popen.stdin.flush()
        except BrokenPipeError:
            pass  # it has ended: seen below
        until = time.monotonic() + COMMAND_SEC
        while self.output().count("done\n") < self.scripts:
            if self.popen.poll() is not None:
                if self.popen.returncode == 77:
                    skip(self.output().strip())
                fail(f"{what} failed:\n{text}--- which wrote:\n{self._written(begin)}{self.output()[-500:]}")
            check(time.monotonic() < until, f"{what} does not end:\n{text}--- it wrote:\n{self._written(begin)}")
            time.sleep(0.01)
        return self._written(begin)

    def _written(self, begin):
        with open(self.text, "rb") if self.text.exists() else open(os.devnull, "rb") as f:
            f.seek(begin)
            return f.read().decode(errors="backslashreplace")

    def follow(self, block):
        return self.sh(block.text, block.place)

    def stop(self, timeout=30):
        """With the shell, which is process 1 in there, everything ends."""
        self.popen.stdin.close()
        return self.wait(timeout)
