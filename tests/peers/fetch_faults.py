"""What may happen to a large content between a master and a worker: faults for fetch_relay.Relay, each a way to be wrong.

A fault of a piece hits the piece TARGET of every content; one of a list hits every list. By name in FAULTS. SURE: the contents can still
be had over Fetch. LOST: what it hits cannot; the others may go either way. SILENT: the worker has no reason not to hope until its time-out.
STALE: the master says that it has something else by now.
"""

import time

import grpc

from fetch_relay import PIECE, Abort, Fault, workspace

TARGET = 1
FAULTS, SURE, LOST, SILENT, STALE = {}, set(), set(), set(), set()
HASH_BYTES = 16


def _register(name, cls, *sets):
    FAULTS[name] = cls
    for each in sets:
        each.add(name)


def of_piece(name, *sets):
    """Registers a function part -> parts, of a part that carries bytes of the piece."""
    def register(function):
        class PieceFault(Fault):
            def part(self, part, want):
                hit = not part.list and not part.status and part.offset // PIECE == TARGET
                return function(part) if hit else [part]
        _register("piece " + name, PieceFault, *sets)
        return function
    return register


def of_list(name, *sets):
    """Registers a function part -> parts, of a part of a list."""
    def register(function):
        class ListFault(Fault):
            def part(self, part, want):
                return function(part) if part.list else [part]
        _register("list " + name, ListFault, *sets)
        return function
    return register


def changed(part, **fields):
    """A copy of PART with other FIELDS."""
    copy = workspace.FetchPart()
    copy.CopyFrom(part)
    for name, value in fields.items():
        setattr(copy, name, value)
    return copy


def flipped(data, at=0):
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1:]


# ---- pieces ----

@of_piece("never answered", LOST, SILENT)
def never_answered(_part):
    return []


@of_piece("with its first bit flipped", LOST)
def first_bit(part):
    return [changed(part, data=flipped(part.data))]


@of_piece("with its last bit flipped", LOST)
def last_bit(part):
    return [changed(part, data=flipped(part.data, len(part.data) - 1))]


@of_piece("of zeros", LOST)
def zeros(part):
    return [changed(part, data=bytes(len(part.data)))]


@of_piece("cut short", LOST)
def cut_short(part):
    return [changed(part, data=part.data[:-1])]


@of_piece("too long", LOST)
def too_long(part):
    return [changed(part, data=part.data + b"x")]


@of_piece("without bytes", LOST)
def without_bytes(part):
    return [changed(part, data=b"", last=True)]


@of_piece("twice", SURE)
def twice(part):
    return [part, part]


@of_piece("and a status after it", SURE)
def status_after(part):
    return [part, workspace.FetchPart(id=part.id, status=9)]


@of_piece("beside a status", LOST, STALE)
def status_beside(part):
    return [changed(part, status=9, text="\x1b[2J\x07 stale, it says")]


@of_piece("refused with a status that is none", LOST)
def status_99(part):
    return [workspace.FetchPart(id=part.id, status=99, last=True)]


@of_piece("with an offset of one more", LOST)
def offset_more(part):
    return [changed(part, offset=part.offset + 1)]


@of_piece("with the next one's offset", LOST)
def offset_next(part):
    return [changed(part, offset=part.offset + PIECE)]


@of_piece("with the greatest offset", LOST)
def offset_greatest(part):
    return [changed(part, offset=2**64 - 1)]


@of_piece("at an unknown id", LOST, SILENT)
def unknown_id(part):
    return [changed(part, id=2**63)]


@of_piece("at its own id and an unknown one", SURE)
def unknown_id_too(part):
    return [changed(part, id=2**63), part]


@of_piece("without an end", SILENT)
def without_end(part):
    return [changed(part, last=False)]


@of_piece("as a list", LOST)
def as_list(part):
    return [changed(part, list=True)]


@of_piece("in halves, the second first")
def halves_swapped(part):
    half = len(part.data) // 2
    return [changed(part, data=part.data[half:], offset=part.offset + half, last=False),
            changed(part, data=part.data[:half])]


@of_piece("in halves")
def halves(part):
    half = len(part.data) // 2
    return [changed(part, data=part.data[:half], last=False),
            changed(part, data=part.data[half:], offset=part.offset + half)]


class Once(Fault):
    """Spoils the piece the first time that it comes."""

    def __init__(self, spoil):
        self.spoil, self.done = spoil, False

    def part(self, part, want):
        if self.done or part.list or part.offset // PIECE != TARGET:
            return [part]
        self.done = True
        return self.spoil(part)


def _cut(_part):
    raise Abort(grpc.StatusCode.UNAVAILABLE)


_register("piece wrong once", lambda: Once(first_bit), SURE)
_register("piece cut off once, with the stream", lambda: Once(_cut), SURE)
_register("piece refused once as being away", lambda: Once(lambda p: [workspace.FetchPart(id=p.id, status=14)]), SURE)


class Reversed(Fault):
    """What comes within a while, in the other order."""

    def __init__(self):
        self.held = []

    def part(self, part, want):
        if part.list:
            return [part]
        self.held.insert(0, part)
        return []

    def idle(self):
        held, self.held = self.held, []
        return held


class Swapped(Reversed):
    """Each piece under the id of another that came within the same while."""

    def idle(self):
        parts = super().idle()
        ids = [part.id for part in parts]
        return [changed(part, id=other) for part, other in zip(parts, ids[1:] + ids[:1])]


class Slow(Fault):
    def part(self, part, want):
        time.sleep(0.02)
        return [part]


class Unasked(Fault):
    """Pieces and lists that nobody wants, all the time."""

    def part(self, part, want):
        return [changed(part, id=10**9, list=True), part, changed(part, id=10**9 + 1), workspace.FetchPart(id=10**9, status=3)]

    def idle(self):
        return [workspace.FetchPart(id=10**9 + 2, data=b"unasked", last=True)] * 10


class Dead(Fault):
    """Nothing at all comes."""

    def part(self, part, want):
        return []


class Talking(Dead):
    """Only parts without anything, for the ids that were asked for."""

    def __init__(self):
        self.ids = set()

    def part(self, part, want):
        self.ids.add(part.id)
        return []

    def idle(self):
        return [workspace.FetchPart(id=i) for i in self.ids]


class Ending(Fault):
    def part(self, part, want):
        raise Abort(grpc.StatusCode.INTERNAL)


_register("pieces in the other order", Reversed, SURE)
_register("pieces under one another's ids", Swapped)
_register("pieces slowly", Slow, SURE)
_register("pieces that nobody wants", Unasked, SURE)
_register("nothing", Dead, LOST, SILENT)
_register("parts without anything", Talking, LOST, SILENT)
_register("the stream ends at each part", Ending, LOST)


# ---- lists ----

@of_list("left out", LOST)
def list_left_out(_part):
    return []


@of_list("with a bit flipped", LOST)
def list_flipped(part):
    return [changed(part, data=flipped(part.data, len(part.data) - 1))]


@of_list("with two hashes exchanged", LOST)
def list_exchanged(part):
    data, n = part.data, HASH_BYTES
    return [changed(part, data=data[n:2 * n] + data[:n] + data[2 * n:])]


@of_list("of another content", LOST)
def list_of_another(part):
    return [changed(part, data=bytes(range(256)) * (len(part.data) // 256 + 1))]


@of_list("one hash too short", LOST)
def list_short(part):
    return [changed(part, data=part.data[:-HASH_BYTES])]


@of_list("one hash too long", LOST)
def list_long(part):
    return [changed(part, data=part.data + bytes(HASH_BYTES))]


@of_list("one byte too long", LOST)
def list_byte_more(part):
    return [changed(part, data=part.data + b"x")]


@of_list("empty", LOST)
def list_empty(part):
    return [changed(part, data=b"")]


@of_list("of six megabytes", LOST)
def list_huge(part):
    return [changed(part, data=bytes(1 << 20), offset=i << 20) for i in range(6)]


@of_list("beyond a message", LOST, SILENT)
def list_beyond(part):
    return [changed(part, data=bytes(16 << 20))]


@of_list("with an offset of one more", LOST)
def list_offset(part):
    return [changed(part, offset=part.offset + 1)]


@of_list("with the greatest offset", LOST)
def list_offset_greatest(part):
    return [changed(part, offset=2**64 - 16)]


@of_list("in two parts", SURE)
def list_halves(part):
    half = len(part.data) // 32 * 16
    return [changed(part, data=part.data[:half]), changed(part, data=part.data[half:], offset=part.offset + half)]


@of_list("in parts of a byte each")
def list_bytes(part):
    return [changed(part, data=part.data[i:i + 1], offset=part.offset + i) for i in range(len(part.data))]


@of_list("in two parts, the second first")
def list_halves_swapped(part):
    half = len(part.data) // 32 * 16
    return [changed(part, data=part.data[half:], offset=part.offset + half), changed(part, data=part.data[:half])]


@of_list("twice")
def list_twice(part):
    return [part, part]


@of_list("that says it is the last")
def list_last(part):
    return [changed(part, last=True)]


@of_list("beside a status", LOST)
def list_status(part):
    return [changed(part, status=13, text="no")]


@of_list("as a piece", LOST)
def list_as_piece(part):
    return [changed(part, list=False)]


class ListBehind(Fault):
    """The list of each want comes behind its piece."""

    def __init__(self):
        self.lists = {}

    def part(self, part, want):
        if part.list:
            self.lists.setdefault(part.id, []).append(part)
            return []
        return [part] + self.lists.pop(part.id, [])


class ListTail(Fault):
    """A list comes unasked with each piece."""

    def part(self, part, want):
        return [changed(part, list=True, last=False, offset=0, data=bytes(32)), part] if not part.list else [part]


_register("list behind the piece", ListBehind)
_register("list that was not asked for", ListTail)
