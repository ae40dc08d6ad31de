"""The pages, as who follows them: each shell block is run, in its order, on a machine of the page's own (room.py)."""

from harness import SOURCE, Failure, case, check, fail, main
from room import Room, steps, typed

PAGES = sorted([SOURCE / "README.md", *(SOURCE / "docs").glob("*.md")])

# What who reads the page has at hand, beside what is in every room.
BEFORE = {
    "commands.md": "fsyncfs-server --workspace /srv/workspaces --token-file /etc/fsyncfs/tokens\n"
                   "printf '[mount]\\ntoken_file = /etc/fsyncfs/token\\n' >/etc/fsyncfs/client.conf\n",
    "monitoring.md": "mkdir -p build /var/lib/prometheus/node-exporter && echo 'print(1)' >build/run.py\nstart-the-tasks() { ls /srv/workspaces/quotes; }\n",
}
FROM_NOTHING = {"README.md", "install.md"}


def follow(w, page):
    room = Room(w, prepared=page.name not in FROM_NOTHING)
    room.sh(BEFORE.get(page.name, ""))
    for _, forward, back in steps(page, __file__):
        for block in typed(forward + (back and back + forward)):
            room.follow(block)


for one in PAGES:
    if steps(one, __file__):
        case(f"{one.relative_to(SOURCE)}: what it says to type can be typed")(lambda w, page=one: follow(w, page))


@case("a block that fails is found, one that takes back is run between two of what it takes back, and one that is another test's is left to it")
def self_test(w):
    page = w.path("planted.md")
    page.write_text("# A\n```sh\nx=${x-}+\n```\n    false\n```sh undo\nx=$x-\n```\n# B\n<!-- not run: no -->\n```sh\nfalse\n```\n```sh\ntest \"$x\" = +-+\n```\n"
                    "<!-- run by tests/other.py -->\n\n```sh\nfalse\n```\n")
    follow(w, page)
    page.write_text("# A\n```sh\necho said; cat /nonexistent\n```\n")
    try:
        follow(w, page)
    except Failure as failure:
        check("planted.md, line 3" in str(failure) and "said\ncat: " in str(failure), str(failure))
    else:
        fail("a failing block passed")


main()
