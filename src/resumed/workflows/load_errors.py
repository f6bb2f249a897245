"""Owns the sentence that says why a registration cannot be used: class, place and masked message of its error."""

from resumed.errors import RegistrationError
from resumed.observability.redaction import describe_error

_IMPORT_SYSTEM = "importlib"


def load_error(error: BaseException) -> str:
    """Return what may be seen of an error in one line: its class, its file and line, its masked message.

    The place goes before the message, which may be cut. Our own refusals are sentences already.
    """
    if isinstance(error, RegistrationError):
        return str(error)
    report = describe_error(error)
    place = _place(error, report.error_at)
    said = f"{report.error_type} at {place}" if place else report.error_type
    return f"{said}: {report.error}" if report.error else said


def _place(error: BaseException, seen: str | None) -> str | None:
    """Return where a file does not parse, or where the user's code raised; Python's own import system is no place."""
    if isinstance(error, SyntaxError) and error.filename:
        return f"{error.filename}:{error.lineno}"
    return seen if seen is not None and _IMPORT_SYSTEM not in seen else None
