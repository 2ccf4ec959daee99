"""When a cluster is as it should be again: everybody runs, is current, and packets agree.

The workload pauses meanwhile, so that there is one state to agree with.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from operator import itemgetter
from random import Random

from tabard.bus import replicas
from tabard.bus.monitoring import ask
from tabard.bus.port import UNBROKEN, BusUnavailable, Stream
from tabard.chaos.record import CONVERGE_S_MAX
from tabard.chaos.rig import ASK_S, ClusterRig
from tabard.chaos.workload import Workload
from tabard.cluster.errors import NotReached
from tabard.cluster.watermarks import taken, watermarks
from tabard.demo.probe import Target
from tabard.demo.session import Session
from tabard.ledger.state import EndpointState
from tabard.netns.enter import NamespaceError

POLL_S = 0.1
SOURCES, TARGETS = 6, 6
"""Pods that probe at the end, and how many targets each."""
SILENCE_S, SECOND_SILENCE_S = 0.5, 2.0
"""How long an answer is waited for; and again, where one is due: the machine may be busy."""


class Convergence:
    def __init__(self, rig: ClusterRig, session: Session, workload: Workload, chance: Random):
        self._rig = rig
        self._session = session
        self._workload = workload
        self._chance = chance
        self._wants = ""
        """What it waits for, and what it saw last."""
        self.longest = ("", 0.0)
        """What it waited for longest the last time, and for how many seconds."""

    async def come(self, timeout_s: float = CONVERGE_S_MAX) -> int:
        """Wait until the cluster has converged; when it had, in Unix nanoseconds.

        NotReached after `timeout_s`, with what was missing. The workload is paused from now on.
        """
        self.longest = ("", 0.0)
        try:
            async with asyncio.timeout(timeout_s):
                await self._done("all that happened is acknowledged", self._workload.pause())
                await self._until("processes run", self._running)
                await self._done("an event is decided", self._decide())
                await self._until("nodes enforce the ledger's head", self._enforced)
                await self._until("pods are as the workloads ask", self._placed)
                await self._until("allocators have read all", self._led)
                await self._until("bus servers hold the same", self._in_step)
                await self._until("packets pass as the ledger says", self._agrees)
        except TimeoutError as error:
            raise NotReached(
                f"not converged within {timeout_s:g} s: waiting until {self._wants}",
                "tabard status",
            ) from error
        return time.time_ns()

    async def _done(self, wants: str, work: Awaitable[None]) -> None:
        self._wants, begun = wants, time.monotonic()
        await work
        self.longest = max(self.longest, (wants, time.monotonic() - begun), key=itemgetter(1))

    async def _until(self, wants: str, look: Callable[[], Awaitable[str]]) -> None:
        """Until `look` says that nothing is missing."""
        await self._done(wants, self._looked(wants, look))

    async def _looked(self, wants: str, look: Callable[[], Awaitable[str]]) -> None:
        while True:
            try:
                missing = await look()
            except BusUnavailable as error:
                missing = str(error)
            if not missing:
                return
            self._wants = f"{wants}: {missing}"
            await asyncio.sleep(POLL_S)

    async def _running(self) -> str:
        return ", ".join(
            f"{name} is down" for name, child in self._rig.cluster.children.items() if not child.pid
        )

    async def _decide(self) -> None:
        """Have an event decided, which changes nothing that counts: what nodes say to be at it they
        said since now."""
        observed = await self._workload.mark()
        await taken(self._rig.bus, self._session.state, observed)

    async def _enforced(self) -> str:
        state = await self._session.refresh()
        words = await watermarks(self._rig.bus, state.nodes)
        missing = [f"{name} said nothing" for name in state.nodes.keys() - words.keys()]
        missing += [
            f"{name} is at {said.sequence} of {state.sequence} {said.error}".rstrip()
            for name, said in ((name, word.status) for name, word in words.items())
            if said.sequence < state.sequence or said.error
        ]
        return ", ".join(missing + [f"{name} is lost" for name in state.lost])

    async def _placed(self) -> str:
        """Each workload is one pod: bound, and attached at its node; no pod is to be another."""
        state = await self._session.refresh()
        wanted = {"/".join(key) for key in state.workloads}
        bound = {pod.owner for pod in state.endpoints.values()}
        missing = [f"{owner} is not bound" for owner in sorted(wanted - bound)]
        missing += [f"{owner} is bound still" for owner in sorted(bound - wanted)]
        missing += [f"pod {uid} is to be relabelled still" for uid in state.relabels]
        words = await watermarks(self._rig.bus, state.nodes)
        counts = {node: len(state.by_node.get(node, ())) for node in words}
        missing += [
            f"{node} has {word.status.endpoints} of {counts[node]} pods"
            for node, word in words.items()
            if word.status.endpoints != counts[node]
        ]
        return ", ".join(missing)

    async def _led(self) -> str:
        await self._rig.allocator_leader()
        head = await self._rig.bus.last_sequence(Stream.LEDGER)
        words = await self._rig.allocator_words()
        return ", ".join(
            f"{name} is at {said.sequence} of {head}, {said.role} {said.error}".rstrip()
            for name, said in words.items()
            if said.sequence < head or said.error or said.role not in ("leading", "following")
        )

    async def _in_step(self) -> str:
        servers = await ask(self._rig.cluster.profile.monitoring, ASK_S)
        missing = [server.failure for server in servers if server.failure]
        missing += [
            f"{each.server}'s {each.stream}: {'; '.join(each.faults) or f'{each.behind} behind'}"
            for each in replicas.judge(servers)
            if each.stream in UNBROKEN and (not each.good or each.behind)
        ]
        missing += [f"{name} is not well" for name in await self._rig.cluster.out_of_step()]
        return ", ".join(missing)

    async def _agrees(self) -> str:
        """Real packets of a few pods, held against the pure verdict."""
        await self._session.settle()
        expectation = self._session.expectation()
        pods = self._session.pods()
        places = [(pod, target) for pod in pods for target in self._session.targets(pod)]
        wrong: list[str] = []

        async def probe(source: EndpointState) -> None:
            others = [target for pod, target in places if pod.uid != source.uid]
            chosen = self._chance.sample(others, min(TARGETS, len(others)))
            due = {target: expectation.allows_pod(source.uid, target, "") for target in chosen}
            try:
                answers = await self._session.probe(source, chosen, SILENCE_S)
                passed = {answer.target: answer.passed for answer in answers}
                if silent := [target for target in chosen if due[target] and not passed[target]]:
                    answers = await self._session.probe(source, silent, SECOND_SILENCE_S)
                    passed |= {answer.target: answer.passed for answer in answers}
            except NamespaceError as error:
                wrong.append(str(error))
                return
            wrong.extend(_told(source, t, passed[t]) for t in chosen if passed[t] is not due[t])

        async with asyncio.TaskGroup() as probing:
            for source in self._chance.sample(pods, min(SOURCES, len(pods))):
                probing.create_task(probe(source), name=f"converge.{source.name}")
        return "; ".join(wrong)


def _told(source: EndpointState, target: Target, passed: bool) -> str:
    what = "passed" if passed else "was not answered"
    return f"{source.namespace}/{source.name} → {target.address} {target.port} {what}"
