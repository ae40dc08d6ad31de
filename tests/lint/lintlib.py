"""What the lint scripts share: the source files, and a proof for each rule that it can fail."""

import contextlib
import os
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from tap import Failure, case, check, equal, fail, run, skip  # noqa: E402,F401 (the scripts take them from here)

SOURCE = Path(__file__).resolve().parent.parent.parent
BUILD = Path(os.environ.get("FSYNCFS_BUILD", SOURCE / "build"))
ROOMS = ("base", "proto", "cache", "sync", "fs", "server", "cli")


def c_files(root, suffixes=(".c", ".h"), folders=(*ROOMS, "tests")):
    """All C files below ROOT's rooms and tests, as paths relative to ROOT."""
    return sorted(path.relative_to(root) for folder in folders for path in (root / folder).rglob("*")
                  if path.suffix in suffixes)


def tracked(root=SOURCE):
    """The files that git has or would take (ignored ones left out)."""
    names = subprocess.run(["git", "-c", "safe.directory=*", "-C", root, "ls-files", "-z", "--cached", "--others",
                            "--exclude-standard"], capture_output=True, check=True).stdout
    return [path for name in names.split(b"\0") if name and (path := root / os.fsdecode(name)).is_file()]


@contextlib.contextmanager
def planted(files):
    """A temporary source tree with FILES {path: text}."""
    with tempfile.TemporaryDirectory(prefix="fsyncfs-lint-") as folder:
        for name, text in files.items():
            path = Path(folder, name)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        yield Path(folder)


def none(violations, what):
    violations = list(violations)
    check(not violations, f"{len(violations)} {what}:\n" + "\n".join(violations[:30]))


def finds(violations, count):
    """A rule found exactly what was planted for it."""
    violations = list(violations)
    equal(len(violations), count, f"planted violations found ({violations})")
