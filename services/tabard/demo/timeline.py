"""Judging packets against a policy that changes while they fly (never-open).

A change takes hold somewhere between the moment its event was sent and the moment every node said
that it enforces it. A packet may pass only if some state that could have been in force while it
was under way allows it.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from tabard.demo.expectation import Expectation
from tabard.demo.probe import Answer


@dataclass(slots=True)
class Epoch:
    """One state, and the time in which some node may have enforced it (Unix nanoseconds)."""

    expectation: Expectation
    possible_from: int
    possible_until: int | None = None
    """None while it is the latest state."""

    def overlaps(self, began: int, ended: int) -> bool:
        until = self.possible_until
        return self.possible_from <= ended and (until is None or began <= until)


class Timeline:
    """The states of one trial, oldest first."""

    def __init__(self, expectation: Expectation, now: int) -> None:
        self._epochs = [Epoch(expectation, now)]

    def change(self, expectation: Expectation, sent: int, enforced: int) -> None:
        """A new state: its event was sent at `sent`, and all nodes enforced it by `enforced`."""
        self._epochs[-1].possible_until = enforced
        self._epochs.append(Epoch(expectation, sent))

    def leaks(self, uid: str, answers: Iterable[Answer]) -> list[Answer]:
        """The packets of pod `uid` that passed and that no possible state would have allowed."""
        return [answer for answer in answers if answer.passed and not self._allowed(uid, answer)]

    def _allowed(self, uid: str, answer: Answer) -> bool:
        return any(
            epoch.expectation.allows_pod(uid, answer.target, answer.said)
            for epoch in self._epochs
            if epoch.overlaps(answer.began, answer.ended)
        )
