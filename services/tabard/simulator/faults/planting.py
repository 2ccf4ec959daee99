"""Planting a fault: a few words of production code are others for a while.

Functions get another body in place, so that whoever imported them has it too. A target that has
moved on is told by name, so that no fault rots unseen.
"""

import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import CodeType, FunctionType
from typing import Any

from tabard.invariants.verdict import Invariant


class FaultGone(Exception):
    """The code that a fault breaks is not what it was; says which fault, where, and what to do."""


@dataclass(frozen=True, slots=True)
class Edit:
    """In `function`, what reads `before` (as its file has it, exactly once) reads `after`."""

    function: Callable[..., Any]
    before: str
    after: str


@dataclass(frozen=True, slots=True)
class Fault:
    name: str
    """As `no-fence`."""
    breaks: str
    """One line."""
    caught_by: Invariant
    """Whose checker must notice."""
    edits: tuple[Edit, ...]
    steps: int = 300
    """Length of the histories in which it is looked for."""

    @contextmanager
    def plant(self) -> Iterator[None]:
        """Break the code inside; FaultGone, and nothing is broken, if it is not there any more."""
        bodies: dict[FunctionType, str] = {}
        for edit in self.edits:
            target = _function(edit.function)
            text = bodies.get(target) or _text(target)
            if (found := text.count(edit.before)) != 1:
                raise FaultGone(
                    f"fault {self.name!r}: {target.__module__}.{target.__qualname__} has "
                    f"{edit.before!r} {found} times, not once; say in "
                    f"{__package__} what breaks it now"
                )
            bodies[target] = text.replace(edit.before, edit.after)
        broken = {target: _compiled(target, text) for target, text in bodies.items()}
        whole = {target: target.__code__ for target in broken}
        try:
            for target, code in broken.items():
                target.__code__ = code
            yield
        finally:
            for target, code in whole.items():
                target.__code__ = code


def _function(function: Callable[..., Any]) -> FunctionType:
    found = inspect.unwrap(function)
    assert isinstance(found, FunctionType), f"{function!r} has no code of its own to break"
    return found


def _text(function: FunctionType) -> str:
    return inspect.getsource(function)


def _compiled(function: FunctionType, text: str) -> CodeType:
    """The code of `function` with another text; lines keep their numbers."""
    first = function.__code__.co_firstlineno
    # A method's text is indented: it stands in a block of its own, a line before its first.
    padded = f"{chr(10) * (first - 2)}if True:\n{text}" if text[0].isspace() else None
    whole = padded or f"{chr(10) * (first - 1)}{text}"
    code = compile(whole, function.__code__.co_filename, "exec", dont_inherit=True)
    [found] = (
        each
        for each in code.co_consts
        if isinstance(each, CodeType) and each.co_name == function.__name__
    )
    return found.replace(co_qualname=function.__code__.co_qualname)
