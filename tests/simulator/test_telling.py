"""What people read of a history."""

from tabard.simulator.choices import Act
from tabard.simulator.history import replay, run
from tabard.simulator.telling import SUMS, WORDS

STEPS = 150


def test_each_act_has_words() -> None:
    assert WORDS.keys() == SUMS.keys() == set(Act)
    assert len(set(SUMS.values())) == len(SUMS)


def test_the_beginning_and_each_step_are_told_in_lines_of_their_own() -> None:
    outcome = run(3, STEPS, traced=True)
    begins, *steps = outcome.trace
    assert len(steps) == len(outcome.choices) == STEPS
    assert [int(line.split()[0]) for line in outcome.trace] == list(range(STEPS + 1))
    assert "a1 is leading; a2 is following; n1 enforces 10; n2 enforces 10" in begins
    assert not any("epoch.claimed, settings.adopted" in line for line in steps)
    assert any("LEDGER/11-" in line for line in steps)


def test_a_replay_is_told_in_the_same_words() -> None:
    outcome = run(4, STEPS, traced=True)
    assert replay(4, outcome.choices, traced=True).trace == outcome.trace


def test_telling_changes_nothing() -> None:
    assert run(5, STEPS, traced=True).digest == run(5, STEPS).digest
