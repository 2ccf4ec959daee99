"""What is left of a history, on a cluster that is a function of its choices."""

from collections.abc import Callable, Sequence
from random import Random

import pytest

from tabard.invariants.verdict import Invariant, Violation
from tabard.simulator.choices import Act, Choice
from tabard.simulator.history import Found, Outcome
from tabard.simulator.shrink import Replay, shrink


def work(what: str) -> Choice:
    return Choice(Act.WORK, what=what)


def judged(
    fails: Callable[[Sequence[str]], Invariant | None], tried: list[int] | None = None
) -> Replay:
    """A cluster that is looked at after each step, by the choices carried out until then."""

    def again(seed: int, choices: Sequence[Choice]) -> Outcome:
        if tried is not None:
            tried.append(len(choices))
        for step in range(1, len(choices) + 1):
            if invariant := fails([choice.what for choice in choices[:step]]):
                found = (Found(step, Violation(invariant, "it broke")),)
                return Outcome(seed, tuple(choices[:step]), 0, found, "", {})
        return Outcome(seed, tuple(choices), 0, (), "", {})

    return again


def needs(*wanted: str) -> Callable[[Sequence[str]], Invariant | None]:
    """Broken once `wanted` were done, in that order, with anything in between."""

    def fails(done: Sequence[str]) -> Invariant | None:
        rest = iter(done)
        return Invariant.FENCED if all(each in rest for each in wanted) else None

    return fails


def history(length: int, wanted: Sequence[str], seed: int = 1) -> list[Choice]:
    chance = Random(seed)
    places = sorted(chance.sample(range(length), len(wanted)))
    whats = [f"noise {at}" for at in range(length)]
    for place, what in zip(places, wanted, strict=True):
        whats[place] = what
    return [work(what) for what in whats]


@pytest.mark.parametrize("wanted", [["a"], ["a", "b"], ["a", "a", "b", "c", "a"]], ids=len)
@pytest.mark.parametrize("length", [5, 6, 100, 501])
def test_only_what_is_needed_is_left(length: int, wanted: list[str]) -> None:
    again = judged(needs(*wanted))
    shrunk = shrink(again(1, history(length, wanted)), again)
    assert [choice.what for choice in shrunk.outcome.choices] == wanted
    assert shrunk.is_minimal


def test_a_history_of_which_nothing_can_go_stays_as_it_is() -> None:
    again = judged(needs("a", "b", "c"))
    whole = again(1, [work("a"), work("b"), work("c")])
    assert shrink(whole, again).outcome == whole


def test_another_violation_is_not_taken_for_the_same() -> None:
    def fails(done: Sequence[str]) -> Invariant | None:
        if done == ["b"]:  # alone it breaks something else
            return Invariant.FOLD
        return needs("a", "b")(done)

    again = judged(fails)
    shrunk = shrink(again(1, history(50, ["a", "b"])), again)
    assert [choice.what for choice in shrunk.outcome.choices] == ["a", "b"]
    assert shrunk.outcome.found[0].violation.invariant is Invariant.FENCED


def test_another_fault_of_the_same_invariant_is_not_taken_for_the_same() -> None:
    def again(seed: int, choices: Sequence[Choice]) -> Outcome:
        done = [choice.what for choice in choices]
        what = ""
        if done == ["b"]:
            what = "healed, it did not converge within 60 s: the workload waits"
        elif needs("a", "b")(done):
            what = f"a2 ended by itself: SequenceGap: LEDGER holds {len(done)}"
        found = (Found(len(done), Violation(Invariant.CONVERGENCE, what)),) if what else ()
        return Outcome(seed, tuple(choices), 0, found, "", {})

    shrunk = shrink(again(1, history(50, ["a", "b"])), again)
    assert [choice.what for choice in shrunk.outcome.choices] == ["a", "b"]


def test_the_search_ends_when_its_steps_are_used_up() -> None:
    tried: list[int] = []
    again = judged(needs("a", "b"), tried)
    whole = again(1, history(400, ["a", "b"]))
    tried.clear()
    shrunk = shrink(whole, again, steps_max=1_000)
    assert not shrunk.is_minimal
    assert sum(tried[:-1]) < 1_000 <= sum(tried)
    assert shrunk.tries == len(tried)
    assert 2 <= len(shrunk.outcome.choices) < len(whole.choices)


def test_the_same_violation_is_always_shrunk_to_the_same_history() -> None:
    again = judged(needs("a", "b", "c"))
    whole = again(1, history(200, ["a", "b", "c"]))
    assert shrink(whole, again) == shrink(whole, again)
