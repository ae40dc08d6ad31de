"""The table of paths that attack (tests/paths.txt)."""

import re
from pathlib import Path

TABLE = Path(__file__).parent.parent / "paths.txt"


def _bytes(text):
    return re.sub(rb"\\x([0-9a-f]{2})", lambda m: bytes([int(m[1], 16)]), text)


def _path(text):
    parts = re.split(rb"(\{[^{}*]+\*\d+\})", text)
    return b"".join(_bytes(p[1:].partition(b"*")[0]) * int(p.rpartition(b"*")[2][:-1]) if i % 2 else _bytes(p) for i, p in enumerate(parts))


def _read():
    lines = [line for line in TABLE.read_bytes().splitlines() if not line.startswith(b"#")]
    return [(line.startswith(b"good "), _path(line.partition(b" ")[2])) for line in lines]


GOOD = [path for good, path in _read() if good]  # odd, but paths
BAD = [path for good, path in _read() if not good]
