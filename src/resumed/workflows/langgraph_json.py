"""Reads a LangGraph CLI file: which graphs it registers, and the path and environment that they need."""

import importlib
import importlib.util
import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from dotenv import dotenv_values

from resumed.errors import RegistrationError


def read_file(file: Path) -> dict[str, str]:
    """Read the graphs of the file, by name; put its dependencies on the path and its `env` into the environment.

    A variable that is set already wins. Raises RegistrationError.
    """
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise RegistrationError(f"{file} cannot be read: {error.strerror}") from None
    except ValueError:
        raise RegistrationError(f"{file} is not JSON") from None
    graphs = content.get("graphs") if isinstance(content, dict) else None
    if not isinstance(graphs, dict) or not graphs:
        raise RegistrationError(f'{file} has no "graphs": an object from names to "path.py:attribute"')
    _extend_path(file.parent, content.get("dependencies"))
    _extend_environment(file.parent, content.get("env"))
    places: dict[str, str] = {}
    for name, value in graphs.items():
        place = value.get("path") if isinstance(value, Mapping) else value
        if not isinstance(place, str):
            raise RegistrationError(f'the graph {name!r} has no place: write "path.py:attribute"')
        places[str(name)] = place
    return places


def load_graph(file: Path, place: str) -> object:
    """Import what `path.py:attribute` or `module:attribute` names; whatever the import raises passes through."""
    where, _, attribute = place.rpartition(":")
    if not where or not attribute:
        raise RegistrationError(f'{place!r} is not of the form "path.py:attribute" or "module:attribute"')
    found: Any = _import_file(file.parent / where) if where.endswith(".py") else importlib.import_module(where)
    for part in attribute.split("."):
        found = getattr(found, part)
    return found


def _extend_path(folder: Path, dependencies: object) -> None:
    """Put local dependencies on the path, as the LangGraph CLI does by installing them; others must be installed."""
    named = [item for item in dependencies if isinstance(item, str)] if isinstance(dependencies, list) else ["."]
    folders = [(folder / item).resolve() for item in named if item.startswith(".")]
    roots = [_package_root(root) for local in folders for root in (local / "src", local) if root.is_dir()]
    sys.path += [str(root) for root in dict.fromkeys(roots) if str(root) not in sys.path]


def _package_root(folder: Path) -> Path:
    """Return the folder from which a package is imported, where this one is a package or part of one.

    A folder inside a package must not be on the path: its modules would exist twice, under two names.
    """
    while (folder / "__init__.py").is_file() and folder != folder.parent:
        folder = folder.parent
    return folder


def _extend_environment(folder: Path, env: object) -> None:
    given: Mapping[str, Any] = {}
    if isinstance(env, str):
        given = dotenv_values(folder / env)
    elif isinstance(env, Mapping):
        given = env
    for name, value in given.items():
        if value is not None:
            os.environ.setdefault(str(name), str(value))


def _import_file(path: Path) -> ModuleType:
    """Import a file under the name by which its application imports it: stored classes are found by that name.

    That is the name of a module that was read from the file already, else its name in its packages, else its name under
    the innermost folder of the path.
    """
    path = path.resolve()
    if not path.is_file():
        raise RegistrationError(f"there is no file {path.name} where the entry says")
    if name := _find_imported(path):
        return importlib.import_module(name)
    package = _package_root(path.parent)
    if package != path.parent and str(package) not in sys.path:
        sys.path.append(str(package))
    folders = {Path(entry or ".").resolve() for entry in sys.path}
    roots = sorted((folder for folder in folders if path.is_relative_to(folder)), key=lambda folder: -len(folder.parts))
    names = [_module_name(path, root) for root in (package, *(root for root in roots if _package_root(root) == root))]
    broken: list[ImportError] = []
    if name := next((name for name in names if name and _file_of_module(name, broken) == path), None):
        return importlib.import_module(name)
    if broken:
        raise broken[0]
    return _import_alone(path)


def _import_alone(path: Path) -> ModuleType:
    """Import a file that is in no package and on no path, under its own name."""
    if path.stem in sys.modules:
        raise RegistrationError(
            f"another module is named {path.stem} already: rename {path.name}, or put it in a package"
        )
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise RegistrationError(f"{path.name} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[path.stem]
        raise
    return module


def _find_imported(path: Path) -> str | None:
    """Return the name of a module that was read from this file already."""
    for name, module in list(sys.modules.items()):
        file = getattr(module, "__file__", None)
        if (
            name != "__main__"
            and isinstance(file, str)
            and Path(file).name == path.name
            and Path(file).resolve() == path
        ):
            return name
    return None


def _module_name(path: Path, root: Path) -> str:
    """Return the name under which a file is imported from a folder of the path."""
    parts = path.relative_to(root).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _file_of_module(name: str, broken: list[ImportError]) -> Path | None:
    """Return the file that an import of this name would read; `broken` collects what its packages raise."""
    try:
        spec = importlib.util.find_spec(name)
    except ImportError as error:
        if not (isinstance(error, ModuleNotFoundError) and f"{name}.".startswith(f"{error.name}.")):
            broken.append(error)
        return None
    except (AttributeError, ValueError):
        return None
    return Path(spec.origin).resolve() if spec is not None and spec.origin is not None else None
