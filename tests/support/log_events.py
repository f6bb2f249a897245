"""Finds every log event in the code: its name, its levels and its fields."""

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2] / "src" / "resumed" / "observability"
ATTEMPT = (
    "thread_id", "workflow", "attempt", "worker", "before", "after", "outcome", "duration_ms", "error_type", "error_at",
    "error",
)  # fmt: skip
RETURNED = {"_facts": (*ATTEMPT, "trace_id", "span_id"), "_error_fields": ("error_type", "error_at", "error")}
Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True)
class LogEvent:
    name: str
    levels: tuple[str, ...]
    fields: tuple[str, ...]


def log_events() -> list[LogEvent]:
    """Return all events by name."""
    return sorted((one for file in ROOT.glob("*.py") for one in _events(file)), key=lambda one: one.name)


def _events(file: Path) -> Iterator[LogEvent]:
    for function in ast.walk(ast.parse(file.read_text())):
        if not isinstance(function, Function) or function.name == "write_event":
            continue
        for call in ast.walk(function):
            if isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id == "write_event":
                levels = call.args[1] if len(call.args) > 1 else ast.Constant("info")
                for name in _constants(call.args[0], function):
                    yield LogEvent(name, tuple(_constants(levels, function)), tuple(_fields(call, function)))


def _constants(node: ast.expr, function: Function) -> list[str]:
    """Return what an expression may be, of constants and choices between them."""
    match node:
        case ast.Constant(str() as value):
            return [value]
        case ast.IfExp(_, body, other):
            return [*_constants(body, function), *_constants(other, function)]
        case ast.Name(name):
            return _constants(_assigned(name, function), function)
        case _:
            raise AssertionError(ast.dump(node))


def _assigned(name: str, function: Function) -> ast.expr:
    for node in ast.walk(function):
        match node:
            case ast.Assign([ast.Name(target)], value) if target == name:
                return value
            case ast.AnnAssign(ast.Name(target), _, ast.expr() as value) if target == name:
                return value
    raise AssertionError(name)


def _fields(call: ast.Call, function: Function) -> Iterator[str]:
    for keyword in call.keywords:
        if keyword.arg is not None:
            yield keyword.arg
        else:
            yield from _keys(keyword.value, function)


def _keys(node: ast.expr, function: Function) -> Iterator[str]:
    """Return the keys of a dictionary that is written out, or that one of our methods returns."""
    match node:
        case ast.Dict(keys, values):
            for key, value in zip(keys, values, strict=True):
                yield from _keys(value, function) if key is None else _constants(key, function)
        case ast.DictComp(ast.Name(), _, [ast.comprehension(iter=ast.Tuple(names))]):
            for name in names:
                yield from _constants(name, function)
        case ast.IfExp(_, body, other):
            yield from [*_keys(body, function), *_keys(other, function)]
        case ast.Call(ast.Attribute(_, method)):
            yield from RETURNED[method]
        case ast.Name(name):
            yield from _keys(_assigned(name, function), function)
        case _:
            raise AssertionError(ast.dump(node))
