"""The two sides of `tabard policy diff`: a folder, the cluster, or a point of its history."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import count

import typer

from tabard.cli.failing import Exit
from tabard.cli.ground import Ground
from tabard.cli.moments import MomentError, parse
from tabard.cli.where import Where, ground
from tabard.identity.numbers import CIDR_SCOPE, is_cidr
from tabard.ledger.state import State
from tabard.policy.engine import Engine

CLUSTER = "cluster"
"""The word for the cluster as it is now; a folder of that name is `./cluster`."""


class SideError(ValueError):
    """The text names no side; says what would."""


def place(text: str, cluster: str, nats: str) -> Where:
    """SideError if `text` is neither a path that is there, nor `cluster`, nor a moment."""
    if text == CLUSTER:
        return Where((), None, cluster, nats)
    if text == "-" or os.path.exists(text):
        return Where((text,))
    try:
        return Where((), parse(text), cluster, nats)
    except MomentError:
        raise SideError(
            f"{text!r} is no file or directory that is there, nor {CLUSTER!r}, nor a point of the "
            "ledger's history (881, 2026-11-27T03:12:00Z, -5m)"
        ) from None


@contextmanager
def trouble() -> Iterator[None]:
    """What cannot be read ends in Exit.USAGE: Exit.FAILED would say that it was, and differs."""
    try:
        yield
    except typer.Exit as end:
        if end.exit_code == Exit.FAILED:
            raise typer.Exit(Exit.USAGE) from None
        raise


def sides(what: str, before: Where, after: Where, workloads: Where | None) -> tuple[Ground, Ground]:
    """Both, with the workloads of `workloads`, or each with its own or else the other's.

    SideError if there are none.
    """
    one, other = (ground(what, side, notes=False) for side in (before, after))
    if workloads is not None:
        pods = ground(what, workloads, notes=False)
        one, other = _with(one, pods), _with(other, pods)
    elif not one.state.endpoints:
        one = _with(one, other)
    elif not other.state.endpoints:
        other = _with(other, one)
    if not one.state.endpoints:
        raise SideError("neither side has workloads; say by --workloads which are meant")
    return one, other


def _with(policies: Ground, workloads: Ground) -> Ground:
    state = composed(policies.state, workloads.state)
    return replace(policies, state=state, engine=Engine(state))


def composed(policies: State, workloads: State) -> State:
    """The policies of one state, and all else of another."""
    identities, numbers = dict(workloads.identities), dict(workloads.numbers)
    free = (number for number in count(CIDR_SCOPE) if number not in identities)
    for number, identity in policies.identities.items():
        if is_cidr(number) and identity.labels not in numbers:
            given = next(free)
            identities[given], numbers[identity.labels] = identity, given
    return replace(workloads, policies=policies.policies, identities=identities, numbers=numbers)
