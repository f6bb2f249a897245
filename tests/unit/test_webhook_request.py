"""One request to a real receiver, and to what behaves as badly as one can."""

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

import pytest

from resumed.daemon.webhook_request import Answer, WebhookClient, _Exchange, judge_answer
from support.receiver import Receiver, receiver

NOW = datetime(2026, 11, 26, 12, tzinfo=UTC)
SOON = timedelta(milliseconds=300)
FAR = timedelta(seconds=30)


@pytest.fixture
def receiving() -> Iterator[Receiver]:
    with receiver() as made:
        yield made


@contextmanager
def answering(what: bytes) -> Iterator[str]:
    """Listen, and answer whoever comes with these bytes and the end."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            connection, _ = listening.accept()
            with connection:
                request = b""
                while not request.endswith(
                    b"\r\n\r\n{}"
                ):  # what is left unread would have the kernel reset the connection
                    request += connection.recv(65536)
                connection.sendall(what)

        threading.Thread(target=serve, daemon=True).start()
        yield f"http://127.0.0.1:{listening.getsockname()[1]}/"


@pytest.mark.parametrize("query", ["", "?a=b", "/x?a=/b//c", "/%20;x", "?", "//x", "//x?a"])
async def test_the_address_is_asked_for_as_it_is_written(receiving: Receiver, query: str) -> None:
    answer = await WebhookClient(f"http://127.0.0.1:{receiving.port}{query}").post({"webhook-id": "1"}, "{}", FAR)
    assert answer == Answer()
    (request,) = receiving.requests
    assert (request.path, request.body) == (query if query.startswith("/") else f"/{query.rstrip('?')}", b"{}")
    assert request.headers["host"] == f"127.0.0.1:{receiving.port}"


async def test_the_address_is_no_part_of_what_is_shown_of_a_client() -> None:
    assert "hunter2" not in repr(WebhookClient("http://host/hunter2"))


@pytest.mark.parametrize("drips", [False, True])
async def test_who_does_not_answer_in_time_is_left_and_keeps_no_thread(receiving: Receiver, drips: bool) -> None:
    receiving.drips = drips
    if not drips:
        receiving.hold.clear()
    client = WebhookClient(receiving.url)
    assert await client.post({}, "{}", SOON) == Answer("no answer within 0.3 s")
    thread = client._busy  # noqa: SLF001 - what must not be left behind
    assert thread is not None
    thread.join(5)
    assert not thread.is_alive()
    receiving.drips = False
    receiving.hold.set()
    assert await client.post({}, "{}", FAR) == Answer()


def test_a_thread_that_gives_up_before_its_loop_does_reports_the_same(receiving: Receiver) -> None:
    receiving.hold.clear()
    exchange = _Exchange(WebhookClient(receiving.url)._connection, SOON)  # noqa: SLF001 - half of a race
    assert exchange.run("/", {}, "{}") == Answer("no answer within 0.3 s")
    receiving.hold.set()


async def test_a_request_that_has_not_ended_is_not_joined_by_another(receiving: Receiver) -> None:
    client = WebhookClient(receiving.url)
    client._busy = threading.Thread(target=time.sleep, args=(0.5,), daemon=True)  # noqa: SLF001 - what a hanging lookup of the host leaves
    client._busy.start()  # noqa: SLF001
    assert await client.post({}, "{}", FAR) == Answer("the request before has not ended")
    assert receiving.requests == []


@pytest.mark.parametrize(
    ("what", "failure"),
    [
        (b"", "no answer: RemoteDisconnected"),
        (b"hunter2\r\n\r\n", "no answer: BadStatusLine"),
        (b"HTTP/1.1 999999 hunter2\r\n\r\n", "no answer: BadStatusLine"),
        (b"HTTP/1.1 200 " + b"x" * 100_000, "no answer: LineTooLong"),
        (b"HTTP/1.1 200 OK\r\n" + b"a: b\r\n" * 200 + b"\r\n", "no answer: HTTPException"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 999999999999\r\n\r\n" + b"x" * 100, None),
    ],
)
async def test_what_is_no_answer_is_a_failure_and_a_body_is_not_read(what: bytes, failure: str | None) -> None:
    with answering(what) as url:
        assert await WebhookClient(url).post({}, "{}", FAR) == Answer(failure)


async def test_nobody_there_and_no_tls_there_are_failures_that_name_no_address(receiving: Receiver) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    refused = await WebhookClient(f"http://127.0.0.1:{port}/hunter2").post({}, "{}", FAR)
    assert refused == Answer("no answer: ConnectionRefusedError")
    plain = await WebhookClient(f"https://127.0.0.1:{receiving.port}/hunter2").post({}, "{}", FAR)
    assert plain.failure == "no answer: SSLError"
    unknown = await WebhookClient(f"http://{'x' * 64}.invalid/hunter2").post({}, "{}", FAR)
    assert unknown.failure is not None
    assert "hunter2" not in unknown.failure
    assert "invalid" not in unknown.failure


async def test_a_proxy_of_the_environment_is_not_asked(receiving: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    assert await WebhookClient(receiving.url).post({}, "{}", FAR) == Answer()


@pytest.mark.parametrize(
    ("status", "retry_after", "answer"),
    [
        (200, None, Answer()),
        (299, "60", Answer()),
        (302, None, Answer("answered 302, and redirects are not followed: correct RESUMED_WEBHOOK_URL")),
        (404, None, Answer("answered 404")),
        (410, None, Answer("answered 410 Gone: nothing is sent until this process is started again", gone=True)),
        (429, "120", Answer("answered 429", timedelta(minutes=2))),
        (503, "Thu, 26 Nov 2026 12:01:00 GMT", Answer("answered 503", timedelta(minutes=1))),
        (503, "Thu, 26 Nov 2026 11:01:00 GMT", Answer("answered 503")),
        (500, "-5", Answer("answered 500")),
        (500, "soon\x00", Answer("answered 500")),
        (500, "٣", Answer("answered 500")),
        (500, "9" * 5000, Answer("answered 500", timedelta(seconds=10**9))),
        (101, None, Answer("answered 101")),
        (999, None, Answer("answered 999")),
    ],
)
def test_a_status_means_what_standard_webhooks_say(status: int, retry_after: str | None, answer: Answer) -> None:
    assert judge_answer(status, retry_after, NOW) == answer
