"""All other files: no machine's paths, scripts that compile, shell that shellcheck likes."""

import re
import shutil
import subprocess

from lintlib import SOURCE, case, finds, none, planted, run, skip, tracked

# Absolute paths of somebody's machine; written so that this file does not match itself.
FORBIDDEN = re.compile(rb"(?<![\w.~-])/(?:work|root|home/[a-z]\w*)/[\w.]")
TEXT_BYTES_MAX = 1 << 20
NO_PROSE = {"package-lock.json"}


def word_violations(files, root):
    for path in files:
        if path.name in NO_PROSE or path.stat().st_size > TEXT_BYTES_MAX:
            continue
        for number, line in enumerate(path.read_bytes().splitlines(), 1):
            if FORBIDDEN.search(line):
                yield f"{path.relative_to(root)}:{number}: names a path of one machine: {line.decode(errors='replace')[:100]}"


def is_script(path, interpreter):
    with open(path, "rb") as f:
        first = f.readline(100)
    return first.startswith(b"#!") and interpreter in first


def python_violations(files):
    for path in files:
        if path.suffix == ".py" or is_script(path, b"python"):
            try:
                compile(path.read_bytes(), str(path), "exec")
            except (SyntaxError, ValueError) as error:
                yield f"{path}: {error}"


def shell_violations(files):
    scripts = [path for path in files if path.suffix == ".sh" or is_script(path, b"sh")]
    if scripts:
        done = subprocess.run(["shellcheck", "--format=gcc", *scripts], capture_output=True, text=True)
        yield from done.stdout.splitlines()


def whitespace_violations(files, root):
    for path in files:
        data = path.read_bytes()
        if b"\0" in data or path.name in NO_PROSE or not data:
            continue
        if not data.endswith(b"\n") or re.search(rb"[ \t\r]$", data, re.M):
            yield f"{path.relative_to(root)}: trailing white space, or no newline at the end"


@case("no path of one machine in any file")
def words():
    none(word_violations(tracked(), SOURCE), "lines")


@case("no trailing white space, a newline at the end of each file")
def whitespace():
    files = [path for path in tracked() if "corpus" not in path.parts]
    none(whitespace_violations(files, SOURCE), "files")


@case("every Python file compiles")
def python():
    none(python_violations(tracked()), "files")


@case("shellcheck has nothing to say")
def shell():
    if not shutil.which("shellcheck"):
        skip("shellcheck is not installed")
    none(shell_violations(tracked()), "remarks")


@case("planted violations are found")
def self_test():
    with planted({"a.md": "see /wo" "rk/main/x\n", "b.md": "cd /ro" "ot/x\n", "c.md": "the network/root/x is fine\n"}) as root:
        finds(word_violations(sorted(root.iterdir()), root), 2)
    with planted({"a.py": "def f(:\n", "b": "#!/usr/bin/python3\nx = = 1\n", "c.py": "x = 1\n"}) as root:
        finds(python_violations(sorted(root.iterdir())), 2)
    with planted({"a": "x \n", "b": "x", "c": "x\n"}) as root:
        finds(whitespace_violations(sorted(root.iterdir()), root), 2)
    if shutil.which("shellcheck"):
        with planted({"a.sh": "#!/bin/sh\nrm -rf $1/*\n"}) as root:
            finds(list(shell_violations([root / "a.sh"]))[:1], 1)


run()
