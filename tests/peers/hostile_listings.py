"""What the hostile master (hostile_own.py) can do wrong in the answer to a scan: snapshots in packs, and differences.

snapshot-… misbehave from the first scan on. difference-… give FIRST properly, and then lead to SECOND badly; asked for everything they
are right.
"""

import struct

import grpc

import packs
from hostile_own import (FIRST, HEARTBEAT, SECOND, STEP, chunk, difference, ending, heartbeats, mode, snapshot, whole)
from hostile_tree import Version, entry, gone
from digest import KIND_FILE, KIND_FOLDER, KIND_SYMLINK

# ---- snapshots ----


def listing(name):
    """Registers a function (request, context) that answers every scan."""
    def register(function):
        mode("snapshot-" + name, scan=lambda self, request, context: function(request, context))
        return function
    return register


def whole_pack(name, pack):
    """The whole tree in one pack, which PACK makes."""
    @listing(name)
    def answer(_request, _context):
        yield chunk(FIRST, pack=pack(FIRST.entries()), next_offset=100)
        yield ending(FIRST)


def altered(name, alter, version=FIRST):
    """The whole tree, with what ALTER makes of its groups (lists of entries, folder by folder)."""
    @listing(name)
    def answer(_request, _context):
        groups = alter(version.groups())
        for i, group in enumerate(groups):
            yield chunk(version, group, offset=i * 100, next_offset=(i + 1) * 100)
        yield ending(version)


def _frame(size):
    """A zstd frame whose head says that it holds SIZE bytes."""
    return struct.pack("<IB", 0xFD2FB528, 0xE0) + struct.pack("<Q", size) + b"\x01\x00\x00"


whole_pack("good", packs.encode)
whole_pack("bomb-terabyte", lambda es: packs.encode(es, frame=_frame(1 << 40)))
whole_pack("bomb-limit", lambda es: packs.encode(es, frame=packs.compress(bytes(4 << 20))))
whole_pack("bomb-zeros", lambda es: packs.encode(es, frame=packs.compress(bytes(64 << 20))))
whole_pack("bomb-unsized", lambda es: packs.encode(es, frame=struct.pack("<IB", 0xFD2FB528, 0) + b"\x58\x01\x00\x00"))
whole_pack("bomb-entries", lambda es: packs.encode(es, count=2**63))
whole_pack("bomb-digests", lambda es: packs.encode(es, n_digests=2**32 - 1))
whole_pack("too-many-digests", lambda es: packs.encode(es, n_digests=len(es) + 1))
whole_pack("too-few-digests", lambda es: packs.encode(es, n_digests=len(es) - 1))
whole_pack("fewer-than-counted", lambda es: packs.encode(es, count=len(es) + 1))
whole_pack("more-than-counted", lambda es: packs.encode(es, count=len(es) - 1))
whole_pack("truncated-pack", lambda es: packs.encode(es)[:-9])
whole_pack("trailing-bytes", lambda es: packs.encode(es) + b"more")
def with_data(data):
    """The whole tree in one pack, each file of some size with the bytes that DATA makes of its entry."""
    return lambda es: packs.encode([e._replace(data=data(e)) if e.kind == KIND_FILE and e.size else e for e in es])


# The bytes of a tiny file: its own or not, as many as its size says or not.
whole_pack("data-of-another", with_data(lambda e: b"?" * e.size if e.size <= packs.TINY_MAX else b""))
whole_pack("data-cut-short", with_data(lambda e: b"?" * (e.size - 1) if e.size <= packs.TINY_MAX else b""))
whole_pack("data-too-long", with_data(lambda e: b"?" * (e.size + 1) if e.size <= packs.TINY_MAX else b""))
whole_pack("data-of-a-large-file", with_data(lambda e: b"" if e.size <= packs.TINY_MAX else b"?" * e.size))
whole_pack("other-format", lambda es: bytes([packs.FORMAT + 1]) + packs.encode(es)[1:])
whole_pack("garbage-pack", lambda es: bytes(range(256)) * 40)
whole_pack("tiny-pack", lambda es: b"\x01")


def trick(name, folder, file, kind=KIND_FILE):
    """One entry more, whose FOLDER and FILE are written into the pack as they are."""
    def split(path):
        return (folder, file) if path == b"trick" else packs.split_path(path)
    whole_pack("path-" + name, lambda es: packs.encode(es + [entry(b"trick", kind, b"x" * 16)], split))


trick("dotdot", b"", b"..")
trick("dotdot-folder", b"a/../..", b"evil")
trick("dot", b"a", b".")
trick("slash", b"", b"a/evil")
trick("absolute", b"/tmp", b"evil")
trick("absolute-name", b"", b"/tmp/evil")
trick("nul", b"", b"x\0y")
trick("nameless", b"a", b"")
trick("second-root", b"", b"", KIND_FOLDER)
trick("long-name", b"", b"n" * 256)
trick("long-path", b"/".join([b"d" * 250] * 16), b"n" * 200)
trick("folder-ends-with-slash", b"a/", b"evil")
trick("below-a-file", b"good.txt", b"evil")
trick("below-nothing", b"no such folder", b"evil")


def changing(path, **fields):
    return lambda groups: [[e._replace(**fields) if e.path == path else e for e in g] for g in groups]


altered("in-pieces", lambda groups: groups)
altered("names-out-of-order", lambda groups: [groups[0], groups[1][::-1], *groups[2:]])
altered("root-last", lambda groups: [groups[0][1:] + groups[0][:1], *groups[1:]])
altered("folders-out-of-order", lambda groups: [groups[0], *groups[2:], groups[1]])
altered("no-root", lambda groups: [groups[0][1:], *groups[1:]])
altered("missing-child", lambda groups: [groups[0], groups[1][:1], *groups[2:]])
altered("missing-folder", lambda groups: [groups[0], *groups[2:]])
altered("extra-child", lambda groups: [groups[0], groups[1] + [entry(b"a/zzz", data=b"x")], *groups[2:]])
altered("extra-folder", lambda groups: groups + [[entry(b"c", KIND_FOLDER)]])
altered("folder-twice", lambda groups: [*groups[:2], groups[1], *groups[2:]])
altered("other-content", changing(b"a/one", digest=b"\xaa" * 16))
altered("other-folder-digest", changing(b"a", digest=b"\xaa" * 16))
altered("no-folder-digest", changing(b"a", digest=b""))
altered("no-content-digest", changing(b"a/one", digest=b""))
altered("gone-root", lambda groups: [[gone(b"")] + groups[0][1:], *groups[1:]])
altered("gone-child", lambda groups: [groups[0] + [gone(b"zzz")], *groups[1:]])
altered("whole-file", changing(b"good.txt", whole=True))
altered("whole-folder", changing(b"a", whole=True))
altered("unknown-root", changing(b"", unknown=True))
altered("unknown-folder-with-children", changing(b"a", unknown=True))
altered("kind-unknown", changing(b"a", kind=0, digest=b""))
altered("symlink-with-children", changing(b"a", kind=KIND_SYMLINK, digest=b"", target=b"/tmp"))
altered("size-beyond-sense", changing(b"a/one", size=2**63))
altered("time-beyond-sense", changing(b"a/one", mtime_ns=2**63 - 1))
altered("file-root", lambda groups: [[entry(b"", data=b"x")] + groups[0][1:], *groups[1:]])
altered("deep", lambda groups: groups, Version({b"/".join([b"d"] * n): None for n in range(1, 300)}, 10))


@listing("pack-and-files")
def pack_and_files(_request, _context):
    yield chunk(FIRST, FIRST.entries(), plain=FIRST.entries(), strategy=3, next_offset=100)
    yield ending(FIRST)


@listing("pieces-do-not-follow")
def pieces_do_not_follow(_request, _context):
    groups = FIRST.groups()
    yield chunk(FIRST, groups[0], next_offset=100)
    yield chunk(FIRST, groups[1], offset=150, next_offset=200)


@listing("offset-stands-still")
def offset_stands_still(_request, _context):
    for group in FIRST.groups():
        yield chunk(FIRST, group)
    yield ending(FIRST)


@listing("begins-in-the-middle")
def begins_in_the_middle(_request, _context):
    yield from snapshot(FIRST, 1)
    yield ending(FIRST)


@listing("empty")
def empty(_request, _context):
    yield ending(FIRST)


@listing("goes-on-after-its-end")
def goes_on(_request, _context):
    yield from snapshot(FIRST)
    yield ending(FIRST)
    yield ending(FIRST)


@listing("unfinished")
def unfinished(_request, _context):
    yield from snapshot(FIRST)


@listing("total-too-small")
def total_too_small(_request, _context):
    yield from snapshot(FIRST, total_entries=2)
    yield ending(FIRST)


@listing("total-too-large")
def total_too_large(_request, _context):
    yield from snapshot(FIRST, total_entries=2**64 - 1, total_bytes=2**64 - 1)
    yield ending(FIRST)


@listing("strategy-99")
def strategy_99(_request, _context):
    yield from snapshot(FIRST, strategy=99)


@listing("strategy-says-changes")
def strategy_says_changes(_request, _context):
    yield from snapshot(FIRST, strategy=1)
    yield ending(FIRST)


@listing("difference-to-nothing")
def difference_to_nothing(_request, _context):
    return difference()


@listing("empty-difference-to-nothing")
def empty_difference_to_nothing(_request, _context):
    return difference(entries=[])


@listing("notice")
def notice(_request, _context):
    yield ending(FIRST, notice=True)


@listing("two-versions")
def two_versions(_request, _context):
    yield next(snapshot(SECOND))
    yield from snapshot(FIRST)
    yield ending(FIRST)


@listing("second-version-in-the-middle")
def second_version_in_the_middle(_request, _context):
    yield next(snapshot(SECOND))
    yield from snapshot(FIRST, 1)
    yield ending(FIRST)


# What never ends. The worker's patience has a bound in messages, so they come as fast as they can.

@listing("heartbeats-for-ever")
def heartbeats_for_ever(_request, context):
    return heartbeats(context, 0)


@listing("empty-packs-for-ever")
def empty_packs_for_ever(_request, context):
    nothing, at = packs.encode([]), 100
    yield next(snapshot(FIRST))
    while context.is_active():
        yield chunk(FIRST, pack=nothing, offset=at, next_offset=at + 1)
        at += 1


@listing("begins-anew-for-ever")
def begins_anew_for_ever(_request, context):
    while context.is_active():
        yield next(snapshot(FIRST))


@listing("other-version-for-ever")
def other_version_for_ever(_request, context):
    while context.is_active():
        yield next(snapshot(FIRST))
        yield next(snapshot(SECOND))


@listing("same-folders-for-ever")
def same_folders_for_ever(_request, context):
    """Folders that are complete come again and again."""
    yield from snapshot(FIRST)
    again, at = FIRST.groups()[1] + FIRST.groups()[2], 1 << 20
    last = len(FIRST.groups()) * 100
    many = packs.encode(again * 2000)
    yield chunk(FIRST, pack=many, offset=last, next_offset=at)
    while context.is_active():
        yield chunk(FIRST, pack=many, offset=at, next_offset=at + 1)
        at += 1


# ---- transfers that break off ----

def resuming(name, go_on):
    """The first scan breaks off after two packs; GO_ON answers those after."""
    def scan(self, request, context):
        if self.scans == 1:
            yield from list(snapshot(FIRST))[:2]
            context.abort(grpc.StatusCode.UNAVAILABLE, "the link is down")
        yield from go_on(request, context)
    mode("snapshot-resumed-" + name, scan=scan)


def resumed_well(request, _context):
    yield from snapshot(FIRST, request.resume_offset // 100)
    yield ending(FIRST)


def resumed_with_other(_request, _context):
    yield from snapshot(SECOND)
    yield ending(SECOND)


def resumed_with_other_in_the_middle(request, _context):
    yield from snapshot(SECOND, request.resume_offset // 100)
    yield ending(SECOND)


def resumed_with_wrong(request, _context):
    first = request.resume_offset // 100
    for i, group in enumerate(FIRST.groups()[first:], first):
        wrong = [e._replace(mode=0o700) for e in group] if request.resume_offset else group
        yield chunk(FIRST, wrong, offset=i * 100, next_offset=(i + 1) * 100)
    yield ending(FIRST)


def resumed_never(request, context):
    yield HEARTBEAT
    context.abort(grpc.StatusCode.UNAVAILABLE, "the link is down")


resuming("well", resumed_well)
resuming("with-another-version", resumed_with_other)
resuming("in-the-middle-of-another-version", resumed_with_other_in_the_middle)
resuming("with-wrong-entries", resumed_with_wrong)
resuming("never", resumed_never)


# ---- differences ----

def step(name, *messages, **fields):
    """The step from FIRST to SECOND is MESSAGES, or that of difference with other FIELDS."""
    mode("difference-" + name, step=lambda self: iter(messages) if messages else difference(**fields))


EVERYTHING_BUT_GOOD = [gone(e.path) for e in FIRST.children(b"") if e.path != b"good.txt"]

step("good")
step("in-packs", chunk(SECOND, STEP, strategy=2, base_revision=10, next_offset=9), ending(SECOND, strategy=2, base_revision=10))
step("from-the-future", base_revision=99)
step("from-the-past", base_revision=3)
step("that-does-not-add-up", entries=STEP[:1])
step("with-nothing", entries=[])
step("that-takes-all-away", entries=EVERYTHING_BUT_GOOD)
step("with-an-empty-root", entries=[FIRST.root])
step("without-a-root", entries=[gone(b"")])
step("with-orphans", entries=STEP + [entry(b"never/was", data=b"x")])
step("below-a-file", entries=STEP + [entry(b"good.txt/x", data=b"x")])
step("with-a-whole-file", entries=[e._replace(whole=True) for e in STEP])
step("twice", entries=STEP + STEP)
step("gone-and-there", entries=[gone(b"a"), *STEP])
step("that-leads-out", entries=STEP + [entry(b"../evil", data=b"x")])
step("short-digest", root_digest=b"short")
step("strategy-99", strategy=99)
step("unfinished", is_complete=False)
step("unchanged-to-another", ending(SECOND, unchanged=True))
step("notice", ending(SECOND, notice=True, base_revision=10))
step("bomb", chunk(SECOND, pack=packs.encode(STEP, frame=_frame(1 << 40)), strategy=2, base_revision=10, next_offset=9))
step("begins-in-the-middle", chunk(SECOND, STEP, strategy=2, base_revision=10, offset=9, next_offset=19),
     ending(SECOND, strategy=2, base_revision=10))
step("older-revision", *whole(Version(SECOND.contents, 3)))
step("error-and-entries", chunk(SECOND, plain=STEP, base_revision=10, error="\x1b[2Jgone\n", is_complete=True))
