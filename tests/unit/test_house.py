"""Keeps the house legible: lengths of functions and modules, numbers of parameters, depth of nesting."""

import ast
import re
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2] / "src" / "resumed"
MODULES = sorted(ROOT.rglob("*.py"))
BLOCKS = (ast.If, ast.For, ast.AsyncFor, ast.While, ast.Try)
ROWS_AND_SETTINGS = {"Settings", "Case", "Attempt", "Head", "Workflow", "Timings"}
NOUNS = {"graph_binding", "text_encoding"}
MOST_SHORT_ONES = 0.08  # a share of all functions
CONTRACTS_OWN = {"prune", "run", "stream", "astream", "execute", "resume_workflow", "aresume_workflow"}
Function = ast.FunctionDef | ast.AsyncFunctionDef


def functions() -> Iterator[tuple[str, Function]]:
    for module in MODULES:
        for node in ast.walk(ast.parse(module.read_text())):
            if isinstance(node, Function):
                yield f"{module.relative_to(ROOT)}:{node.lineno} {node.name}", node


def lines(function: Function) -> int:
    """Count the lines of the body, its docstring apart."""
    documented = ast.get_docstring(function) is not None
    body = function.body[1:] if documented else function.body
    return (body[-1].end_lineno or 0) - body[0].lineno + 1 if body else 0


def depth(node: ast.AST) -> int:
    """Count the blocks inside each other; an `elif` stands beside its `if`, not inside it."""
    if isinstance(node, ast.If) and len(node.orelse) == 1 and isinstance(node.orelse[0], ast.If):
        return max(1 + max(map(depth, node.body)), depth(node.orelse[0]))
    inner = max(map(depth, ast.iter_child_nodes(node)), default=0)
    return inner + isinstance(node, BLOCKS)


def dataclass_fields() -> Iterator[tuple[str, int]]:
    for module in MODULES:
        for node in ast.walk(ast.parse(module.read_text())):
            if isinstance(node, ast.ClassDef) and any("dataclass" in ast.dump(one) for one in node.decorator_list):
                yield node.name, sum(isinstance(one, ast.AnnAssign) for one in node.body)


def used_once(name: str, function: Function) -> bool:
    """Return whether a private function is named once in its module, beside its definition."""
    return function.name.startswith("_") and not function.name.startswith("__") and (
        words(ROOT / name.partition(":")[0])[function.name] == 2
    )  # fmt: skip


@cache
def words(module: Path) -> Counter[str]:
    return Counter(re.findall(r"\w+", module.read_text()))


def parameters(function: Function) -> int:
    return sum(one.arg not in ("self", "cls") for one in (*function.args.args, *function.args.kwonlyargs))


@pytest.mark.parametrize("module", MODULES, ids=lambda module: str(module.relative_to(ROOT)))
def test_a_module_has_at_most_400_lines_and_says_what_it_owns(module: Path) -> None:
    text = module.read_text()
    assert len(text.splitlines()) <= 400
    assert ast.get_docstring(ast.parse(text))


def test_no_function_is_longer_than_50_lines() -> None:
    lengths = {name: lines(function) for name, function in functions()}
    assert {name: length for name, length in lengths.items() if length > 50} == {}


def test_no_function_takes_more_than_seven_parameters_unless_the_contract_gives_it_more() -> None:
    many = {name: count for name, function in functions() if (count := parameters(function)) > 7}
    assert {name: count for name, count in many.items() if name.split()[-1] not in CONTRACTS_OWN} == {}


def test_no_dataclass_has_more_than_twelve_fields_unless_it_is_a_row_or_a_set_of_settings() -> None:
    counts = {name: count for name, count in dataclass_fields() if name not in ROWS_AND_SETTINGS}
    assert {name: count for name, count in counts.items() if count > 12} == {}


def test_no_module_is_named_by_a_gerund() -> None:
    assert {one.stem for one in MODULES if one.stem.endswith("ing")} <= NOUNS


def test_few_private_functions_are_short_and_used_once() -> None:
    everything = list(functions())
    short = [name for name, function in everything if lines(function) <= 4 and used_once(name, function)]
    assert len(short) <= MOST_SHORT_ONES * len(everything), (len(short), len(everything))


def test_no_function_nests_deeper_than_the_house_allows() -> None:
    assert {name: deep for name, function in functions() if (deep := depth(function)) > 3} == {}


def test_no_module_imports_for_type_checking_only() -> None:
    assert [module for module in MODULES if "TYPE_CHECKING" in module.read_text()] == []


def test_no_word_that_has_to_be_decoded() -> None:
    words = re.compile(
        r"\b(lest|anew|whoever|somebody|(tells?|told) of|(gives?|given) back|is at it|felled)\b", re.IGNORECASE
    )
    kept = {"decisions.md", "CHANGELOG.md"}  # a record of what was said
    repository = ROOT.parents[1]
    files = [*repository.glob("*.md"), *repository.glob("docs/**/*.md"), *repository.glob("deploy/**/*.yml")]
    files += [one for pattern in ("*.py", "*.sql") for one in ROOT.rglob(pattern) if one.parent.name != "migrations"]
    found = [
        f"{file.relative_to(repository)}: {line.strip()}"
        for file in files
        if file.name not in kept
        for line in file.read_text().splitlines()
        if words.search(line)
    ]
    assert found == []
