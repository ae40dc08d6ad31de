"""What a person sees: top, progress and colours on a terminal (tmux) that is small, changes its size, and is to be as it was afterwards."""

import re
import shutil

from harness import Failure, case, check, equal, fail, main, processes_naming, program, run, run_ok, skip, wait_until
from trees import make_tree


class Terminal:
    """A shell in tmux; its server's command line names the work folder, and so ends with it."""

    def __init__(self, w, columns=80, rows=24):
        if not shutil.which("tmux"):
            skip("tmux is not installed")
        self.w, self.socket, self.asked = w, w.path("tmux"), 0
        self.tmux("-f", "/dev/null", "new-session", "-d", "-x", columns, "-y", rows, "env", "-u", "NO_COLOR", "PS1=$ ", "sh")
        self.before = self.settings()

    def tmux(self, *words):
        return run_ok(["tmux", "-S", self.socket, *map(str, words)]).stdout

    def type(self, line):
        self.tmux("send-keys", "-l", line)
        self.press("Enter")

    def settings(self):
        """The terminal's, as stty has them, but for its size."""
        kept = self.w.path("stty")
        self.type(f"stty -a >{kept}")
        self.ended()
        return re.sub(r"(rows|columns) \d+; ", "", kept.read_text())

    def press(self, key):
        self.tmux("send-keys", key)

    def shown(self, *options):
        """What stands on the screen; with -e also how."""
        return self.tmux("capture-pane", "-p", *options)

    def lines(self):
        return [line for line in self.shown().splitlines() if line]

    def resize(self, columns, rows):
        self.tmux("resize-window", "-x", columns, "-y", rows)

    def wait(self, pattern):
        try:
            return wait_until(lambda: re.search(pattern, self.shown(), re.M), f"/{pattern}/ on the terminal")
        except Failure as failure:
            fail(f"{failure}; it shows:\n{self.shown().rstrip()}")

    def ended(self):
        """The shell is there again: the exit code of the last command."""
        self.asked += 1
        self.type(f"echo code=$? of {self.asked}")
        return int(self.wait(rf"(?<!echo )code=(\d+) of {self.asked}\b")[1])

    def as_before(self):
        equal(self.tmux("display", "-p", "#{alternate_on} #{cursor_flag} #{wrap_flag}").split(), ["0", "1", "1"], "screen, cursor and wrapping")
        equal(self.settings(), self.before, "the terminal's settings")


def prepare(w, options=()):
    make_tree(w.tree, 50, 6_000_000)
    return w.mount(w.server(), options=options)


def begin_top(terminal, m):
    terminal.type(f"clear; {program('fsyncfs')} top {m.point} --interval=600")
    terminal.wait("^fsyncfs .*q quits")


@case("top: q and Ctrl-C end it, and the terminal is as it was; so do SIGTERM and SIGINT")
def keys(w):
    m = prepare(w)
    terminal, top = Terminal(w), f"top\0{m.point}"
    for end in ("q", "C-c", "C-d", "-TERM", "-INT"):
        begin_top(terminal, m)
        equal(terminal.tmux("display", "-p", "#{alternate_on} #{cursor_flag}").split(), ["1", "0"], "another screen, no cursor")
        if end[0] == "-":
            run_ok(["kill", end, *map(str, processes_naming(top))])
        else:
            terminal.press(end)
        wait_until(lambda: not processes_naming(top), f"the end after {end}")  # it forgets what is typed before
        equal(terminal.ended(), 0, f"exit code after {end}")
        terminal.as_before()


@case("top: another size of the terminal is drawn for at once, and nothing wraps")
def resize(w):
    m = prepare(w)
    terminal = Terminal(w)
    begin_top(terminal, m)
    wide = terminal.wait("^MOUNT .*WAIT")
    for columns, rows in ((30, 5), (10, 3), (80, 24)):
        terminal.resize(columns, rows)
        head = "fsyncfs .*q quits"[:max(columns, 10)] if columns >= 80 else "fsyncfs "
        wait_until(lambda: re.match(head, terminal.shown()) and len(terminal.lines()) == min(3, rows - 1), f"a page of {columns} columns")
        check(not re.search("^(K )?WAIT", terminal.shown(), re.M), f"wrapped: {terminal.shown()}")
    equal(terminal.wait("^MOUNT .*WAIT")[0], wide[0], "the wide line again")
    terminal.press("q")


@case("prefetch: the bar fits the terminal, and Ctrl-C gives it back")
def bar(w):
    m = prepare(w, ["prefetch_rate=500K"])
    terminal = Terminal(w)
    for columns, form in ((100, r"mnt1 \[[# ]{24}\] +\d+ % .* left"), (52, r"\[[# ]{4,23}\] +\d+ %"), (20, r"^ +\d+ %  ")):
        terminal.resize(columns, 5)
        # tmux takes its time to tell it to who runs within
        terminal.type(f"until [ \"$(stty size)\" = '5 {columns}' ]; do sleep 0.1; done; clear; {program('fsyncfs')} prefetch {m.point}")
        terminal.wait(form)
        terminal.wait(r"[1-9]\d? %")
        equal(len([line for line in terminal.lines() if "%" in line]), 1, f"lines, as one is written over: {terminal.shown()}")
        terminal.press("C-c")
        terminal.resize(80, 24)
        terminal.wait("broken off")
        equal(terminal.ended(), 130, "exit code")
        terminal.as_before()


@case("colours: on a terminal, not with NO_COLOR, and as --color says")
def colours(w):
    terminal = Terminal(w)
    doctor = f"{program('fsyncfs')} doctor 127.0.0.1:1:/spider"
    for words, coloured in ((doctor, True), (f"NO_COLOR=1 {doctor}", False), (f"NO_COLOR= {doctor}", True), (f"{doctor} --color never", False),
                            (f"NO_COLOR=1 {doctor} --color=always", True), (f"{doctor} | cat", False), (f"{doctor} --color=always | cat", True)):
        terminal.type(f"clear; {words}")
        terminal.ended()
        equal("\033[32m" in terminal.shown("-e"), coloured, f"colours of {words}")
    equal(run([program("fsyncfs"), "doctor", "--color=blue"]).returncode, 2, "exit code of another word")
    equal(run_ok([program("fsyncfs"), "complete", "doctor", "--color", "a"]).stdout.split(), ["auto", "always"], "what completes it")


main()
