"""Domain names that policies ask for: which addresses stand for them, and until when.

Names that no policy asks for are passed over without an event, and so is an answer that says
nothing new: most of DNS costs the ledger nothing. An address stands for as long as the answer may
be kept (a week at most, ANSWER_KEPT_S_MAX), and for `names_kept_ms` at least; half of that goes by
before it is renewed.
"""

from tabard.allocator.commands import NS_PER_MS, Resolve, Tick
from tabard.allocator.numbering import Allotment
from tabard.allocator.plan import Indexes
from tabard.events.ledger import LedgerEvent, NameForgotten, NameResolved
from tabard.identity.labels import LabelSet, cidr_label, host_cidr
from tabard.ledger.state import State
from tabard.policy.names import (
    ADDRESSES_OF_NAME_MAX,
    ANSWER_KEPT_S_MAX,
    acceptable,
    has_room,
    is_news,
)

_NS_PER_S = 1_000_000_000


def resolve(state: State, indexes: Indexes, command: Resolve) -> list[LedgerEvent]:
    """The answer's addresses stand for the name, each with an identity first.

    At the bound of all addresses (ADDRESSES_MAX) those that are new are left out.
    """
    name = command.name
    if name not in indexes.asked:
        return []
    assert state.settings is not None, "how long names are kept is among the settings"
    said = acceptable(state, name, command.addresses)
    if not is_news(state, name, said, command.ttl_s, command.now):
        return []
    half = state.settings.names_kept_ms * NS_PER_MS // 2
    held = state.names.get(name, {})
    new = [address for address in said if address not in held]
    ending = sorted((until, address) for address, until in held.items() if address not in said)
    surplus = max(0, len(held) + len(new) - ADDRESSES_OF_NAME_MAX)
    gone = tuple(address for _, address in ending[:surplus])
    if not has_room(state, name, new):
        new, gone = [], ()
    allotment = Allotment(state, indexes.numbering.cidr)
    unnumbered = set()
    for address in new:
        labels = LabelSet((cidr_label(host_cidr(address)),))
        if allotment.known(labels) is None and allotment.draw(labels) is None:
            unnumbered.add(address)
    kept_s = min(command.ttl_s, ANSWER_KEPT_S_MAX)
    until = command.now + max(kept_s * _NS_PER_S, half) + half
    stand = tuple(
        (address, max(until, held.get(address, 0)))
        for address in said
        if address in held or (address in new and address not in unnumbered)
    )
    forgotten = [NameForgotten(name, gone)] if gone else []
    return [*forgotten, *allotment.events, NameResolved(name, stand)] if stand else []


def expire(state: State, indexes: Indexes, tick: Tick, events_max: int) -> list[LedgerEvent]:
    """Addresses whose time is over, and names that no policy asks for any more."""
    found: list[LedgerEvent] = []
    for name, held in state.names.items():
        if len(found) == events_max:
            break
        is_asked = name in indexes.asked
        gone = tuple(
            address for address, until in held.items() if not is_asked or until <= tick.now
        )
        if gone:
            found.append(NameForgotten(name, gone))
    return found
