"""The pods attached to this node: what the agent knows of them that the ledger does not say.

Pure. The compiler is given `attached`; `settle` withdraws what was only assumed of a pod once the
ledger has spoken.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Annotated

import msgpack
from pydantic import ConfigDict, Field, TypeAdapter

from tabard.dataplane.maps import Address, Endpoint, address, address_text
from tabard.ledger.state import State
from tabard.policy.compile import Attachment, Provisional, incarnation


@dataclass(frozen=True, slots=True)
class Held:
    """An attached interface, as the gate was told of it."""

    attachment: Attachment
    interface: str
    allocated_at: int = 0
    """Ledger sequence at which the provisional identity was allocated: the same number allocated
    again is another identity."""


class Attachments:
    """By pod UID, at most one each."""

    def __init__(self) -> None:
        self._held: dict[str, Held] = {}
        self._assuming: set[str] = set()
        """UIDs of those with something provisional: few, as the ledger speaks soon."""
        self.attached: dict[str, Attachment] = {}

    def __len__(self) -> int:
        return len(self._held)

    def get(self, uid: str) -> Held | None:
        return self._held.get(uid)

    def put(self, held: Held) -> None:
        uid = held.attachment.uid
        self._held[uid] = held
        self.attached[uid] = held.attachment
        if held.attachment.provisional is None:
            self._assuming.discard(uid)
        else:
            self._assuming.add(uid)

    def remove(self, uid: str) -> None:
        self._held.pop(uid, None)
        self._assuming.discard(uid)
        self.attached.pop(uid, None)

    def ifindexes(self) -> frozenset[int]:
        return frozenset(attachment.ifindex for attachment in self.attached.values())

    def all(self) -> tuple[Held, ...]:
        return tuple(self._held.values())

    def settle(self, state: State) -> None:
        """Withdraw each provisional identity that the ledger has replaced, refused or retired."""
        for uid in list(self._assuming):
            held = self._held[uid]
            provisional = held.attachment.provisional
            if provisional is not None and (
                uid in state.endpoints
                or uid in state.tombstones
                or uid in state.refused_pods
                or not _live(state, provisional.identity, held.allocated_at)
            ):
                attachment = replace(held.attachment, provisional=None)
                self.put(replace(held, attachment=attachment, allocated_at=0))


def _live(state: State, number: int, allocated_at: int) -> bool:
    identity = state.identities.get(number)
    return identity is not None and identity.allocated_at == allocated_at


def packed(held: Iterable[Held]) -> bytes:
    """As bytes for the checkpoint."""
    rows = []
    for one in held:
        attachment, assumed = one.attachment, one.attachment.provisional
        rows.append(
            (
                (attachment.uid, attachment.ifindex, attachment.mac, attachment.host_mac),
                None if assumed is None else (assumed.identity, assumed.addresses),
                one.interface,
                one.allocated_at,
            )
        )
    data: bytes = msgpack.packb(rows)
    return data


def unpacked(data: bytes) -> dict[str, Held]:
    """What `packed` was given, by UID; ValueError if it is anything else."""
    try:
        rows = _rows(msgpack.unpackb(data, use_list=False) if data else ())
        held = [
            Held(
                Attachment(
                    uid, ifindex, mac, host_mac, None if assumed is None else _provisional(*assumed)
                ),
                interface,
                allocated_at,
            )
            for (uid, ifindex, mac, host_mac), assumed, interface, allocated_at in rows
        ]
    except Exception as error:  # msgpack raises many unrelated types on bad bytes
        raise ValueError(f"not the attachments of a checkpoint ({error!r})") from error
    return {one.attachment.uid: one for one in held}


_Unsigned = Annotated[int, Field(ge=0, lt=1 << 32)]
_rows = TypeAdapter(
    tuple[
        tuple[
            tuple[str, _Unsigned, bytes, bytes],
            tuple[_Unsigned, tuple[str, ...]] | None,
            str,
            int,
        ],
        ...,
    ],
    config=ConfigDict(strict=True),
).validate_python


def _provisional(identity: int, addresses: tuple[str, ...]) -> Provisional:
    return Provisional(identity, tuple(address_text(address(text)) for text in addresses))


def recovered(
    attached: Mapping[str, int],
    endpoints: Mapping[Address, Endpoint],
    saved: Mapping[str, Held],
    state: State,
) -> dict[str, Held]:
    """What the dataplane itself says is attached (UID → ifindex, and its endpoint entries).

    `saved` (the checkpoint's) only adds what the dataplane does not hold: the interface's name, and
    which identity a number in an endpoint entry was. A guarded interface of which neither says more
    is left out: it stays closed until its pod is attached again.
    """
    entries: dict[int, dict[Address, Endpoint]] = {}
    for found, endpoint in endpoints.items():
        entries.setdefault(endpoint.ifindex, {})[found] = endpoint
    result = {}
    for uid, ifindex in attached.items():
        known = saved.get(uid)
        own = {
            found: endpoint
            for found, endpoint in entries.get(ifindex, {}).items()
            if endpoint.incarnation == incarnation(uid)
        }
        if known is not None and known.attachment.ifindex == ifindex:
            result[uid] = known
        elif own:
            entry = next(iter(own.values()))
            identity = state.identities.get(entry.identity)
            assumed = Provisional(entry.identity, tuple(sorted(map(address_text, own))))
            result[uid] = Held(
                Attachment(
                    uid, ifindex, entry.mac, entry.host_mac, None if identity is None else assumed
                ),
                known.interface if known is not None else "",
                0 if identity is None else identity.allocated_at,
            )
    return result
