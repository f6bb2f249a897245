"""Whether a graph can run without a context, as far as its declared schema shows."""

import dataclasses
import typing
from types import NoneType, UnionType
from typing import Any

from pydantic import BaseModel

from resumed.errors import RegistrationError
from resumed.workflows.workflow import Workflow


def check_context(policy: Workflow, schema: Any) -> None:
    """Refuse a graph whose nodes would find no context: LangGraph stores none, and the registration makes none."""
    if policy.context is not None or not (names := _required_fields(schema)):
        return
    message = (
        f"its graph declares a context_schema that requires {', '.join(names)}, and LangGraph stores no context: add "
        "Workflow(context=...), a callable from the thread's id to the context; one that returns None where the nodes "
        "do without"
    )
    raise RegistrationError(message)


def _required_fields(schema: Any) -> list[str]:
    """Return the fields that a caller has to set; an unknown kind of schema requires none."""
    if not isinstance(schema, type):
        return []
    if typing.is_typeddict(schema):
        return sorted(name for name in schema.__required_keys__ if not _may_be_none(schema, name))  # type: ignore[attr-defined]
    if issubclass(schema, BaseModel):
        return [name for name, field in schema.model_fields.items() if field.is_required()]
    if dataclasses.is_dataclass(schema):
        missing = dataclasses.MISSING
        fields = [field for field in dataclasses.fields(schema) if field.init]
        return [field.name for field in fields if field.default is missing and field.default_factory is missing]
    return []


def _may_be_none(schema: type, name: str) -> bool:
    """Return whether a key of a TypedDict may be None: such a schema documents what a call may set."""
    try:
        hint = typing.get_type_hints(schema).get(name)
    except Exception:  # noqa: BLE001 - annotations may name what only a type checker imports
        return False
    return typing.get_origin(hint) in (typing.Union, UnionType) and NoneType in typing.get_args(hint)
