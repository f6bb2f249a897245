"""The reason why a registration cannot be used: class, place and masked message of its error."""

from resumed.errors import RegistrationError
from resumed.observability.redaction import describe_error

_IMPORT_SYSTEM = "importlib"


def load_error(error: BaseException) -> str:
    """Return an error as one line that is safe to show: its class, its file and line, its masked message.

    The place goes before the message, which may be cut. Our own errors are sentences already.
    """
    if isinstance(error, RegistrationError):
        return str(error)
    report = describe_error(error)
    place = _place(error, report.error_at)
    described = f"{report.error_type} at {place}" if place else report.error_type
    return f"{described}: {report.error}" if report.error else described


def _place(error: BaseException, seen: str | None) -> str | None:
    """Return where a file does not parse, or where user code raised; None inside Python's own import system."""
    if isinstance(error, SyntaxError) and error.filename:
        return f"{error.filename}:{error.lineno}"
    return seen if seen is not None and _IMPORT_SYSTEM not in seen else None
