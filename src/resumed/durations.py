"""Owns how a length of time is written: `30s`, `1h30m`, `PT5M`."""

import re
from datetime import timedelta
from fractions import Fraction

LONGEST = timedelta(days=36_500)  # a date can be moved by this

_NUMBER = r"[0-9]+(?:\.[0-9]+)?"
_UNITS = {"w": 604_800_000_000, "d": 86_400_000_000, "h": 3_600_000_000, "m": 60_000_000, "s": 1_000_000, "ms": 1_000}
_SHORT = re.compile("".join(rf"(?:(?P<{unit}>{_NUMBER}){unit}(?![a-z]))?" for unit in _UNITS), re.IGNORECASE)
_ISO = re.compile(
    rf"P(?:(?P<w>{_NUMBER})W)?(?:(?P<d>{_NUMBER})D)?"
    rf"(?:T(?=[0-9])(?:(?P<h>{_NUMBER})H)?(?:(?P<m>{_NUMBER})M)?(?:(?P<s>{_NUMBER})S)?)?",
    re.IGNORECASE,
)
_LONGEST_TEXT = 64


def parse_duration(text: str) -> timedelta:
    """Read a length of time, exact to the microsecond; raises ValueError with a sentence that says what to write."""
    written = text.strip()
    _refuse_common_mistakes(written)
    match = _ISO.fullmatch(written) or _SHORT.fullmatch(written)
    parts = {unit: value for unit, value in match.groupdict().items() if value} if match else {}
    if not parts:
        sentence = f"{written[:_LONGEST_TEXT]!r} is not a duration, write one like 30s, 5m, 24h, 7d or PT5M"
        raise ValueError(sentence)
    microseconds = sum(_UNITS[unit] * Fraction(value) for unit, value in parts.items())
    if microseconds > LONGEST // timedelta(microseconds=1):
        sentence = "a duration must not be longer than a hundred years (36500d)"
        raise ValueError(sentence)
    return timedelta(microseconds=round(microseconds))


def _refuse_common_mistakes(written: str) -> None:
    """Raise ValueError for the mistakes that deserve a sentence of their own."""
    sentence = ""
    if not written:
        sentence = "an empty text is not a duration, write one like 30s"
    elif len(written) > _LONGEST_TEXT:
        sentence = "that is too long for a duration, write one like 30s"
    elif re.fullmatch(_NUMBER, written):
        sentence = f"{written!r} has no unit, write {written}s for seconds"
    elif written.startswith("-"):
        sentence = f"{written!r} is negative, a duration must not be"
    if sentence:
        raise ValueError(sentence)


def duration_text(duration: timedelta) -> str:
    """Write a length of time in the shortest form that `parse_duration` reads back; raises ValueError below zero."""
    if duration < timedelta(0):
        sentence = "a duration must not be negative"
        raise ValueError(sentence)
    microseconds = duration // timedelta(microseconds=1)
    if not microseconds:
        return "0s"
    units = [(unit, size) for unit, size in _UNITS.items() if unit != "w"]  # nobody expects to read weeks
    in_one_unit = [f"{microseconds // size}{unit}" for unit, size in units if microseconds % size == 0]
    return min([*in_one_unit, _compound(microseconds), _seconds(microseconds)], key=len)


def _seconds(microseconds: int) -> str:
    """Write the time as seconds with decimals."""
    whole, rest = divmod(microseconds, _UNITS["s"])
    return f"{whole}.{rest:06}".rstrip("0").rstrip(".") + "s"


def _compound(microseconds: int) -> str:
    """Write the time as days, hours, minutes and seconds."""
    written = ""
    for unit in ("d", "h", "m"):
        count, microseconds = divmod(microseconds, _UNITS[unit])
        written += f"{count}{unit}" if count else ""
    return written + (_seconds(microseconds) if microseconds else "")
