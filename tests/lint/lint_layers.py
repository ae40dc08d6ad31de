"""Who may include whom: the layers of the source, and the libraries that only one room may know."""

import re

from lintlib import ROOMS, SOURCE, c_files, case, finds, none, planted, run

MAY_INCLUDE = {
    "base": set(),
    "proto": {"base"},
    "cache": {"base"},
    "sync": {"proto", "cache", "base"},
    "fs": {"sync", "cache", "base"},
    "server": {"proto", "base"},
    "cli": {"fs", "sync", "cache", "base"},
}
ONE_ROOM_ONLY = {"grpc/": "proto", "fuse": "fs"}
ONE_UNIT_OF = {"sqlite3.h": ("base",), "base/sql.h": ("base", "cache", "server")}


def includes(root):
    """(file, room, "<" or '"', what) for each include directive in the rooms."""
    for file in c_files(root, folders=ROOMS):
        for kind, what in re.findall(r'^[ \t]*#[ \t]*include[ \t]*([<"])([^>"]+)[>"]', (root / file).read_text(), re.M):
            yield file, file.parts[0], kind, what


def edge_violations(root):
    for file, room, kind, what in includes(root):
        if kind != '"':
            continue
        target = what.split("/")[0]
        if "/" not in what or target not in ROOMS:
            yield f"{file}: \"{what}\" is not named from the source root"
        elif target != room and target not in MAY_INCLUDE[room]:
            yield f"{file}: {room}/ must not know {target}/ (\"{what}\")"


def library_violations(root):
    for file, room, _, what in includes(root):
        for prefix, owner in ONE_ROOM_ONLY.items():
            if what.startswith(prefix) and room != owner:
                yield f"{file}: only {owner}/ may include <{what}>"


def unit_violations(root):
    for header, rooms in ONE_UNIT_OF.items():
        units = {}
        for file, room, _, what in includes(root):
            if what == header:
                units.setdefault(room, set()).add(file.stem)
        for room, names in units.items():
            if room not in rooms or len(names) > 1:
                yield f"{header} in {room}/: {', '.join(sorted(names))}; one unit of {' and of '.join(rooms)} may"


def own_header_violations(root):
    for file in c_files(root, (".c",), ROOMS):
        header = file.with_suffix(".h")
        first = re.search(r'#include (\S+)', (root / file).read_text())
        if (root / header).exists() and (not first or first[1] != f'"{header}"'):
            yield f"{file}: its own header is not its first include"


@case("includes go one way only")
def edges():
    none(edge_violations(SOURCE), "edges that the layers forbid")


@case("only proto/ knows gRPC, only fs/ knows FUSE")
def libraries():
    none(library_violations(SOURCE), "libraries in the wrong room")


@case("base/sql knows SQLite, and one unit of cache/ and one of server/ know that")
def units():
    none(unit_violations(SOURCE), "units too many")


@case("each .c file includes its own header first")
def own_header():
    none(own_header_violations(SOURCE), "files that do not")


@case("planted violations are found")
def self_test():
    with planted({"base/a.c": '#include "proto/rpc.h"\n', "cache/b.h": ' # include "sync/scan.h"\n',
                  "server/c.c": '#include "cache/store.h"\n', "fs/d.c": '#include "local.h"\n',
                  "sync/e.c": '#include "cache/store.h"\n'}) as root:
        finds(edge_violations(root), 4)
    with planted({"sync/a.c": "#include <grpc/grpc.h>\n", "cli/b.c": "#include <fuse3/fuse.h>\n",
                  "proto/c.c": "#include <grpc/grpc.h>\n"}) as root:
        finds(library_violations(root), 2)
    with planted({"base/a.h": "#include <sqlite3.h>\n", "cache/b.c": '#include "base/sql.h"\n#include <sqlite3.h>\n',
                  "cache/c.c": '#include "base/sql.h"\n', "sync/d.c": '#include "base/sql.h"\n',
                  "server/e.c": '#include "base/sql.h"\n'}) as root:
        finds(unit_violations(root), 3)
    with planted({"base/a.c": '#include <string.h>\n#include "base/a.h"\n', "base/a.h": "", "base/b.c": ""}) as root:
        finds(own_header_violations(root), 1)


run()
