"""A TCP proxy that does to connections what networks do; what it does can be changed at any time.

    chaos_proxy.py --to PORT --control SOCKET [--seed N]

Prints "listening on 127.0.0.1:PORT". Each line of JSON written to the unix socket SOCKET is answered by one with its counters:

    {"delay_ms": N}    holds every byte back for so long, each way
    {"rate": N}        bytes a second, each way of each connection; 0: no bound
    {"flip": N}        flips one bit in every N bytes on the average; 0: none
    {"half": true}     passes nothing on and closes nothing, nor answers new connections: both ends think that the other is there
    {"refuse": true}   closes each new connection at once
    {"reorder": N}     lets new connections through N at a time (or after 1 s), in another order. Within a connection TCP knows no other order
    {"cut": "fin"}     ends all connections, "reset": by RST, "after": in the middle of what comes next from the master
    {"calm": true}     none of the above from now on; what "half" held back goes on

The n-th connection draws its numbers from the seed and n, so that the same bytes are spoiled when the same bytes come.
"""

import argparse
import asyncio
import collections
import contextlib
import json
import random
import signal
import socket
import struct

CHUNK_BYTES = 64 * 1024
QUEUE_CHUNKS = 256  # what may be on its way
CALM = {"delay_ms": 0, "rate": 0, "flip": 0, "half": False, "refuse": False, "reorder": 0}
REORDER_SEC = 1


class State:
    """What is done at present, to all connections."""

    def __init__(self, args):
        self.to, self.seed = args.to, args.seed
        self.faults = dict(CALM)
        self.flowing = asyncio.Event()
        self.flowing.set()
        self.counts = collections.Counter()
        self.connections = set()
        self.waiting = []  # connections that "reorder" holds: a future each
        self.rng = random.Random(args.seed)

    def take(self, command):
        if command.pop("calm", False):
            self.faults = dict(CALM)
        cut = command.pop("cut", None)
        self.faults.update({name: command[name] for name in command if name in CALM})
        (self.flowing.clear if self.faults["half"] else self.flowing.set)()
        for connection in list(self.connections) if cut else []:
            connection.cut(cut)
        if not self.faults["reorder"]:
            self.let_through()

    def let_through(self):
        waiting, self.waiting = self.waiting, []
        self.rng.shuffle(waiting)
        self.counts["reordered"] += len(waiting) > 1
        for future in waiting:
            if not future.done():
                future.set_result(None)

    async def turn(self):
        """Waits for a new connection's turn."""
        if self.faults["reorder"]:
            future = asyncio.get_running_loop().create_future()
            self.waiting.append(future)
            asyncio.get_running_loop().call_later(REORDER_SEC, self.let_through)
            if len(self.waiting) >= self.faults["reorder"]:
                self.let_through()
            await future


class Direction:
    """Carries bytes one way: one task stamps them with their time of arrival, another lets them go when it has come."""

    def __init__(self, reader, writer, state, rng):
        self.reader, self.writer, self.state, self.rng = reader, writer, state, rng
        self.queue = asyncio.Queue(QUEUE_CHUNKS)
        self.next_flip = None  # bytes until then
        self.left = None       # bytes until the cut

    async def _take(self):
        loop = asyncio.get_running_loop()
        data = True
        while data:
            await self.state.flowing.wait()
            data = await self.reader.read(CHUNK_BYTES)
            await self.queue.put((loop.time() + self.state.faults["delay_ms"] / 1000, data))

    def _spoil(self, data):
        every = self.state.faults["flip"]
        if not every:
            self.next_flip = None
            return data
        if self.next_flip is None:
            self.next_flip = self.rng.randrange(2 * every)
        data = bytearray(data)
        while self.next_flip < len(data):
            data[self.next_flip] ^= 1 << self.rng.randrange(8)
            self.state.counts["flipped"] += 1
            self.next_flip += 1 + self.rng.randrange(2 * every)
        self.next_flip -= len(data)
        return bytes(data)

    async def _wait_turn(self, due, length, free_at):
        """When the line is free again, having sent LENGTH bytes that were due at DUE."""
        loop = asyncio.get_running_loop()
        if rate := self.state.faults["rate"]:
            free_at = max(free_at, loop.time()) + length / rate
            due = max(due, free_at)
        if due > loop.time():
            await asyncio.sleep(due - loop.time())
        await self.state.flowing.wait()
        return free_at

    async def _give(self):
        free_at = 0.0
        while True:
            due, data = await self.queue.get()
            if not data:
                self.writer.write_eof()
                return
            free_at = await self._wait_turn(due, len(data), free_at)
            data = self._spoil(data)
            if self.left is not None:
                data, self.left = data[:self.left], self.left - len(data)
            self.writer.write(data)
            self.state.counts["bytes"] += len(data)
            await self.writer.drain()
            if self.left is not None and self.left <= 0:
                raise ConnectionAbortedError("cut")

    async def carry(self):
        await asyncio.gather(self._take(), self._give())


class Connection:
    def __init__(self, state, reader, writer):
        self.state = state
        self.reader, self.writers = reader, [writer]
        self.down = None
        state.counts["connections"] += 1
        self.rng = random.Random(state.seed * 1_000_003 + state.counts["connections"])

    def cut(self, how):
        self.state.counts["cuts"] += 1
        if how == "after" and self.down:
            self.down.left = self.rng.randrange(CHUNK_BYTES * 4)
            return
        for writer in self.writers:
            if how == "reset":
                with contextlib.suppress(OSError):  # it is closed already
                    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.transport.abort()

    async def _carry(self):
        await self.state.flowing.wait()
        await self.state.turn()
        reader, writer = await asyncio.open_connection("127.0.0.1", self.state.to)
        self.writers.append(writer)
        self.down = Direction(reader, self.writers[0], self.state, self.rng)
        up = Direction(self.reader, writer, self.state, random.Random(self.rng.random()))
        tasks = [asyncio.ensure_future(way.carry()) for way in (up, self.down)]
        try:
            await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()

    async def run(self):
        self.state.connections.add(self)
        try:
            if not self.state.faults["refuse"]:
                await self._carry()
        except OSError:
            pass  # one side is gone: so is the other, below
        finally:
            self.state.connections.discard(self)
            for writer in self.writers:
                writer.close()


async def control(state, reader, writer):
    while line := await reader.readline():
        state.take(json.loads(line))
        writer.write(json.dumps({"open": len(state.connections), **state.counts}).encode() + b"\n")
        await writer.drain()
    writer.close()


async def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--to", type=int, required=True)
    parser.add_argument("--control", required=True)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    state = State(args)
    server = await asyncio.start_server(lambda r, w: Connection(state, r, w).run(), "127.0.0.1", 0)
    await asyncio.start_unix_server(lambda r, w: control(state, r, w), args.control)
    print(f"listening on 127.0.0.1:{server.sockets[0].getsockname()[1]}", flush=True)
    over = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, over.set)
    await over.wait()


asyncio.run(main())
