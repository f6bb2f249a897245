"""What of an error may be seen: one short line, no secret, and a place in the user's code."""

import os
import sysconfig
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError

from resumed.observability import redaction
from resumed.observability.redaction import describe_error, redact_message

CARD = "hunter2"

Module = dict[str, object]


@pytest.mark.parametrize(
    ("message", "seen"),
    [
        (
            "cannot reach postgresql://bob:hunter2@db:5432/shop today",
            "cannot reach postgresql://***@db:5432/shop today",
        ),
        ("redis://:hun@ter2@cache/0", "redis://***@cache/0"),
        ("https://hunter2@example.org/x", "https://***@example.org/x"),
        ("postgresql://bob:hun/ter2@db", "postgresql://***@db"),
        ("Authorization: Bearer hunter2", "Authorization: ***"),
        ("'authorization': 'Basic hunter2'", "'authorization': '***'"),
        ("sent bearer hunter2 twice", "sent bearer *** twice"),
        ("Incorrect API key provided: hunter2. Find yours", "Incorrect API key provided: *** Find yours"),
        ("the key sk-proj-hunter2_x is wrong", "the key sk-*** is wrong"),
        ("api_key=hunter2&page=2", "api_key=***&page=2"),
        ("OPENAI_API_KEY=hunter2 is refused", "OPENAI_API_KEY=*** is refused"),
        ("token: hunter2, user: bob", "token: ***, user: bob"),
        ("PASSWORD = hunter2", "PASSWORD = ***"),
        ("password='hun ter2' host=db", "password=*** host=db"),
        ('{"password": "hun \\"ter2\\"", "user": "bob"}', '{"password": ***, "user": "bob"}'),
        ("{'secret': b'hunter2', 'n': 1}", "{'secret': ***, 'n': 1}"),
        ('{\\"password\\": \\"hun ter2\\", \\"n\\": 1}', '{\\"password\\": ***, \\"n\\": 1}'),
        ('password="hunter2', "password=***"),
        (
            "[type=int_parsing, input_value='hun, ]ter2', input_type=str]",
            "[type=int_parsing, input_value=***, input_type=str]",
        ),
        ("input_value={'card': 'hunter2", "input_value=***"),
        ("jwt eyJhbGciOiJIUzI1NiJ9.hunter2.x", "jwt ***"),
    ],
)
def test_what_looks_like_a_secret_is_masked(message: str, seen: str) -> None:
    assert redact_message(message) == seen


@pytest.mark.parametrize(
    "message",
    [
        "'order'",
        "division by zero",
        'duplicate key value violates unique constraint "pk_orders"',
        "see https://example.org/errors/INVALID_CONCURRENT_GRAPH_UPDATE",
        "task-1 failed at 12:30:00",
        "monkeys are not keys",
        "Recursion limit of 25 reached without hitting a stop condition.",
    ],
)
def test_an_ordinary_message_stays_as_it_is(message: str) -> None:
    assert redact_message(message) == message


def test_only_the_first_line_that_says_anything_is_seen() -> None:
    assert redact_message("\n  \n  it broke\nDETAIL: Key (card)=(hunter2)") == "it broke"
    assert redact_message("it broke\u2028hunter2") == "it broke"
    assert redact_message("") == redact_message("\n") == ""


def test_a_message_is_cut_at_200_characters_after_masking() -> None:
    assert redact_message("x" * 300) == "x" * 200
    assert redact_message("y" * 190 + " password=hunter2") == "y" * 190 + " password="


def test_what_postgres_and_terminals_cannot_take_is_replaced() -> None:
    assert redact_message("a\0b\x1b[31mc\ud800d") == "a\ufffdb\ufffd[31mc\ufffdd"


@given(st.text())
def test_any_message_becomes_one_short_line_that_can_be_stored(message: str) -> None:
    line = redact_message(message)
    assert len(line) <= 200
    assert len(line.splitlines()) <= 1
    assert "\0" not in line
    line.encode()


@given(
    st.sampled_from(["x://u:{}@h/", "Bearer {}", "sk-{}", "api_key={}", 'token: "{}"', "{{'password': '{}'}}"]),
    st.text("abcXYZ019_", min_size=1).map("q7".__add__),
    st.text(max_size=20).filter(lambda text: "q7" not in text),
)
def test_no_secret_is_seen_wherever_it_stands(pattern: str, secret: str, text: str) -> None:
    assert secret not in redact_message(f"{text} {pattern.format(secret)} {text}")


@pytest.mark.parametrize(
    "message", ["://" * 20_000, "a" * 100_000, "key=" * 20_000, "input_value=" * 9_000, "\\" * 50_000]
)
@pytest.mark.timeout(5)
def test_a_hostile_message_takes_no_time(message: str) -> None:
    assert len(redact_message(message)) <= 200


def run(source: str, file: Path | str, **names: object) -> Module:
    """Run source as if it stood in that file."""
    module: Module = dict(names)
    exec(compile(source, str(file), "exec"), module)  # noqa: S102 - the test's own source
    return module


def caught(source: str, file: Path | str, **names: object) -> BaseException:
    """Return what such a file raises, without the frames of this test."""
    with pytest.raises(ValueError) as error:
        run(source, file, **names)
    here = error.value.__traceback__
    assert here is not None
    assert here.tb_next is not None
    return error.value.with_traceback(here.tb_next.tb_next)


def placed(source: str, file: Path | str, **names: object) -> str | None:
    return describe_error(caught(source, file, **names)).error_at


RAISE = "def call(*_):\n    raise ValueError('no')"
CALL = "\ncall()"
WRAP = "def wrapped():\n    call()"
SITE = Path(sysconfig.get_path("purelib"))


def test_the_place_is_the_innermost_frame_of_the_users_files(tmp_path: Path) -> None:
    library = run(RAISE, SITE / "httpx" / "client.py")
    assert placed(CALL, tmp_path / "graphs.py", call=library["call"]) == f"{tmp_path / 'graphs.py'}:2"


def test_the_place_is_not_in_the_standard_library_nor_with_us(tmp_path: Path) -> None:
    stdlib = run(RAISE, Path(sysconfig.get_path("stdlib")) / "asyncio" / "tasks.py")
    ours = run(WRAP, Path(redaction.__file__).parent / "engine" / "attempt.py", call=stdlib["call"])
    assert placed(CALL, tmp_path / "graphs.py", call=ours["wrapped"]) == f"{tmp_path / 'graphs.py'}:2"


def test_an_installed_application_is_the_users_code_and_its_libraries_are_not() -> None:
    library = run(RAISE, SITE / "httpx" / "client.py")
    node = run(WRAP, SITE / "shop" / "graphs.py", call=library["call"])
    langgraph = run(WRAP.replace("wrapped", "invoke"), SITE / "langgraph" / "pregel" / "main.py", call=node["wrapped"])
    ours = Path(redaction.__file__).parent / "engine" / "attempt.py"
    assert placed(CALL, ours, call=langgraph["invoke"]) == f"{SITE / 'shop' / 'graphs.py'}:2"


def test_without_any_frame_of_the_user_the_innermost_is_named() -> None:
    langgraph = SITE / "langgraph" / "pregel" / "main.py"
    ours = Path(redaction.__file__).parent / "engine" / "attempt.py"
    assert placed(CALL, ours, call=run(RAISE, langgraph)["call"]) == f"{langgraph}:2"


def test_a_package_whose_name_begins_like_ours_is_the_users(tmp_path: Path) -> None:
    file = Path(f"{Path(redaction.__file__).parent}_shop") / "graphs.py"
    assert placed(RAISE + CALL, file) == f"{file}:2"
    assert placed(RAISE + CALL, tmp_path / "<graphs>.py") == f"{tmp_path / '<graphs>.py'}:2"


def test_an_error_that_was_never_raised_has_no_place() -> None:
    assert describe_error(ValueError("no")) == redaction.ErrorReport("ValueError", None, "no")


def test_an_error_whose_message_cannot_be_read_is_described_all_the_same() -> None:
    class Broken(Exception):  # noqa: N818 - the user's, not ours
        def __str__(self) -> str:
            raise RuntimeError(CARD)

    class Wrong(Exception):  # noqa: N818
        def __str__(self) -> str:
            return 5  # type: ignore[return-value]  # noqa: PLE0307 - wrong on purpose

    assert describe_error(Broken()).error == describe_error(Wrong()).error == "(its message could not be read)"
    assert describe_error(Broken()).error_type == "Broken"


def test_a_group_of_one_is_described_as_that_one(tmp_path: Path) -> None:
    error = caught(RAISE + CALL, tmp_path / "graphs.py")
    group = BaseExceptionGroup("outer", [ExceptionGroup("inner", [error])])  # type: ignore[type-var]
    assert describe_error(group) == describe_error(error)


def test_a_group_of_several_is_described_as_a_group() -> None:
    group = ExceptionGroup("two branches failed", [ValueError(CARD), KeyError(CARD)])
    assert describe_error(group) == redaction.ErrorReport(
        "ExceptionGroup", None, "two branches failed (2 sub-exceptions)"
    )


def test_a_chained_error_is_described_by_its_last_link(tmp_path: Path) -> None:
    source = "try:\n    raise KeyError('a')\nexcept KeyError as e:\n    raise ValueError('b') from e"
    report = describe_error(caught(source, tmp_path / "graphs.py"))
    assert report == redaction.ErrorReport("ValueError", f"{tmp_path / 'graphs.py'}:4", "b")


def test_a_validation_error_shows_no_value() -> None:
    class Card(BaseModel):
        number: int

    with pytest.raises(ValidationError) as error:
        Card(number=CARD)  # type: ignore[arg-type]
    assert CARD in str(error.value)
    assert CARD not in describe_error(error.value).error
    assert CARD not in redact_message(str(error.value).replace(os.linesep, " ").replace("\n", " "))
