"""The table of `scale`: a row per promise, with its goal, what was measured and whether that is met."""

import json
import statistics

UNITS = {"x": (1, "x"), "s": (1, "s"), "ms": (1e3, "ms"), "us": (1e6, "us"), "MB": (1e-6, "MB"), "KB": (1e-3, "KB"), "": (1, "")}
NO_GOAL = "-"


def median(values):
    return statistics.median(values)


def quotient(ours, peer):
    """OURS in relation to PEER. Samples of the same rounds are compared one by one: what else the machine does meets both."""
    if len(ours) == len(peer):
        return median([a / b for a, b in zip(ours, peer)])
    return median(ours) / median(peer)


def percentile(values, percent):
    """The smallest value that so many percent of VALUES do not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, max(0, -(-len(ordered) * percent // 100) - 1))]


class Report:
    def __init__(self, title):
        self.title = title
        self.rows = []  # dictionaries, as --json shows them
        self.samples = {}

    def keep(self, key, value):
        """Remembers one sample; they all go to --json."""
        self.samples.setdefault(key, []).append(value)

    def get(self, key):
        return self.samples.get(key, [])

    def ratio(self, what, goal, ours, peer, peer_name, unit="s"):
        """Samples OURS divided by samples PEER."""
        if self.get(ours) and self.get(peer):
            self._row(what, goal, quotient(self.get(ours), self.get(peer)), "x", self._both(ours, peer, peer_name, unit))

    def speed(self, what, goal, ours, peer, peer_name, unit="s"):
        """The same of two times, turned round: how many times as fast; GOAL or more is wanted."""
        if self.get(ours) and self.get(peer):
            self._row(what, goal, quotient(self.get(peer), self.get(ours)), "x", self._both(ours, peer, peer_name, unit), True)

    def _both(self, ours, peer, peer_name, unit):
        return f"{amount(median(self.get(ours)), unit)} to {amount(median(self.get(peer)), unit)} of {peer_name}"

    def absolute(self, what, goal, key, unit, pick=median, note=""):
        """PICK of the samples KEY; GOAL in UNIT, or None."""
        if not self.get(key):
            return
        self._row(what, goal, pick(self.get(key)) * UNITS[unit][0], unit, note)

    def missing(self, what, reason):
        self.rows.append({"what": what, "goal": None, "at_least": False, "measured": None, "unit": "", "met": None,
                          "detail": reason})

    def _row(self, what, goal, measured, unit, detail, at_least=False):
        met = None if goal is None else measured >= goal if at_least else measured <= goal
        self.rows.append({"what": what, "goal": goal, "at_least": at_least, "measured": measured, "unit": unit, "met": met,
                          "detail": detail})

    def table(self):
        lines = [self.title, "", f"  {'':<46}{'goal':>11}{'measured':>12}  met"]
        for row in self.rows:
            sign = ">= " if row["at_least"] else "<= "
            goal = NO_GOAL if row["goal"] is None else sign + number(row["goal"], row["unit"])
            measured = "not measured" if row["measured"] is None else number(row["measured"], row["unit"])
            met = {None: "", True: "yes", False: "NO"}[row["met"]]
            lines.append(f"  {row['what']:<46}{goal:>11}{measured:>12}  {met:<4} {row['detail']}".rstrip())
        return "\n".join(lines)

    def json(self):
        return {"tree": self.title, "rows": self.rows, "samples": self.samples}


def number(value, unit):
    return f"{value:.3g} {unit}".strip() if abs(value) < 1000 else f"{value:,.0f} {unit}".strip()


def amount(value, unit):
    factor, name = UNITS[unit]
    return number(value * factor, name)


def write_json(path, facts, reports):
    with open(path, "w", encoding="utf-8") as f:
        json.dump({**facts, "units of samples": "time: s; wire and memory: bytes", "trees": [r.json() for r in reports]},
                  f, indent=1)
        f.write("\n")
