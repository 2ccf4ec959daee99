"""Pods with real network namespaces and real listeners, on this machine's kernel."""

import asyncio
from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import structlog

from tabard.events.observed import PodStarted
from tabard.netns.enter import NamespaceError
from tabard.netns.names import pod_id
from tabard.source.errors import PodFailed
from tabard.source.pods import wiring
from tabard.source.pods.gate import Gate
from tabard.source.pods.listeners import Listeners, Sockets
from tabard.source.pods.runtime import Attached, Wanted, attach, detach

PREPARING_MAX = 2
"""Most pods that wait for the worker to make their namespace, so that one that the agent has let in
does not wait behind all that are yet to be made."""

T = TypeVar("T")
log = structlog.get_logger("tabard.source")


class KernelRuntime:
    """A pod is made with everything down, let in by its node's agent, then connected and served."""

    def __init__(self, run: str, gate: Gate) -> None:
        self._run = run
        self._gate = gate
        self._listeners: dict[str, Listeners] = {}
        self._preparing = asyncio.Semaphore(PREPARING_MAX)
        self._worker = ThreadPoolExecutor(max_workers=1, thread_name_prefix="pods")

    async def start(self, wanted: Wanted) -> Attached | None:
        pod, ports = wanted.pod, wanted.ports
        if pod.host_network:
            await self._serve(pod, await self._do(wiring.node_sockets, self._run, pod, ports))
            return None
        async with self._preparing:
            interior, made = await self._do(wiring.prepare, self._run, pod, ports)
        try:
            attached = await attach(self._gate, pod) if made else None
            await self._do(wiring.connect, self._run, pod, interior)
            await self._serve(pod, interior.sockets)
        except PodFailed:
            interior.close()
            await self._do(wiring.remove, self._run, pod)
            raise
        interior.channel.close()
        return attached

    async def _serve(self, pod: PodStarted, sockets: Sockets) -> None:
        if sockets.unserved:
            log.info(
                "pods.port_unserved",
                pod=f"{pod.namespace}/{pod.name}",
                protocol=sorted(sockets.unserved),
                reason="this kernel has no sockets of the protocol",
            )
        listeners = Listeners(f"{pod.namespace}/{pod.name}")
        try:
            await listeners.open(sockets)
        except OSError as error:
            raise PodFailed(f"a port of {pod.name} cannot be opened: {error}") from error
        self._listeners[pod.uid] = listeners

    async def stop(self, pod: PodStarted) -> None:
        if (listeners := self._listeners.pop(pod.uid, None)) is not None:
            listeners.close()
        if pod.host_network:
            return
        await self._do(wiring.remove, self._run, pod)
        try:
            await detach(self._gate, pod)
        except PodFailed as error:
            # Its interface is gone; the agent drops the rest when it sees the pod's end.
            log.warning("pods.detach_failed", uid=pod.uid, node=pod.node, reason=str(error))

    async def sweep(self, keep: Collection[str]) -> int:
        left = await self._do(wiring.left_behind, self._run, {pod_id(uid) for uid in keep})
        for name in left:
            await self._do(wiring.remove_namespace, name)
        return len(left)

    async def let_go(self) -> None:
        for listeners in self._listeners.values():
            listeners.close()
        self._listeners.clear()
        self._worker.shutdown(wait=False)

    async def _do(self, step: Callable[..., T], *arguments: object) -> T:
        """A blocking step on the worker; PodFailed with what the kernel said."""
        loop = asyncio.get_running_loop()
        try:
            return await loop.run_in_executor(self._worker, step, *arguments)
        except (OSError, NamespaceError) as error:
            raise PodFailed(str(error)) from error
