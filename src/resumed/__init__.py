"""`resumed`, the resume daemon for LangGraph: what an application imports of it, and nothing else."""

from importlib.metadata import version

from resumed.errors import (
    DatabaseError,
    DatabaseUnreachableError,
    DatabaseUnusableError,
    RegistrationError,
    ResumedError,
    SettingsError,
)
from resumed.workflows.workflow import Workflow

__all__ = [
    "DatabaseError",
    "DatabaseUnreachableError",
    "DatabaseUnusableError",
    "RegistrationError",
    "ResumedError",
    "SettingsError",
    "Workflow",
]
__version__ = version("resumed")
