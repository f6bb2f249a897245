"""Owns what may be shown of an error: its class, a place in the user's code, a short masked line. Logs nothing."""

import os
import re
import sysconfig
import traceback
from dataclasses import dataclass
from pathlib import Path

LONGEST = 200

_WINDOW = 4096
_QUOTED = r"""\\+["'].*?(?:\\+["']|$)|[a-z]?"(?:[^"\\]|\\.)*"?|[a-z]?'(?:[^'\\]|\\.)*'?"""
_MASKS = (
    (re.compile(r"input_value=(?:.*(?=, input_type=)|.*)"), "input_value=***"),
    (re.compile(r"://\S*@"), "://***@"),
    (re.compile(r"\b(authorization[\"'\\]*\s*[=:]\s*[\"'\\]*)(?:\w+\s+)?[^\s\"',]+", re.IGNORECASE), r"\1***"),
    (re.compile(r"\b(bearer)\s+\S+", re.IGNORECASE), r"\1 ***"),
    (re.compile(r"\bsk-[\w-]+"), "sk-***"),
    (re.compile(r"\b(?:sk_live_|sk_test_|gh[opsu]_|xox[abprs]-|AKIA|eyJ)[\w.=-]{8,}"), "***"),
    (
        re.compile(
            r"((?:key|token|password|passwd|passphrase|pwd|secret|credential)s?(?:\s+(?:provided|given|is|was))?"
            rf"[\"'\\]*\s*[=:]\s*)(?:{_QUOTED}|[^\s,;&)}}\]]+)",
            re.IGNORECASE,
        ),
        r"\1***",
    ),
)
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")

_STDLIB = tuple({sysconfig.get_path(name) + os.sep for name in ("stdlib", "platstdlib")})
_INSTALLED = re.compile(r"[/\\](?:site|dist)-packages[/\\]([^/\\]+)")
_FRAMEWORK = re.compile(r"(?:resumed|langgraph|langchain|langsmith|psycopg|pydantic|apscheduler|tenacity)(?![a-z])")
_OURSELVES = str(Path(__file__).parent) + os.sep


@dataclass(frozen=True, slots=True)
class ErrorReport:
    """An error as it is logged and recorded; `error_at` is `file:line`, None where there is no traceback."""

    error_type: str
    error_at: str | None
    error: str


def mask_secrets(text: str) -> str:
    """Replace what looks like a secret with `***`."""
    for pattern, replacement in _MASKS:
        text = pattern.sub(replacement, text)
    return text


def redact_message(message: str) -> str:
    """Return the first line that says anything, masked, without control characters, at most 200 characters."""
    lines = message[: 8 * _WINDOW].lstrip().splitlines()
    line = mask_secrets(lines[0][:_WINDOW]) if lines else ""
    return _UNPRINTABLE.sub("\N{REPLACEMENT CHARACTER}", line)[:LONGEST].rstrip()


def describe_error(error: BaseException) -> ErrorReport:
    """Return what may be shown of an error; a group of one counts as that one."""
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return ErrorReport(type(error).__name__, _place(error), redact_message(_message(error)))


def _message(error: BaseException) -> str:
    """Read the message of an error whose own code may fail."""
    try:
        return str(error)
    except Exception:  # noqa: BLE001 - the class is the user's, anything can come out of it
        return "(its message could not be read)"


def _place(error: BaseException) -> str | None:
    """Find the innermost frame of the user's code: their files, else their installed package, else any frame."""
    frames = [(frame.f_code.co_filename, line) for frame, line in traceback.walk_tb(error.__traceback__)]
    candidates = [frame for frame in frames if _is_theirs(frame[0])] or _of_their_package(frames) or frames
    return f"{candidates[-1][0]}:{candidates[-1][1]}" if candidates else None


def _is_theirs(file: str) -> bool:
    """Return whether a file is neither ours, nor installed, nor Python's."""
    return not (file.startswith(("<", _OURSELVES, *_STDLIB)) or _INSTALLED.search(file))


def _of_their_package(frames: list[tuple[str, int]]) -> list[tuple[str, int]]:
    """Return the frames of the first installed package that is no framework: the one that the graph is in."""
    packages = [(match[1] if (match := _INSTALLED.search(file)) else None, file, line) for file, line in frames]
    theirs = next((package for package, _, _ in packages if package and not _FRAMEWORK.match(package)), None)
    return [(file, line) for package, file, line in packages if theirs and package == theirs]
