"""A gRPC relay within the test's own process: carries every call to a master as it is, but for contents, whose way a fault may spoil, and over
connections that are spoiled as a whole.

Works on bytes, so that what it does not understand it passes on. A fault may be set, changed and taken away at any time.
"""

import concurrent.futures
import queue
import threading

import grpc

import hostile_worker

workspace = hostile_worker.workspace
FETCH = "/fsyncfs.v1.Workspace/Fetch"
IDLE_SEC = 0.05  # nothing came for so long: Fault.idle is asked
PIECE = 256 << 10
OPTIONS = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1), ("grpc.so_reuseport", 0),
           ("grpc.use_local_subchannel_pool", 1)]
THREADS = 48  # two a call, and Watch never ends


class Abort(Exception):
    """Ends the stream with a status."""

    def __init__(self, code):
        super().__init__(code.name)
        self.code = code


class Fault:
    """Right in everything. One object serves one relay: what it keeps, it keeps over all streams."""

    downloads = True  # whether a content may be had by StreamFileDownload

    def part(self, part, want):
        """The parts to send instead of PART, which answers WANT."""
        return [part]

    def idle(self):
        """The parts to send because nothing came from the master for a while."""
        return []

    def end_of_message(self):
        """The parts to send behind a message's."""
        return []


class Relay:
    """Carries calls to PORT on 127.0.0.1 until closed. .port is where it listens.

    .fault      what is done to contents; None: nothing
    .wants      all wants that were carried, of all streams, as (path, offset, length, list)
    .streams    how many Fetch streams were opened; .downloads: how many StreamFileDownload calls
    """

    def __init__(self, port, fault=None):
        self.fault = fault
        self.wants, self.streams, self.downloads = [], 0, 0
        self._peers, self._spoiled, self._watches, self._deaf = set(), {}, set(), set()
        self._channel = grpc.insecure_channel(f"127.0.0.1:{port}", options=OPTIONS)
        self._server = grpc.server(concurrent.futures.ThreadPoolExecutor(THREADS), options=OPTIONS)
        self._server.add_generic_rpc_handlers((self,))
        self.port = self._server.add_insecure_port("127.0.0.1:0")
        self._server.start()

    def close(self):
        self._server.stop(0)
        self._channel.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def source(self, spider="spider"):
        return f"127.0.0.1:{self.port}:/{spider}"

    def spoil(self, how):
        """The connections there are do what those do whose two ends have lost each other: calls under way are silent, and later ones (HOW) "unknown", or "mute"."""
        self._spoiled.update({peer: how for peer in self._peers})

    def lose_pushes(self):
        """The Watch calls there are stay open and bring nothing."""
        self._deaf |= self._watches

    def service(self, call):
        """What gRPC asks of a generic handler: the handler of one method."""
        carry = {FETCH: self._fetch, hostile_worker.DOWNLOAD: self._download}.get(call.method, self._carry)

        def handle(requests, context):
            if call.method == hostile_worker.WATCH:
                self._watches.add(context)
            return self._over(context, carry(call.method, requests, context))
        return grpc.stream_stream_rpc_method_handler(handle)

    def _silent(self, context):
        return context.peer() in self._spoiled or context in self._deaf

    def _over(self, context, messages):
        """MESSAGES, as far as the call's connection carries them."""
        self._peers.add(context.peer())
        over = threading.Event()
        if self._spoiled.get(context.peer()) == "unknown":
            context.abort(grpc.StatusCode.UNIMPLEMENTED, "no such method")
        if not context.add_callback(over.set):
            return
        for message in messages:
            if self._silent(context):
                break
            yield message
        if self._silent(context):
            over.wait()

    def _upstream(self, method, requests, context):
        stream = self._channel.stream_stream(method)(requests, metadata=context.invocation_metadata())
        context.add_callback(stream.cancel)
        return stream

    def _carry(self, method, requests, context):
        try:
            yield from self._upstream(method, requests, context)
        except grpc.RpcError as error:
            context.abort(error.code(), error.details())

    def _download(self, method, requests, context):
        self.downloads += 1
        if self.fault and not self.fault.downloads:
            context.abort(grpc.StatusCode.INTERNAL, "no downloads here")
        yield from self._carry(method, requests, context)

    def _fetch(self, method, requests, context):
        self.streams += 1
        wants = {}
        stream = self._upstream(method, self._noting(requests, wants), context)
        try:
            for message in _with_idle(stream):
                parts = self._spoil(message, wants)
                if parts is None:
                    yield message
                elif parts:
                    yield workspace.FetchReply(parts=parts).SerializeToString()
        except grpc.RpcError as error:
            context.abort(error.code(), error.details())
        except Abort as abort:
            context.abort(abort.code, "so it goes")

    def _noting(self, requests, wants):
        for message in requests:
            for want in workspace.FetchRequest.FromString(message).wants:
                wants[want.id] = want
                self.wants.append((want.path, want.offset, want.length, want.list))
            yield message

    def _spoil(self, message, wants):
        """The parts to send instead of MESSAGE (None: nothing came). None: it goes on as it is."""
        fault = self.fault
        if fault is None:
            return None if message is not None else []
        if message is None:
            return fault.idle()
        parts = []
        for part in workspace.FetchReply.FromString(message).parts:
            parts += fault.part(part, wants[part.id])
        return parts + fault.end_of_message()


def _with_idle(stream):
    """The messages of STREAM, and None whenever none came for a while; raises what STREAM raises."""
    arrived = queue.SimpleQueue()

    def read():
        try:
            for message in stream:
                arrived.put((message, None))
            arrived.put((None, StopIteration()))
        except grpc.RpcError as error:
            arrived.put((None, error))
    threading.Thread(target=read, name="relay", daemon=True).start()
    while True:
        try:
            message, error = arrived.get(timeout=IDLE_SEC)
        except queue.Empty:
            yield None
            continue
        if isinstance(error, StopIteration):
            return
        if error:
            raise error
        yield message
