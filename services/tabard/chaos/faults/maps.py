"""An agent's kernel maps: at their limit, and of another schema than the release's."""

import asyncio
import shutil
from collections.abc import Mapping
from pathlib import Path
from random import Random

from tabard.bus.port import Stream
from tabard.chaos.fault import Rig
from tabard.chaos.faults import waiting
from tabard.chaos.faults.targets import Whom, process_of
from tabard.cluster.errors import NotReached
from tabard.cluster.gate import ask
from tabard.cluster.preflight import BPF_FS
from tabard.cluster.tasks import wholly
from tabard.ledger.messages import recorded, status_subject

GATE_S_MAX = 5.0
NEWER_FORMAT = "from tabard.agent.ebpf import layout\n\nlayout.FORMAT += 1\n"
"""Run by Python before the agent (site(7)'s `sitecustomize`): a release whose entries mean other
things, so that maps of before are left and new ones are filled."""


class FullMap:
    """The agent is started again with room for `spare` entries more than a map holds. With fewer
    than none it has refused the change, and named the map in its status, when `inject` returns."""

    def __init__(self, kind: str, spare: int) -> None:
        room = f"is too small by {-spare}" if spare < 0 else f"has room for {spare} more"
        self.name = f"an agent whose map of {kind} {room}"
        self._kind, self._spare = kind, spare
        self._process = ""

    async def inject(self, rig: Rig, chance: Random) -> str:
        process = await process_of(Whom.AGENT, rig, chance)
        self._process = process
        size = max(1, await _entries(rig, process, self._kind) + self._spare)
        rig.cluster.configure(process, {f"TABARD_{self._kind.upper()}_MAX": str(size)})
        await waiting.restarted(rig, process)
        if self._spare < 0:
            await said(rig, process, f'map "{self._kind}"')
        return f"{process}: {self._kind} has room for {size} entries"

    async def heal(self, rig: Rig) -> None:
        if self._process:
            rig.cluster.configure(self._process, {})
            await waiting.restarted(rig, self._process)
            self._process = ""


class OtherMaps:
    """The agent is started again with maps of another schema; all its programs read them when
    `inject` returns. Healing it goes back."""

    def __init__(self, environment: Mapping[str, str], code: str = "") -> None:
        what = "format" if code else "sizes"
        self.name = f"an agent upgraded to maps of other {what}, and back"
        self._environment, self._code = environment, code
        self._process = ""
        self._before: list[str] = []

    async def inject(self, rig: Rig, chance: Random) -> str:
        process = await process_of(Whom.AGENT, rig, chance)
        before = self._before = schemas(rig, process)
        self._process = process
        environment = dict(self._environment)
        if self._code:
            place = _place(rig, process)
            place.mkdir(exist_ok=True)
            (place / "sitecustomize.py").write_text(self._code)
            environment["PYTHONPATH"] = str(place)
        rig.cluster.configure(process, environment)
        await waiting.restarted(rig, process)
        await waiting.until(
            lambda: len(now := schemas(rig, process)) == 1 and now != before,
            f"{process} went on to other maps than {', '.join(before)}",
        )
        return f"{process}: {', '.join(before)} became {', '.join(schemas(rig, process))}"

    async def heal(self, rig: Rig) -> None:
        if not (process := self._process):
            return
        rig.cluster.configure(process, {})
        await waiting.restarted(rig, process)
        await waiting.until(
            lambda: schemas(rig, process) == self._before,
            f"{process} came back to the maps {', '.join(self._before)}",
        )
        await wholly(shutil.rmtree, _place(rig, process), ignore_errors=True)
        self._process = ""


def schemas(rig: Rig, process: str) -> list[str]:
    """The schemas of a node's pinned maps: one, or two while the old ones are still read."""
    maps = BPF_FS / "tabard" / rig.run / process.partition(".")[2] / "maps"
    return sorted(each.name for each in maps.iterdir())


def _place(rig: Rig, process: str) -> Path:
    return rig.data / f"code-{process}"


async def _entries(rig: Rig, process: str, name: str) -> int:
    socket = rig.cluster.socket(process.partition(".")[2])
    contents = await ask(socket, "contents", GATE_S_MAX)
    return len(contents["maps"][name])


async def said(rig: Rig, process: str, word: str) -> None:
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
