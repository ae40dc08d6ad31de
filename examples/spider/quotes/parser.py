"""Finds quotes in a page."""
import html.parser


class _Parser(html.parser.HTMLParser):
    def __init__(self):
        super().__init__()
        self.kind = None
        self.found = []

    def handle_starttag(self, tag, attrs):
        self.kind = dict(attrs).get("class")

    def handle_data(self, data):
        if self.kind == "text":
            self.found.append([data, ""])
        elif self.kind == "author" and self.found:
            self.found[-1][1] = data
        self.kind = None


def parse(page):
    parser = _Parser()
    parser.feed(page)
    return [tuple(quote) for quote in parser.found]
