"""A damaged snapshot in the bus's bucket, and a reader that is led to it."""

from random import Random

from tabard.bus.port import ObjectInfo
from tabard.chaos.fault import Rig
from tabard.chaos.faults import waiting
from tabard.chaos.faults.checkpoints import checkpoint
from tabard.chaos.faults.harms import Harm
from tabard.chaos.faults.targets import Whom, process_of
from tabard.ledger import archive
from tabard.ledger.follow import catch_up
from tabard.ledger.state import State


class DamagedSnapshot:
    """The newest snapshot is damaged, and an agent is killed and loses its checkpoint; it has
    refused the snapshot when `inject` returns."""

    def __init__(self, harm: Harm) -> None:
        self.name = f"{harm.__name__} snapshot"
        self._harm = harm
        self._damaged = self._process = ""

    async def inject(self, rig: Rig, chance: Random) -> str:
        process = await process_of(Whom.AGENT, rig, chance)
        state = await catch_up(rig.bus, State())
        whole = await archive.store(rig.bus, archive.Frozen.of(state), by="chaos")
        content = b"".join([piece async for piece in rig.bus.objects.get(whole.info)])
        self._damaged = whole.info.name
        await rig.bus.objects.put(whole.info.name, self._harm(content, chance), whole.info.metadata)
        self._process = process
        rig.cluster.kill(process, hold=True)
        await waiting.down(rig, [process])
        file = checkpoint(rig, process)
        for part in ("", "-wal", "-shm"):
            file.with_name(file.name + part).unlink(missing_ok=True)
        log = waiting.Log(rig.data / "logs" / f"{process}.log")
        await waiting.up(rig, [process])
        await log.says(f"{whole.place} is refused")
        return f"{whole.place}, to {process}"

    async def heal(self, rig: Rig) -> None:
        if self._process:
            await waiting.up(rig, [self._process])
            self._process = ""
        for info in await _named(rig, self._damaged):
            await rig.bus.objects.delete(info)
        self._damaged = ""


async def _named(rig: Rig, name: str) -> list[ObjectInfo]:
    return [info for info in await rig.bus.objects.listed() if info.name == name]
