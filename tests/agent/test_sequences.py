"""However a scene is come to, the agent's maps mean the same (see sequences.py)."""

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.rig import NODE, Bench, at_work, until
from deciding import SETTINGS, Teller
from golden import files
from golden.files import Golden
from scenes import EXAMPLES, examples, histories
from sequences import (
    EXPANSIONS,
    Change,
    Scene,
    Telling,
    enforced,
    recorded,
    rest,
    settled,
    slot_of,
)
from tabard.agent.attachments import Held
from tabard.bus.memory import MemoryBus
from tabard.bus.port import BATCH_MESSAGES_MAX
from tabard.dataplane.maps import Mode
from tabard.events.ledger import SettingsAdopted
from tabard.ledger.digest import digest
from tabard.ledger.state import State
from tabard.policy.compile import Compiler
from world import attachment

pytestmark = pytest.mark.timeout(120 + 3 * EXAMPLES)
expansions = pytest.mark.parametrize("name", EXPANSIONS)


class Node:
    """An allocator, and an agent that follows what it writes, through each step before the next."""

    def __init__(self, adopted: SettingsAdopted, mode: Mode) -> None:
        self.teller = Teller(adopted)
        self.bench = Bench(mode=mode)
        self._mode = mode
        self._telling = Telling()
        self._bus = MemoryBus()
        self._written = 0
        self._interfaces: dict[str, int] = {}

    async def play(self, scenes: Sequence[Scene], name: str) -> None:
        async with at_work(self.bench, bus=self._bus):
            for step in EXPANSIONS[name](scenes):
                for change in step.changes:
                    self._happen(change)
                rest(self.teller)
                await self._enforced()
                self._check(step.scene)
        self.bench.worker.close()

    def _happen(self, change: Change) -> None:
        """The pod's interface is attached before its start is told, and gone after its stop is."""
        attachments = self.bench.reconciler.attachments
        slot = change.key[1]
        uid, events = self._telling.uid(slot), self._telling.events(change)
        if change.key[0] == "pod" and change.after is not None and change.after.node == NODE:
            new = self._telling.uid(slot)
            attachments.put(Held(attachment(new, self._interface(slot)), f"i{slot}"[:15]))
        self.teller.tell(*events)
        if change.key[0] == "pod" and (change.after is None or uid != self._telling.uid(slot)):
            attachments.remove(uid)
        self.bench.reconciler.wake()

    def _interface(self, slot: str) -> int:
        return self._interfaces.setdefault(slot, 100 + len(self._interfaces))

    async def _enforced(self) -> None:
        messages = self.teller.messages
        while self._written < len(messages):
            batch = messages[self._written : self._written + BATCH_MESSAGES_MAX]
            self._written = await self._bus.append(batch, self._written)
        await until(lambda: self.bench.report.sequence == self._written)

    def _check(self, scene: Scene) -> None:
        reconciler = self.bench.reconciler
        assert digest(reconciler.state) == digest(self.teller.state)
        fresh = settled(self.teller.state.settings, scene).state  # type: ignore[arg-type]
        found = enforced(self.bench.dataplane.read(), reconciler.state)
        assert found == enforced(self._compiled(fresh), fresh)

    def _compiled(self, state: State) -> Any:
        attached = {
            uid: attachment(uid, self._interface(slot_of(uid)))
            for uid in state.by_node.get(NODE, ())
        }
        return Compiler().compile(state, NODE, self._mode, attached)


def play(scenes: Sequence[Scene], name: str, adopted: SettingsAdopted, mode: Mode) -> None:
    asyncio.run(Node(adopted, mode).play(scenes, name))


@expansions
@given(scenes=histories, mode=st.sampled_from(Mode))
@examples
def test_a_made_up_history(name: str, scenes: list[Scene], mode: Mode) -> None:
    play(scenes, name, SETTINGS, mode)


@expansions
@pytest.mark.parametrize("mode", Mode)
@pytest.mark.parametrize("golden", files.every(), ids=lambda golden: golden.name)
def test_a_recorded_history(name: str, golden: Golden, mode: Mode) -> None:
    scenes = recorded(golden.replay(), len(golden.ledger), 3)
    *_, (state, _) = golden.replay()
    adopted: Any = state.settings
    play(scenes, name, adopted, mode)
