"""The pages: links that lead somewhere, pictures for who does not see them too, messages quoted as the programs say them, and commands that a test types."""

import errno
import os
import re
import xml.etree.ElementTree
from urllib.parse import unquote

from lintlib import SOURCE, c_files, case, finds, none, planted, run, tracked

FENCE = re.compile(r"^(```|~~~).*?^\1[^\S\n]*$", re.M | re.S)
PICTURE = re.compile(r"!\[([^]]*)\]\(([^()\s]+)\)")
LINK = re.compile(r"\]\(([^()\s]+)\)")
HEADING = re.compile(r"^#{1,6} +(.+?) *#*$", re.M)
LITERALS = re.compile(r'"(?:[^"\\\n]|\\.)*"(?:\s*"(?:[^"\\\n]|\\.)*")*')
CONVERSION = re.compile(r"%[-+ #0-9.*]*(?:hh|h|ll|l|z|j|t)?[diouxXsfgcp]")
MESSAGE_ROW = re.compile(r"^\| *(`[^|]*`) *\|", re.M)
TYPED = re.compile(r"^```sh\b[^\n]*\n(.*?)^```", re.M | re.S)
INDENTED = re.compile(r"^ {4,}(?:sudo )?([^\s/]\S*).*$", re.M)
GENERAL = re.compile(r"\b[A-Z]{2,}\b|\[|…")  # what somebody else puts in
RUN_BY = re.compile(r"^<!-- run by (\S+) -->$", re.M)


def slug(heading):
    """The anchor that a heading gets where the pages are shown."""
    heading = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", heading)
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def anchors(page):
    seen = {}
    for heading in HEADING.findall(FENCE.sub("", page.read_text())):
        name = slug(heading)
        seen[name] = seen.get(name, -1) + 1
        yield f"{name}-{seen[name]}" if seen[name] else name


def link_violations(files, root):
    for page in files:
        if page.suffix != ".md":
            continue
        text = re.sub(r"`[^`\n]*`", "", FENCE.sub("", page.read_text()))
        for link in LINK.findall(text):
            if re.match(r"[a-z]+:", link):
                continue
            path, _, anchor = link.partition("#")
            target = (page.parent / unquote(path)).resolve() if path else page
            if not target.exists():
                yield f"{page.relative_to(root)}: no file for the link {link}"
            elif anchor and target.suffix == ".md" and anchor not in anchors(target):
                yield f"{page.relative_to(root)}: no heading for the link {link}"


def picture_violations(files, root):
    """Each has a text in its stead, and each file of docs/images is a picture that a page shows."""
    shown = set()
    for page in files:
        for text, link in PICTURE.findall(page.read_text()) if page.suffix == ".md" else ():
            shown.add((page.parent / unquote(link)).resolve())
            if len(text.split()) < 3:
                yield f"{page.relative_to(root)}: no text says what {link} shows"
    for file in files:
        if file.parent.name == "images" and file.resolve() not in shown:
            yield f"{file.relative_to(root)}: no page shows it"
        if file.suffix == ".svg":
            try:
                xml.etree.ElementTree.parse(file)
            except xml.etree.ElementTree.ParseError as error:
                yield f"{file.relative_to(root)}: {error}"


def said(root):
    """All string literals of the programs, those that the compiler joins as one; what is put in is '…'."""
    for file in c_files(root, (".c", ".h")):
        if file.parts[0] != "tests":
            for literal in LITERALS.findall((root / file).read_text()):
                text = re.sub(r'"\s*"', "", literal)[1:-1]
                yield CONVERSION.sub("…", text.replace('\\"', '"'))


def message_violations(page, root):
    """Code that stands first in a row of a table is quoted: in the sources it is one literal, or a part of one."""
    texts = "\n".join(said(root))
    for cell in MESSAGE_ROW.findall(page.read_text()):
        for message in re.findall(r"`([^`]+)`", cell):
            if message not in texts:
                yield f"{page.name}: nothing says: {message}"


def errno_violations(page):
    """What a task says stands beside the errno's name."""
    for text, name in re.findall(r"([A-Z][\w /-]+) \(`(E[A-Z]+)`\)", page.read_text()):
        if os.strerror(getattr(errno, name, 0)) != text:
            yield f"{page.name}: {name} is not: {text}"


def typed_pages(root):
    """Those whose shell blocks are run: tests/integration/room.py says how."""
    return [root / "README.md", *sorted((root / "docs").glob("*.md"))]


def commands(pages):
    """What lines of the shell blocks begin with."""
    return {line.split()[0] for page in pages for text in TYPED.findall(page.read_text()) for line in text.splitlines() if line.strip()}


def untyped_violations(pages, root):
    """A line that is indented, and so not run, is no command as it stands: one that a page has typed, or a file of the tree."""
    known = commands(pages)
    for page in pages:
        for m in INDENTED.finditer(FENCE.sub("", page.read_text())):
            if (m[1] in known or (root / m[1]).is_file()) and not GENERAL.search(m[0]):
                yield f"{page.relative_to(root)}: no test types, and nothing says why: {m[0].strip()}"


def follower_violations(pages, root):
    for page in pages:
        for test in RUN_BY.findall(page.read_text()):
            if not (root / test).is_file() or page.name not in (root / test).read_text():
                yield f"{page.relative_to(root)}: {test} does not run it"


@case("every relative link in the pages leads to a file, and to a heading of it")
def links():
    none(link_violations(tracked(), SOURCE), "links")


@case("every picture has a text in its stead, and every file in docs/images is shown")
def pictures():
    none(picture_violations(tracked(), SOURCE), "pictures")


@case("every message quoted in troubleshooting.md is in the sources")
def messages():
    page = SOURCE / "docs" / "troubleshooting.md"
    none([*message_violations(page, SOURCE), *errno_violations(page)], "messages")


@case("every command in README and docs stands where a test types it, and each test that a page names knows the page")
def typed():
    pages = typed_pages(SOURCE)
    none(untyped_violations(pages, SOURCE), "commands")
    none(follower_violations(pages, SOURCE), "tests")


@case("planted violations are found")
def self_test():
    page = "# A b: c\n[x](b.md) [x](#a-b-c) [x](#no) [x](no.md) [x](b.md#no) [x](b.md#one-1) `[x](code.md)`\n```\n[x](no.md)\n```\n"
    with planted({"a.md": page, "b.md": "# One\n# One\n"}) as root:
        finds(link_violations(sorted(root.iterdir()), root), 3)
    files = {"a.md": "![](images/a.svg) ![What b.svg shows](images/b.svg)", "images/a.svg": "<svg/>", "images/b.svg": "<svg>", "images/c.png": ""}
    with planted(files) as root:
        finds(picture_violations([path for path in sorted(root.rglob("*")) if path.is_file()], root), 3)
    source = 'say("no master %s "\n    "within %d s", a, b);\n'
    with planted({"fs/a.c": source, "t.md": "| message |\n|---|\n| `no master … within … s` | x |\n| `no slave` | x |\n| Bad luck (`EIO`) | x |\n"}) as root:
        finds(message_violations(root / "t.md", root), 1)
        finds(errno_violations(root / "t.md"), 1)
    page = "<!-- run by t.py -->\n    cp a b\n    cp FILE [-r]\n    a b\n    sudo s/run\n```sh\n    cp a b\ncp c d\n```\n```text\n    cp a b\n```\n<!-- run by u.py -->\n"
    with planted({"README.md": page, "docs/a.md": "<!-- run by t.py -->\n", "s/run": "", "t.py": "README.md"}) as root:
        finds(untyped_violations(typed_pages(root), root), 2)
        finds(follower_violations(typed_pages(root), root), 2)


run()
