"""The command `migrate`: creates or upgrades our schema and builds the index that sweeps need."""

from typing import Annotated

import typer

from resumed.cli.context import prepare, run
from resumed.cli.output import print_line
from resumed.store import schema
from resumed.store.connection import Target


def migrate(
    index: Annotated[
        bool, typer.Option("--index/--no-index", help="Build the index on checkpoints concurrently.")
    ] = True,
) -> None:
    """Create or upgrade the schema `resumed` and build the index on checkpoints without blocking writers.

    It is safe to interrupt, to repeat, and to run in several places at once.
    """
    settings, _ = prepare(quiet=True)
    run(schema.migrate(Target(settings.dsn, settings.checkpoint_schema), build_index=index, tell=print_line))
