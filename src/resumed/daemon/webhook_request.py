"""Makes one HTTP request to the webhook, in a thread of its own that nothing waits for beyond the time limit.

Only the status and `Retry-After` are read of an answer, never its body. Redirects and proxies are not followed. What is
reported of a failure names no part of the address.
"""

import asyncio
import contextlib
import socket
import ssl
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from http.client import HTTP_PORT, HTTPS_PORT, HTTPConnection, HTTPException, HTTPSConnection
from urllib.parse import urlsplit

_CONNECT_LIMIT = timedelta(seconds=5)
_MOST_SECONDS = 10**9


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of a request: `failure` is None where it was delivered; `gone`: nothing more is wanted."""

    failure: str | None = None
    retry_after: timedelta | None = None
    gone: bool = False


@dataclass(slots=True)
class WebhookClient:
    """Makes requests to one address, one at a time."""

    url: str = field(repr=False)
    _busy: threading.Thread | None = None
    _tls: ssl.SSLContext | None = None

    async def post(self, headers: Mapping[str, str], body: str, limit: timedelta) -> Answer:
        """Send a body; return what became of it within the limit."""
        if self._busy is not None and self._busy.is_alive():
            return Answer("the request before has not ended")
        answered: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        tell = _teller(answered)
        exchange = _Exchange(self._connection, limit)
        parts = urlsplit(self.url)
        path = f"{parts.path or '/'}?{parts.query}" if parts.query else parts.path or "/"

        def work() -> None:
            tell(exchange.run(path, headers, body))

        self._busy = threading.Thread(target=work, name="resumed webhook", daemon=True)
        self._busy.start()
        try:
            async with asyncio.timeout(limit.total_seconds()):
                return await answered
        except TimeoutError:
            return _no_answer_within(limit)
        finally:
            exchange.give_up()

    def _connection(self, limit: timedelta) -> HTTPConnection:
        """Return a connection that is not open yet; a step of opening it may take so long."""
        parts, timeout = urlsplit(self.url), limit.total_seconds()
        if parts.scheme == "http":
            return HTTPConnection(parts.hostname or "", parts.port or HTTP_PORT, timeout=timeout)
        self._tls = self._tls or ssl.create_default_context()
        return HTTPSConnection(parts.hostname or "", parts.port or HTTPS_PORT, timeout=timeout, context=self._tls)


class _Exchange:
    """One request, made in a thread; the loop gives it up when its time is over."""

    def __init__(self, connection: Callable[[timedelta], HTTPConnection], limit: timedelta) -> None:
        self._make_connection, self._limit = connection, limit
        self._connection: HTTPConnection | None = None
        self._given_up = threading.Event()

    def run(self, path: str, headers: Mapping[str, str], body: str) -> Answer:
        """Connect, send, and read the head of the answer."""
        waited = min(self._limit, _CONNECT_LIMIT)
        try:
            connection = self._connection = self._make_connection(waited)
            with contextlib.closing(connection):
                connection.connect()
                if self._given_up.is_set():
                    return Answer("given up")
                waited = self._limit
                connection.sock.settimeout(waited.total_seconds())
                connection.request("POST", path, body, dict(headers))
                with connection.getresponse() as response:
                    return judge_answer(response.status, response.headers.get("Retry-After"), datetime.now(UTC))
        except TimeoutError:
            return _no_answer_within(waited)
        except (OSError, HTTPException, ValueError) as error:
            return Answer(f"no answer: {type(error).__name__}")

    def give_up(self) -> None:
        """Wake the thread, whatever it waits for on its connection, and let it send nothing more."""
        self._given_up.set()
        opened: socket.socket | None = self._connection.sock if self._connection is not None else None
        with contextlib.suppress(OSError):
            if opened is not None:
                opened.shutdown(socket.SHUT_RDWR)


def _no_answer_within(limit: timedelta) -> Answer:
    return Answer(f"no answer within {limit.total_seconds():g} s")


def judge_answer(status: int, retry_after: str | None, now: datetime) -> Answer:
    """Return what a status means, as Standard Webhooks has it."""
    if HTTPStatus.OK <= status < HTTPStatus.MULTIPLE_CHOICES:
        return Answer()
    wait = _parse_retry_after(retry_after, now)
    if HTTPStatus.MULTIPLE_CHOICES <= status < HTTPStatus.BAD_REQUEST:
        return Answer(f"answered {status}, and redirects are not followed: correct RESUMED_WEBHOOK_URL", wait)
    if status == HTTPStatus.GONE:
        return Answer("answered 410 Gone: nothing is sent until this process is started again", wait, gone=True)
    return Answer(f"answered {status}", wait)


def _parse_retry_after(value: str | None, now: datetime) -> timedelta | None:
    """Read seconds or a date; None for anything else, and for the past."""
    if value is None:
        return None
    text = value.strip()
    if text.isascii() and text.isdigit():
        return timedelta(seconds=min(int(text[:10]), _MOST_SECONDS))
    try:
        wait = parsedate_to_datetime(text).astimezone(UTC) - now
    except (ValueError, OverflowError):
        return None
    return wait if wait > timedelta(0) else None


def _teller(answered: "asyncio.Future[Answer]") -> Callable[[Answer], None]:
    """Return how a thread gives its answer to the loop, which may have stopped waiting, or be closed."""
    loop = answered.get_loop()

    def give(answer: Answer) -> None:
        if not answered.done():
            answered.set_result(answer)

    def tell(answer: Answer) -> None:
        with contextlib.suppress(RuntimeError):
            loop.call_soon_threadsafe(give, answer)

    return tell
