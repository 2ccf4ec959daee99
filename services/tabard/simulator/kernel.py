"""A node's kernel: maps, interfaces and open flows, which outlive the agent that writes them.

A change is written in stages, in the order in which the eBPF dataplane writes (ARCHITECTURE,
decision 31), so that packets come between them, and a crash leaves what was written so far.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from functools import partial
from itertools import islice
from typing import Any, ParamSpec, TypeVar

from tabard.agent.worker import Worker
from tabard.dataplane.maps import specificity
from tabard.dataplane.memory import MemoryDataplane
from tabard.dataplane.port import Change, DataplaneError, MapFull, MapSizes, NodeConfig, Verdict
from tabard.dataplane.turn import turn_of
from tabard.dataplane.verdict import Judge
from tabard.identity.numbers import Reserved
from tabard.simulator.operations import Line

P = ParamSpec("P")
T = TypeVar("T")

Stage = Callable[[], None]


class SimulatedKernel(MemoryDataplane):
    """`links` are the interfaces that exist. `boot_clock` is in nanoseconds."""

    def __init__(
        self, config: NodeConfig, sizes: MapSizes, links: set[str], boot_clock: Callable[[], int]
    ) -> None:
        super().__init__(config, sizes=sizes, links=links, clock=boot_clock, boot_clock=boot_clock)
        self.stage_entries_max = 6
        """A table of which more is written is written in several stages."""
        self.is_torn = False
        """A write began, and none has ended since."""
        self.writes = 0
        self.change: Change | None = None
        """What the write that began last was to bring about, until one ends."""
        self.late: frozenset[int] = frozenset()
        """Identities that it has unknown meanwhile."""

    def watch(self, deliver: Callable[[list[Verdict]], None]) -> Callable[[], None]:
        """Nobody watches: flows prove nothing, and cost a message each."""
        return lambda: None

    def remove(self) -> None:
        super().remove()
        self.mended()

    def mended(self) -> None:
        """What was written last is all there."""
        self.is_torn, self.change, self.late = False, None, frozenset()

    def ifindex(self, interface: str) -> int:
        """The number of an interface that was attached once; 0 if it was not."""
        return self._ifindexes.get(interface, 0)

    def interface(self, ifindex: int) -> str:
        """Which interface has that number; empty if it does not exist."""
        for name, number in self._ifindexes.items():
            if number == ifindex and self._exists(name):
                return name
        return ""

    def write(self, change: Change) -> None:
        for stage in self.stages(change):
            stage()

    def stages(self, change: Change) -> Iterator[Stage]:
        """The parts of a write, in order; each raises MapFull where there is no room."""
        held = self.maps.endpoints
        turn = turn_of(change, {at: held[at] for at in change.endpoints_set if at in held})
        self.late = turn.identities
        turned = [
            (at, endpoint)
            for at, endpoint in change.endpoints_set.items()
            if at in held and at not in turn.endpoints
        ]
        yield from self._set(
            "policies",
            sorted(
                change.policies_set.items(), key=lambda each: specificity(each[0]), reverse=True
            ),
        )
        yield from self._set("identities", sorted(change.identities_added - turn.identities))
        yield from self._set("nodes", sorted(change.nodes_added))
        yield from self._set("prefixes", change.prefixes_set.items())
        nobody = dict.fromkeys(sorted(turn.hosts), Reserved.UNKNOWN)
        yield from self._set("hosts", {**change.hosts_set, **nobody}.items())
        yield from self._remove("identities", sorted(change.identities_removed & turn.identities))
        yield from self._remove("endpoints", sorted(turn.endpoints))
        yield from self._set("endpoints", turned)
        yield from self._set("identities", sorted(change.identities_added & turn.identities))
        hosts = change.hosts_set.items()
        yield from self._set("hosts", [each for each in hosts if each[0] in turn.hosts])
        yield from self._set("endpoints", sorted(change.endpoints_set.items() - turned))
        yield from self._remove("hosts", sorted(change.hosts_removed))
        yield from self._set("prefixes", change.prefixes_widened.items())
        yield from self._remove("prefixes", sorted(change.prefixes_removed))
        yield from self._remove("nodes", sorted(change.nodes_removed))
        yield from self._remove("identities", sorted(change.identities_removed - turn.identities))
        yield from self._remove("policies", sorted(change.policies_removed, key=specificity))

    def _set(self, name: str, entries: Iterable[Any]) -> Iterator[Stage]:
        rest = iter(entries)
        while part := tuple(islice(rest, self.stage_entries_max)):
            yield partial(self._put, name, part)

    def _remove(self, name: str, keys: Iterable[Any]) -> Iterator[Stage]:
        rest = iter(keys)
        while part := tuple(islice(rest, self.stage_entries_max)):
            yield partial(self._drop, name, part)

    def _put(self, name: str, part: tuple[Any, ...]) -> None:
        self.is_torn = True
        held: Any = getattr(self._judge.maps, name)
        size: int = getattr(self.sizes, name)
        for entry in part:
            key = entry if isinstance(held, set) else entry[0]
            if len(held) >= size and key not in held:
                raise MapFull(name, size, size, f"TABARD_{name.upper()}_MAX")
            if isinstance(held, set):
                held.add(key)
            else:
                held[key] = entry[1]
        self._renew(name)

    def _drop(self, name: str, part: tuple[Any, ...]) -> None:
        self.is_torn = True
        held: Any = getattr(self._judge.maps, name)
        for key in part:
            if isinstance(held, set):
                held.discard(key)
            else:
                held.pop(key, None)
        self._renew(name)

    def _renew(self, name: str) -> None:
        if name == "prefixes":
            self._judge = Judge(self._judge.maps, self._config.mode)

    @property
    def maps(self) -> Any:
        """What is enforced now, live."""
        return self._judge.maps


class SimulatedWorker(Worker):
    """Calls the kernel at once, but for what changes more than one entry."""

    def __init__(self, kernel: SimulatedKernel, line: Line, counts: Mapping[str, int]) -> None:
        super().__init__(at_once=True)
        self._kernel = kernel
        self._line = line
        self._counts: Any = counts

    async def call(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        kernel = self._kernel
        if function == kernel.write:
            await self._write(args[0])  # type: ignore[arg-type]
            return None  # type: ignore[return-value]
        act = partial(function, *args, **kwargs)
        if act.func == kernel.forget:
            return await self._line.ask("forget flows", act, failed, needs_bus=False)
        return act()

    async def _write(self, change: Change) -> None:
        kernel = self._kernel
        kernel.change = change
        kernel.writes += 1
        stages = deque(kernel.stages(change))

        def some(count: int) -> None:
            for _ in range(min(count, len(stages))):
                stages.popleft()()

        def rest() -> None:
            some(len(stages))

        try:
            while stages:
                await self._line.ask("write", rest, failed, short=some, needs_bus=False)
        except asyncio.CancelledError:
            # What the thread has begun it ends, whoever waits for it.
            with suppress(MapFull):
                rest()
                kernel.mended()
            raise
        except MapFull:
            self._counts["maps full"] += 1
            raise
        kernel.mended()


def failed(reason: str) -> Exception:
    return DataplaneError(f"the simulated kernel: {reason}")
