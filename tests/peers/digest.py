"""The root digest of a tree, written from its description in docs/formats.md: so that a peer can state the right one."""

import ctypes
import ctypes.util
import struct

KIND_FILE, KIND_FOLDER, KIND_SYMLINK = 1, 2, 3
XXH3 = 1


class _Hash128(ctypes.Structure):
    _fields_ = [("low", ctypes.c_uint64), ("high", ctypes.c_uint64)]


_library = ctypes.CDLL(ctypes.util.find_library("xxhash") or "libxxhash.so.0")
_library.XXH3_128bits.restype = _Hash128
_library.XXH3_128bits.argtypes = [ctypes.c_char_p, ctypes.c_size_t]


def xxh3(data):
    """XXH3-128 in canonical (big-endian) order."""
    value = _library.XXH3_128bits(data, len(data))
    return struct.pack(">QQ", value.high, value.low)


def folder_digest(children):
    """CHILDREN: (name bytes, kind, mode, mtime_ns, size, digest) in any order."""
    data = b""
    for name, kind, mode, mtime_ns, size, digest in sorted(children):
        data += struct.pack("<HBIqQB", len(name), kind, mode, mtime_ns, 0 if kind == KIND_FOLDER else size, XXH3)
        data += digest + name
    return xxh3(data)


def root_digest(mode, mtime_ns, digest):
    return xxh3(struct.pack("<Iq", mode, mtime_ns) + digest)
