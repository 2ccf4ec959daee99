"""The catalogue: it has all that a nemesis is to do, and says so in a line each."""

import re
from collections.abc import Mapping

import pytest

from tabard.chaos.scenarios import ALL, SCENARIOS, Scenario, UnknownScenario, chosen
from tabard.cluster.errors import ClusterError

NEMESIS: Mapping[str, tuple[str, ...]] = {
    "kill -9 of the bus's leader": ("kill-bus-leader",),
    "kill -9 of a bus follower": ("kill-bus-follower",),
    "kill -9 of all three bus servers": ("kill-bus",),
    "kill -9 of the allocator's leader": ("kill-allocator",),
    "kill -9 of an agent": ("kill-agent",),
    "kill -9 of everything at once": ("kill-everything",),
    "SIGSTOP and resume of the bus's leader": ("pause-bus-leader",),
    "SIGSTOP and resume of a bus follower": ("pause-bus-follower",),
    "SIGSTOP and resume of all three bus servers": ("pause-bus",),
    "SIGSTOP and resume of the allocator's leader": ("pause-allocator",),
    "SIGSTOP and resume of an agent": ("pause-agent",),
    "SIGSTOP and resume of everything at once": ("pause-everything",),
    "partition of a node": ("cut-node", "cut-node-from-bus"),
    "partition of a bus server": ("cut-bus-leader",),
    "partition of the allocator": ("cut-allocator",),
    "one-way partition of a node": ("cut-node-one-way",),
    "one-way partition of a bus server": ("cut-bus-server-one-way",),
    "one-way partition of the allocator": ("cut-allocator-one-way",),
    "flapping partition of a node": ("flap-node",),
    "flapping partition of a bus server": ("flap-bus-server",),
    "flapping partition of the allocator": ("flap-allocator",),
    "loss": ("lose-packets",),
    "delay": ("delay-packets",),
    "full disk under the bus": ("fill-bus-disk",),
    "full disk under a checkpoint": ("fill-agent-disk", "fill-allocator-disk"),
    "a truncated checkpoint": ("truncate-checkpoint",),
    "a bit-flipped checkpoint": ("flip-checkpoint",),
    "a truncated snapshot": ("truncate-snapshot",),
    "a bit-flipped snapshot": ("flip-snapshot",),
    "a truncated stream file": ("truncate-stream",),
    "a bit-flipped stream file": ("flip-stream",),
    "clock jumps seen by one service": ("jump-allocator-clock", "jump-agent-clock"),
    "a flood of events": ("flood",),
    "a map at its limit": ("fill-map",),
    "an agent upgraded to a changed map schema": ("upgrade-maps",),
    "spoofed overlay packets from a stranger": ("spoof-from-stranger",),
    "spoofed overlay packets from a pod": ("spoof-from-pod",),
}
"""All that there is to do, one by one, and who does it."""


def test_every_item_of_the_nemesis_has_a_scenario_and_every_scenario_an_item() -> None:
    named = [name for names in NEMESIS.values() for name in names]
    assert sorted(named) == sorted(each.name for each in SCENARIOS)


def test_no_two_items_are_one_scenario() -> None:
    named = [name for names in NEMESIS.values() for name in names]
    assert len(named) == len(set(named))


@pytest.mark.parametrize("scenario", SCENARIOS, ids=[each.name for each in SCENARIOS])
def test_a_scenario_is_told_in_a_line_and_has_faults_of_its_own(scenario: object) -> None:
    each = next(one for one in SCENARIOS if one is scenario)
    assert re.fullmatch(r"[a-z]+(-[a-z]+)+|flood", each.name)
    assert each.name != ALL
    assert each.line
    assert len(each.line) <= 100
    assert "\n" not in each.line
    first, second = each.faults(), each.faults()
    assert first
    assert all(fault.name for fault in first)
    assert not {id(fault) for fault in first} & {id(fault) for fault in second}
    assert 0 < each.hold_s <= 15


def test_no_two_scenarios_inject_the_same() -> None:
    injected = [tuple(fault.name for fault in each.faults()) for each in SCENARIOS]
    assert len(injected) == len(set(injected))


def test_all_is_every_scenario_that_means_something_in_the_mode() -> None:
    assert chosen(ALL, "overlay") == list(SCENARIOS)
    assert chosen(ALL, "native") == [each for each in SCENARIOS if "native" in each.modes]
    assert chosen("kill-agent", "native") == [
        each for each in SCENARIOS if each.name == "kill-agent"
    ]


def test_an_unknown_scenario_is_refused_with_the_nearest_names() -> None:
    with pytest.raises(UnknownScenario, match=r"no scenario 'kill-agnet'; near it: kill-agent"):
        chosen("kill-agnet", "overlay")
    with pytest.raises(UnknownScenario, match=r"no scenario 'zzz'$"):
        chosen("zzz", "overlay")


def test_a_scenario_that_means_nothing_in_the_mode_is_left_out_or_refused() -> None:
    both, one = (
        Scenario("both", "…", lambda: ()),
        Scenario("one", "…", lambda: (), modes=frozenset({"overlay"})),
    )
    assert chosen(ALL, "native", (both, one)) == [both]
    with pytest.raises(ClusterError, match="means nothing in native mode") as raised:
        chosen("one", "native", (both, one))
    assert raised.value.next == "tabard chaos run one --mode overlay"
