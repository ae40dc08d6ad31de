"""The faults of the chaos test. Each takes the world and random numbers, does its harm and returns what ends it (nothing: it is over at once)."""

import shutil
import signal

HOUR = 3600


def delay(world, rng):
    proxy = rng.choice(world.proxies)
    proxy.do(delay_ms=rng.choice((5, 40, 300, 1500)))
    return lambda: proxy.do(delay_ms=0)


def throttle(world, rng):
    proxy = rng.choice(world.proxies)
    proxy.do(rate=rng.choice((2_000, 50_000, 1_000_000)))
    return lambda: proxy.do(rate=0)


def corrupt(world, rng):
    proxy = rng.choice(world.proxies)
    proxy.do(flip=rng.choice((300, 5_000, 100_000, 1_000_000)))
    return lambda: proxy.do(flip=0)


def half_open(world, rng):
    """What was held back goes on at the end, or the connections turn out to be dead."""
    proxy, dead = rng.choice(world.proxies), rng.random() < 0.5
    proxy.do(half=True)
    return lambda: proxy.do(half=False, **({"cut": "reset"} if dead else {}))


def refuse(world, rng):
    proxy = rng.choice(world.proxies)
    proxy.do(refuse=True, cut="reset")
    return lambda: proxy.do(refuse=False)


def reorder(world, rng):
    proxy = rng.choice(world.proxies)
    proxy.do(reorder=3, cut="fin")
    return lambda: proxy.do(reorder=0)


def cut(world, rng):
    rng.choice(world.proxies).do(cut=rng.choice(("fin", "reset", "after")))


def master_killed(world, rng):
    """Sometimes its index is lost, too."""
    lost = rng.random() < 0.2
    world.server.kill()

    def start():
        if lost:
            shutil.rmtree(world.server.index, ignore_errors=True)
        world.start_server(world.server.port)
    return start


def master_ended(world, rng):
    world.server.stop()
    return lambda: world.start_server(world.server.port)


def master_stopped(world, rng):
    server = world.server
    server.signal(signal.SIGSTOP)
    return lambda: server.signal(signal.SIGCONT)


def master_clock(world, rng):
    world.clock.set(rng.choice((-HOUR, -10, 10, HOUR, -10 * 365 * 24 * HOUR)))


def daemon_killed(world, rng):
    rng.choice(world.workers).kill()


def daemon_stopped(world, rng):
    worker = rng.choice(world.workers)
    worker.stop()
    return worker.proceed


def daemon_clock(world, rng):
    rng.choice(world.workers).clock.set(rng.choice((-HOUR, -10, 10, HOUR, -10 * 365 * 24 * HOUR)))


def mounted_anew(world, rng):
    """Unmounted while it is in use, and mounted again: both daemons at work for a moment, on the same cache."""
    worker = rng.choice(world.workers)
    worker.proceed()
    worker.mount_anew()


def disk_full(world, rng):
    world.disk.fill(rng.choice((0, 4096, 1 << 20)))
    return world.disk.free


# name: how often it is chosen, what it takes away that another would need
FAULTS = {
    delay: 3, throttle: 3, corrupt: 4, half_open: 4, refuse: 2, reorder: 2, cut: 5,
    master_killed: 3, master_ended: 1, master_stopped: 2, master_clock: 1,
    daemon_killed: 4, daemon_stopped: 2, daemon_clock: 1, mounted_anew: 3, disk_full: 4,
}
MASTER = {master_killed, master_ended, master_stopped}  # one of these at a time
