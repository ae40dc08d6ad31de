"""The table: a row per measure, one contender's median set to 1, the others as ratios to it."""

import json
import statistics

COLUMNS = ("native", "fsyncfs", "rsync", "sshfs")
RATES = {"s": 1, "ms": 1e3, "us": 1e6, "MB": 1e-6, "MiB": 1}

# (title, key, contender that is 1.00, unit). Where the contender that is 1.00 took no part, fsyncfs is.
ROWS = (
    ("Until the tree is there", None, None, None),
    ("from nothing, master has hashed nothing yet", "time.unhashed", "rsync:time.first", "ms"),
    ("from nothing (fsyncfs, sshfs: mount; rsync: copy)", "time.first", "rsync", "ms"),
    ("again, nothing changed", "time.same", "rsync", "ms"),
    ("again, 10 files changed", "time.changed", "rsync", "ms"),
    ("from nothing until all was read once", "time.all", "rsync", "ms"),
    ("Reading: first time in this mount (native: caches dropped)", None, None, None),
    ("find", "time.find.first", "native", "ms"),
    ("ls -lR", "time.ls.first", "native", "ms"),
    ("tar, no content in the store", "time.tar.first", "native", "ms"),
    ("tar, remounted, store full (native: warm)", "time.tar.remounted", "native:time.tar.warm", "ms"),
    ("Reading: again in the same mount, page cache hot", None, None, None),
    ("find", "time.find.warm", "native", "ms"),
    ("ls -lR", "time.ls.warm", "native", "ms"),
    ("tar", "time.tar.warm", "native", "ms"),
    ("open+read+close, per file", "time.open.warm", "native", "us"),
    ("Bytes on the wire, both directions, headers included", None, None, None),
    ("from nothing", "wire.first", "rsync", "MB"),
    ("from nothing until all was read once", "wire.all", "rsync", "MB"),
    ("again, nothing changed", "wire.same", "rsync", "MB"),
    ("again, 10 files changed", "wire.changed", "rsync", "MB"),
    ("CPU time on the master", None, None, None),
    ("from nothing, master has hashed nothing yet", "cpu.unhashed", "rsync:cpu.first", "ms"),
    ("from nothing", "cpu.first", "rsync", "ms"),
    ("from nothing until all was read once", "cpu.all", "rsync", "ms"),
    ("again, nothing changed", "cpu.same", "rsync", "ms"),
    ("again, 10 files changed", "cpu.changed", "rsync", "ms"),
    ("Memory on the worker (rsync: peak RSS of the receiver)", None, None, None),
    ("RSS after mount", "rss.idle", "sshfs", "MiB"),
    ("PSS after mount", "pss.idle", "sshfs", "MiB"),
    ("RSS after all was read", "rss.used", "sshfs", "MiB"),
    ("PSS after all was read", "pss.used", "sshfs", "MiB"),
)


class Results:
    """All samples of one tree: by contender and key."""

    def __init__(self, title):
        self.title = title
        self.samples = {}

    def recorder(self, contender):
        def record(key, value):
            self.samples.setdefault(contender, {}).setdefault(key, []).append(value)
        return record

    def median(self, contender, key):
        values = self.samples.get(contender, {}).get(key)
        return statistics.median(values) if values else None

    def _base(self, contender, key):
        """(name, value) of what is 1.00 in a row."""
        name, _, other_key = contender.partition(":")
        for who, which in ((name, other_key or key), ("fsyncfs", key)):
            value = self.median(who, which)
            if value:
                return who, value
        return name, None

    def table(self):
        lines = [self.title, "", f"{'':<52}{'1.00 is':>18}" + "".join(f"{c:>10}" for c in COLUMNS)]
        for title, key, contender, unit in ROWS:
            if key is None:
                lines += ["", title]
                continue
            name, base = self._base(contender, key)
            amount = f"{name} {base * RATES[unit]:.4g} {unit}" if base else "-"
            cells = [self.median(column, key) for column in COLUMNS]
            texts = ["-" if value is None or not base else f"{value / base:.3g}" for value in cells]
            lines.append(f"  {title:<50}{amount:>18}" + "".join(f"{text:>10}" for text in texts))
        return "\n".join(lines)

    def json(self):
        return {"tree": self.title,
                "medians": {c: {k: statistics.median(v) for k, v in keys.items()} for c, keys in self.samples.items()},
                "samples": self.samples}


def write_json(path, facts, results):
    with open(path, "w", encoding="utf-8") as f:
        json.dump({**facts, "units": "time and cpu: s; wire: bytes; rss and pss: MiB", "trees": [r.json() for r in results]},
                  f, indent=1)
        f.write("\n")
