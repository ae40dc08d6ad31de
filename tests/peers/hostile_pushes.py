"""What the hostile master (hostile_own.py) can do wrong in Watch and in ListFolder.

watch-… give FIRST and a good answer to whoever asks; what they push is wrong. folder-… give only the top of FIRST, and then say for ever that the rest
is coming; what they list of one folder is wrong.
"""

import functools
import itertools
import time

import grpc

import packs
from digest import KIND_FOLDER
from hostile_own import (FIRST, HEARTBEAT, SECOND, STEP, chunk, difference, ending, heartbeats, mode, wait_for_end)
from hostile_tree import Version, entry, gone

# ---- Watch ----


def pushing(name, first=True):
    """Registers a function (request, context) that yields what is pushed, after the first answer if FIRST."""
    def register(function):
        method = "push" if first else "watch"
        mode("watch-" + name, **{method: lambda self, request, context: function(request, context)})
        return function
    return register


def then_quiet(name, *messages):
    @pushing(name)
    def push(_request, context):
        yield from messages
        wait_for_end(context)


def for_ever(name, *messages):
    @pushing(name)
    def push(_request, context):
        while context.is_active():
            yield from messages


then_quiet("good", *difference())
then_quiet("notice", chunk(SECOND, notice=True))
then_quiet("that-does-not-add-up", *difference(entries=STEP[:1]))
then_quiet("takes-all-away", *difference(entries=[gone(e.path) for e in FIRST.children(b"")]))
then_quiet("from-the-future", *difference(base_revision=99))
then_quiet("older-revision", *difference(Version(SECOND.contents, 4), base_revision=3))
then_quiet("garbage-entries", *difference(entries=[entry(b"../evil", data=b"x")]))
then_quiet("unchanged-to-another", ending(SECOND, unchanged=True))
then_quiet("bomb", chunk(SECOND, pack=packs.encode(STEP, frame=packs.compress(bytes(64 << 20))), base_revision=10,
                         next_offset=9, is_complete=True))
then_quiet("short-digest", chunk(SECOND, notice=True, root_digest=b"short"))
then_quiet("error", chunk(SECOND, error="\x1b[2J no\n", is_complete=True))
for_ever("notices-at-full-speed", chunk(SECOND, notice=True))
for_ever("lies-at-full-speed", *difference(entries=STEP[:1], root_digest=b"\xee" * 16))
for_ever("heartbeats-at-full-speed", HEARTBEAT)
for_ever("version-without-end", chunk(SECOND, plain=STEP, base_revision=10))


@pushing("garbage", first=False)
def garbage(_request, context):
    yield b"\xff\xfe\xfd garbage \x00\x01" * 20
    wait_for_end(context)


@pushing("ends-at-once", first=False)
def ends_at_once(_request, _context):
    return iter(())


@pushing("ends-after-a-word", first=False)
def ends_after_a_word(_request, _context):
    yield HEARTBEAT


@pushing("ends-after-its-answer")
def ends_after_its_answer(_request, _context):
    return iter(())


@pushing("fails-at-once", first=False)
def fails_at_once(_request, context):
    context.abort(grpc.StatusCode.INTERNAL, "no\x07 \x1b[31m")


@pushing("huge-message")
def huge_message(_request, context):
    yield chunk(SECOND, error="e" * (16 << 20), is_complete=True)
    wait_for_end(context)


# ---- ListFolder ----

def top_of(version, context):
    groups = version.groups()
    yield chunk(version, groups[0], next_offset=100)
    time.sleep(0.4)  # what has come by now is saved, and shown, with the next pack
    yield chunk(version, groups[2], offset=100, next_offset=200)
    yield from heartbeats(context)


def the_rest_later(_self, _request, _context):
    """As a good master does who is slow."""
    groups = FIRST.groups()
    yield chunk(FIRST, groups[0], next_offset=100)
    time.sleep(0.4)
    yield chunk(FIRST, groups[2], offset=100, next_offset=200)
    for _ in range(50):
        yield HEARTBEAT
        time.sleep(0.2)
    yield chunk(FIRST, groups[1] + groups[3], offset=200, next_offset=300)
    yield ending(FIRST)


def only_the_top(_self, _request, context):
    return top_of(FIRST, context)


def folder(name):
    """Registers a function (path, context) that answers ListFolder."""
    def register(function):
        mode("folder-" + name, scan=only_the_top, folder=lambda self, path, context: function(path, context))
        return function
    return register


def listed(name, alter, **fields):
    @folder(name)
    def answer(path, _context):
        yield chunk(FIRST, alter(FIRST.children(path)), **{"is_complete": True, **fields})


listed("good", lambda children: children)
listed("missing-child", lambda children: children[1:])
listed("extra-child", lambda children: children + [entry(b"zzz", data=b"x")])
listed("other-mode", lambda children: [e._replace(mode=0o777) for e in children])
listed("another-folder", lambda children: FIRST.children(b"b"))
listed("out-of-order", lambda children: children[::-1])
listed("twice", lambda children: children + children)
listed("gone-children", lambda children: children + [gone(b"zzz")])
listed("leads-out", lambda children: children + [entry(b"../evil", data=b"x")])
listed("itself", lambda children: [entry(b"", KIND_FOLDER)] + children)
listed("without-end", lambda children: children, is_complete=False)


@folder("empty")
def empty(_path, _context):
    yield ending(FIRST)


@folder("nothing")
def nothing(_path, _context):
    return iter(())


@folder("plain-files")
def plain_files(path, _context):
    yield chunk(FIRST, plain=FIRST.children(path), is_complete=True)


@folder("bomb")
def bomb(path, _context):
    yield chunk(FIRST, pack=packs.encode(FIRST.children(path), frame=packs.compress(bytes(64 << 20))), is_complete=True)


@folder("stale-for-ever")
def stale_for_ever(_path, context):
    context.abort(grpc.StatusCode.FAILED_PRECONDITION, "stale")


WIDE = Version({path: data for i in range(40) for path, data in ((b"%02d" % i, None), (b"%02d/one" % i, b"1\n"))}, 10)


def stale_but_one(_self, path, context):
    if path != b"39":
        context.abort(grpc.StatusCode.FAILED_PRECONDITION, "stale")
    yield chunk(WIDE, WIDE.children(path), is_complete=True)


mode("folder-stale-but-one", scan=lambda self, request, context: top_of(WIDE, context), folder=stale_but_one)


LARGE = 12_000  # of names as long as these are more than one of those who list large folders may have


@functools.cache
def large_ones():
    return Version({path: data for i in range(4) for path, data in [(b"%d" % i, None)] + [
        (b"%d/" % i + b"n" * 230 + b"%05d" % n, b"1\n") for n in range(LARGE)]}, 10)


mode("folder-large-ones", scan=lambda self, request, context: top_of(large_ones(), context),
     folder=lambda self, path, context: iter([chunk(large_ones(), large_ones().children(path), is_complete=True)]))


@folder("away-for-ever")
def away_for_ever(_path, context):
    context.abort(grpc.StatusCode.UNAVAILABLE, "away")


@folder("silent")
def silent(_path, context):
    wait_for_end(context)
    return iter(())


@folder("heartbeats")
def only_heartbeats(_path, context):
    return heartbeats(context)


@folder("empty-packs-for-ever")
def empty_packs_for_ever(_path, context):
    nothing_packed = packs.encode([])
    while context.is_active():
        yield chunk(FIRST, pack=nothing_packed)
        time.sleep(0.01)


@functools.cache
def many_children():
    mark = b"n" * 8
    children = [entry(mark + b"n" * 230 + b"%08d" % i, data=b"x") for i in range(16384)]
    return mark, packs.encode(children, frame=b""), packs.raw_of(packs.encode(children))


@functools.cache
def children_from(n):
    mark, pack, raw = many_children()
    return pack + packs.compress(raw.replace(mark, b"%08d" % n, 1))


def endless_children(_self, _path, context):
    """In order, and no name twice."""
    for n in itertools.count():
        if not context.is_active():
            return
        yield chunk(FIRST, pack=children_from(n))


mode("folder-endless-children", scan=only_the_top, folder=endless_children)
mode("folder-too-large", scan=the_rest_later, folder=endless_children)
mode("folder-endless-many", scan=lambda self, request, context: top_of(WIDE, context), folder=endless_children)


@folder("child-by-child")
def child_by_child(_path, context):
    """There is always something new, and never an end."""
    for n in itertools.count():
        if not context.is_active():
            return
        yield chunk(FIRST, pack=packs.encode([entry(b"n%08d" % n, data=b"x")]))
        time.sleep(0.3)


@folder("same-children-for-ever")
def same_children_for_ever(path, context):
    while context.is_active():
        yield chunk(FIRST, FIRST.children(path))
