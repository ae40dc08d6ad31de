"""How C files look: format, sizes, header guards, headers that stand on their own."""

import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor

from lintlib import BUILD, SOURCE, c_files, case, finds, none, planted, run, skip

LINES_MAX = {".c": 1000, ".h": 300}


def size_violations(root):
    for file in c_files(root):
        lines = len((root / file).read_text().splitlines())
        if lines > LINES_MAX[file.suffix]:
            yield f"{file}: {lines} lines, at most {LINES_MAX[file.suffix]}"


def guard_violations(root):
    for file in c_files(root, (".h",)):
        if (root / file).read_text().splitlines().count("#pragma once") != 1:
            yield f"{file}: no #pragma once"


def format_violations(root, style):
    files = c_files(root)
    done = subprocess.run(["clang-format", "--dry-run", "-Werror", f"--style=file:{style}", *files], cwd=root,
                          capture_output=True, text=True)
    lines = [line for line in done.stderr.splitlines() if "error:" in line]
    return lines or ([done.stderr or "clang-format failed"] if done.returncode else [])


def header_violations(root):
    def compile_alone(file):
        done = subprocess.run(["gcc", "-fsyntax-only", "-std=gnu17", "-D_GNU_SOURCE", "-D_FILE_OFFSET_BITS=64",
                               '-DFSYNCFS_VERSION="0"', "-Wall", "-Werror", f"-I{root}", f"-I{BUILD}", "-I/usr/include/fuse3",
                               "-x", "c", "-include", str(file), "/dev/null"], cwd=root, capture_output=True, text=True)
        return f"{file}: does not compile alone: {done.stderr.strip()[:300]}" if done.returncode else None
    with ThreadPoolExecutor(2) as pool:
        return [v for v in pool.map(compile_alone, c_files(root, (".h",))) if v]


@case(f"no .c file over {LINES_MAX['.c']} lines, no .h over {LINES_MAX['.h']}")
def sizes():
    none(size_violations(SOURCE), "files too long")


@case("every header begins with #pragma once")
def guards():
    none(guard_violations(SOURCE), "headers without a guard")


@case("clang-format has nothing to change")
def formatted():
    if not shutil.which("clang-format"):
        skip("clang-format is not installed")
    none(format_violations(SOURCE, SOURCE / ".clang-format"), "lines to format")


@case("every header compiles on its own")
def headers():
    none(header_violations(SOURCE), "headers that need others before them")


@case("planted violations are found")
def self_test():
    with planted({"base/a.c": "\n" * 1001, "base/b.h": "\n" * 301, "base/c.c": "\n" * 1000}) as root:
        finds(size_violations(root), 2)
        finds(guard_violations(root), 1)
    with planted({"base/a.h": "#pragma once\nsize_t f(void);\n", "base/b.h": "#pragma once\nint f(void);\n"}) as root:
        finds(header_violations(root), 1)
    if shutil.which("clang-format"):
        with planted({"base/a.c": "int main( void ){return 0;}\n"}) as root:
            finds(format_violations(root, SOURCE / ".clang-format")[:1], 1)


run()
