"""The command `resumed`, as a process or inside this one; with the same output, exit code and environment."""

import asyncio
import contextlib
import io
import logging
import os
import subprocess
import sys
import tempfile
import threading
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import structlog

from resumed import timings
from resumed.timings import Timings
from support.preloaded import may_fork, start_worker
from support.waiting import DEADLINE

COMMAND = Path(sys.executable).parent / "resumed"
Done = subprocess.CompletedProcess[str]


def run_process(
    arguments: Sequence[str],
    environment: Mapping[str, str],
    folder: Path,
    given: str = "",
    *,
    command: Path = COMMAND,
    patience: float = DEADLINE,
) -> Done:
    """Run the installed command, or another one, to its end, with these lines on stdin."""
    return subprocess.run(
        [str(command), *arguments], env=environment, cwd=folder, input=given,
        capture_output=True, text=True, timeout=patience, check=False,
    )  # fmt: skip


def run_here(arguments: Sequence[str], environment: Mapping[str, str], folder: Path, given: str = "") -> Done:
    """Run the command inside this process: only its workers are processes of their own, with LangGraph imported."""
    from resumed.cli.app import run_command  # noqa: PLC0415 - most tests need no command line

    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        with ExitStack() as undo:
            undo.enter_context(_as_process(environment, folder))
            undo.enter_context(_forked_workers())
            undo.enter_context(_descriptors(out, err, given))
            code = run_command(arguments)
        texts = [_whole(one) for one in (out, err)]
    return subprocess.CompletedProcess([str(COMMAND), *arguments], code, *texts)


def _whole(file: BinaryIO) -> str:
    file.seek(0)
    return file.read().decode()


def may_run_here(environment: Mapping[str, str]) -> bool:
    """Return whether a command can run in this process: in its main thread, and not under another clock."""
    return threading.current_thread() is threading.main_thread() and "LD_PRELOAD" not in environment


@contextmanager
def _as_process(environment: Mapping[str, str], folder: Path) -> Iterator[None]:
    """Set environment and folder, and put back what a command sets for its process: both, logging and warnings."""
    before, handlers, level = dict(os.environ), logging.root.handlers[:], logging.root.level
    with contextlib.chdir(folder), warnings.catch_warnings():
        warnings.simplefilter("default")
        try:
            _replace(environment)
            yield
        finally:
            _replace(before)
            logging.captureWarnings(capture=False)
            logging.root.handlers[:] = handlers
            logging.root.setLevel(level)
            structlog.reset_defaults()
            timings.use(Timings())


@contextmanager
def _forked_workers() -> Iterator[None]:
    """Have workers be forked where they need no interpreter of their own."""
    create = asyncio.create_subprocess_exec

    async def create_or_fork(*command: Any, env: Mapping[str, str], pass_fds: Sequence[int], **options: Any) -> Any:
        if may_fork(env):
            return start_worker(env, pass_fds[0])
        return await create(*command, env=env, pass_fds=pass_fds, **options)

    asyncio.create_subprocess_exec = create_or_fork
    try:
        yield
    finally:
        asyncio.create_subprocess_exec = create


def _replace(environment: Mapping[str, str]) -> None:
    for name in os.environ.keys() - environment.keys():
        del os.environ[name]
    os.environ.update(environment)


@contextmanager
def _descriptors(out: Any, err: Any, given: str) -> Iterator[None]:
    """Have stdout and stderr be files, those of child processes too."""
    kept = [os.dup(number) for number in (1, 2)]
    sys.stdout.flush()
    sys.stderr.flush()
    streams = [
        io.TextIOWrapper(io.FileIO(number, "w", closefd=False), "utf-8", write_through=True) for number in (1, 2)
    ]
    os.dup2(out.fileno(), 1)
    os.dup2(err.fileno(), 2)
    stdin, sys.stdin = sys.stdin, io.StringIO(given)
    try:
        with contextlib.redirect_stdout(streams[0]), contextlib.redirect_stderr(streams[1]):
            yield
    finally:
        for one in streams:
            one.close()
        sys.stdin = stdin
        for number, one in zip((1, 2), kept, strict=True):
            os.dup2(one, number)
            os.close(one)
