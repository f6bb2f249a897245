"""Owns whether a graph can be run without a context, as far as the schema that it declares for one tells."""

import dataclasses
import typing
from types import NoneType, UnionType
from typing import Any

from pydantic import BaseModel

from resumed.errors import RegistrationError
from resumed.workflows.workflow import Workflow


def check_context(policy: Workflow, schema: Any) -> None:
    """Refuse a graph whose nodes would find no context: LangGraph stores none, and the registration makes none."""
    if policy.context is not None or not (names := _required(schema)):
        return
    message = (
        f"its graph declares a context_schema that requires {', '.join(names)}, and LangGraph stores no context: add "
        "Workflow(context=...), a callable from the thread's id to the context; one that returns None where the nodes "
        "do without"
    )
    raise RegistrationError(message)


def _required(schema: Any) -> list[str]:
    """Name the fields that a caller has to give; an unknown kind of schema requires nothing."""
    if not isinstance(schema, type):
        return []
    if typing.is_typeddict(schema):
        return sorted(name for name in schema.__required_keys__ if not _optional(schema, name))  # type: ignore[attr-defined]
    if issubclass(schema, BaseModel):
        return [name for name, one in schema.model_fields.items() if one.is_required()]
    if dataclasses.is_dataclass(schema):
        missing = dataclasses.MISSING
        fields = [one for one in dataclasses.fields(schema) if one.init]
        return [one.name for one in fields if one.default is missing and one.default_factory is missing]
    return []


def _optional(schema: type, name: str) -> bool:
    """Return whether a key of a TypedDict may be None: such a schema documents what a call may give."""
    try:
        hint = typing.get_type_hints(schema).get(name)
    except Exception:  # noqa: BLE001 - names in annotations that are only there for a type checker
        return False
    return typing.get_origin(hint) in (typing.Union, UnionType) and NoneType in typing.get_args(hint)
