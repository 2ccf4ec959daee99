"""The workload: sources that publish what they see, and kubelets that attach pods at the gate.

Whoever publishes does so until it is acknowledged, with the same id, what is about one thing in
order. An event is told in words (`start p3.2 web n1 10.244.1.4`), so that it means the same in a
history out of which others were left.
"""

import asyncio
from collections import Counter, deque
from collections.abc import Coroutine, Mapping
from contextlib import suppress
from hashlib import blake2b
from random import Random

from tabard.agent.errors import Code, GateError
from tabard.agent.requests import Attach, Detach
from tabard.bus.port import BusError, BusUnavailable, Outgoing, Stream
from tabard.events.envelope import Envelope
from tabard.events.ledger import LedgerTrimmed
from tabard.events.observed import (
    NamespaceLabelsSet,
    NodeLeft,
    ObservedEvent,
    PodLabelsChanged,
    PodStarted,
    PodStopped,
    PolicyRemoved,
    PolicySet,
    TrimRequested,
)
from tabard.ledger import archive
from tabard.ledger.messages import observed
from tabard.ledger.trimming import KEPT
from tabard.simulator.bus import SimulatedBus, Store
from tabard.simulator.catalogue import ADDRESSES_A_NODE, LABELS, NAMESPACES, PODS, POLICIES
from tabard.simulator.clocks import true_time
from tabard.simulator.loop import Host, VirtualLoop
from tabard.simulator.operations import Line
from tabard.simulator.processes import AgentProcess
from tabard.simulator.world import Acknowledged, Pod, World

NAME = "source"
ATTEMPTS_MAX = 8
LATE, LATE_S = 0.1, 5.0
"""Share of pods whose start is told late, and how late: others at their address may be told of
first."""
RETRY_S = 0.4
ATTACH_TIMEOUT_MS = 4_000
KUBELET_RETRY_S = 1.0
TRIM_LOOKS_MAX = 50


class Work:
    """`agents` by node."""

    def __init__(
        self, loop: VirtualLoop, store: Store, world: World, agents: Mapping[str, AgentProcess]
    ) -> None:
        self.line = Line(Host(NAME, 1), loop)
        self._loop = loop
        self._world = world
        self._agents = agents
        self._bus = SimulatedBus(store, self.line)
        self._queues: dict[str, deque[ObservedEvent]] = {}
        self._told: Counter[str] = Counter()
        """Key and time → events that were told of it then."""
        self._asked: dict[str, asyncio.Task[object]] = {}
        """Pod's UID → the request for it that is under way at a gate."""
        self._retry_at: dict[str, float] = {}
        self._leaving: dict[str, str] = {}
        """Stopped pods that are still to be detached, and their nodes."""
        self._namespaces: dict[str, str] = {}
        self._policies: dict[str, int] = {}
        # Few of each come often: a policy is another while flows by it are open.
        chance = Random(f"work {world.seed}")
        self._own_policies = chance.sample(list(POLICIES), chance.randint(2, 5))
        self._own_labels = chance.sample(list(LABELS), chance.randint(3, len(LABELS)))

    @property
    def is_idle(self) -> bool:
        """All is published, and all pods are as they should be."""
        pods = self._world.pods.values()
        return (
            not self._queues
            and not self._leaving
            and all(pod.attached or not pod.running for pod in pods)
        )

    def refused(self) -> list[str]:
        """Pods that run, and that a leader's ledger has refused."""
        states = [one.state for one in self._world.allocators.values() if one.role == "leading"]
        return [
            uid
            for uid, pod in self._world.pods.items()
            if pod.running and any(uid in state.refused_pods for state in states)
        ]

    def rebooted(self, node: str) -> None:
        """The node's pods have to be attached again."""
        for pod in self._world.pods.values():
            if pod.started.node == node:
                pod.attached = False

    # What may happen

    def draw(self, chance: Random) -> str:
        """An event that is possible now, in words."""
        running = [uid for uid, pod in self._world.pods.items() if pod.running]
        kinds = {
            "start": 8 if len(running) < 10 else 1,
            "stop": 5 if running else 0,
            "replace": 4 if running else 0,
            "again": 1 if self._world.pods else 0,
            "relabel": 4 if running else 0,
            "namespace": 1,
            "policy": 4,
            "unpolicy": 2 if self._policies else 0,
            "leave": 0.15,
        }
        match chance.choices(list(kinds), list(kinds.values()))[0]:
            case "start":
                return self._start_words(chance) or self._policy_words(chance)
            case "stop":
                return f"stop {chance.choice(running)}"
            case "replace":
                uid = chance.choice(running)
                same = [name for name, of in LABELS.items() if of == self._world.pods[uid].labels]
                labels = chance.choice([*same, chance.choice(self._own_labels)])
                return f"replace {uid} {self._next(uid.partition('.')[0])} {labels}"
            case "again":
                return f"again {chance.choice(list(self._world.pods))}"
            case "relabel":
                return f"relabel {chance.choice(running)} {chance.choice(self._own_labels)}"
            case "namespace":
                name = chance.choice(("shop", "bank"))
                return f"namespace {name} {chance.choice(list(NAMESPACES))}"
            case "unpolicy":
                return f"unpolicy {chance.choice(list(self._policies))}"
            case "leave":
                return f"leave {chance.choice(list(self._agents))}"
        return self._policy_words(chance)

    def _policy_words(self, chance: Random) -> str:
        name = chance.choice(self._own_policies)
        return f"policy {name} {chance.randrange(len(POLICIES[name]))}"

    def _start_words(self, chance: Random) -> str:
        pods = self._world.pods
        held = {pod.started.addresses[0] for pod in pods.values() if pod.running}
        there = {uid.partition(".")[0] for uid, pod in pods.items() if pod.running}
        names = [name for name in PODS if name not in there]
        node = chance.choice(list(self._agents))
        prefix = self._agents[node].seen.pod_cidrs[0].rpartition(".")[0]
        free = [f"{prefix}.{host}" for host in range(1, ADDRESSES_A_NODE + 1)]
        free = [address for address in free if address not in held]
        if not names or not free:
            return ""
        left = [pod.started.addresses[0] for pod in pods.values() if not pod.running][-4:]
        again = [address for address in free if address in left]
        if again and chance.random() < 0.6:
            free = again
        name = chance.choice(names)
        labels, late = chance.choice(self._own_labels), " late" if chance.random() < LATE else ""
        return f"start {self._next(name)} {labels} {node} {chance.choice(free)}{late}"

    def _next(self, name: str) -> str:
        """The UID of the next pod of that name."""
        return f"{name}.{1 + sum(uid.startswith(f'{name}.') for uid in self._world.pods)}"

    def carry_out(self, words: str) -> bool:
        """Let it happen; False if it is not possible (any more)."""
        match words.split():
            case ["start", uid, labels, node, address, *late] if uid not in self._world.pods:
                return self._start(uid, labels, node, address, LATE_S if late else 0.0)
            case ["replace", uid, following, labels] if (
                following not in self._world.pods and self._stop(uid)
            ):
                # As a StatefulSet does: another pod of the same name, at the same address.
                before = self._world.pods[uid].started
                return self._start(following, labels, before.node, before.addresses[0])
            case ["again", uid] if uid in self._world.pods:
                # As whoever reports pods does when it is restarted and lists them.
                self._publish(f"again {uid}", self._world.pods[uid].started)
                return True
            case ["stop", uid]:
                return self._stop(uid)
            case ["relabel", uid, labels]:
                return self._relabel(uid, LABELS[labels])
            case ["namespace", name, variant]:
                self._namespaces[name] = variant
                self._publish(f"namespace {name}", NamespaceLabelsSet(name, NAMESPACES[variant]))
                return True
            case ["policy", name, variant]:
                self._policies[name] = int(variant)
                document = POLICIES[name][int(variant)]
                self._publish(f"policy {name}", PolicySet(document, "simulated"))
                return True
            case ["unpolicy", name] if name in self._policies:
                document = POLICIES[name][self._policies.pop(name)]
                meta = document["metadata"]
                removed = PolicyRemoved(document["kind"], meta.get("namespace", ""), meta["name"])
                self._publish(f"policy {name}", removed)
                return True
            case ["leave", node]:
                self._publish(f"node {node}", NodeLeft(node))
                return True
        return False

    def _start(
        self, uid: str, labels: str, node: str, address: str, told_after_s: float = 0.0
    ) -> bool:
        name = uid.partition(".")[0]
        pods = self._world.pods.values()
        if any(
            pod.running and (pod.started.name == name or pod.started.addresses == (address,))
            for pod in pods
        ):
            return False
        # No two start at the same nanosecond, though many steps are at one time.
        at = true_time(self._loop) + self._world.step
        started = PodStarted(uid, PODS[name], name, node, (address,), LABELS[labels], at)
        interface = "v" + uid.replace(".", "-")
        self._agents[node].links.add(interface)
        self._world.pods[uid] = Pod(started, started.labels, interface)
        self._publish(f"pod {uid}", started, told_after_s)
        return True

    def _stop(self, uid: str) -> bool:
        pod = self._world.pods.get(uid)
        if pod is None or not pod.running:
            return False
        pod.running = pod.attached = False
        self._agents[pod.started.node].links.discard(pod.interface)
        self._leaving[uid] = pod.started.node
        self._publish(f"pod {uid}", PodStopped(uid))
        return True

    def _relabel(self, uid: str, labels: tuple[tuple[str, str], ...]) -> bool:
        pod = self._world.pods.get(uid)
        if pod is None or not pod.running:
            return False
        pod.labels = labels
        self._publish(f"pod {uid}", PodLabelsChanged(uid, labels))
        return True

    # Sources

    def _publish(self, key: str, event: ObservedEvent, after_s: float = 0.0) -> None:
        queue = self._queues.get(key)
        if queue is not None:
            queue.append(event)
            return
        self._queues[key] = deque([event])
        self._run(self._drain(key, after_s))

    def _run(self, work: Coroutine[None, None, None]) -> None:
        task = self.line.host.context.run(self._loop.create_task, work)
        task.add_done_callback(self._loop.note_failure)

    async def _drain(self, key: str, after_s: float) -> None:
        queue = self._queues[key]
        if after_s:
            await asyncio.sleep(after_s)
        while queue:
            # Of what it is about and of the moment alone, so that it stays if others are left out.
            moment = f"{key} {self._loop.time()}"
            self._told[moment] += 1
            event_id = blake2b(f"{moment} {self._told[moment]}".encode(), digest_size=16).digest()
            event = queue[0]
            envelope = Envelope(event_id, key, true_time(self._loop), "", event_id)
            message = observed(event, envelope)
            world = self._world
            attempt = 1
            while (sequence := await self._tried(message)) is None:
                # An operator gives up some time; whoever reports pods does not.
                if attempt >= ATTEMPTS_MAX and not key.startswith("pod "):
                    world.unanswered += 1
                    break
                attempt += 1
                await asyncio.sleep(RETRY_S)
            else:
                acknowledged = Acknowledged(
                    sequence,
                    message.id,
                    message.payload,
                    event,
                    true_time(self._loop),
                    world.step,
                )
                world.acknowledged.append(acknowledged)
            queue.popleft()
        del self._queues[key]

    async def _tried(self, message: Outgoing) -> int | None:
        """The sequence that a message got; None without an answer."""
        try:
            [sequence] = await self._bus.publish(Stream.OBSERVED, [message])
        except BusUnavailable:
            return None
        return sequence

    # Operators

    def trim(self, before: int) -> None:
        """Have the ledger begin at the snapshot `before`, once the ledger says so itself."""
        self._run(self._trimmed(before))

    async def _trimmed(self, before: int) -> None:
        try:
            [entry] = [one for one in await archive.listed(self._bus) if one.sequence == before]
            await archive.keep(self._bus, entry, KEPT)
        except (BusError, ValueError):
            return  # it was replaced by newer ones; another trim may come
        digest = bytes.fromhex(entry.digest)
        self._publish("trim", TrimRequested(before, digest, "simulated.gz", bytes(32)))
        for _ in range(TRIM_LOOKS_MAX):
            await asyncio.sleep(RETRY_S)
            if any(
                isinstance(record.event, LedgerTrimmed) and record.event.before == before
                for record in self._world.records[before:]
            ):
                with suppress(BusUnavailable):
                    await self._bus.trim(before)
                return

    # Kubelets

    def kubelets(self) -> None:
        """Ask gates for what is not as it should be, if it was not asked for already."""
        now = self._loop.time()
        for uid, pod in self._world.pods.items():
            if pod.running and not pod.attached:
                self._ask(uid, pod.started.node, now)
        for uid, node in list(self._leaving.items()):
            self._ask(uid, node, now)

    def _ask(self, uid: str, node: str, now: float) -> None:
        agent = self._agents[node]
        if agent.gate is None or agent.line is None or self._retry_at.get(uid, 0.0) > now:
            return
        asked = self._asked.get(uid)
        if asked is not None:
            if not asked.done() and asked in agent.asked:
                return
            del self._asked[uid]
        pod = self._world.pods[uid]
        if pod.running:
            number = blake2b(uid.encode(), digest_size=5).hexdigest()
            mac = "02:" + ":".join(number[at : at + 2] for at in range(0, 10, 2))
            request = Attach(pod.started, pod.interface, mac, ATTACH_TIMEOUT_MS)
            work = self._attached(agent, request)
        else:
            work = self._detached(agent, uid)
        task = agent.line.host.context.run(self._loop.create_task, work)
        task.add_done_callback(self._loop.note_failure)
        agent.asked.add(task)
        self._asked[uid] = task

    async def _attached(self, agent: AgentProcess, request: Attach) -> None:
        uid, counts = request.pod.uid, self._world.counts
        assert agent.gate is not None
        try:
            up = await agent.gate.attach(request)
        except GateError as error:
            counts[f"attach {error.code.value}"] += 1
            again = 3 if error.code is Code.REFUSED else 1
            self._retry_at[uid] = self._loop.time() + again * KUBELET_RETRY_S
            return
        counts["attached at once" if up.local else "attached"] += 1
        pod = self._world.pods[uid]
        pod.attached = pod.running

    async def _detached(self, agent: AgentProcess, uid: str) -> None:
        assert agent.gate is not None
        try:
            await agent.gate.detach(Detach(uid, ATTACH_TIMEOUT_MS))
        except GateError:
            self._retry_at[uid] = self._loop.time() + KUBELET_RETRY_S
            return
        self._leaving.pop(uid, None)
