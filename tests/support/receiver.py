"""A small receiver of notices: verifies what it is sent by code of its own, and answers as the test says."""

import base64
import hashlib
import hmac
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

KEY = b"a key of this test alone 123"
SECRET = "whsec_" + base64.b64encode(KEY).decode()
PACE = "webhook_interval=300ms,webhook_timeout=2s"


@dataclass(frozen=True)
class Request:
    """One request as it came: path, headers in lower case, body, the receiver's time."""

    path: str
    headers: dict[str, str]
    body: bytes
    at: float

    @property
    def id(self) -> str:
        return self.headers["webhook-id"]

    @property
    def message(self) -> Any:
        return json.loads(self.body)

    @property
    def notices(self) -> list[Any]:
        return list(self.message["data"]["notices"])


@dataclass
class Receiver:
    """Where notices are sent. Each request is answered by `status` and `headers`, after `hold` was set.

    `on_request` is called before the answer; it may replace it by bytes of its own, which are written in a loop where
    `drips` is set.
    """

    port: int
    requests: list[Request] = field(default_factory=list)
    unverified: list[str] = field(default_factory=list)
    status: int = 204
    headers: dict[str, str] = field(default_factory=dict)
    hold: threading.Event = field(default_factory=threading.Event)
    on_request: Callable[[Request], None] = lambda _: None
    drips: bool = False
    closing: bool = False

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/hunter2?token=hunter3"

    def settings(self, **more: str) -> dict[str, str]:
        return {
            "RESUMED_WEBHOOK_URL": self.url,
            "RESUMED_WEBHOOK_SECRET": SECRET,
            "RESUMED_TEST_TIMINGS": PACE,
            **more,
        }

    def notices(self, kind: str) -> list[Any]:
        """Give the entries of this type, of all messages."""
        return [entry for request in self.requests for entry in request.notices if entry["type"] == kind]

    def answered(self, status: int, **headers: str) -> None:
        self.status, self.headers = status, {name.replace("_", "-"): value for name, value in headers.items()}


@contextmanager
def receiver(port: int = 0) -> Iterator[Receiver]:
    kept = Receiver(port)
    kept.hold.set()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            headers = {name.lower(): value for name, value in self.headers.items()}
            request = Request(self.requestline.split()[1], headers, body, time.time())
            if fault := verify(request):
                kept.unverified.append(fault)
            kept.requests.append(request)
            kept.on_request(request)
            kept.hold.wait(60)
            if kept.drips:
                self.drip()
                return
            self.send_response(kept.status)
            for name, value in kept.headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def do_GET(self) -> None:
            kept.unverified.append(f"GET {self.path}")
            self.send_error(404)

        def drip(self) -> None:
            """Answer by a byte now and then, and come to no end."""
            try:
                self.wfile.write(b"HTTP/1.1 200 OK\r\n")
                while not kept.closing:
                    self.wfile.write(b"x")
                    self.wfile.flush()
                    time.sleep(0.02)
            except OSError:
                self.close_connection = True

        def log_message(self, *_: Any) -> None:
            return

    server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    server.daemon_threads = True
    server.handle_error = lambda *_: None  # type: ignore[method-assign]  # senders that give up close their end
    kept.port = server.server_address[1]
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    try:
        yield kept
    finally:
        kept.closing = True
        kept.hold.set()
        server.shutdown()
        server.server_close()


def verify(request: Request) -> str | None:
    """Say what is wrong with a request by the specification of Standard Webhooks; None where nothing is."""
    missing = {"webhook-id", "webhook-timestamp", "webhook-signature"} - request.headers.keys()
    if missing:
        return f"lacks {missing}"
    if abs(int(request.headers["webhook-timestamp"]) - request.at) > 300:
        return "is too old or too new"
    signed = b".".join([request.id.encode(), request.headers["webhook-timestamp"].encode(), request.body])
    expected = base64.b64encode(hmac.new(KEY, signed, hashlib.sha256).digest()).decode()
    signatures = [one.split(",", 1) for one in request.headers["webhook-signature"].split(" ")]
    if not any(scheme == "v1" and hmac.compare_digest(given, expected) for scheme, given in signatures):
        return "is not signed by us"
    return None
