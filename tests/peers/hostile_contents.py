"""What the hostile master (hostile_own.py) can do wrong in Fetch. Its downloads are right, but in modes fetch-only-…, where they fail: so
that a content can come in no other way.
"""

import random
import time

import grpc

import digest
from hostile_own import Master, asked_for, listing, mode, part, reply, wait_for_end, whole
from hostile_tree import Version


def no_download(_self, _digest, _offset, _length, context):
    context.abort(grpc.StatusCode.INTERNAL, "no downloads here")


def answering(name):
    """Registers a function (want, data, context) that yields messages, twice: with good downloads, and without. DATA: the bytes wanted."""
    def register(function):
        def want(self, want, context):
            content = self.content(want.digest)
            yield from listing(want, content)
            yield from function(want, asked_for(want, content), context)
        mode("fetch-" + name, want=want)
        mode("fetch-only-" + name, want=want, download=no_download)
        return function
    return register


def streaming(name):
    """Registers a function (requests, context) that is the whole stream."""
    def register(function):
        def fetch(self, requests, context):
            return function(requests, context)
        mode("fetch-" + name, fetch=fetch)
        mode("fetch-only-" + name, fetch=fetch, download=no_download)
        return function
    return register


def some(want, data, at=0, **fields):
    """A part with DATA, which begins at AT of what WANT is for."""
    return part(want.id, data, **{"offset": want.offset + at, **fields})


def right(want, data):
    """The right answer in one message."""
    return reply(some(want, data, last=True))


@answering("good")
def good(want, data, _context):
    yield right(want, data)


@answering("slow")
def slow(want, data, _context):
    time.sleep(0.3)
    yield right(want, data)


@answering("unasked-first")
def unasked_first(want, data, _context):
    yield reply(*[part(want.id + 10**6 + i, b"unasked", last=True) for i in range(1000)])
    yield right(want, data)


@answering("again")
def again(want, data, _context):
    yield right(want, data)
    yield right(want, data)
    yield reply(part(want.id, status=9))


@answering("unasked-only")
def unasked_only(_want, _data, context):
    while context.is_active():
        yield reply(part(2**63, b"unasked", last=True))


@answering("wrong-bytes")
def wrong_bytes(want, data, _context):
    yield reply(some(want, b"X" + data[1:], last=True))


@answering("wrong-bytes-in-pieces")
def wrong_bytes_in_pieces(want, data, _context):
    yield reply(some(want, b"X"))
    yield reply(some(want, data[1:], 1, last=True))


@answering("too-long")
def too_long(want, data, _context):
    yield reply(some(want, data + b"more", last=True))


@answering("too-short")
def too_short(want, data, _context):
    yield reply(some(want, data[:-1], last=True))


@answering("beyond-the-end")
def beyond_the_end(want, data, _context):
    yield reply(some(want, data))
    yield reply(some(want, b"more", len(data)))


@answering("wrong-offset")
def wrong_offset(want, data, _context):
    yield reply(some(want, data[:1]), some(want, data[1:], 2, last=True))


@answering("huge-offset")
def huge_offset(want, data, _context):
    yield reply(some(want, data, offset=2**64 - 1, last=True))


@answering("last-without-data")
def last_without_data(want, _data, _context):
    yield reply(some(want, b"", last=True))


@answering("empty-parts-for-ever")
def empty_parts_for_ever(want, _data, context):
    while context.is_active():
        yield reply(part(want.id))


@answering("status-and-control-characters")
def status_and_control_characters(want, _data, _context):
    yield reply(part(want.id, status=13, text="\x1b[2J\x07\nno", last=True))


@answering("status-99")
def status_99(want, data, _context):
    yield reply(some(want, data, status=99, last=True))


@answering("stale-for-ever")
def stale_for_ever(want, _data, _context):
    yield reply(part(want.id, status=9))


@answering("away-for-ever")
def away_for_ever(want, _data, _context):
    yield reply(part(want.id, status=14, text="away"))


@answering("silent")
def silent(_want, _data, context):
    wait_for_end(context)
    return iter(())


@answering("empty-messages-for-ever")
def empty_messages_for_ever(_want, _data, context):
    while context.is_active():
        yield b""
        time.sleep(0.001)


@answering("garbage")
def garbage(_want, _data, context):
    yield b"\x0a\xff\xff\xff\xff\x0f"
    wait_for_end(context)


@answering("huge-message")
def huge_message(want, _data, context):
    yield reply(some(want, bytes(16 << 20), last=True))
    wait_for_end(context)


@answering("half-a-message")
def half_a_message(want, data, context):
    yield right(want, data)[:-1]
    wait_for_end(context)


@streaming("ends-after-each")
def ends_after_each(requests, _context):
    for request in requests:
        for want in request.wants:
            content = Master().content(want.digest)
            yield from listing(want, content)
            yield right(want, asked_for(want, content))
            return


@streaming("ends-at-once")
def ends_at_once(_requests, _context):
    return iter(())


@streaming("ends-when-asked")
def ends_when_asked(requests, _context):
    next(requests)
    return iter(())


@streaming("unimplemented")
def unimplemented(_requests, context):
    context.abort(grpc.StatusCode.UNIMPLEMENTED, "not here")


@streaming("fails-with-control-characters")
def fails(_requests, context):
    context.abort(grpc.StatusCode.INTERNAL, "\x1b[31m no\x07")


# ---- a piece that does not come ----

BIG = random.Random(7).randbytes(24 << 20)
WITH_BIG = Version({b"big": BIG}, 10)


def list_big(_self, _request, _context):
    return whole(WITH_BIG)


def all_but_one(_self, requests, _context):
    """All pieces that are asked for but the second one, slowly: there is always another that has just come."""
    for request in requests:
        for want in request.wants:
            yield from listing(want, BIG)
            if want.offset != digest.PIECE_BYTES:
                time.sleep(0.2)
                yield right(want, asked_for(want, BIG))


mode("withhold-one", scan=list_big, fetch=all_but_one, download=no_download)
