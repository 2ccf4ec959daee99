"""The pod gate: bringing a pod's network up and down.

A pod is up when its identity is known and its own endpoint and policy stand in the dataplane, and
no sooner. Whatever goes wrong on the way, its interface stays guarded: everything through it is
dropped.
"""

import asyncio
import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass

import structlog

from tabard.agent.attachments import Held
from tabard.agent.errors import Code, GateError
from tabard.agent.follower import Follower
from tabard.agent.reconciler import Reconciler
from tabard.agent.requests import Attach, Detach
from tabard.agent.resolution import resolve
from tabard.dataplane.maps import Endpoint, address
from tabard.dataplane.port import DataplaneError, LinkGone
from tabard.policy.compile import Attachment, Provisional, incarnation

log = structlog.get_logger(__name__)

ATTACHES_MAX = 256
"""Most attaches at a time; one more is told `busy`."""

LOOK_AGAIN_S = 0.5
"""Wait before a pod whose endpoint is not there is looked for again, if the ledger stands still."""


@dataclass(frozen=True, slots=True)
class Attached:
    """A pod that is up."""

    identity: int
    sequence: int
    """The ledger sequence that its node enforced when it came up."""
    local: bool
    """Its label set was known here: no event had to come first."""
    resolve_ms: float
    """From the request to its identity."""
    program_ms: float
    """From then to its endpoint and policy in the dataplane."""


class Gate:
    """Attaches and detaches pods. All errors are GateError."""

    def __init__(
        self, reconciler: Reconciler, follower: Follower, attaches_max: int = ATTACHES_MAX
    ) -> None:
        self._reconciler = reconciler
        self._follower = follower
        self._attaches_max = attaches_max
        self._busy: set[str] = set()
        """UIDs that are being attached or detached."""

    async def attach(self, request: Attach) -> Attached:
        """Bring a pod's network up."""
        figures = self._reconciler.figures
        try:
            attached = await self._attach(request)
        except GateError as error:
            figures.attach_failures[error.code.value] += 1
            raise
        figures.attach_s.observe((attached.resolve_ms + attached.program_ms) / 1000)
        return attached

    async def _attach(self, request: Attach) -> Attached:
        if len(self._busy) >= self._attaches_max:
            raise GateError(
                Code.BUSY, f"{len(self._busy)} pods are being attached or detached; try again"
            )
        with self._only(request.pod.uid):
            attempt = _Attempt(request, self._reconciler, self._follower)
            try:
                async with asyncio.timeout(request.timeout_ms / 1000):
                    return await attempt.run()
            except TimeoutError:
                raise self._late(request, attempt.waiting_for) from None
            except LinkGone as error:
                raise GateError(Code.LINK, str(error)) from error
            except DataplaneError as error:
                raise GateError(Code.DATAPLANE, str(error)) from error
            finally:
                attempt.end()

    async def detach(self, request: Detach) -> None:
        """Take the pod's endpoint out of the dataplane, and then its interface's guard."""
        reconciler = self._reconciler
        waiting_for = "the node to be in sync with the ledger"
        with self._only(request.uid):
            try:
                async with asyncio.timeout(request.timeout_ms / 1000):
                    await reconciler.ready.wait()
                    waiting_for = "its endpoint to leave the dataplane"
                    reconciler.attachments.remove(request.uid)
                    await reconciler.flush()
                    await reconciler.worker.call(reconciler.dataplane.detach, request.uid)
            except TimeoutError:
                raise self._late(request, waiting_for) from None
            except DataplaneError as error:
                raise GateError(Code.DATAPLANE, str(error)) from error
        log.info("agent.detached", uid=request.uid)

    @contextlib.contextmanager
    def _only(self, uid: str) -> Iterator[None]:
        """One request for a pod at a time: two could leave an endpoint without its guard."""
        if uid in self._busy:
            raise GateError(Code.BUSY, f"pod {uid} is being attached or detached; try again")
        self._busy.add(uid)
        try:
            yield
        finally:
            self._busy.remove(uid)

    def _late(self, request: Attach | Detach, waiting_for: str) -> GateError:
        uid = request.pod.uid if isinstance(request, Attach) else request.uid
        trouble = self._reconciler.report.error
        return GateError(
            Code.TIMEOUT,
            f"pod {uid} waited {request.timeout_ms} ms for {waiting_for} (this node stands "
            f"at LEDGER/{self._reconciler.state.sequence}, {self._reconciler.standing.value}"
            + (f"; {trouble}" if trouble else "")
            + "); its interface stays closed; see `tabard status`, then try again",
        )


class _Attempt:
    """One attach under way."""

    def __init__(self, request: Attach, reconciler: Reconciler, follower: Follower) -> None:
        self.waiting_for = "its turn at the dataplane"
        self._request = request
        self._reconciler = reconciler
        self._follower = follower
        self._before: Held | None = None
        self._put_once = False
        self._local = True
        self._up = False

    async def run(self) -> Attached:
        reconciler, request = self._reconciler, self._request
        begun = time.monotonic()
        resolved = time.monotonic() if self._known() else None
        # Before anything is waited for: an interface without its guard is open.
        ifindex, host_mac = await reconciler.worker.call(
            reconciler.dataplane.attach, request.pod.uid, request.interface
        )
        while True:
            identity = await self._resolved()
            resolved = resolved or time.monotonic()
            self._put(identity, ifindex, host_mac)
            self.waiting_for = "its endpoint to enter the dataplane"
            sequence = await reconciler.flush()
            endpoint = self._endpoint(ifindex)
            if endpoint is not None:
                break
            # The ledger took the identity or the addresses away in between.
            self.waiting_for = "the ledger to give it its addresses"
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LOOK_AGAIN_S):
                    await self._follower.folded()
        self._up = True
        attached = Attached(
            identity=endpoint.identity,
            sequence=sequence,
            local=self._local,
            resolve_ms=round((resolved - begun) * 1000, 3),
            program_ms=round((time.monotonic() - resolved) * 1000, 3),
        )
        log.info(
            "agent.attached",
            uid=request.pod.uid,
            identity=attached.identity,
            sequence=sequence,
            local=self._local,
            resolve_ms=attached.resolve_ms,
            program_ms=attached.program_ms,
        )
        return attached

    def _known(self) -> bool:
        """Whether the identity can be told now."""
        if not self._reconciler.ready.is_set():
            return False
        try:
            return resolve(self._reconciler.state, self._request.pod) is not None
        except GateError:  # raised again once the interface is guarded
            return False

    async def _resolved(self) -> int:
        """The pod's identity, as soon as the ledger has one for its label set."""
        self.waiting_for = "the node to be in sync with the ledger"
        await self._reconciler.ready.wait()
        self.waiting_for = "an identity for its label set (is the allocator up?)"
        while (identity := resolve(self._reconciler.state, self._request.pod)) is None:
            self._local = False
            await self._follower.folded()
        return identity

    def _put(self, identity: int, ifindex: int, host_mac: bytes) -> None:
        state, pod = self._reconciler.state, self._request.pod
        attachment = Attachment(
            pod.uid,
            ifindex,
            bytes.fromhex(self._request.mac.replace(":", "")),
            host_mac,
            None if pod.uid in state.endpoints else Provisional(identity, pod.addresses),
        )
        allocated_at = state.identities[identity].allocated_at
        attachments = self._reconciler.attachments
        if not self._put_once:
            self._before, self._put_once = attachments.get(pod.uid), True
        attachments.put(Held(attachment, self._request.interface, allocated_at))

    def _endpoint(self, ifindex: int) -> Endpoint | None:
        """The pod's entry in the dataplane, if each of its addresses that it may have has one."""
        reconciler, pod = self._reconciler, self._request.pod
        bound = reconciler.state.endpoints.get(pod.uid)
        found = [
            reconciler.endpoint(address(text))
            for text in (pod.addresses if bound is None else bound.addresses)
        ]
        own = [
            endpoint
            for endpoint in found
            if endpoint is not None
            and endpoint.incarnation == incarnation(pod.uid)
            and endpoint.ifindex == ifindex
        ]
        return own[0] if own and len(own) == len(found) else None

    def end(self) -> None:
        """Withdraw what was put, unless the pod came up."""
        if self._up or not self._put_once:
            return
        self._reconciler.attachments.remove(self._request.pod.uid)
        if self._before is not None:
            self._reconciler.attachments.put(self._before)
        self._reconciler.wake()
