"""How maps differ from those that were wanted: entry by entry, in words. Pure."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from tabard.dataplane.maps import (
    AT_CIDR,
    MAP_NAMES,
    Endpoint,
    Maps,
    PolicyKey,
    PrefixEntry,
    address_text,
)

PRESENT = "present"
"""The value of an entry that has none: its key says it all."""
MISSING, EXTRA, DIFFERENT = KINDS = ("missing", "extra", "different")
LISTED_MAX = 1_000
"""Most differences of each kind that are listed."""


@dataclass(frozen=True, slots=True)
class Difference:
    """An entry that is not as it was wanted; None is no entry."""

    map: str
    key: str
    held: str | None
    wanted: str | None

    @property
    def kind(self) -> str:
        return MISSING if self.held is None else EXTRA if self.wanted is None else DIFFERENT

    def __str__(self) -> str:
        """`hosts 10.244.1.7: 4711`, `hosts 10.244.1.7: 4711, wanted 4712`, `identities 256`"""
        value = self.wanted if self.held is None else self.held
        text = f"{self.map} {self.key}" + ("" if value == PRESENT else f": {value}")
        return f"{text}, wanted {self.wanted}" if self.kind == DIFFERENT else text


def differences(held: Maps, wanted: Maps) -> list[Difference]:
    """By map in the order of writing, then by key."""
    found: list[Difference] = []
    for name in MAP_NAMES:
        if getattr(held, name) == getattr(wanted, name):
            continue
        here, there = _entries(getattr(held, name)), _entries(getattr(wanted, name))
        differing = (
            Difference(name, _key(key), _value(here.get(key)), _value(there.get(key)))
            for key in here.keys() | there.keys()
            if here.get(key) != there.get(key)
        )
        found += sorted(differing, key=lambda each: each.key)
    return found


def listed(found: Iterable[Difference]) -> tuple[Difference, ...]:
    """The first LISTED_MAX of each kind."""
    room = dict.fromkeys(KINDS, LISTED_MAX)
    kept = []
    for each in found:
        if room[each.kind]:
            room[each.kind] -= 1
            kept.append(each)
    return tuple(kept)


def _entries(entries: Mapping[Any, Any] | Iterable[Any]) -> Mapping[Any, Any]:
    return entries if isinstance(entries, Mapping) else dict.fromkeys(entries, PRESENT)


def _key(key: Any) -> str:
    match key:
        case PolicyKey():
            ports = f" port {key.port}/{key.port_bits}" if key.port_bits else ""
            return (
                f"{key.policy:016x} {key.tier.name.lower()} {key.direction.name.lower()} "
                f"peer {key.identity & ~AT_CIDR}{' at its CIDR' if key.identity & AT_CIDR else ''} "
                f"{key.protocol.name.lower()}{ports}"
            )
        case (bytes() as network, int() as bits):
            return f"{address_text(network)} (/{bits} of 128)"
        case bytes():
            return address_text(key)
        case _:
            return str(key)


def _value(value: Any) -> str | None:
    match value:
        case None:
            return None
        case Endpoint():
            return (
                f"identity {value.identity} policy {value.policy:016x} flags {value.flags.value} "
                f"ifindex {value.ifindex} mac {value.mac.hex(':')} host {value.host_mac.hex(':')} "
                f"incarnation {value.incarnation:016x} stale after {value.stale_after_s} s"
            )
        case PrefixEntry():
            tunnel = f" by {address_text(value.tunnel)}" if value.tunnel else ""
            return f"identity {value.identity} flags {value.flags.value}{tunnel}"
        case _:
            return str(value)
