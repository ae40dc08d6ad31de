"""What the programs say of themselves: --help, the nearest name to one that is unknown, and the man pages and docs, which must know what the programs know."""

import re
import shutil

from harness import SOURCE, case, check, equal, main, one_line, program, run, run_ok, skip

COLUMNS, LINES = 80, 24
MAN = SOURCE / "man"


def complete(*words, server=False):
    """What the programs offer for the last of WORDS: {candidate: what it is}."""
    argv = [program("fsyncfs-server"), "--complete"] if server else [program("fsyncfs"), "complete"]
    rows = (row.partition("\t") for row in run_ok([*argv, *words]).stdout.splitlines() if not row.startswith(":"))
    return {row[0]: row[2] for row in rows}


def is_option(word):
    return word.startswith("-")


def commands():
    """All commands, those of groups as "GROUP COMMAND": {name: the set of its options}."""
    found = {}
    for name in complete(""):
        if is_option(name) or name == "help":
            continue
        found[name] = set(filter(is_option, complete(name, "-"))) - {"--help"}
        own = run_ok([program("fsyncfs"), name, "--help"]).stdout
        if f"usage: fsyncfs {name} COMMAND" in own:
            found |= {f"{name} {one}": set(filter(is_option, complete(name, one, "-"))) - {"--help"} for one in complete(name, "")}
    check({"mount", "status", "cache", "cache verify"} <= found.keys(), f"commands: {sorted(found)}")
    check("--repair" in found["cache verify"] and "-o" in found["mount"], f"options: {found}")
    return found


def fits(text, what, lines=LINES - 1):
    """On a terminal, with room for the next prompt."""
    for line in text.splitlines():
        check(len(line) < COLUMNS, f"{what}: a line of {len(line)} columns: {line}")
    check(len(text.splitlines()) <= lines, f"{what}: {len(text.splitlines())} lines")


@case("--help of each command is about it, names its options, and fits a terminal")
def helps(w):
    fits(run_ok([program("fsyncfs"), "--help"]).stdout, "fsyncfs --help")
    fits(run_ok([program("fsyncfs-server"), "--help"]).stdout, "fsyncfs-server --help")
    for name, options in commands().items():
        words = name.split()
        shown = run_ok([program("fsyncfs"), *words, "--help"]).stdout
        check(shown.startswith(f"usage: fsyncfs {name}"), f"{name}: {shown[:100]}")
        equal(run_ok([program("fsyncfs"), "help", *words]).stdout, shown, f"fsyncfs help {name}")
        for option in options:
            check(re.search(rf"^  {option}\b.* {{2,}}?\S", shown, re.M), f"{name} --help does not explain {option}")
        fits(shown, f"fsyncfs {name} --help", lines=40 if name == "mount" else LINES - 1)  # which has all mount options
    equal(run_ok([program("fsyncfs"), "status", "/", "--help"]).stdout[:21], "usage: fsyncfs status", "--help as the last word")


@case("each option of the server is in its --help, and the other way round")
def server_help(w):
    shown = run_ok([program("fsyncfs-server"), "--help"]).stdout
    equal(set(re.findall(r"^  (--[a-z-]+)", shown, re.M)), set(complete("--", server=True)), "options")


@case("an unknown command or option names the one that was meant")
def nearest(w):
    fsyncfs, server = program("fsyncfs"), program("fsyncfs-server")
    for argv, code, words in (
            ([fsyncfs, "statsu"], 2, ["'statsu'", "'status'"]),
            ([fsyncfs, "help", "mout"], 2, ["'mout'", "'mount'"]),
            ([fsyncfs, "xyzzy"], 2, ["'xyzzy'", "fsyncfs --help"]),
            ([fsyncfs, "cache", "verfy"], 2, ["'cache verfy'", "'verify'"]),
            ([fsyncfs, "status", "--jsno"], 2, ["'--jsno'", "'--json'"]),
            ([fsyncfs, "refresh", "/", "--statpass"], 2, ["'--statpass'", "'--stat-pass'"]),
            ([fsyncfs, "version", "/", "--stat-pass"], 2, ["--stat-pass", "fsyncfs version --help"]),
            ([fsyncfs, "mount", "--check-confg"], 1, ["'--check-config'"]),
            ([fsyncfs, "top", "--intervall=2"], 2, ["'--intervall'", "'--interval'"]),
            ([fsyncfs, "cat", "a:/b/c", "-o", "timeot=1"], 2, ["'timeot'", "'timeout'"]),
            ([fsyncfs, "mount", "a:/b", "/mnt", "-o", "chache=/x"], 1, ["'chache'", "'cache'"]),
            ([fsyncfs, "mount", "a:/b", "/mnt", "-o", "nosiud"], 1, ["'nosiud'", "'nosuid'"]),
            ([server, "--workspaces", "/x"], 2, ["'--workspaces'", "'--workspace'"]),
            ([server, "--tokenfile=secret"], 2, ["'--tokenfile'", "'--token-file'"])):
        done = run(argv)
        one_line(done, code, *words)
        check("secret" not in done.stderr, done.stderr)


@case("a wrong call says the right one")
def usage(w):
    for argv, words in ((["refresh"], "refresh DIR"), (["cache"], "cache COMMAND"), (["cache", "pin"], "cache pin PATH|HASH..."),
                        (["version", "a", "b"], "version DIR"), (["ls"], "ls [-lR] SOURCE"), (["cat", "a:/b/c", "d"], "cat SOURCE/PATH"),
                        (["export", "a:/b"], "export SOURCE[/PATH] DIR|-"), (["doctor", "a:/b", "c"], "doctor [SOURCE]"), (["diff"], "diff DIR"),
                        (["top", "--batch", "0"], "top [DIR]"), (["trace", "a", "b"], "trace [DIR]"), (["explain"], "explain PID|CGROUP"),
                        (["bugreport", "a", "b"], "bugreport [DIR]")):
        one_line(run([program("fsyncfs"), *argv]), 2, f"usage: fsyncfs {words}")
    done = run([program("fsyncfs")])
    equal((done.returncode, done.stdout), (2, ""), "without a word")
    check("usage: fsyncfs COMMAND" in done.stderr, done.stderr)


# ---- man pages ----

def page(name):
    return (MAN / name).read_text()


def macro_options(text):
    """The options that a page's text names by .Fl, each as it is typed."""
    found = set()
    for line in re.findall(r"^\.(?:It |Op )?Fl (.*)$", text, re.M):
        word = line.split()[0]
        found.add(f"-{word}")
    return found


def sections(text, macro):
    """{title: text} of a page's .Ss or .Sh."""
    parts = re.split(rf"^\.{macro} (.*)$", text, flags=re.M)
    return dict(zip(parts[1::2], parts[2::2]))


def listed(text, macro):
    return re.findall(rf"^\.It {macro} (\S+)", text, re.M)


@case("fsyncfs.1 has a section for each command, with its options and no others")
def commands_page(w):
    described = sections(sections(page("fsyncfs.1"), "Sh")["COMMANDS"], "Ss")
    known = commands()
    equal(sorted(described), sorted(known), "commands in the page, and of the program")
    for name, options in known.items():
        equal(sorted(macro_options(described[name])), sorted(options), f"options of {name}")


@case("mount.fsyncfs.8 has each mount option, and no other")
def mount_page(w):
    described = listed(sections(page("mount.fsyncfs.8"), "Sh")["MOUNT OPTIONS"], "Cm")
    own = [word.rstrip("=") for word, what in complete("mount", "-o", "").items() if what]
    equal(sorted(described), sorted(own), "mount options in the page, and of the program")
    conf = listed(page("fsyncfs.conf.5"), "Cm")
    shown = run_ok([program("fsyncfs"), "mount", "--check-config"]).stdout
    keys = set(re.findall(r"^(?:# )?(\w+) = ", shown, re.M)) - {"config"}
    equal(sorted(keys - set(own)), sorted(set(conf) - {"match"}), "keys that are no mount options")


@case("fsyncfs-server.8 has each option, and no other")
def server_page(w):
    described = ["-" + word for word in listed(sections(page("fsyncfs-server.8"), "Sh")["OPTIONS"], "Fl")]
    equal(sorted(described), sorted(complete("--", server=True)), "options in the page, and of the program")


@case("the pages are well-formed")
def lint(w):
    pages = sorted(MAN.glob("*.[158]"))
    equal(len(pages), 4, "pages")
    w.path("bad.1").write_text(page("fsyncfs.1").replace(".El\n", "", 1))
    tools = [argv for argv in (["mandoc", "-T", "lint", "-W", "warning"], ["man", "--warnings", "-E", "UTF-8", "-l"])
             if shutil.which(argv[0])]
    if not tools:
        skip("neither mandoc nor man is installed")
    for argv in tools:
        for one in pages:
            done = run([*argv, one])
            equal((done.returncode, done.stderr), (0, ""), f"{argv[0]} {one.name} ({done.stdout[:300] if 'lint' in argv else ''})")
    check(any((done := run([*argv, w.path("bad.1")])).returncode or done.stderr for argv in tools), "a broken page is found")
    for one in pages:
        for name, section in re.findall(r"^\.Xr (\S+) (\d)", one.read_text(), re.M):
            if "fsyncfs" in name:
                check((MAN / f"{name}.{section}").exists(), f"{one.name} refers to {name}({section})")


# ---- docs ----

DOCS = [SOURCE / "README.md", *sorted((SOURCE / "docs").glob("*.md"))]
CODE = re.compile(r"^```[^\n]*\n(.*?)^```$|^ {4}([^\s-][^\n]*)$|`([^`\n]+)`", re.M | re.S)
OURS = re.compile(r"(^|\s)fsyncfs (?!bugreport)")
OPTION = re.compile(r"(?<![\w-])--?[a-zA-Z][a-zA-Z-]*")
OF_OTHERS = {"--quick", "--full", "--prefix", "-v", "code=", "--nodeps"}  # tests/bench/run, scripts/test, meson, docker, systemctl status, rpmbuild


def code(page):
    """The lines of PAGE that are code, in blocks or in the text."""
    for found in CODE.findall(re.sub(r"<!--.*?-->", "", page.read_text(), flags=re.S)):
        yield from (line.replace("\\|", "|") for line in "".join(found).splitlines())


def known_options(words, known):
    """Of the words of a call: (which command that is, its options); None: there is no such command."""
    if words[0] == "fsyncfs-server":
        name = "fence" if words[1:2] == ["fence"] else ""
        return f"fsyncfs-server {name}", set(complete("fence", "--", server=True) if name else complete("--", server=True))
    grouped = words[2:] and any(name.startswith(words[1] + " ") for name in known)
    name = " ".join(words[1:3] if grouped else words[1:2])
    return (name, known[name]) if name in known else None


def named_options(text):
    """The options in TEXT, letters that share a dash each by itself."""
    for one in OPTION.findall(text):
        yield from [one] if one.startswith("--") or len(one) == 2 else [f"-{letter}" for letter in one[1:]]


def calls():
    """Each call of ours in the docs' code: (page, line, its words, the options in it). `fsyncfs cache a|b` is two."""
    for page in DOCS:
        for line in code(page):
            for part in re.split(r" \| | && |[;&()]|  +#|   +", line):
                call = re.match(r"fsyncfs(?:-server)? .*$", part.strip())
                words = call[0].split() if call else [""]
                if words[0] == "fsyncfs-server" or words[1:] and re.fullmatch(r"[a-z]+", words[1]):
                    group = words[1] == "cache" and len(words) > 2
                    for one in words[2].split("|") if group else [""]:
                        yield page, line, [*words[:2], one, *words[3:]] if group else words, set(named_options(call[0]))


def settings():
    """The mount options by name: {name: whether it is one of ours}."""
    return {word.rstrip("="): bool(what) for word, what in complete("mount", "-o", "").items()}


@case("docs name no command, option, setting or variable that is not there")
def docs_are_true(w):
    known, wrong = commands(), []
    server, mount = set(complete("--", server=True)), settings()
    options = server.union(*known.values(), complete("fence", "--", server=True), {"--help", "-f", "-o", "--no-"})
    names = set(mount) | {"match", "options"}
    variables = {f"FSYNCFS_{name.upper()}" for name in names} | {"FSYNCFS_", "FSYNCFS_SERVER_"}
    variables |= {f"FSYNCFS_SERVER_{name[2:].upper().replace('-', '_')}" for name in server}
    for page, line, words, named in calls():
        found = known_options(words, known)
        if not found:
            wrong.append(f"{page.name}: no such command: {line}")
        else:
            wrong += [f"{page.name}: {found[0]} has no {one}: {line}" for one in named - found[1] - {"--help"}]
    for page in DOCS:
        for line in code(page):
            wrong += [f"{page.name}: no such option: {one}" for one in re.findall(r"^--?[a-z][a-z-]*", line) if one not in options | OF_OTHERS]
            listed = [one for text in re.findall(r" -o (?!OPTIONS)([a-z]\S*)", line) if OURS.search(line) for one in text.split(",")]
            wrong += [f"{page.name}: no such setting: {one}" for one in [*listed, *re.findall(r"^[a-z_]+=", line)]
                      if one.partition("=")[0] not in names and not one.startswith("x-") and one not in OF_OTHERS]
            wrong += [f"{page.name}: no such variable: {one}" for one in re.findall(r"FSYNCFS_[A-Z_]*", line) if one not in variables]
    equal(wrong, [], "what docs name")


@case("docs name each command with each of its options, and each setting of mount and server")
def docs_are_whole(w):
    known, named = commands(), {}
    page = (SOURCE / "docs" / "options.md").read_text()
    where = OPTION.findall(page[page.index("\nWHERE is"):].partition("\n\n")[0])
    for _, _, words, options in calls():
        found = known_options(words, known)
        if found:
            named.setdefault(found[0], set()).update(options, where if "[WHERE]" in words else ())
    table = set(re.findall(r"`(-?-?[a-z][a-z_-]*)", "\n".join(re.findall(r"^\| (`[^|\n]*(?:\\\|[^|\n]*)*) \|", page, re.M))))
    groups = {name.split()[0] for name in known if " " in name}
    for name in known.keys() - groups:
        check(name in named, f"no page shows fsyncfs {name}")
        equal(sorted(known[name] - named[name] - {"-o"}), [], f"options of {name} that no page shows")
    equal(sorted(one for one in complete("--", server=True) if one not in table | {"--help", "--version", "--check-config"}), [], "options of the server")
    equal(sorted(name for name, own in settings().items() if own and name not in table), [], "mount options")


main()
