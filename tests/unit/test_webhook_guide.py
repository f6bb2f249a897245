"""The page on the webhook: its message is one of ours, and its code verifies what we sign."""

import base64
import json
import re
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from resumed.config.webhook import signing_keys
from resumed.judge.webhook import Gathered, NoticeGroup, sign_message

TEXT = (Path(__file__).parents[2] / "docs" / "webhook.md").read_text()
SECRET = "whsec_" + base64.b64encode(b"a secret of this test alone").decode()
NOON = datetime(2026, 11, 26, 12, tzinfo=UTC)


def block(language: str) -> str:
    (found,) = re.findall(rf"^```{language}\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)
    return str(found)


def headers(secret: str, timestamp: int, body: str) -> dict[str, str]:
    return {
        "webhook-id": "msg_1",
        "webhook-timestamp": str(timestamp),
        "webhook-signature": sign_message(signing_keys(secret), "msg_1", timestamp, body),
    }


def test_the_message_of_the_page_is_one_of_ours() -> None:
    later = NOON + timedelta(minutes=2)
    groups = [
        NoticeGroup("workflow.paused", None, 1, NOON, NOON),
        NoticeGroup("case.quarantined", "orders", 1000, NOON, later, ("orders-4711", "orders-4712")),
    ]
    assert json.loads(block("json")) == json.loads(Gathered().with_groups(groups).to_message())


def test_the_code_of_the_page_takes_what_we_sign_and_nothing_else() -> None:
    names: dict[str, Any] = {}
    exec(block("python"), names)  # noqa: S102 - our own page
    verified, now, body = names["verified"], int(time.time()), '{"type":"notices.collected"}'
    other = "whsec_" + base64.b64encode(b"another secret of this test").decode()
    assert verified(SECRET, headers(SECRET, now, body), body.encode())
    assert verified(SECRET, headers(f"{other} {SECRET}", now, body), body.encode())
    assert not verified(SECRET, headers(other, now, body), body.encode())
    assert not verified(SECRET, headers(SECRET, now, body), body.encode() + b" ")
    assert not verified(SECRET, headers(SECRET, now - 301, body), body.encode())
