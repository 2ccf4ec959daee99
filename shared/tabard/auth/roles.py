"""Who may do what on the bus: the one table, from which the server's accounts are made. Pure.

Subject permissions alone would not do. An answer goes to whatever subject the question names, as
the server's own word: a reader that may ask for a stored message can have it sent to a subject on
which it may not write. So whoever is to be held to anything lives in an account of its own,
where no subject is a stream's, and imports the few questions and subjects of its role. What it
imports is what it can do, whatever it names for the answer. The permissions of its key come on
top, and tell holders of one account apart.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import get_args

from tabard.bus.port import UNBROKEN, Stream, subject
from tabard.bus.subjects import BUCKET_STREAM, CHUNKS, RECORDS, direct_get, info
from tabard.events.codec import TYPES
from tabard.events.ledger import EventQuarantined
from tabard.events.observed import (
    ObservedEvent,
    PodLabelsChanged,
    PodStarted,
    PodStopped,
    QuarantineRequested,
    TrimRequested,
)
from tabard.identity.syntax import is_dns_subdomain
from tabard.ledger.messages import BY_NODES, node_token

STREAMS = "TABARD"
"""The account whose streams they are. Whoever is in it can write any of them."""
SYSTEM = "SYS"
"""The server's own account."""


class Role(StrEnum):
    ALLOCATOR = "allocator"
    AGENT = "agent"
    SOURCE = "source"
    OPERATOR = "operator"
    AUDITOR = "auditor"
    ADMIN = "admin"
    SYSTEM = "system"


ABOUT = {
    Role.ALLOCATOR: "decides: writes the ledger and its own status, makes snapshots",
    Role.AGENT: "one node's agent: follows the ledger, says what its own node is and sees",
    Role.SOURCE: "starts and stops pods",
    Role.OPERATOR: "the command line that changes something",
    Role.AUDITOR: "the command line that only looks",
    Role.ADMIN: "makes streams, repairs and trims them; takes snapshots by hand",
    Role.SYSTEM: "the servers themselves ($SYS); no process of Tabard's has it",
}


class HolderFault(ValueError):
    """A name is no holder's; says what one is."""


_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")


@dataclass(frozen=True, slots=True, order=True)
class Holder:
    """Who holds a key: a role and, of an agent, its node; else a name that tells several apart."""

    role: Role
    name: str = ""

    def __post_init__(self) -> None:
        if self.role is Role.AGENT:
            if not is_dns_subdomain(self.name):
                raise HolderFault(f"{self.name!r} is no node's name (RFC 1123 subdomain)")
        elif self.name and not _NAME.fullmatch(self.name):
            raise HolderFault(f"{self.name!r} is no name: 1 to 63 of a-z, 0-9 and inner '-'")

    def __str__(self) -> str:
        return f"{self.role}.{self.name}" if self.name else self.role


def holder(text: str) -> Holder:
    """`agent.n1` or `operator`; HolderFault if there is no such role or name."""
    role, _, name = text.partition(".")
    if role not in set(Role):
        raise HolderFault(f"there is no role {role!r}; roles are {', '.join(Role)}")
    return Holder(Role(role), name)


@dataclass(frozen=True, slots=True)
class Rights:
    """What one may do. `*` stands for one token of a subject, `>` for all that follow."""

    account: str
    writes: tuple[str, ...] = ()
    """Subjects of streams; each message is acknowledged."""
    asks: tuple[str, ...] = ()
    """Questions of JetStream's API, without its prefix."""
    hears: tuple[str, ...] = ()
    """Streams' live copies."""


def rights(who: Holder) -> Rights:
    """The rights of one holder."""
    return _rights(who.role, node_token(who.name))


def accounts_rights(role: Role) -> Rights:
    """The rights that all holders of a role have together: its account's."""
    return _rights(role, "*")


def _observed(*kinds: type) -> tuple[str, ...]:
    """Where events of these types stand; what a request is about is part of its subject."""
    longer = {QuarantineRequested: ".>", **dict.fromkeys(BY_NODES, ".*")}
    return tuple(subject(Stream.OBSERVED, TYPES[kind][0]) + longer.get(kind, "") for kind in kinds)


def _of_node(subjects: Iterable[str], node: str) -> tuple[str, ...]:
    return tuple(each.removesuffix("*") + node for each in subjects)


_LEAVE = direct_get(Stream.LEDGER, subject(Stream.LEDGER, TYPES[EventQuarantined][0]) + ".>")
"""Leave to go on past an event of the ledger that cannot be read."""
_BUCKET = (info(BUCKET_STREAM), direct_get(BUCKET_STREAM))
_FOLLOW = (info(Stream.LEDGER), direct_get(Stream.LEDGER), _LEAVE)
"""What following the ledger takes, beside hearing it."""


def _reading(*streams: Stream) -> tuple[str, ...]:
    """What reading all of these streams takes, beside hearing them."""
    return tuple(
        question
        for stream in streams
        for question in (
            info(stream),
            direct_get(stream),
            direct_get(stream, subject(stream) + ".>"),
        )
    )


_READ_ALL = (*_reading(*Stream), *_BUCKET)
_READ_REPLICAS = tuple(
    f"CONSUMER.{verb}.{stream}.*"
    for stream in UNBROKEN
    for verb in ("CREATE", "DELETE", "MSG.NEXT")
)
"""What reading each server's own replica takes: consumers of one's own."""
_HEAR_ALL = tuple(Stream)
_DECIDES_FROM = (Stream.OBSERVED, Stream.LEDGER, Stream.STATUS)
_PODS = (PodStarted, PodLabelsChanged, PodStopped)
_OPERATORS = tuple(
    kind for kind in get_args(ObservedEvent) if kind not in (*BY_NODES, PodStarted, TrimRequested)
)


def _rights(role: Role, node: str) -> Rights:
    match role:
        case Role.ALLOCATOR:
            return Rights(
                STREAMS,
                (
                    subject(Stream.LEDGER) + ".>",
                    subject(Stream.STATUS, "allocator") + ".*",
                    CHUNKS + "*",
                    RECORDS + "*",
                ),
                (
                    *_reading(*_DECIDES_FROM),
                    *_BUCKET,
                    info(Stream.FLOWS),
                    f"STREAM.CREATE.{Stream.FLOWS}",
                    f"STREAM.PURGE.{BUCKET_STREAM}",
                    *_READ_REPLICAS,
                ),
                _DECIDES_FROM,
            )
        case Role.AGENT:
            return Rights(
                "NODES",
                (
                    subject(Stream.STATUS, "node", node),
                    subject(Stream.FLOWS, node),
                    *_of_node(_observed(*BY_NODES), node),
                ),
                (
                    *_FOLLOW,
                    *_BUCKET,
                    info(Stream.STATUS),
                    direct_get(Stream.STATUS, subject(Stream.STATUS, "node", node)),
                ),
                (Stream.LEDGER,),
            )
        case Role.SOURCE:
            return Rights(
                "SOURCES",
                _observed(*_PODS),
                (*_FOLLOW, *_BUCKET, info(Stream.OBSERVED)),
                (Stream.LEDGER,),
            )
        case Role.OPERATOR:
            return Rights("OPERATORS", _observed(*_OPERATORS), _READ_ALL, _HEAR_ALL)
        case Role.AUDITOR:
            return Rights("AUDITORS", (), _READ_ALL, _HEAR_ALL)
        case Role.ADMIN:
            return Rights(
                STREAMS,
                (*_observed(TrimRequested), CHUNKS + "*", RECORDS + "*"),
                (">",),
                (Stream.LEDGER,),
            )
        case Role.SYSTEM:
            return Rights(SYSTEM)


def several_answers(question: str) -> bool:
    """Whether a question has more than one answer: messages, then the end."""
    return question.startswith("DIRECT.GET.") and question.count(".") == 2
