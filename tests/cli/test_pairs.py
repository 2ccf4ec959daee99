"""Groups of a matrix against every pair of their members."""

from functools import reduce
from itertools import product
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from parties import pods, policies, told
from tabard.cli.ground import Ground
from tabard.cli.kinds import By
from tabard.cli.pairs import Group, Pairs, group
from tabard.ledger.provenance import Provenance
from tabard.policy.engine import Engine
from tabard.policy.parties import Who
from tabard.policy.traffic import NOTHING, Traffic, intersection, joined

OUTSIDE = ("203.0.113.9", "10.1.1.8", "fd77::1", "192.168.9.1", "10.244.1.99")
OWNERS = ("Deployment/x/web", "Deployment/x/db")


def members(each: Group) -> list[Who]:
    return list(each.members) or [each.name]


def between(engine: Engine, source: Who, destination: Who) -> list[Traffic]:
    """What may pass by each two of their addresses."""
    ends = engine.parties.pairs(source, destination)
    return [engine.allowed(*each) for each in ends] or [NOTHING]


@settings(max_examples=80, deadline=None, suppress_health_check=list(HealthCheck))
@given(pods, policies, st.lists(st.integers(0, 2), min_size=6, max_size=6))
def test_one_of_each_sort_answers_for_all_members(
    found: list[tuple[str, dict[str, str], Any]],
    said: list[tuple[str, Any]],
    owners: list[int],
) -> None:
    world = told(found, said, leaves=False)
    for owner, pod in zip(owners, world.state.endpoints.values(), strict=False):
        pod.owner = ("", *OWNERS)[owner]
    engine = Engine(world.state)
    ground = Ground(world.state, engine, Provenance())
    for by in By:
        groups = group(ground, by, OUTSIDE)
        assert sum(len(each.members) for each in groups) == len(world.state.endpoints)
        assert len({each.name for each in groups}) == len(groups)
        pairs = Pairs(ground, groups, [])
        for source, destination in product(groups, groups):
            all_of_them = [
                traffic
                for one, other in product(members(source), members(destination))
                for traffic in between(engine, one, other)
            ]
            cell = pairs.cell(source, destination)
            assert cell.every == reduce(intersection, all_of_them)
            assert cell.some == joined(all_of_them)
