"""Validates the webhook's address and secrets. Connects to nothing and never quotes any part of either."""

import base64
import binascii
from urllib.parse import urlsplit

_EXAMPLE = "write https://alerts.example.com/resumed"
_MAKE_ONE = 'make one with: echo "whsec_$(openssl rand -base64 32)"'
_PREFIX = "whsec_"
_LONGEST_URL = 2000
_SHORTEST_KEY, _LONGEST_KEY = 24, 64


def check_url(text: str) -> str:
    """Return the address unchanged; raise ValueError with the remedy where no request can be made to it."""
    address = text.strip()
    if not address.isascii() or not address.isprintable() or " " in address or len(address) > _LONGEST_URL:
        sentence = f"is not a URL of printable ASCII, {_EXAMPLE} and percent-encode everything else"
        raise ValueError(sentence)
    try:
        parts = urlsplit(address)
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port = None, None
    if host is None or parts.scheme not in ("http", "https") or port == 0:
        sentence = f"must be a URL of http or https with a host, {_EXAMPLE}"
        raise ValueError(sentence)
    if "@" in parts.netloc:
        sentence = "must not hold a user or a password: the signature says who we are, leave out all before the @"
        raise ValueError(sentence)
    return address


def check_secret(text: str) -> str:
    """Return the secrets unchanged; raise ValueError with the remedy where one is none of Standard Webhooks."""
    signing_keys(text)
    return text


def signing_keys(text: str) -> tuple[bytes, ...]:
    """Return the key of each secret; there are several, separated by spaces, while one is rotated."""
    keys = tuple(_decode(secret) for secret in text.split())
    if not keys:
        sentence = f"must hold a secret, {_MAKE_ONE}"
        raise ValueError(sentence)
    return keys


def _decode(secret: str) -> bytes:
    """Decode a secret, with the prefix or without, as the libraries of Standard Webhooks do."""
    encoded = secret.removeprefix(_PREFIX)
    padding = "=" * (-len(encoded) % 4) if secret.startswith(_PREFIX) else ""
    try:
        key = base64.b64decode(encoded + padding, validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if not _SHORTEST_KEY <= len(key) <= _LONGEST_KEY:
        sentence = f"must be whsec_ and the base64 of 24 to 64 random bytes, {_MAKE_ONE}"
        raise ValueError(sentence)
    return key
