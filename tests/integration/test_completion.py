"""The shells' completions, as somebody types: in bash and zsh on a terminal, in fish as it asks itself."""

import os
import pty
import re
import select
import shutil
import signal
import time

from harness import SOURCE, WAIT_SEC, case, check, equal, fail, main, program, run_ok, skip

COMPLETIONS = SOURCE / "completions"
SHOW = b"\x0f"   # Ctrl-O, bound below: prints the line
CLEAR = b"\x15"  # Ctrl-U


class Terminal:
    """An interactive shell on a terminal of its own. READY: what sets it up; its Ctrl-O prints `<LINE>`."""

    def __init__(self, w, argv, ready):
        folders = [os.path.dirname(program(name)) for name in ("fsyncfs", "fsyncfs-server")]
        env = {"PATH": ":".join([*folders, os.environ["PATH"]]), "HOME": str(w.dir), "TERM": "dumb", "LANG": "C.UTF-8",
               "FSYNCFS_CONFIG": os.environ["FSYNCFS_CONFIG"], "PS1": "$ "}
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            os.chdir(w.dir)
            os.execvpe(argv[0], argv, env)
        self.shown = b""
        self.send(ready.encode() + b"\n")
        self.expect(rb"\nready\r?\n")

    def send(self, data):
        while data:
            data = data[os.write(self.fd, data):]

    def expect(self, pattern):
        """Waits for PATTERN in what was shown since the last match."""
        deadline = time.monotonic() + WAIT_SEC
        while not (match := re.search(pattern, self.shown)):
            if not select.select([self.fd], [], [], max(0, deadline - time.monotonic()))[0]:
                fail(f"/{pattern}/ was not shown, but: {self.shown[-500:]}")
            try:
                self.shown += os.read(self.fd, 65536)
            except OSError:
                fail(f"the shell has ended: {self.shown[-500:]}")
        self.shown = self.shown[match.end():]
        return match

    def after(self, typed):
        """The line once TYPED has been typed, and its end as the shell says it."""
        self.send(typed.encode() + SHOW)
        line = self.expect(rb"<<(.*?)>>")[1].decode()
        self.send(CLEAR)
        return line

    def __enter__(self):
        return self

    def __exit__(self, *_):
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)
        os.close(self.fd)


# What is typed, with a tab at its end, and the line that it becomes.
LINES = [
    ("fsyncfs ref\t", "fsyncfs refresh "),
    ("fsyncfs refresh --st\t", "fsyncfs refresh --stat-pass "),
    ("fsyncfs cache ver\t", "fsyncfs cache verify "),
    ("fsyncfs cache verify --r\t", "fsyncfs cache verify --repair "),
    ("fsyncfs help upg\t", "fsyncfs help upgrade "),
    ("fsyncfs mount a:/b /mnt -o token\t", "fsyncfs mount a:/b /mnt -o token_file="),
    ("fsyncfs mount a:/b /mnt -o tls,pass\t", "fsyncfs mount a:/b /mnt -o tls,passthrough="),
    ("fsyncfs mount a:/b /mnt -o tls,passthrough=of\t", "fsyncfs mount a:/b /mnt -o tls,passthrough=off "),
    ("fsyncfs mount a:/b /mnt -o cache=FOLDER/fold\t", "fsyncfs mount a:/b /mnt -o cache=FOLDER/folder/"),
    ("fsyncfs stat FOLDER/fi\t", "fsyncfs stat FOLDER/file "),
    ("fsyncfs ls a:/b -o hash=s\t", "fsyncfs ls a:/b -o hash=sha256 "),
    ("fsyncfs top --int\t", "fsyncfs top --interval "),
    ("fsyncfs export a:/b FOLDER/fo\t", "fsyncfs export a:/b FOLDER/folder/"),
    ("fsyncfs-server --token\t", "fsyncfs-server --token-file "),
    ("fsyncfs-server fen\t", "fsyncfs-server fence "),
    ("fsyncfs-server fence quotes --ver\t", "fsyncfs-server fence quotes --version "),
    ("fsyncfs-server --watch fa\t", "fsyncfs-server --watch fanotify "),
    ("fsyncfs-server --workspace FOLDER/fo\t", "fsyncfs-server --workspace FOLDER/folder/"),
]


def check_lines(w, shell):
    w.path("folder").mkdir()
    w.path("file").write_text("")
    for typed, line in LINES:
        equal(shell.after(typed.replace("FOLDER", str(w.dir))), line.replace("FOLDER", str(w.dir)), f"what {typed!r} becomes")


def mounted(w):
    w.tree.mkdir(parents=True)
    (w.tree / "file").write_text("x" * 1000)
    return w.mount(w.server())


def need(name):
    if not shutil.which(name):
        skip(f"{name} is not installed")


BASH = """PS1='$ '; bind 'set enable-bracketed-paste off' 'set bell-style none'; source {file}
show() {{ printf '\\n<''<%s>>\\n' "$READLINE_LINE"; }}; bind -x '"\\C-o": show'; stty -echo; complete -p fsyncfs >/dev/null && printf '\\nrea''dy\\n'"""


def bash(w):
    return Terminal(w, ["bash", "--norc", "--noprofile", "-i"], BASH.format(file=COMPLETIONS / "fsyncfs.bash"))


@case("bash")
def in_bash(w):
    with bash(w) as shell:
        check_lines(w, shell)


@case("bash: mounts and pinned contents")
def in_bash_mounts(w):
    m = mounted(w)
    pinned = run_ok([program("fsyncfs"), "cache", "pin", m.point / "file"]).stdout.split()[0]
    os.environ["FSYNCFS_CACHE"] = str(m.cache)
    try:
        candidates = run_ok([program("fsyncfs"), "complete", "cache", "unpin", ""]).stdout
    finally:
        del os.environ["FSYNCFS_CACHE"]
    check(f"{pinned}\t" in candidates, f"{pinned} is offered: {candidates}")
    with bash(w) as shell:
        equal(shell.after(f"fsyncfs refresh {w.dir}\t"), f"fsyncfs refresh {m.point} ", "the one mount below it")
    m.unmount()


ZSH = """PS1='$ '; fpath=({folder} $fpath); autoload -Uz compinit; compinit -u -D; unsetopt zle_bracketed_paste prompt_sp; unset zle_bracketed_paste
show() {{ print -r; print -r -- "<""<$BUFFER>>" }}; zle -N show; bindkey '^O' show; bindkey '^U' kill-whole-line; setopt no_beep no_auto_remove_slash; print '\\nrea''dy'"""


@case("zsh")
def in_zsh(w):
    need("zsh")
    with Terminal(w, ["zsh", "-f", "-i"], ZSH.format(folder=COMPLETIONS)) as shell:
        check_lines(w, shell)


@case("fish")
def in_fish(w):
    need("fish")
    w.path("folder").mkdir()
    w.path("file").write_text("")
    folders = [os.path.dirname(program(name)) for name in ("fsyncfs", "fsyncfs-server")]
    env = {**os.environ, "PATH": ":".join([*folders, os.environ["PATH"]]), "HOME": str(w.dir)}
    for typed, line in LINES:
        typed, line = (text.replace("FOLDER", str(w.dir)).rstrip() for text in (typed, line))
        done = run_ok(["fish", "--no-config", "-c", f"source {COMPLETIONS / 'fsyncfs.fish'}; complete -C '{typed}'"], env=env)
        words = [row.partition("\t")[0] for row in done.stdout.splitlines()]
        check(line.split()[-1] in words, f"{typed!r}: {words}")


main()
