"""The course of a run: a scenario is injected, held, healed, and the cluster converges again."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from random import Random

from tabard.chaos.converging import Convergence
from tabard.chaos.fault import Fault, Sending
from tabard.chaos.judge.dumps import dumps
from tabard.chaos.probers.running import probing
from tabard.chaos.record import Injected, Phase, Record
from tabard.chaos.rig import ClusterRig
from tabard.chaos.scenarios import Scenario
from tabard.chaos.watching import Watch
from tabard.chaos.workload import Workload
from tabard.cluster.errors import ClusterError, NotReached
from tabard.cluster.supervisor import Cluster
from tabard.demo.session import Session
from tabard.ledger.state import State
from tabard.process.failures import tasks_as_one

BASE_S_MAX = 120.0
"""Longest wait until the first pods are up."""
LEAD_S = 0.5
"""Work before the first fault of a scenario."""
INJECT_S_MAX = HEAL_S_MAX = 60.0
"""Longest that one fault may take to be in effect, and to be undone."""

Tell = Callable[[str], None]
CarryOut = Callable[[Scenario], Awaitable[bool]]
"""Whether the cluster converged after the scenario: if not, no other can begin."""


@dataclass(frozen=True, slots=True)
class _Course:
    rig: ClusterRig
    workload: Workload
    convergence: Convergence
    record: Record
    tell: Tell
    folded: State
    """The ledger, as far as kernels were held against it."""

    async def carry_out(self, scenario: Scenario) -> bool:
        record, began = self.record, time.time_ns()
        number = len(record.phases) + 1
        self.tell(f"{number}. {scenario.name}: {scenario.line}")
        chance = Random(f"{record.seed}/{number}/{scenario.name}")
        injected = await self._inject(scenario, chance)
        converged, reason = 0, ""
        try:
            converged = await self.convergence.come()
        except NotReached as error:
            reason = str(error)
        for each in injected:
            detail = "; ".join(filter(None, (each.detail, reason)))
            record.injected.append(replace(each, converged=converged, detail=detail))
        record.phases.append(Phase(scenario.name, began, time.time_ns()))
        if not converged:
            self.tell(f"   {reason}")
            return False
        healed = max((each.healed for each in injected), default=began)
        wants, took_s = self.convergence.longest
        self.tell(
            f"   converged {(converged - healed) / 1e9:.1f} s after the heal "
            f"({took_s:.1f} s until {wants})"
        )
        await self._dump(scenario)
        return True

    async def _inject(self, scenario: Scenario, chance: Random) -> list[Injected]:
        """Inject its faults one after the other, hold them, and heal them in reverse order,
        whatever becomes of any."""
        injected: dict[int, Injected] = {}
        begun: list[Fault] = []
        self.workload.resume()
        try:
            await asyncio.sleep(LEAD_S)
            for fault in scenario.faults():
                began = time.time_ns()
                begun.append(fault)
                async with asyncio.timeout(INJECT_S_MAX):
                    target = await fault.inject(self.rig, chance)
                self.tell(f"   {fault.name}: {target}")
                injected[id(fault)] = Injected(scenario.name, fault.name, target, began, 0)
            await asyncio.sleep(scenario.hold_s)
        except Exception as error:  # whatever a fault raised, the others are healed
            self._fail(scenario, f"{begun[-1].name if begun else 'before'} failed", error)
        finally:
            for fault in reversed(begun):
                await self._heal(scenario, fault)
                if (each := injected.get(id(fault))) is not None:
                    injected[id(fault)] = replace(each, healed=time.time_ns())
        return list(injected.values())

    async def _heal(self, scenario: Scenario, fault: Fault) -> None:
        try:
            async with asyncio.timeout(HEAL_S_MAX):
                await fault.heal(self.rig)
        except Exception as error:  # whatever it raised, the others are healed
            self._fail(scenario, f"{fault.name} was not healed", error)
        if isinstance(fault, Sending):
            self.record.packets += fault.packets

    async def _dump(self, scenario: Scenario) -> None:
        try:
            self.record.dumps += await dumps(self.rig.bus, self.rig.cluster.profile, self.folded)
        except ClusterError as error:
            self._fail(scenario, "kernels were not read", error)

    def _fail(self, scenario: Scenario, what: str, error: Exception) -> None:
        line = f"{scenario.name}: {what}: {error or type(error).__name__}"
        self.record.failures.append(line)
        self.tell(f"   {line}")


@asynccontextmanager
async def course(cluster: Cluster, record: Record, tell: Tell) -> AsyncIterator[CarryOut]:
    """Inside the block there are pods, work, and packets; after it `record` has all of them.

    NotReached if what is there in the beginning does not come up.
    """

    def chance(what: str) -> Random:
        return Random(f"{record.seed}/{what}")

    rig = ClusterRig(cluster, record.acknowledged)
    workload = Workload(rig, record, chance("work"))
    convergence = Convergence(rig, Session(cluster), workload, chance("convergence"))
    async with tasks_as_one() as tasks:
        background = [
            tasks.create_task(Watch(rig.bus, record).run(), name="chaos.watch"),
            tasks.create_task(workload.run(), name="chaos.work"),
        ]
        await workload.begin()
        async with probing(rig, chance("probes")) as probers:
            tell("pods: the first ones come up")
            await convergence.come(BASE_S_MAX)
            yield _Course(rig, workload, convergence, record, tell, State()).carry_out
            record.packets += await probers.stop()
        for task in background:
            task.cancel()
