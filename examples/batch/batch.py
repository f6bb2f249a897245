"""A batch without a queue of its own: `python batch.py DSN FILE` has the daemon run an order for each number in FILE.

Postgres is the queue. A number is a thread, so the file may be given as often as you like, whole or in part, by as many
processes as you like: what was submitted is run once. `resumed run` does the work, on as many hosts as it runs on.
"""

import sys
from pathlib import Path

from resumed import WorkflowExecutor


def main(dsn: str, file: str) -> None:
    """Submit a run for each line."""
    numbers = [int(line) for line in Path(file).read_text().split()]
    with WorkflowExecutor(dsn) as executor:
        for number in numbers:
            executor.submit("orders", {"number": number}, thread_id=f"orders_{number}")
    print(f"{len(numbers)} orders are on record")


if __name__ == "__main__":
    main(*sys.argv[1:])
