"""A TCP proxy that makes the network worse: delay, rate, and a cut.

    delay_proxy.py --to HOST:PORT [--delay-ms N] [--rate BYTES_PER_SEC] [--cut-after BYTES]

--delay-ms holds every byte back for so long, in each direction, without reordering or narrowing the stream; --rate bounds
each direction; --cut-after closes both sides once so many bytes came from the server. Prints "listening on 127.0.0.1:PORT".
"""

import argparse
import asyncio
import signal

CHUNK_BYTES = 64 * 1024
QUEUE_CHUNKS = 4096  # what may be on its way: 256 MiB, more than any bandwidth-delay product here


class Direction:
    """Carries bytes one way: one task stamps them with their time of arrival, another lets them go when it has come."""

    def __init__(self, reader, writer, args, cut_after=None):
        self.reader, self.writer, self.args = reader, writer, args
        self.left = cut_after
        self.queue = asyncio.Queue(QUEUE_CHUNKS)

    async def _take(self):
        loop = asyncio.get_running_loop()
        while True:
            data = await self.reader.read(CHUNK_BYTES)
            await self.queue.put((loop.time() + self.args.delay_ms / 1000, data))
            if not data:
                return

    async def _give(self):
        loop = asyncio.get_running_loop()
        free_at = 0.0  # when the line has sent what it was given
        while True:
            due, data = await self.queue.get()
            if not data:
                self.writer.write_eof()
                return
            if self.args.rate:
                free_at = max(free_at, loop.time()) + len(data) / self.args.rate
                due = max(due, free_at)
            if due > loop.time():
                await asyncio.sleep(due - loop.time())
            if self.left is not None:
                data = data[:self.left]
                self.left -= len(data)
            self.writer.write(data)
            await self.writer.drain()
            if self.left == 0:
                raise ConnectionAbortedError("cut")

    async def carry(self):
        await asyncio.gather(self._take(), self._give())


async def serve(client_reader, client_writer, args):
    writers = [client_writer]
    host, _, port = args.to.rpartition(":")
    try:
        server_reader, server_writer = await asyncio.open_connection(host, int(port))
        writers.append(server_writer)
        ways = [Direction(client_reader, server_writer, args), Direction(server_reader, client_writer, args, args.cut_after)]
        tasks = [asyncio.ensure_future(way.carry()) for way in ways]
        try:
            await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
    except OSError:
        pass  # one side is gone: so is the other, below
    finally:
        for writer in writers:
            writer.close()


async def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--to", required=True)
    parser.add_argument("--delay-ms", type=float, default=0)
    parser.add_argument("--rate", type=float, default=0)
    parser.add_argument("--cut-after", type=int)
    args = parser.parse_args()
    server = await asyncio.start_server(lambda r, w: serve(r, w, args), "127.0.0.1", 0)
    print(f"listening on 127.0.0.1:{server.sockets[0].getsockname()[1]}", flush=True)
    over = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, over.set)
    await over.wait()


asyncio.run(main())
