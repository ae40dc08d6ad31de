"""Connections that are there, answer pings, and are of no use: bytes spoiled on the way can leave HTTP/2's two ends apart for as long as one lasts."""

import re

from harness import FULL, case, check, main, skip, wait_until
import peers  # noqa: F401 (tests/peers on the path)
from fetch_relay import Relay

TIMEOUT_SEC = 2
PATIENCE_SEC = 120  # for what takes seconds
KIB = 1024


def shows(path, data):
    """Whether PATH can be read, and holds DATA."""
    try:
        return path.read_bytes() == data
    except OSError:
        return False


def change(w, number):
    """Another content of each file, small and large: by name."""
    now = {"small": bytes([number]) * 600, "large": bytes([number]) * 700 * KIB}
    w.tree.mkdir(parents=True, exist_ok=True)
    for name, data in now.items():
        (w.tree / name).write_bytes(data)
    return now


def come(w, m, number):
    """The mount comes to show what is the master's from now on."""
    for name, data in change(w, number).items():
        wait_until(lambda n=name, d=data: shows(m.point / n, d), f"the present content of {name}", PATIENCE_SEC)


def listening(w, relay):
    """A mount that has heard from the master."""
    m = w.mount(relay.source(), options=["refresh=push", f"timeout={TIMEOUT_SEC}"])
    wait_until(lambda: m.status()["watching"], "the master's pushes")
    return m


def recovers(w, how):
    change(w, 1)
    server = w.server()
    with Relay(server.port) as relay:
        m = listening(w, relay)
        come(w, m, 2)
        relay.spoil(how)
        come(w, m, 3)
        m.unmount()


@case("connections over which no method is found any more are given up: the mount comes to show the latest by itself")
def unknown(w):
    recovers(w, "unknown")


@case("connections over which nothing is answered any more are given up, though they answer pings")
def mute(w):
    recovers(w, "mute")


@case("a version whose push was lost is asked for in time, and the next one is pushed again")
def lost_push(w):
    if not FULL:
        skip("takes more than a minute: with --full")
    change(w, 1)
    server = w.server()
    with Relay(server.port) as relay:
        m = listening(w, relay)
        relay.lose_pushes()
        before = m.version()
        change(w, 2)  # and nobody reads: who finds that a content is not there any more would ask
        wait_until(lambda: m.version() != before, "the next version", PATIENCE_SEC)
        wait_until(lambda: re.search("listening anew(.|\n)*asking again", m.daemon.output()) and m.status()["watching"], "a new stream of pushes")
        pushes = m.status()["pushes"]
        now = change(w, 3)
        wait_until(lambda: m.status()["pushes"] > pushes, "the next version pushed", PATIENCE_SEC)
        check(all(shows(m.point / name, data) for name, data in now.items()), "it is not the master's")
        m.unmount()


main()
