"""The catalogue: what is done to a cluster, by name.

A scenario begins with a converged cluster. Its faults are injected one after the other, held, and
healed in reverse order; then the cluster has `CONVERGE_S_MAX` seconds to be as it should be again.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches

from tabard.chaos.fault import Fault
from tabard.cluster.errors import ClusterError

ALL = "all"
"""Every scenario of the catalogue, in its order."""


@dataclass(frozen=True, slots=True)
class Scenario:
    name: str
    line: str
    """What happens to the cluster, in one line."""
    faults: Callable[[], Sequence[Fault]]
    """New ones for each time that it is carried out, in the order of their injection."""
    hold_s: float = 3.0
    """From the last injection until they are healed."""
    modes: frozenset[str] = frozenset({"overlay", "native"})
    """In which it means something."""
    settings: Mapping[str, str] = field(default_factory=dict)
    """What the cluster must be started with, as `Settings.extra`."""


SCENARIOS: tuple[Scenario, ...] = ()
"""In the order in which `all` goes through them."""


class UnknownScenario(ClusterError):
    """There is no scenario of this name."""


def chosen(name: str, mode: str, catalogue: Sequence[Scenario] = SCENARIOS) -> list[Scenario]:
    """The scenario `name`, or of `all` those that mean something in `mode`.

    UnknownScenario, with the nearest names; ClusterError for one that means nothing in `mode`.
    """
    if name == ALL:
        return [each for each in catalogue if mode in each.modes]
    for each in catalogue:
        if each.name == name:
            if mode not in each.modes:
                raise ClusterError(
                    f"scenario {name!r} means nothing in {mode} mode",
                    f"tabard chaos run {name} --mode {min(each.modes)}",
                )
            return [each]
    near = get_close_matches(name, [ALL, *(each.name for each in catalogue)])
    meant = f"; near it: {', '.join(near)}" if near else ""
    raise UnknownScenario(f"there is no scenario {name!r}{meant}", "tabard chaos list")
