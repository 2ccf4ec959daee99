"""The catalogue: what is done to a cluster, by name.

A scenario begins with a converged cluster. Its faults are injected one after the other, held, and
healed in reverse order; then the cluster has `CONVERGE_S_MAX` seconds to be as it should be again.
"""

import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches

from tabard.chaos.fault import Fault
from tabard.chaos.faults import clocks
from tabard.chaos.faults.checkpoints import DamagedCheckpoint
from tabard.chaos.faults.clocks import ClockJump
from tabard.chaos.faults.disks import FullDisk
from tabard.chaos.faults.floods import Flood
from tabard.chaos.faults.harms import flipped, truncated
from tabard.chaos.faults.links import Delay, Loss
from tabard.chaos.faults.maps import NEWER_FORMAT, FullMap, OtherMaps
from tabard.chaos.faults.partitions import Flaps, Partition
from tabard.chaos.faults.ports import Way
from tabard.chaos.faults.processes import Kill, Pause
from tabard.chaos.faults.relay import Lateness
from tabard.chaos.faults.snapshots import DamagedSnapshot
from tabard.chaos.faults.spoofing import Spoofing, Who
from tabard.chaos.faults.streams import DamagedStream
from tabard.chaos.faults.targets import Whom
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
    spares_packets: bool = False
    """Whether its faults stop control alone, so that pods' packets are to pass as before."""
    modes: frozenset[str] = frozenset({"overlay", "native"})
    """In which it means something."""
    needs: str = ""
    """The Debian package that its faults use, of NEEDED; empty if that is Tabard's own anyway."""
    settings: Mapping[str, str] = field(default_factory=dict)
    """What the cluster must be started with, as `Settings.extra`."""


SCENARIOS: tuple[Scenario, ...] = (
    # Killed with SIGKILL, and down for a moment.
    Scenario(
        "kill-bus-leader",
        "the bus server that leads the ledger is killed; appends wait for another leader",
        lambda: (Kill(Whom.BUS_LEADER),),
        hold_s=5.0,
        spares_packets=True,
    ),
    Scenario(
        "kill-bus-follower",
        "a bus server that follows is killed, and catches up",
        lambda: (Kill(Whom.BUS_FOLLOWER),),
        hold_s=2.0,
        spares_packets=True,
    ),
    Scenario(
        "kill-bus",
        "all three bus servers are killed at once: nothing new is decided, kernels enforce",
        lambda: (Kill(Whom.BUS),),
        hold_s=2.0,
        spares_packets=True,
    ),
    Scenario(
        "kill-allocator",
        "the leading allocator is killed, and the other leads",
        lambda: (Kill(Whom.ALLOCATOR_LEADER),),
        spares_packets=True,
    ),
    Scenario(
        "kill-agent",
        "a node's agent is killed; its kernel enforces the last state",
        lambda: (Kill(Whom.AGENT),),
        hold_s=2.0,
        spares_packets=True,
    ),
    Scenario(
        "kill-everything",
        "bus, allocators, agents and the source are killed at once; only kernels go on",
        lambda: (Kill(Whom.EVERYTHING),),
        hold_s=2.0,
    ),
    # Stopped and resumed: zombies, which believe to be what they were.
    Scenario(
        "pause-bus-leader",
        "the bus's leader stands still until another leads, and wakes as one that leads",
        lambda: (Pause(Whom.BUS_LEADER),),
        hold_s=1.0,
        spares_packets=True,
    ),
    Scenario(
        "pause-bus-follower",
        "a bus server that follows stands still, and its clients with it until they go elsewhere",
        lambda: (Pause(Whom.BUS_FOLLOWER),),
        hold_s=9.0,
        spares_packets=True,
    ),
    Scenario(
        "pause-bus",
        "all bus servers stand still at once",
        lambda: (Pause(Whom.BUS),),
        hold_s=2.0,
        spares_packets=True,
    ),
    Scenario(
        "pause-allocator",
        "the leading allocator stands still until the other leads, and wakes believing to lead",
        lambda: (Pause(Whom.ALLOCATOR_LEADER),),
        hold_s=1.0,
        spares_packets=True,
    ),
    Scenario(
        "pause-agent",
        "an agent stands still, and wakes with old news",
        lambda: (Pause(Whom.AGENT),),
        spares_packets=True,
    ),
    Scenario(
        "pause-everything",
        "bus, allocators, agents and the source stand still at once",
        lambda: (Pause(Whom.EVERYTHING),),
        hold_s=2.0,
    ),
    # Partitions.
    Scenario(
        "cut-node",
        "no packet reaches or leaves a node; its kernel goes on between its own pods",
        lambda: (Partition(Whom.NODE),),
        hold_s=4.0,
        needs="nftables",
    ),
    Scenario(
        "cut-node-from-bus",
        "a node hears nothing of the bus, and its pods and others' go on as its kernel knew them",
        lambda: (Partition(Whom.NODE, bus_alone=True),),
        hold_s=5.0,
        spares_packets=True,
        needs="nftables",
    ),
    Scenario(
        "cut-node-one-way",
        "a node hears nothing, and one that nobody hears goes on hearing",
        lambda: (Partition(Whom.NODE, (Way.IN,)), Partition(Whom.NODE, (Way.OUT,))),
        hold_s=4.0,
        needs="nftables",
    ),
    Scenario(
        "flap-node",
        "a node's link to everything comes and goes",
        lambda: (Partition(Whom.NODE, flaps=Flaps()),),
        hold_s=5.0,
        needs="nftables",
    ),
    Scenario(
        "cut-bus-leader",
        "the bus server that leads the ledger is cut off, and does not know that it leads no more",
        lambda: (Partition(Whom.BUS_LEADER),),
        hold_s=6.0,
        spares_packets=True,
        needs="nftables",
    ),
    Scenario(
        "cut-bus-server-one-way",
        "what the bus's leader sends arrives nowhere, while it hears the others",
        lambda: (Partition(Whom.BUS_LEADER, (Way.OUT,)),),
        hold_s=6.0,
        spares_packets=True,
        needs="nftables",
    ),
    Scenario(
        "flap-bus-server",
        "a bus server's link comes and goes, and with it elections",
        lambda: (Partition(Whom.BUS_FOLLOWER, flaps=Flaps()),),
        hold_s=5.0,
        spares_packets=True,
        needs="nftables",
    ),
    Scenario(
        "cut-allocator",
        "the leading allocator is cut off; the other leads, and this one comes back with old news",
        lambda: (Partition(Whom.ALLOCATOR_LEADER),),
        hold_s=4.0,
        spares_packets=True,
        needs="nftables",
    ),
    Scenario(
        "cut-allocator-one-way",
        "the leading allocator is heard and hears nothing: what it appends is there, unanswered",
        lambda: (Partition(Whom.ALLOCATOR_LEADER, (Way.IN,)),),
        hold_s=4.0,
        spares_packets=True,
        needs="nftables",
    ),
    Scenario(
        "flap-allocator",
        "the leading allocator's link comes and goes, and with it who leads",
        lambda: (Partition(Whom.ALLOCATOR_LEADER, flaps=Flaps()),),
        hold_s=6.0,
        spares_packets=True,
        needs="nftables",
    ),
    Scenario(
        "lose-packets",
        "a fifth of the packets of a node and of the bus's leader are lost",
        lambda: (Loss(Whom.NODE, 0.2), Loss(Whom.BUS_LEADER, 0.2)),
        hold_s=4.0,
        needs="nftables",
    ),
    Scenario(
        "delay-packets",
        "packets of a node and of the bus's leader come late, and some before earlier ones",
        lambda: (
            Delay(Whom.NODE, Lateness(100.0, 50.0, 0.1)),
            Delay(Whom.BUS_LEADER, Lateness(50.0, 50.0)),
        ),
        hold_s=4.0,
    ),
    # Disks, files, clocks, and more than there is room for.
    Scenario(
        "fill-bus-disk",
        "the disk under the bus's leader is full; it turns itself off, and the others go on",
        lambda: (FullDisk(Whom.BUS_LEADER),),
        hold_s=2.0,
        spares_packets=True,
    ),
    Scenario(
        "fill-agent-disk",
        "the disk under an agent's checkpoint is full; it says no more than a crash could keep",
        lambda: (FullDisk(Whom.AGENT),),
        hold_s=2.0,
        spares_packets=True,
    ),
    Scenario(
        "fill-allocator-disk",
        "the disk under the leading allocator's checkpoint is full",
        lambda: (FullDisk(Whom.ALLOCATOR_LEADER),),
        hold_s=2.0,
        spares_packets=True,
    ),
    Scenario(
        "truncate-checkpoint",
        "an agent and an allocator are killed, and find half of their checkpoints",
        lambda: tuple(
            DamagedCheckpoint(whom, truncated) for whom in (Whom.AGENT, Whom.ALLOCATOR_LEADER)
        ),
        hold_s=1.0,
        spares_packets=True,
    ),
    Scenario(
        "flip-checkpoint",
        "an agent and an allocator are killed, and find a bit of their checkpoints flipped",
        lambda: tuple(
            DamagedCheckpoint(whom, flipped) for whom in (Whom.AGENT, Whom.ALLOCATOR_LEADER)
        ),
        hold_s=1.0,
        spares_packets=True,
    ),
    Scenario(
        "truncate-snapshot",
        "half of the newest snapshot is gone, and an agent that knows nothing begins at it",
        lambda: (DamagedSnapshot(truncated),),
        hold_s=1.0,
        spares_packets=True,
    ),
    Scenario(
        "flip-snapshot",
        "a bit of the newest snapshot is flipped, and an agent that knows nothing begins at it",
        lambda: (DamagedSnapshot(flipped),),
        hold_s=1.0,
        spares_packets=True,
    ),
    Scenario(
        "truncate-stream",
        "the end of a bus server's ledger is cut off while it is down; then it is repaired",
        lambda: (DamagedStream(Whom.BUS_FOLLOWER, truncated),),
        hold_s=1.0,
        spares_packets=True,
    ),
    Scenario(
        "flip-stream",
        "a bit of a bus server's ledger is flipped while it is down; then it is repaired",
        lambda: (DamagedStream(Whom.BUS_LEADER, flipped),),
        hold_s=1.0,
        spares_packets=True,
    ),
    Scenario(
        "jump-allocator-clock",
        "the leading allocator's clock jumps a day back, and on again",
        lambda: (ClockJump(Whom.ALLOCATOR_LEADER, -86_400),),
        spares_packets=True,
        needs="libfaketime",
    ),
    Scenario(
        "jump-agent-clock",
        "an agent's clock jumps ten minutes on, and back again",
        lambda: (ClockJump(Whom.AGENT, 600),),
        spares_packets=True,
        needs="libfaketime",
    ),
    Scenario(
        "flood",
        "thousands of events in one burst: labels, refused policies, unknown pods, a node's junk",
        lambda: (Flood(),),
        hold_s=2.0,
    ),
    Scenario(
        "fill-map",
        "an agent comes back with a map that has no room for what it must enforce",
        lambda: (FullMap("identities", -1),),
        hold_s=2.0,
    ),
    Scenario(
        "upgrade-maps",
        "an agent comes back with maps of another format, under traffic, and then with the old one",
        lambda: (OtherMaps({}, NEWER_FORMAT),),
        hold_s=2.0,
        spares_packets=True,
    ),
    # Lies.
    Scenario(
        "spoof-from-stranger",
        "a machine on the underlay that is no node forges tunnel packets with allowed identities",
        lambda: (Spoofing(Who.STRANGER),),
        modes=frozenset({"overlay"}),
    ),
    Scenario(
        "spoof-from-pod",
        "a pod forges others' addresses, and tunnel packets with allowed identities",
        lambda: (Spoofing(Who.POD),),
    ),
)
"""In the order in which `all` goes through them."""


NEEDED: Mapping[str, Callable[[], bool]] = {
    "nftables": lambda: shutil.which("nft") is not None,
    "libfaketime": lambda: clocks.library() is not None,
}
"""Whether a package is there."""


def lacking(scenarios: Iterable[Scenario]) -> dict[str, str]:
    """Packages that are needed and are not there, each with a scenario that needs it."""
    wanted = {each.needs: each.name for each in scenarios if each.needs}
    return {name: scenario for name, scenario in wanted.items() if not NEEDED[name]()}


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
