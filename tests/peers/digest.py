"""The root digest of a tree, written from its description in docs/formats.md: so that a peer can state the right one."""

import ctypes
import ctypes.util
import struct

KIND_FILE, KIND_FOLDER, KIND_SYMLINK = 1, 2, 3
XXH3, PIECES = 1, 3
PIECE_BYTES = 256 << 10


class _Hash128(ctypes.Structure):
    _fields_ = [("low", ctypes.c_uint64), ("high", ctypes.c_uint64)]


_library = ctypes.CDLL(ctypes.util.find_library("xxhash") or "libxxhash.so.0")
_library.XXH3_128bits.restype = _Hash128
_library.XXH3_128bits.argtypes = [ctypes.c_char_p, ctypes.c_size_t]


def xxh3(data):
    """XXH3-128 in canonical (big-endian) order."""
    value = _library.XXH3_128bits(data, len(data))
    return struct.pack(">QQ", value.high, value.low)


def algorithm(kind, size):
    """By what the digest of an entry is made: of a large file by its pieces."""
    return PIECES if kind == KIND_FILE and size > PIECE_BYTES else XXH3


def pieces(data):
    """The list of a large content: the hashes of its pieces, one after the other."""
    return b"".join(xxh3(data[at:at + PIECE_BYTES]) for at in range(0, len(data), PIECE_BYTES))


def content(data):
    """The digest of a file that holds DATA."""
    return xxh3(pieces(data) if len(data) > PIECE_BYTES else data)


def folder_digest(children):
    """CHILDREN: (name bytes, kind, mode, mtime_ns, size, digest) in any order."""
    return xxh3(b"".join(
        struct.pack("<HBIqQB", len(name), kind, mode, mtime_ns, 0 if kind == KIND_FOLDER else size, algorithm(kind, size)) + digest + name
        for name, kind, mode, mtime_ns, size, digest in sorted(children)))


def root_digest(mode, mtime_ns, digest):
    return xxh3(struct.pack("<Iq", mode, mtime_ns) + digest)
