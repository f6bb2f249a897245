"""The reason why a registration cannot be used: class, place and masked message of its error."""

from resumed.errors import RegistrationError
from resumed.observability.redaction import describe_error

_IMPORT_SYSTEM = "importlib"


def load_error(error: BaseException) -> str:
    """Return an error as one line that is safe to show: its class, its file and line, its masked message.

    The place is where a file does not parse, or where user code raised, and goes before the message, which may be cut.
    Our own errors are sentences already.
    """
    if isinstance(error, RegistrationError):
        return str(error)
    report = describe_error(error)
    place = report.error_at
    if isinstance(error, SyntaxError) and error.filename:
        place = f"{error.filename}:{error.lineno}"
    elif place is not None and _IMPORT_SYSTEM in place:
        place = None
    described = f"{report.error_type} at {place}" if place else report.error_type
    return f"{described}: {report.error}" if report.error else described
