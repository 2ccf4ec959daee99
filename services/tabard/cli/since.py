"""What each node's kernel holds now against what the ledger said at some point of its history."""

from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import asdict

from tabard.bus.port import Bus, Stream
from tabard.cli.records import Row
from tabard.cluster.errors import ClusterError
from tabard.cluster.kernels import read, wanted
from tabard.cluster.profile import Profile
from tabard.dataplane.differences import KINDS, Difference, differences, listed
from tabard.dataplane.maps import Mode
from tabard.events.errors import EventError
from tabard.events.ledger import EndpointUnbound
from tabard.ledger.follow import catch_up
from tabard.ledger.messages import recorded
from tabard.ledger.state import State


def row(
    node: str,
    sequence: int | None = None,
    found: Sequence[Difference] = (),
    count: int = 0,
    error: str = "",
) -> Row:
    """A node's row; `found` may be fewer than `count`."""
    return {
        "node": node,
        "sequence": sequence,
        **{kind: [str(each) for each in found if each.kind == kind] for kind in KINDS},
        "entries": [asdict(each) for each in found],
        "count": count,
        "error": error,
    }


async def compared(bus: Bus, profile: Profile, names: Iterable[str], through: int) -> list[Row]:
    """What differs, by node in order.

    Wanted is what the ledger through `through` compiles to on each node as it is attached now; a
    pod that has gone since is wanted at interface 0: where it was is not kept. Stopped as
    `catch_up`.
    """
    state = await catch_up(bus, State(), through)
    gone = await _unbound(bus, through)
    mode = Mode[profile.mode.upper()]
    rows = []
    for name in names:
        try:
            kernel = await read(profile.socket(name))
        except ClusterError as error:
            rows.append(row(name, error=str(error)))
            continue
        # One after the other: what a node holds may be large, and is forgotten once compared.
        found = differences(kernel.maps, wanted(state, name, mode, kernel, gone))
        rows.append(row(name, kernel.sequence, listed(found), len(found)))
    return rows


async def _unbound(bus: Bus, after: int) -> set[str]:
    """UIDs of the pods that the ledger unbound after that sequence."""
    found: set[str] = set()
    end = await bus.last_sequence(Stream.LEDGER)
    while after < end and (messages := await bus.read(Stream.LEDGER, after + 1)):
        after = messages[-1].sequence
        for message in messages:
            with suppress(EventError):  # whoever unbound nobody readably has unbound nobody
                event = recorded(Stream.LEDGER, message).event
                if isinstance(event, EndpointUnbound):
                    found.add(event.uid)
    return found
