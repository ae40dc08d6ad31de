"""What the hostile master (hostile_own.py) can do wrong with paths: every bad one of the table, one a scan."""

import attacks
from hostile_own import FIRST, STEP, ending, mode, snapshot, sync
from hostile_tree import info


def bad_entry(path, raw):
    """A FileInfo with PATH in one of its two fields."""
    e = info(STEP[0])
    if raw or b"\0" in path:
        e.path, e.raw_path = "", path
    else:
        e.path = path.decode("latin-1")
    return e


def bad(self, request, _context):
    """FIRST; then with each scan an entry more, whose path is the next bad one."""
    if self.scans == 1:
        yield from snapshot(FIRST)
        yield ending(FIRST)
        return
    path, raw = attacks.BAD[(self.scans - 2) % len(attacks.BAD)], self.scans % 2 == 0
    yield sync.FileScanChunk(files=[info(FIRST.root), bad_entry(path, raw)], root_digest=FIRST.digest, revision=99, strategy=1,
                             is_complete=True).SerializeToString()


mode("paths-bad", scan=bad)
