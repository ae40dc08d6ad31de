"""A TCP proxy within the test's own process: counts what crosses it, holds it back to a rate, and cuts it.

delay_proxy.py is a program of its own, with delay; this one can be changed and read while it carries.
"""

import socket
import threading
import time

CHUNK_BYTES = 16 * 1024
TICK_SEC = 0.02
# Of the side towards the server, so that it has no more on its way than on a real line: on loopback a segment has 64 KiB, and a
# sender holds many of them ready.
BUFFER_BYTES = 64 * 1024
SEGMENT_BYTES = 1448


def _shutdown(connection):
    try:
        connection.shutdown(socket.SHUT_RDWR)
    except OSError:
        pass  # it has ended


class CountingProxy:
    """Carries connections to PORT on 127.0.0.1 until closed. .port is where it listens.

    .down    bytes that came from the server and were passed on, over all connections
    .rate    bytes a second from the server, of all connections; None: as fast as it goes. May be changed at any time
    .cuts    how many times it cut
    """

    def __init__(self, port, rate=None):
        self.to = port
        self.rate = rate
        self.down = self.cuts = 0
        self._cut_at = None
        self._free_at = 0.0  # when the line has sent what it was given
        self._lock = threading.Lock()  # all of the above but rate, and:
        self._open = set()
        self._closed = False
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, name="proxy", daemon=True).start()

    def cut_after(self, number):
        """Once NUMBER more bytes came from the server, closes every connection; new ones are carried."""
        with self._lock:
            self._cut_at = self.down + number

    def drop(self):
        """Closes every connection now; new ones are carried."""
        with self._lock:
            sockets, self._open = self._open, set()
        for s in sockets:
            _shutdown(s)

    def close(self):
        with self._lock:
            self._closed = True
        self._listener.close()
        self.drop()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def _accept(self):
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            server = socket.socket()
            server.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER_BYTES)
            server.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, SEGMENT_BYTES)
            try:
                server.connect(("127.0.0.1", self.to))
            except OSError:
                client.close()
                server.close()
                continue
            with self._lock:
                if self._closed:
                    return
                self._open |= {client, server}
            for source, target, down in ((client, server, False), (server, client, True)):
                threading.Thread(target=self._carry, args=(source, target, down), daemon=True).start()

    def _carry(self, source, target, down):
        try:
            while data := source.recv(CHUNK_BYTES):
                if down:
                    data = self._pass(data)
                target.sendall(data)
                if down and self._is_cut():
                    break
        except OSError:
            pass  # one side is gone: so is the other, below
        _shutdown(source)
        _shutdown(target)

    def _pass(self, data):
        """Counts DATA, or what is left of it before a cut, when its time has come."""
        with self._lock:
            if self._cut_at is not None:
                data = data[:max(0, self._cut_at - self.down)]
            self.down += len(data)
            now = time.monotonic()
            self._free_at = max(self._free_at, now) + (len(data) / self.rate if self.rate else 0)
            due = self._free_at
        while self.rate and (left := due - time.monotonic()) > 0:
            time.sleep(min(left, TICK_SEC))
        return data

    def _is_cut(self):
        with self._lock:
            if self._cut_at is None or self.down < self._cut_at:
                return False
            self._cut_at = None
            self.cuts += 1
        self.drop()
        return True
