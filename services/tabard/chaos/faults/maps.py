"""An agent's kernel maps: at their limit, and of another schema than the release's."""

import asyncio
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from random import Random

from tabard.bus.port import Stream
from tabard.chaos.fault import Rig
from tabard.chaos.faults import waiting
from tabard.chaos.faults.victims import Victims
from tabard.cluster.errors import NotReached
from tabard.cluster.gate import ask
from tabard.cluster.preflight import BPF_FS
from tabard.ledger.messages import recorded, status_subject

GATE_S_MAX = 5.0
NEWER_FORMAT = "from tabard.agent.ebpf import layout\n\nlayout.FORMAT += 1\n"
"""Run by Python before the agent (site(7)'s `sitecustomize`): a release whose entries mean other
things, so that maps of before are left and new ones are filled."""


@dataclass(slots=True)
class FullMap:
    """The agent is started again with room for `spare` entries more than a map holds. With fewer
    than none it has refused the change, and named the map in its status, when `inject` returns."""

    name: str
    victims: Victims
    """One agent."""
    map: str
    """As `policies`."""
    spare: int
    _process: str = ""

    async def inject(self, rig: Rig, chance: Random) -> str:
        (process,) = await self.victims(rig, chance)
        self._process = process
        size = max(1, await _entries(rig, process, self.map) + self.spare)
        rig.cluster.configure(process, {f"TABARD_{self.map.upper()}_MAX": str(size)})
        await waiting.restarted(rig, process)
        if self.spare < 0:
            await _said(rig, process, f'map "{self.map}"')
        return f"{process}: {self.map} has room for {size} entries"

    async def heal(self, rig: Rig) -> None:
        if self._process:
            rig.cluster.configure(self._process, {})
            await waiting.restarted(rig, self._process)
            self._process = ""


@dataclass(slots=True)
class OtherMaps:
    """The agent is started again with maps of another schema; all its programs read them when
    `inject` returns. Healing it goes back."""

    name: str
    victims: Victims
    """One agent."""
    environment: Mapping[str, str]
    """What makes the schema another."""
    code: str = ""
    """Python, run before the agent."""
    _process: str = ""

    async def inject(self, rig: Rig, chance: Random) -> str:
        (process,) = await self.victims(rig, chance)
        before = schemas(rig, process)
        self._process = process
        environment = dict(self.environment)
        if self.code:
            place = _place(rig, process)
            place.mkdir(exist_ok=True)
            (place / "sitecustomize.py").write_text(self.code)
            environment["PYTHONPATH"] = str(place)
        rig.cluster.configure(process, environment)
        await self._moved(rig, process, before)
        return f"{process}: {', '.join(before)} became {', '.join(schemas(rig, process))}"

    async def heal(self, rig: Rig) -> None:
        if not (process := self._process):
            return
        rig.cluster.configure(process, {})
        await self._moved(rig, process, schemas(rig, process))
        shutil.rmtree(_place(rig, process), ignore_errors=True)
        self._process = ""

    async def _moved(self, rig: Rig, process: str, before: list[str]) -> None:
        """Start the agent again, and wait until its maps are other ones than `before`, and all."""
        await waiting.restarted(rig, process)
        await waiting.until(
            lambda: len(now := schemas(rig, process)) == 1 and now != before,
            f"{process} went on to other maps than {', '.join(before)}",
        )


def schemas(rig: Rig, process: str) -> list[str]:
    """The schemas of a node's pinned maps: one, or two while the old ones are still read."""
    maps = BPF_FS / "tabard" / rig.run / process.partition(".")[2] / "maps"
    return sorted(each.name for each in maps.iterdir())


def _place(rig: Rig, process: str) -> Path:
    return rig.data / f"code-{process}"


async def _entries(rig: Rig, process: str, name: str) -> int:
    socket = rig.cluster.socket(process.partition(".")[2])
    contents = await ask(socket, "contents", GATE_S_MAX)
    return len(contents[name])


async def _said(rig: Rig, process: str, word: str) -> None:
    """Wait until the node's status tells of an error with `word`."""
    subject = status_subject(process.partition(".")[2])
    try:
        async with asyncio.timeout(waiting.EFFECT_S_MAX):
            while True:
                found = await rig.bus.last_on_subject(Stream.STATUS, subject)
                if found and word in recorded(Stream.STATUS, found).event.error:
                    return
                await asyncio.sleep(waiting.POLL_S)
    except TimeoutError:
        fact = f"{process} said no {word!r} within {waiting.EFFECT_S_MAX:g} s"
        raise NotReached(fact, "tabard status") from None
