"""The checks themselves: a right ledger passes, and each wrong one is caught."""

from collections.abc import Callable

import pytest

from bench.invariants import Ledger, check_fold, read_ledger
from deciding import SETTINGS
from serving import caught_up, running
from tabard.bus.memory import MemoryBus
from tabard.bus.port import Stream
from tabard.dataplane.maps import Maps, Mode
from tabard.events import ledger
from tabard.events.envelope import Envelope, Recorded
from tabard.events.observed import PodStarted, PodStopped
from tabard.ledger.follow import catch_up
from tabard.ledger.messages import first_cause, observed
from tabard.ledger.state import State
from tabard.policy.compile import Compiler
from world import attachment


def pod(uid: str, address: str, app: str, at: int) -> PodStarted:
    return PodStarted(
        uid=uid,
        namespace="default",
        name=uid,
        node="n1",
        addresses=(address,),
        labels=(("app", app),),
        started_at=at,
    )


OBSERVED = [
    pod("a", "10.0.0.1", "web", 1),
    pod("b", "10.0.0.2", "web", 2),
    PodStopped("a"),
    pod("c", "10.0.0.1", "db", 3),
]


async def decided(bus: MemoryBus) -> None:
    messages = [observed(event, first_cause("", n)) for n, event in enumerate(OBSERVED)]
    await bus.publish(Stream.OBSERVED, messages)
    async with running(bus) as task:
        await caught_up(bus, task)


async def test_what_an_allocator_decided_holds() -> None:
    bus = MemoryBus()
    await decided(bus)
    found = await read_ledger(bus, SETTINGS.cluster)
    assert found.started.keys() == {"a", "b", "c"}
    assert found.stopped.keys() == {"a"}
    assert found.bound.keys() == {"b", "c"}


async def test_an_event_that_nobody_decided_is_missed() -> None:
    bus = MemoryBus()
    await decided(bus)
    late = observed(pod("d", "10.0.0.9", "web", 9), first_cause("", 9))
    await bus.publish(Stream.OBSERVED, [late])
    with pytest.raises(AssertionError):
        await read_ledger(bus, SETTINGS.cluster)


async def test_a_fold_is_held_against_maps_and_attachments() -> None:
    bus = MemoryBus()
    await decided(bus)
    state = await catch_up(bus, State())
    attached = {uid: attachment(uid) for uid in ("b", "c")}
    maps = Compiler().compile(state, "n1", Mode.OVERLAY, attached)
    check_fold(state, "n1", Mode.OVERLAY, attached, maps)
    with pytest.raises(AssertionError, match="drifted"):
        check_fold(state, "n1", Mode.OVERLAY, attached, Maps())
    with pytest.raises(AssertionError, match="missing"):
        check_fold(state, "n1", Mode.OVERLAY, {"b": attached["b"]}, maps)


class Told:
    """A ledger that is told events of its own making, each caused by an observed one."""

    def __init__(self) -> None:
        causes = {
            f"OBSERVED/{n}": Recorded("OBSERVED", n, Envelope(b"", "", 0), event)
            for n, event in enumerate(OBSERVED, 1)
        }
        self.ledger = Ledger("default", causes)

    def tell(self, event: ledger.LedgerEvent, cause: int = 0) -> None:
        envelope = Envelope(b"", "", 0, f"OBSERVED/{cause}" if cause else "")
        self.ledger.take(Recorded("LEDGER", 1, envelope, event))

    def bind(self, cause: int, identity: int) -> None:
        event = OBSERVED[cause - 1]
        assert isinstance(event, PodStarted)
        fields = {name: getattr(event, name) for name in PodStarted.__slots__}
        self.tell(ledger.EndpointBound(identity=identity, **fields), cause)


WEB = (
    "k8s:app=web",
    "k8s:io.cilium.k8s.namespace.labels.kubernetes.io/metadata.name=default",
    "k8s:io.cilium.k8s.policy.cluster=default",
    "k8s:io.cilium.k8s.policy.serviceaccount=default",
    "k8s:io.kubernetes.pod.namespace=default",
)


def begun() -> Told:
    told = Told()
    told.tell(ledger.IdentityAllocated(300, WEB))
    told.bind(1, 300)
    return told


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        (lambda told: told.tell(ledger.IdentityAllocated(300, ("k8s:x=y",))), "two label sets"),
        (lambda told: told.tell(ledger.IdentityAllocated(301, WEB)), "two numbers"),
        (lambda told: told.tell(ledger.IdentityRetired(300)), "have it"),
        (lambda told: told.tell(ledger.IdentityReleased(300)), "not retired"),
        (lambda told: told.bind(1, 300), "bound twice"),
        (lambda told: told.bind(2, 999), "own identity"),
        (lambda told: told.tell(ledger.EndpointUnbound("a"), 2), "unbound because"),
        (lambda told: told.tell(ledger.EndpointTombstoned("a"), 3), "was bound"),
    ],
)
def test_a_ledger_that_breaks_an_invariant_is_caught(
    wrong: Callable[[Told], None], why: str
) -> None:
    told = begun()
    with pytest.raises(AssertionError, match=why):
        wrong(told)


def test_a_number_that_was_not_released_is_not_given_again() -> None:
    told = begun()
    told.tell(ledger.EndpointUnbound("a"), 3)
    told.tell(ledger.IdentityRetired(300))
    with pytest.raises(AssertionError, match="too early"):
        told.tell(ledger.IdentityAllocated(300, WEB))
    told.tell(ledger.IdentityReleased(300))
    told.tell(ledger.IdentityAllocated(300, WEB))
    assert told.ledger.reused == 1


def test_a_cursor_that_goes_back_is_caught() -> None:
    told = begun()
    told.tell(ledger.CursorAdvanced("OBSERVED", 2))
    with pytest.raises(AssertionError, match="goes back"):
        told.tell(ledger.CursorAdvanced("OBSERVED", 1))
