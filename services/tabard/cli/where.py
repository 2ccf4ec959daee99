"""Where to read verdicts from: the ledger at some point of its history, or manifests alone."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass

from tabard.bus.port import Bus, Stream
from tabard.cli.failing import fail
from tabard.cli.ground import Ground
from tabard.cli.moments import At
from tabard.cli.past import begin_whole, sequence_at
from tabard.cli.printing import tell
from tabard.cli.reach import Target, with_bus
from tabard.cli.records import date
from tabard.cli.views import Reading
from tabard.cli.watching import lasting, watch
from tabard.cluster.watermarks import Watermark, denies_new, stale_since, watermarks
from tabard.ledger.fold import LedgerRecord
from tabard.ledger.follow import catch_up, follow
from tabard.ledger.provenance import Provenance
from tabard.ledger.state import State
from tabard.manifests.errors import ManifestError
from tabard.manifests.forecast import forecast
from tabard.manifests.reading import read
from tabard.policy.engine import Engine


@dataclass(frozen=True, slots=True)
class Where:
    """Where to read from: manifests in `files`, or else a cluster's ledger as of `at`."""

    files: Sequence[str] = ()
    at: At | None = None
    cluster: str = ""
    nats: str = ""


def ground(what: str, where: Where, *, notes: bool = True) -> Ground:
    """What `where` says; `what` the command was to do, should that fail.

    `notes`: tell what was read and has no effect.
    """
    return _of_manifests(what, where.files, notes) if where.files else _of_ledger(what, where)


def follow_steps(
    what: str,
    where: Where,
    see: Callable[[State, Provenance, LedgerRecord | None], None],
    timeout_s: float | None,
) -> None:
    """Show `see` the ledger's present, then its state after each further record, one by one."""

    async def work(bus: Bus, target: Target) -> None:
        state, provenance = State(), Provenance()
        await begin_whole(bus, state)
        await catch_up(bus, state, observe=provenance.observe)
        see(state, provenance, None)
        async with lasting(timeout_s), aclosing(follow(bus, state, 1)) as steps:
            async for records in steps:
                for record in records:
                    provenance.observe(record)
                    see(state, provenance, record)

    with_bus(what, where.cluster, where.nats, work)


def follow_states(
    what: str, where: Where, see: Callable[[Ground], None], timeout_s: float | None
) -> None:
    """Show `see` the ledger's present, then where it has got to, as `watch` spaces it."""

    async def known(bus: Bus, state: State, words: Mapping[str, Watermark]) -> Reading:
        return Reading(state)

    async def work(bus: Bus, target: Target) -> None:
        state, provenance = State(), Provenance()
        await begin_whole(bus, state)
        await catch_up(bus, state, observe=provenance.observe)
        seen = -1

        def show(reading: Reading) -> None:
            nonlocal seen
            if state.sequence != seen:
                seen = state.sequence
                see(Ground(state, Engine(state), provenance))

        show(Reading(state))
        await watch(bus, state, known, show, timeout_s, provenance.observe)

    with_bus(what, where.cluster, where.nats, work)


def _of_manifests(what: str, files: Sequence[str], notes: bool) -> Ground:
    try:
        found = read(files)
        state = forecast(found.objects)
    except ManifestError as error:
        fail(what, error)
    for note in found.notes if notes else ():
        tell(f"note: {note}")
    return Ground(state, Engine(state), manifests={each.key: each for each in found.objects})


async def _stale(bus: Bus, state: State) -> dict[str, str]:
    words, now = await watermarks(bus, state.nodes), (await bus.info(Stream.STATUS)).now
    found = {}
    for name, word in words.items():
        if (since := stale_since(word, now)) is not None:
            does = "some of its pods open no new flows" if denies_new(word, now) else "it goes on"
            found[name] = f"does not know since {date(since)} what the ledger says, and {does}"
    return found


def _of_ledger(what: str, where: Where) -> Ground:
    async def work(bus: Bus, target: Target) -> Ground:
        state, provenance = State(), Provenance()
        through = await sequence_at(bus, where.at)
        await begin_whole(bus, state, through)
        await catch_up(bus, state, through, provenance.observe)
        stale = await _stale(bus, state) if where.at is None else {}
        return Ground(state, Engine(state), provenance, stale=stale)

    return with_bus(what, where.cluster, where.nats, work)
