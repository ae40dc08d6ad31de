"""Packs read and written as docs/formats.md describes them, and a tree to apply answers to: shares no code with what it checks."""

import ctypes
import ctypes.util
import struct
from collections import namedtuple

import digest as digests

# DATA: a tiny file's bytes, all of them, if they travel with the entry.
Entry = namedtuple("Entry", "path kind mode mtime_ns size digest target unknown gone whole data", defaults=(b"",))

FORMAT = 2
COLUMNS = ("flags", "folder", "name_len", "name", "mode", "mtime", "size", "target", "data_len", "data")
RAW_MAX = 4 << 20
TINY_MAX = 256
PIECE_BYTES = 256 << 10
PIECES = 3

_zstd = ctypes.CDLL(ctypes.util.find_library("zstd") or "libzstd.so.1")
_zstd.ZSTD_getFrameContentSize.restype = ctypes.c_ulonglong
_zstd.ZSTD_decompress.restype = ctypes.c_size_t
_zstd.ZSTD_compressBound.restype = ctypes.c_size_t
_zstd.ZSTD_compress.restype = ctypes.c_size_t


def _decompress(frame):
    size = _zstd.ZSTD_getFrameContentSize(frame, ctypes.c_size_t(len(frame)))
    if size > RAW_MAX:
        raise ValueError("the frame's size is unknown or beyond all sense")
    out = ctypes.create_string_buffer(max(size, 1))
    got = _zstd.ZSTD_decompress(out, ctypes.c_size_t(size), frame, ctypes.c_size_t(len(frame)))
    if got != size:
        raise ValueError("not a zstd frame")
    return out.raw[:size]


class _Reader:
    def __init__(self, data):
        self.data, self.at = data, 0

    def take(self, n):
        if self.at + n > len(self.data):
            raise ValueError("cut short")
        self.at += n
        return self.data[self.at - n:self.at]

    def varint(self):
        value = shift = 0
        while True:
            byte = self.take(1)[0]
            value |= (byte & 0x7f) << shift
            if byte < 0x80:
                return value
            shift += 7

    def difference(self):
        value = self.varint()
        return (value >> 1) ^ -(value & 1)


def _signed(value):
    return (value + 2**63) % 2**64 - 2**63


def raw_of(pack):
    """What the frame of PACK holds."""
    return _decompress(pack[5 + 16 * struct.unpack("<BI", pack[:5])[1]:])


def decode(pack):
    """The entries of PACK."""
    form, n_digests = struct.unpack("<BI", pack[:5])
    if form != FORMAT:
        raise ValueError(f"format {form}")
    hashes = _Reader(pack[5:5 + 16 * n_digests])
    raw = _Reader(raw_of(pack))
    count = raw.varint()
    lengths = [raw.varint() for _ in COLUMNS]
    columns = {name: _Reader(raw.take(n)) for name, n in zip(COLUMNS, lengths)}
    entries, folder, name, mode, mtime = [], b"", b"", 0, 0
    for _ in range(count):
        flags = columns["flags"].take(1)[0]
        kind, algorithm = flags & 3, flags >> 2 & 3
        if flags & 0x80:
            shared, more = columns["folder"].varint(), columns["folder"].varint()
            folder = folder[:shared] + columns["folder"].take(more)
        shared, more = columns["name_len"].varint(), columns["name_len"].varint()
        name = name[:shared] + columns["name"].take(more)
        path = folder + b"/" + name if folder else name
        if flags & 0x20:
            entries.append(Entry(path, 0, 0, 0, 0, b"", b"", False, True, False))
            continue
        mode += columns["mode"].difference()
        mtime = _signed(mtime + columns["mtime"].difference())
        size = columns["size"].varint()
        target = columns["target"].take(columns["target"].varint()) if kind == digests.KIND_SYMLINK else b""
        data = columns["data"].take(columns["data_len"].varint()) if kind == digests.KIND_FILE else b""
        if data and (len(data) != size or size > TINY_MAX):
            raise ValueError("not all of a tiny file")
        digest = hashes.take(16) if algorithm else b""
        entries.append(Entry(path, kind, mode, mtime, size, digest, target, bool(flags & 0x10), False, bool(flags & 0x40), data))
    for column in (*columns.values(), hashes, raw):
        if column.at != len(column.data):
            raise ValueError("bytes that nothing uses")
    return entries


def varint(value):
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7f | 0x80)
        value >>= 7
    return bytes(out) + bytes([value])


def _zigzag(difference):
    """DIFFERENCE modulo 2^64, as a varint."""
    value = _signed(difference)
    return varint(((value << 1) ^ (value >> 63)) % 2**64)


def compress(raw):
    """RAW as a zstd frame that states its size."""
    bound = _zstd.ZSTD_compressBound(ctypes.c_size_t(len(raw)))
    out = ctypes.create_string_buffer(bound)
    got = _zstd.ZSTD_compress(out, ctypes.c_size_t(bound), raw, ctypes.c_size_t(len(raw)), ctypes.c_int(3))
    return out.raw[:got]


def split_path(path):
    folder, _, name = path.rpartition(b"/")
    return folder, name


def _algorithm(e):
    """By what E's digest is made: of a large file by its pieces."""
    return 0 if not e.digest else PIECES if e.kind == digests.KIND_FILE and e.size > PIECE_BYTES else digests.XXH3


def _shared(a, b):
    return next((i for i, (x, y) in enumerate(zip(a, b)) if x != y), min(len(a), len(b)))


class _Columns:
    """The columns of a pack while they are written."""

    def __init__(self):
        self.data = {name: bytearray() for name in COLUMNS}
        self.hashes = bytearray()
        self.folder, self.name, self.mode, self.mtime = b"", b"", 0, 0

    def _text(self, lengths, texts, old, new):
        shared = _shared(old, new)
        self.data[lengths] += varint(shared) + varint(len(new) - shared)
        self.data[texts] += new[shared:]

    def _attributes(self, e):
        self.data["mode"] += _zigzag(e.mode - self.mode)
        self.data["mtime"] += _zigzag(e.mtime_ns - self.mtime)
        self.data["size"] += varint(0 if e.kind == digests.KIND_FOLDER else e.size)
        self.mode, self.mtime = e.mode, e.mtime_ns
        if e.kind == digests.KIND_SYMLINK:
            self.data["target"] += varint(len(e.target)) + e.target
        if e.kind == digests.KIND_FILE:
            self.data["data_len"] += varint(len(e.data))
            self.data["data"] += e.data
        self.hashes += e.digest

    def add(self, e, folder, name):
        flags = e.kind | _algorithm(e) << 2 | 0x10 * e.unknown | 0x20 * e.gone | 0x40 * e.whole
        moved = folder != self.folder
        self.data["flags"].append(flags | 0x80 * moved)
        if moved:
            self._text("folder", "folder", self.folder, folder)
        self._text("name_len", "name", self.name, name)
        self.folder, self.name = folder, name
        if not e.gone:
            self._attributes(e)


def encode(entries, split=split_path, frame=None, count=None, n_digests=None):
    """ENTRIES as a pack. SPLIT says what is folder and what name; the others replace what would be right by something else."""
    columns = _Columns()
    for e in entries:
        columns.add(e, *split(e.path))
    raw = varint(len(entries) if count is None else count)
    raw += b"".join(varint(len(columns.data[name])) for name in COLUMNS)
    raw += b"".join(bytes(columns.data[name]) for name in COLUMNS)
    head = struct.pack("<BI", FORMAT, len(columns.hashes) // 16 if n_digests is None else n_digests)
    return head + bytes(columns.hashes) + (compress(raw) if frame is None else frame)


def _from_info(info):
    go = {23: 0o4000, 22: 0o2000, 20: 0o1000}
    mode = info.mode & 0o777 | sum(unix for bit, unix in go.items() if info.mode >> bit & 1)
    return Entry(info.raw_path or info.path.encode(), info.kind, mode, info.mod_time * 10**9 + info.mtime_nsec, info.file_size,
                 info.digest, info.link_target, info.unknown, info.gone, info.whole, info.content)


def entries_of(chunks):
    """All entries of an answer, however they were sent."""
    return [e for chunk in chunks for e in ([_from_info(f) for f in chunk.files] + (decode(chunk.pack) if chunk.pack else []))]


class Tree:
    """What a worker knows: entries by path."""

    def __init__(self):
        self.entries = {}

    def _drop(self, path):
        """Forgets PATH and all below it."""
        known = self.entries.pop(path, None)
        if known and known.kind == digests.KIND_FOLDER:
            below = path + b"/" if path else b""
            for path in [p for p in self.entries if p.startswith(below)]:
                del self.entries[path]

    def apply(self, entries):
        for e in entries:
            if e.gone or e.whole or e.kind != digests.KIND_FOLDER:
                self._drop(e.path)
            if not e.gone:
                self.entries[e.path] = e._replace(whole=False)

    def root_digest(self):
        children = {}
        for path, e in self.entries.items():
            if path:
                children.setdefault(path.rpartition(b"/")[0], []).append(e)

        def of_folder(path):
            return digests.folder_digest([
                (e.path.rpartition(b"/")[2], e.kind, e.mode, e.mtime_ns, e.size,
                 of_folder(e.path) if e.kind == digests.KIND_FOLDER else
                 digests.xxh3(e.target) if e.kind == digests.KIND_SYMLINK else e.digest)
                for e in children.get(path, [])])
        root = self.entries[b""]
        return digests.root_digest(root.mode, root.mtime_ns, of_folder(b""))
