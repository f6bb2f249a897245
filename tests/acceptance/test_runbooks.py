"""What the runbooks tell to run, on a database with threads that stopped."""

import pytest

from support.bench import Bench
from support.runbooks import pages

THREAD, WORKFLOW = "linear_0", "linear"
QUARANTINED, FOUND = 1, 0


def commands() -> list[tuple[str, ...]]:
    """Each command once, about the thread and the workflow of this test."""
    ours = {"order-4711": THREAD, "orders": WORKFLOW}
    found = {tuple(ours.get(word, word) for word in words): None for page in pages() for words in page.commands}
    return [words for words in found if "--config" not in words]


@pytest.mark.thorough
def test_every_command_of_the_runbooks_ends_as_it_should(bench: Bench) -> None:
    bench.crashed_application(2, WORKFLOW, ends=2, ZOO_DELAY="0.3")
    assert bench.resumed("once", workflows=[]).returncode == 0
    told = commands()
    assert len(told) > 20
    answers = {"release -": f"{THREAD}\n", "release": "y\n", "unpause": "y\n", "resume": "y\n"}
    for words in told:
        given = answers.get(" ".join(words)) or answers.get(words[0], "")
        done = bench.resumed(*words, given=given, workflows=[WORKFLOW])
        assert done.returncode in (QUARANTINED, FOUND), (words, done.stderr)
        print(done.returncode, *words, "|", (done.stdout + done.stderr).strip().replace("\n", " / ")[:150])
