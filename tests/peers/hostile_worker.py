"""A client of our server for requests that no worker of ours would send. What is right to answer, the tests say."""

import socket
import threading

import grpc

import protos

sync, workspace = protos.load_own()

SCAN = "/grpc.SyncService/StreamFileScan"
DOWNLOAD = "/grpc.SyncService/StreamFileDownload"
HANDSHAKE = "/fsyncfs.v1.Workspace/Handshake"
WATCH = "/fsyncfs.v1.Workspace/Watch"
LIST_FOLDER = "/fsyncfs.v1.Workspace/ListFolder"
REPORT = "/fsyncfs.v1.Workspace/Report"
LEARNED = "/fsyncfs.v1.Workspace/Learned"
SYNC = "/grpc.SyncService/SyncFiles"
FETCH = "/fsyncfs.v1.Workspace/Fetch"
ATTEND = "/fsyncfs.v1.Workspace/Attend"
DEADLINE_SEC = 60
REPLIES = {SCAN: sync.FileScanChunk, DOWNLOAD: sync.FileDownloadChunk, HANDSHAKE: workspace.HandshakeReply,
           WATCH: sync.FileScanChunk, LIST_FOLDER: sync.FileScanChunk, REPORT: workspace.ReportReply,
           LEARNED: workspace.LearnedReply, SYNC: sync.FileScanChunk, FETCH: workspace.FetchReply,
           ATTEND: workspace.Notice}
XXH3 = 1


class Client:
    def __init__(self, address, token=None):
        options = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1),
                   ("grpc.use_local_subchannel_pool", 1)]
        self.channel = grpc.insecure_channel(address, options=options)
        self.metadata = [("authorization", token)] if token is not None else []

    def close(self):
        self.channel.close()

    def stream(self, method, request):
        """The answers' bytes as they come. REQUEST may be any bytes."""
        data = request if isinstance(request, bytes) else request.SerializeToString()
        call = self.channel.unary_stream(method, request_serializer=None, response_deserializer=None)
        return call(data, metadata=self.metadata, timeout=DEADLINE_SEC)

    def call(self, method, request):
        """(status code, answers): the whole exchange."""
        answers, stream = [], self.stream(method, request)
        try:
            for data in stream:
                answers.append(REPLIES[method].FromString(data) if method in REPLIES else data)
        except grpc.RpcError as error:
            return error.code(), answers
        return grpc.StatusCode.OK, answers

    def first(self, method, request):
        """(status code, None) if the call ends without an answer, otherwise (None, its first answer); either way the call is over."""
        stream = self.stream(method, request)
        try:
            return None, next(stream)
        except StopIteration:
            return grpc.StatusCode.OK, None
        except grpc.RpcError as error:
            return error.code(), None
        finally:
            stream.cancel()

    def conversation(self, method, requests):
        """(status code, answers) of one stream with several requests, the next one sent after a complete answer."""
        answers, left, more = [], list(requests), threading.Semaphore(1)

        def say():
            for request in left:
                more.acquire()
                yield request.SerializeToString()
        call = self.channel.stream_stream(method, request_serializer=None, response_deserializer=None)
        try:
            for data in call(say(), metadata=self.metadata, timeout=DEADLINE_SEC):
                answers.append(REPLIES[method].FromString(data))
                if getattr(answers[-1], "is_complete", True):
                    more.release()
        except grpc.RpcError as error:
            return error.code(), answers
        return grpc.StatusCode.OK, answers

    def scan(self, spider, path="", own=True):
        return self.call(SCAN, sync.FileSyncRequest(spider_id=spider, path=path, fsyncfs_protocol=int(own)))

    def download(self, spider, path, own=True, **fields):
        request = sync.FileDownloadRequest(spider_id=spider, path=path, fsyncfs_protocol=int(own), **fields)
        return self.call(DOWNLOAD, request)


def raw_connection(port, data):
    """A TCP connection that says DATA and then nothing."""
    connection = socket.create_connection(("127.0.0.1", port), DEADLINE_SEC)
    connection.sendall(data)
    return connection
