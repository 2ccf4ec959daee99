"""A history as people read it: a line for each step, with what came of it."""

from collections.abc import Sequence

from tabard.events.codec import type_name
from tabard.simulator.choices import Act, Choice
from tabard.simulator.clocks import EPOCH_NS
from tabard.simulator.loop import BEGUN_S
from tabard.simulator.world import Packet, World

WORDS = {
    Act.GO: "{what} is done",
    Act.FAIL: "{what} is not done, and gets no answer",
    Act.LOSE: "{what} is done, and its answer is lost",
    Act.LATE: "{what} gets no answer, and is still under way",
    Act.LAND: "what was still under way is done",
    Act.STAGE: "its {what} goes on by {amount}",
    Act.SHORT: "{what} gives {amount} at most",
    Act.RUN: "goes on",
    Act.CRASH: "is killed",
    Act.STOP: "is asked to stop",
    Act.REBOOT: "loses power",
    Act.START: "is started",
    Act.PAUSE: "is paused",
    Act.RESUME: "is resumed",
    Act.CUT: "is cut off from the bus",
    Act.MEND: "reaches the bus again",
    Act.SLOW: "has its questions answered late",
    Act.QUICK: "has its questions answered at once",
    Act.SKEW: "its clock jumps by {amount} ms",
    Act.FILL_DISK: "its disk is full",
    Act.FREE_DISK: "its disk has room",
    Act.DAMAGE: "its checkpoint is damaged ({what})",
    Act.FULL: "{what} takes nothing",
    Act.ROOMY: "{what} takes messages again",
    Act.FORGET: "forgets which events it was told already",
    Act.TRIM: "an operator trims",
    Act.TIME: "{amount} ms go by",
    Act.WORK: "{what}",
    Act.PROBE: "packet {what}",
    Act.ARRIVE: "packet {what} arrives",
}
_BUS = (Act.FULL, Act.ROOMY, Act.FORGET, Act.TRIM)
SUMS = {
    Act.GO: "operations done",
    Act.FAIL: "operations failed",
    Act.LOSE: "answers lost",
    Act.LATE: "operations delayed",
    Act.LAND: "delayed ones done",
    Act.STAGE: "writes cut in stages",
    Act.SHORT: "short deliveries",
    Act.RUN: "turns of processes",
    Act.CRASH: "kills",
    Act.STOP: "stops",
    Act.REBOOT: "reboots",
    Act.START: "starts",
    Act.PAUSE: "pauses",
    Act.RESUME: "resumes",
    Act.CUT: "cuts from the bus",
    Act.MEND: "cuts mended",
    Act.SLOW: "slow processes",
    Act.QUICK: "quick again",
    Act.SKEW: "clock jumps",
    Act.FILL_DISK: "disks filled",
    Act.FREE_DISK: "disks freed",
    Act.DAMAGE: "checkpoints damaged",
    Act.FULL: "streams filled",
    Act.ROOMY: "streams freed",
    Act.FORGET: "windows of repeated ids over",
    Act.TRIM: "trims asked for",
    Act.TIME: "spells of time",
    Act.WORK: "events of the workload",
    Act.PROBE: "packets sent",
    Act.ARRIVE: "late packets",
}
"""What so many of an act are called."""


class Teller:
    """Told of a history's beginning, and then of each step, in order."""

    def __init__(self) -> None:
        self._ledger = 0
        self._observed = 0
        self._words = 0
        self._nodes: dict[str, tuple[int, int]] = {}
        self._roles: dict[str, str] = {}

    def begins(self, world: World) -> str:
        """The cluster before the first step: who leads, and what all nodes enforce."""
        self._changes(world)
        roles = [f"{name} is {role}" for name, role in self._roles.items()]
        ends = {f"{name} enforces {enforced}" for name, (_, enforced) in self._nodes.items()}
        return _line(world, "world", "all are up", [*roles, *sorted(ends)])

    def line(self, choice: Choice, world: World) -> str:
        """The step that led to `world`."""
        did = WORDS[choice.act].format(what=choice.what, amount=choice.amount)
        return _line(world, _who(choice), did, self._changes(world))

    def _changes(self, world: World) -> list[str]:
        """What is another than after the step before."""
        told = [_packet(packet) for packet in world.packets]
        if new := world.observed[self._observed :]:
            told.append(f"OBSERVED/{_span(new[0].sequence, new[-1].sequence)}")
        if records := world.records[self._ledger :]:
            kinds = ", ".join(type_name(record.event) for record in records)
            told.append(f"LEDGER/{_span(records[0].sequence, records[-1].sequence)}: {kinds}")
        told += [
            f"{word.name} says {word.sequence}"
            for word in world.words[self._words :]
            if word.kind == "node"
        ]
        for name, allocator in world.allocators.items():
            if allocator.role != self._roles.get(name, ""):
                told.append(f"{name} is {allocator.role or 'gone'}")
                self._roles[name] = allocator.role
        for name, node in world.nodes.items():
            read, enforced = self._nodes.get(name, (0, 0))
            if node.read != read:
                told.append(f"{name} has read {node.read}")
            if node.enforced != enforced:
                told.append(f"{name} enforces {node.enforced}")
            self._nodes[name] = node.read, node.enforced
        self._observed, self._ledger = len(world.observed), len(world.records)
        self._words = len(world.words)
        return told


def _line(world: World, who: str, did: str, came: Sequence[str]) -> str:
    seconds = (world.now - EPOCH_NS) / 1e9 - BEGUN_S
    told = f" → {'; '.join(came)}" if came else ""
    return f"{world.step:>4} {seconds:>9.3f} s  {who:<7} {did}{told}"


def _who(choice: Choice) -> str:
    return choice.process or ("bus" if choice.act in _BUS else "world")


def _span(first: int, last: int) -> str:
    return str(first) if first == last else f"{first}-{last}"


def _packet(packet: Packet) -> str:
    hooks = ", ".join(
        f"{one.node} {one.hook} {one.reason.name}" for one in packet.judged if one.reason
    )
    end = "passed" if packet.passed else "dropped"
    return f"{end} ({hooks})" if hooks else end
