"""The status page in a real browser: it loads, holds what it should, complains of nothing, and fits a phone.

FSYNCFS_TEST_IMAGES=1 puts pictures of it into docs/images.
"""

import base64
import os

from browser import Browser
from harness import SOURCE, case, check, equal, main, wait_until

ROWS = "return [...document.querySelectorAll('#%s ~ .scroll')][0].querySelectorAll('tbody tr').length"
# What sticks out of the window, but for what a table scrolls within itself.
WIDER = """return [...document.querySelectorAll('body *')].filter(e => !e.closest('.scroll table')
    && e.getBoundingClientRect().right > document.documentElement.clientWidth + 1).map(e => e.outerHTML.slice(0, 80))"""
SCROLLS = "return [document.documentElement.scrollWidth, document.documentElement.clientWidth]"
# Each pair of ink and paper that is used, as [what, contrast]: WCAG's formula.
CONTRAST = """
const linear = c => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4;
const light = s => { const [r, g, b] = s.match(/[\\d.]+/g).map(c => linear(c / 255)); return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
const paper = light(getComputedStyle(document.body).backgroundColor);
return [...document.querySelectorAll('h1, h2, p, td, th, dt, dd, .good, .warn, .dim')].map(e => {
    const ink = light(getComputedStyle(e).color);
    return [e.tagName + '.' + e.className, (Math.max(ink, paper) + 0.05) / (Math.min(ink, paper) + 0.05)]; });
"""


def prepare(w):
    """Three workspaces, one of a name that would do harm; a mount that is up to date and one that is behind."""
    for spider in ("quotes", "a" * 200, "<img src=x onerror=alert(1)>"):
        for name in ("run.py", "data/page1.html", "data/page2.html"):
            (w.root / spider / name).parent.mkdir(parents=True, exist_ok=True)
            (w.root / spider / name).write_text(name * 1000)
    server = w.server()
    w.mount(server.source("quotes"), options=["node_name=worker-1", "refresh=push"])
    behind = w.mount(server.source("quotes", "/data"), cache="other", options=["node_name=worker-2"])
    w.mount(server.source("a" * 200), options=["node_name=worker-3"])
    w.mount(server.source("<img src=x onerror=alert(1)>"), options=["node_name=<svg onload=alert(1)>"])
    (behind.point / "page1.html").read_bytes()
    (w.root / "quotes/data/page2.html").write_text("changed")
    wait_until(lambda: sorted(r["state"] for r in server.status()["mounts"]["rows"]) == ["behind", "current", "current", "current"],
               "one mount behind, the others not")
    return server


@case("the status page in Chromium: rows, no complaint, nothing that sticks out of a phone, enough contrast in light and dark")
def page(w):
    server = prepare(w)
    with Browser(w) as browser:
        for width, height, dark in ((1200, 800, False), (360, 740, True), (360, 740, False)):
            browser.window(width, height, dark)
            browser.open(f"http://127.0.0.1:{server.metrics_port}/")
            equal(browser.run(ROWS % "mounts"), 4, "rows of mounts")
            equal(browser.run(ROWS % "workspaces"), 3, "rows of workspaces")
            equal(browser.run("return document.images.length + document.scripts.length"), 0, "what hostile names became")
            scroll, window = browser.run(SCROLLS)
            equal(browser.run("return innerWidth"), width, "the window's width")
            check(scroll <= window, f"at {width} px the page is {scroll} px wide")
            equal(browser.run(WIDER), [], f"what sticks out at {width} px")
            poor = [pair for pair in browser.run(CONTRAST) if pair[1] < 4.5]
            equal(poor, [], f"too little contrast ({'dark' if dark else 'light'})")
            equal(browser.complaints(), [], "what the console says")
        equal(browser.run("return document.querySelector('meta[http-equiv=refresh]').content"), "10", "seconds until it loads itself again")


def pictures(w):
    for spider, files in (("quotes", 40), ("books", 700)):
        for number in range(files):
            (w.root / spider).mkdir(parents=True, exist_ok=True)
            (w.root / spider / f"page{number}.html").write_text(spider * 300)
    server = w.server()
    for name, spider, refresh in (("worker-1", "quotes", "push"), ("worker-2", "quotes", "off"), ("worker-3", "books", "push")):
        w.mount(server.source(spider), cache=name, options=[f"node_name={name}", f"refresh={refresh}"])
    (w.root / "quotes/page1.html").write_text("changed")
    wait_until(lambda: sorted(r["state"] for r in server.status()["mounts"]["rows"]) == ["behind", "current", "current"], "one mount behind")
    (SOURCE / "docs/images").mkdir(exist_ok=True)
    with Browser(w) as browser:
        for width, height, dark, name in ((1100, 600, False, "status.png"), (360, 740, True, "status-phone.png")):
            browser.window(width, height, dark)
            browser.open(f"http://127.0.0.1:{server.metrics_port}/")
            (SOURCE / "docs/images" / name).write_bytes(base64.b64decode(browser.picture()))


if os.environ.get("FSYNCFS_TEST_IMAGES") == "1":
    case("the pictures for the documentation")(pictures)

main()
