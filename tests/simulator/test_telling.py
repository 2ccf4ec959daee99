"""What people read of a history."""

from tabard.simulator.choices import Act
from tabard.simulator.history import replay, run
from tabard.simulator.telling import WORDS

STEPS = 150


def test_each_act_has_words() -> None:
    assert WORDS.keys() == set(Act)


def test_each_step_is_told_in_a_line_of_its_own() -> None:
    outcome = run(3, STEPS, traced=True)
    assert len(outcome.trace) == len(outcome.choices) == STEPS
    assert [int(line.split()[0]) for line in outcome.trace] == list(range(1, STEPS + 1))
    assert any(": epoch.claimed, settings.adopted" in line for line in outcome.trace)


def test_a_replay_is_told_in_the_same_words() -> None:
    outcome = run(4, STEPS, traced=True)
    assert replay(4, outcome.choices, traced=True).trace == outcome.trace


def test_telling_changes_nothing() -> None:
    assert run(5, STEPS, traced=True).digest == run(5, STEPS).digest
