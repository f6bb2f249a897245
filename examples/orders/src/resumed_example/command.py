"""The command `resumed-example`: arguments in, JSON or a sentence out."""

import argparse
import asyncio
import json
import sys
from collections.abc import Callable
from typing import Any

from resumed_example import application

_LARGEST = 1000


def main() -> None:
    """Run the command line; ends with 1 where a thread failed."""
    given = _parser().parse_args()
    code = given.action(given)
    sys.exit(code)


def _set_up(given: argparse.Namespace) -> int:
    asyncio.run(application.set_up(given.dsn))
    return 0


def _run(given: argparse.Namespace) -> int:
    failed = asyncio.run(application.run(given.dsn, application.first(given.first, given.threads)))
    for thread_id, raised in failed.items():
        print(f"{thread_id}: {type(raised).__name__}: {raised}", file=sys.stderr)  # noqa: T201
    return 1 if failed else 0


def _states(given: argparse.Namespace) -> int:
    return _tell(asyncio.run(application.states(given.dsn, application.first(given.first, given.threads))))


def _undisturbed(given: argparse.Namespace) -> int:
    return _tell(asyncio.run(application.undisturbed(application.first(given.first, given.threads))))


def _answer(given: argparse.Namespace) -> int:
    thread = application.of_id(given.thread)
    if thread is None:
        sys.exit(f"resumed-example: there is no thread {given.thread!r}")
    asyncio.run(application.answer(given.dsn, thread, given.text))
    return 0


def _tell(answer: Any) -> int:
    sys.stdout.write(json.dumps(answer) + "\n")
    return 0


def _count(text: str) -> int:
    number = int(text)
    if not 1 <= number <= _LARGEST:
        raise ValueError(text)
    return number


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("resumed-example", description="An application to be killed.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    _command(commands, "setup", _set_up, "make LangGraph's tables")
    for name, action, said in (
        ("run", _run, "start threads, spread over the four workflows, and run them to their end"),
        ("states", _states, "read where threads stand, as JSON"),
        ("undisturbed", _undisturbed, "run threads in memory and say where they end, as JSON"),
    ):
        command = _command(commands, name, action, said)
        command.add_argument("--threads", type=_count, default=40, help="how many; default 40")
        command.add_argument("--first", type=_count, default=1, help="the number of the first one; default 1")
    answer = _command(commands, "answer", _answer, "answer the question of a thread and run it to its end")
    answer.add_argument("thread", metavar="THREAD")
    answer.add_argument("text", metavar="ANSWER")
    return parser


def _command(commands: Any, name: str, action: Callable[[argparse.Namespace], int], said: str) -> Any:
    command = commands.add_parser(name, help=said, description=said)
    command.set_defaults(action=action)
    if name != "undisturbed":
        command.add_argument("--dsn", required=True, help="the database: postgresql://user@host:5432/name")
    return command
