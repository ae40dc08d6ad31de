"""A small spider: reads pages from its workspace, as a real one would from the web, and prints what it found."""
import pathlib
import sys

from quotes.parser import parse

HERE = pathlib.Path(__file__).resolve().parent


def main():
    settings = dict(
        line.split("=", 1) for line in (HERE / "etc/site.conf").read_text().splitlines() if "=" in line
    )
    found = [quote for page in sorted((HERE / "data").glob("*.html")) for quote in parse(page.read_text())]
    for text, author in found[: int(settings["limit"])]:
        print(f"{author}: {text}")
    print(f"{len(found)} quotes from {settings['site']}", file=sys.stderr)


if __name__ == "__main__":
    sys.dont_write_bytecode = True
    main()
