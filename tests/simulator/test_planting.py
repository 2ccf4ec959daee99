"""Faults break what they say, while they are planted and no longer, and never rot unseen."""

import asyncio
import inspect
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tabard.invariants.verdict import Invariant
from tabard.simulator.faults.catalogue import FAULTS
from tabard.simulator.faults.planting import Edit, Fault, FaultGone


def doubled(number: int) -> int:
    return 2 * number


class Counter:
    def __init__(self) -> None:
        self.count = 0

    def add(self, by: int = 1) -> int:
        """Adds."""
        self.count += by
        return self.count

    @property
    def shown(self) -> str:
        return f"{self.count} things"

    @contextmanager
    def adding(self) -> Iterator[int]:
        yield self.add()

    async def later(self) -> int:
        await asyncio.sleep(0)
        return self.add()


def fault(*edits: Edit) -> Fault:
    return Fault("broken", "it breaks", Invariant.FOLD, edits)


def test_a_function_does_something_else_while_its_fault_is_planted() -> None:
    imported = doubled  # whoever has it already is broken too
    with fault(Edit(doubled, "2 * number", "3 * number")).plant():
        assert imported(5) == 15
    assert imported(5) == 10


def test_methods_properties_generators_and_coroutines_can_be_broken() -> None:
    shown = inspect.getattr_static(Counter, "shown").fget
    edits = (
        Edit(Counter.add, "self.count += by", "self.count -= by"),
        Edit(shown, "things", "thongs"),
        Edit(Counter.adding, "yield self.add()", "yield 99"),
        Edit(Counter.later, "return self.add()", "return 77"),
    )
    counter = Counter()
    with fault(*edits).plant():
        assert (counter.add(), counter.shown) == (-1, "-1 thongs")
        with counter.adding() as added:
            assert added == 99
        assert asyncio.run(counter.later()) == 77
    assert (counter.add(2), counter.shown) == (1, "1 things")


def test_two_edits_of_one_function_are_both_made() -> None:
    edits = (Edit(doubled, "2 *", "10 *"), Edit(doubled, "* number", "* number + 1"))
    with fault(*edits).plant():
        assert doubled(4) == 41


def test_a_function_is_whole_again_when_what_ran_on_it_failed() -> None:
    with pytest.raises(ZeroDivisionError), fault(Edit(doubled, "2", "0")).plant():
        assert 1 / doubled(1)
    assert doubled(1) == 2


def test_lines_keep_their_numbers() -> None:
    with fault(Edit(Counter.add, "return self.count", "raise KeyError")).plant():
        with pytest.raises(KeyError) as caught:
            Counter().add()
        line = caught.traceback[-1].lineno + 1
    text, first = inspect.getsourcelines(Counter.add)
    assert text[line - first].strip() == "return self.count"


@pytest.mark.parametrize("before", ["5 * number", "number"])
def test_code_that_is_not_there_or_there_twice_is_told_and_nothing_is_broken(before: str) -> None:
    edits = (Edit(Counter.add, "self.count += by", "pass"), Edit(doubled, before, "0"))
    told = r"'broken'.*doubled.*times, not once"
    with pytest.raises(FaultGone, match=told), fault(*edits).plant():
        pass
    assert Counter().add() == 1


@pytest.mark.parametrize("name", FAULTS)
def test_what_a_fault_breaks_is_there(name: str) -> None:
    edited = FAULTS[name]
    functions = {inspect.unwrap(edit.function) for edit in edited.edits}
    whole = {each: each.__code__ for each in functions}
    with edited.plant():
        for each, code in whole.items():
            assert each.__code__ != code
    assert {each: each.__code__ for each in functions} == whole


def test_each_fault_says_in_a_line_what_it_breaks() -> None:
    assert len(FAULTS) >= 20
    for name, each in FAULTS.items():
        assert name == each.name
        assert each.breaks[0].isupper()
        assert not each.breaks.endswith(".")
        assert len(each.breaks) <= 90, name
