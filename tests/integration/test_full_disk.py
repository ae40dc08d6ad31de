"""A disk that is full: small contents are read all the same, once each, and take no more than some memory."""

import os

from harness import case, check, equal, main, run_ok, wait_until

SIZE = 100_000
FILES = 250  # more than is kept in memory


def drop_pages(path):
    fd = os.open(path, os.O_RDONLY)
    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
    os.close(fd)


def fill(folder):
    """Leaves no byte free on the file system of FOLDER."""
    with open(folder / "filler", "wb", buffering=0) as f:
        for size in (1 << 20, 4096, 1):
            try:
                while True:
                    f.write(bytes(size))
            except OSError:
                continue


def read(m, i):
    path = m.point / f"f{i}"
    drop_pages(path)
    return path.read_bytes()


@case("small files on a full disk are kept in memory: many reads fetch each once, and what is kept has a bound")
def small(w):
    w.tree.mkdir(parents=True)
    contents = [os.urandom(SIZE) for _ in range(FILES)]
    for i, data in enumerate(contents):
        (w.tree / f"f{i}").write_bytes(data)
    server = w.server()
    w.path("cache").mkdir()
    run_ok(["mount", "-t", "tmpfs", "-o", "size=6m", "tmpfs", w.path("cache")])
    m = w.mount(server, options=["prefetch=off"])
    fill(m.cache)

    def downloads():
        return server.counter("fsyncfs_downloads_total")
    before = downloads()
    for _ in range(20):
        check(read(m, 0) == contents[0], "the bytes")
    equal(downloads() - before, 1, "how often it was sent")
    for i in range(1, FILES):
        check(read(m, i) == contents[i], f"the bytes of file {i}")
    equal(downloads() - before, FILES, "files sent")
    check(read(m, FILES - 1) == contents[-1], "the last one")
    equal(downloads() - before, FILES, "files sent, the last one read again")

    def sent_after_the_first_one():
        check(read(m, 0) == contents[0], "the first one")
        return downloads() - before
    wait_until(lambda: sent_after_the_first_one() > FILES, "the first one had to go")  # when the store has been asked to take what came after it
    equal(downloads() - before, FILES + 1, "files sent with the first one again")
    (m.cache / "filler").unlink()
    for i in (0, 1, 2):
        check(read(m, i) == contents[i], "with room again")
    m.unmount()


main()
