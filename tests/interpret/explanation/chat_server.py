"""A server on loopback that speaks the OpenAI chat protocol, as badly as a test wants."""

import json
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Reply:
    """What the server sends: a status, headers and a body, after a while or byte by byte."""

    def __init__(
        self, body=b"", status=200, headers=(), delay=0.0, cut=0, drip=0.0, drips_headers=False
    ):
        self.drip, self.drips_headers = drip, drips_headers
        self.body = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.status, self.headers, self.delay, self.cut = status, dict(headers), delay, cut


def said(content, finish="stop", delay=0.0, cut=0, **fields):
    """A good reply; `fields` are further ones of the message."""
    choice = {"index": 0, "message": {"role": "assistant", "content": content, **fields}}
    usage = {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}
    body = {"id": "1", "object": "chat.completion", "created": 0, "model": "m"}
    body |= {"choices": [{**choice, "finish_reason": finish}], "usage": usage}
    return Reply(body, delay=delay, cut=cut)


class _Handler(BaseHTTPRequestHandler):
    def do_POST(self):
        server = self.server
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with server.lock:
            server.requests.append(
                (self.path, {k.lower(): v for k, v in self.headers.items()}, request)
            )
            number = len(server.requests) - 1
            server.now += 1
            server.most = max(server.most, server.now)
        try:
            reply = server.script(number, request)
            time.sleep(reply.delay)
        finally:
            with server.lock:
                server.now -= 1
        self.send_response(reply.status)
        if reply.drips_headers:
            self.flush_headers()
            self.close_connection = True
            self.write_slowly(reply)
            return
        for name, value in {"Content-Type": "application/json", **reply.headers}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(reply.body)))
        self.end_headers()
        self.close_connection = True
        if reply.drip:
            self.write_slowly(reply)
        else:
            self.wfile.write(reply.body[: len(reply.body) - reply.cut])

    def write_slowly(self, reply):
        for value in reply.body:
            self.wfile.write(bytes([value]))
            self.wfile.flush()
            time.sleep(reply.drip)

    def log_message(self, *args):
        pass


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def handle_error(self, request, client_address):
        pass  # a client that went away, since it was not to wait any longer


@contextmanager
def chat_server(script):
    """Serve; `script` makes a `Reply` of the number of a request and its JSON, or is a list."""
    server = _Server(("127.0.0.1", 0), _Handler)
    replies = script
    server.script = (
        (lambda i, _: replies[min(i, len(replies) - 1)]) if isinstance(script, list) else script
    )
    server.requests, server.lock, server.now, server.most = [], threading.Lock(), 0, 0
    server.url = f"http://127.0.0.1:{server.server_port}/v1"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
