"""What each server says of its own replica of each stream, and what is wrong with it. Pure.

A replica that lost messages is not mended by nats-server, and `current` and `lag` do not tell: they
are about the log of appends, not about what is stored. So each server is asked for its own counts,
and these are held against what a stream of Tabard's must be. A message whose checksum fails is left
out of what a replica gives, and may still be counted: that shows only in reading (`ledger.audit`).
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tabard.bus.jetstream.wire import stored_at
from tabard.bus.port import UNBROKEN, Stream, subject

NANOSECONDS = 1_000_000_000
BEHIND_MAX = 1_000
"""Servers are asked one after the other, so a replica may seem some messages behind at any moment;
one that is this far is."""
EXPIRY_SLACK_S = 60.0
"""Replicas drop what is too old each by its own clock; a message this close to that may be gone."""


@dataclass(frozen=True, slots=True)
class Replica:
    """One server's replica of one stream, as that server counts it."""

    server: str
    account: str
    stream: Stream
    leads: bool
    first: int
    """`last` + 1 if it is empty."""
    last: int
    messages: int
    deleted: int
    """Sequences that the server knows to be missing between `first` and `last`."""
    bytes: int
    first_at: int
    """Nanoseconds since the Unix epoch; 0 if it is empty."""
    age_s_max: float
    """Older messages are dropped; 0: never."""
    group: str
    """Of the log of appends: the name of its folder. Empty outside of a cluster."""
    peers: frozenset[str]
    """The servers that hold a replica, this one among them."""
    wanted: int
    """How many replicas the stream is to have."""

    @property
    def gaps(self) -> int:
        """Sequences without a message, where there can be none; two counts, the worse one told."""
        if self.stream not in UNBROKEN:
            return 0
        return max(self.deleted, self.last - self.first + 1 - self.messages, 0)


@dataclass(frozen=True, slots=True)
class Server:
    """What one monitoring endpoint answered at `now` (ns since the Unix epoch, its clock)."""

    url: str
    name: str = ""
    """Empty if it gave no answer."""
    store: str = ""
    """The directory that holds `ACCOUNT/streams/STREAM`."""
    replicas: tuple[Replica, ...] = ()
    started: str = ""
    """When its process did, in the server's own words."""
    now: int = 0
    failure: str = ""
    """Why there is no answer, or only that it stores nothing now."""


@dataclass(frozen=True, slots=True)
class Standing:
    """One replica, held against the others of its stream."""

    server: str
    account: str
    stream: Stream
    replica: Replica | None
    """None: no word of it."""
    holes: int = 0
    """Messages that it must have and has not, as far as counts tell."""
    behind: int = 0
    """By how many messages it ends before the furthest one."""
    faults: tuple[str, ...] = ()
    """What is wrong, for people; empty if nothing is."""
    reachable: bool = True
    """Whether its server answered, and stores anything."""

    @property
    def good(self) -> bool:
        return not self.faults and self.replica is not None


def server(url: str, varz: Mapping[str, Any], jsz: Mapping[str, Any]) -> Server:
    """What a server says at /varz and /jsz?accounts=1&streams=1&config=1; KeyError, TypeError or
    ValueError if these are no such answers. Streams that are not Tabard's are left out."""
    name = str(varz["server_name"])
    if jsz.get("disabled"):
        return Server(
            url,
            name,
            started=str(varz["start"]),
            now=stored_at(str(varz["now"]).encode()),
            failure=f"{name}: it has turned JetStream off, as a server does whose disk is full; "
            "its log says why: see to that, and start the server again",
        )
    return Server(
        url,
        name,
        str((jsz.get("config") or {}).get("store_dir", "")),
        tuple(
            _replica(name, str(account["name"]), detail)
            for account in jsz.get("account_details") or ()
            for detail in account.get("stream_detail") or ()
            if _ours(detail)
        ),
        str(varz["start"]),
        stored_at(str(varz["now"]).encode()),
    )


def _ours(detail: Mapping[str, Any]) -> bool:
    name, config = detail["name"], detail.get("config") or {}
    return name in tuple(Stream) and subject(Stream(name)) + ".>" in (config.get("subjects") or ())


def _replica(name: str, account: str, detail: Mapping[str, Any]) -> Replica:
    state, config = detail["state"], detail["config"]
    cluster = detail.get("cluster") or {}
    others = frozenset(str(each["name"]) for each in cluster.get("replicas") or ())
    messages, last = int(state["messages"]), int(state["last_seq"])
    return Replica(
        server=name,
        account=account,
        stream=Stream(detail["name"]),
        # A server that has just started knows the stream before it is in its cluster.
        leads=cluster.get("leader") == name if cluster else int(config["num_replicas"]) == 1,
        first=int(state["first_seq"]) if messages else last + 1,
        last=last,
        messages=messages,
        deleted=int(state.get("num_deleted", 0)),
        bytes=int(state["bytes"]),
        first_at=stored_at(str(state["first_ts"]).encode()) if messages else 0,
        age_s_max=int(config["max_age"]) / NANOSECONDS,
        group=str(cluster.get("raft_group", "")),
        peers=others | {name},
        wanted=int(config["num_replicas"]),
    )


def judge(servers: Sequence[Server]) -> tuple[Standing, ...]:
    """Every replica of every stream of Tabard's that the servers know of, by stream and server."""
    told = [replica for each in servers for replica in each.replicas]
    now = max((each.now for each in servers), default=0)
    order = {stream: at for at, stream in enumerate(Stream)}
    streams = sorted(
        {(each.account, each.stream) for each in told}, key=lambda key: (key[0], order[key[1]])
    )
    found: list[Standing] = []
    for account, stream in streams:
        replicas = [each for each in told if (each.account, each.stream) == (account, stream)]
        standings = [*_told(replicas, now), *_silent(replicas, servers)]
        found += sorted(standings, key=lambda standing: standing.server)
    return tuple(found)


def _told(replicas: Sequence[Replica], now: int) -> Iterable[Standing]:
    base, head = _base(replicas, now), max(each.last for each in replicas)
    peers = frozenset[str]().union(*(each.peers for each in replicas))
    for each in replicas:
        front = max(0, min(each.first, each.last + 1) - base) if base is not None else 0
        behind = head - each.last
        faults = (
            f"{each.gaps} of {each.first}-{each.last} are missing" if each.gaps else "",
            f"it begins at {each.first}, another at {base}" if front else "",
            f"{behind} messages behind" if behind > BEHIND_MAX else "",
            _contradicted(each, replicas),
            f"{len(peers)} of {each.wanted} replicas are placed"
            if each.leads and len(peers) < each.wanted
            else "",
        )
        yield Standing(
            each.server,
            each.account,
            each.stream,
            each,
            each.gaps + front,
            behind,
            tuple(fault for fault in faults if fault),
        )


def _base(replicas: Sequence[Replica], now: int) -> int | None:
    """The first sequence that each of them must have; None if there is none such."""
    firsts = [
        each.first
        for each in replicas
        if each.messages
        and each.stream in UNBROKEN
        and (
            not each.age_s_max
            or now - each.first_at < (each.age_s_max - EXPIRY_SLACK_S) * NANOSECONDS
        )
    ]
    return min(firsts, default=None)


def _contradicted(replica: Replica, replicas: Sequence[Replica]) -> str:
    """That others store something else for the same messages, unless more agree with this one."""
    place, what = _contents(replica)
    counted = Counter(each[1] for each in map(_contents, replicas) if each[0] == place)
    others = sum(counted.values()) - counted[what]
    if not others or counted[what] > others:
        return ""
    unit = "bytes" if replica.stream in UNBROKEN else "messages"
    most = max((count for count in counted if count != what), key=counted.__getitem__)
    return f"it stores {what} {unit} through {replica.last}, another {most}"


def _contents(replica: Replica) -> tuple[tuple[object, ...], int]:
    """What two replicas must have in common to be held against each other, and what must agree."""
    match replica.stream:
        case Stream.LEDGER | Stream.OBSERVED:
            return (replica.first, replica.last, replica.messages), replica.bytes
        case Stream.STATUS:
            return (replica.last,), replica.messages
        case Stream.FLOWS:  # in memory, and expiring by each server's own clock
            return (replica.server,), replica.messages


def _silent(replicas: Sequence[Replica], servers: Sequence[Server]) -> Iterable[Standing]:
    """Replicas that others speak of and of which their own server says nothing."""
    answered = {each.name: each.failure for each in servers if each.name}
    failures = [each.failure for each in servers if each.failure and not each.name]
    peers = frozenset[str]().union(*(each.peers for each in replicas))
    for name in peers - {each.server for each in replicas}:
        if answered.get(name):
            fault = answered[name]
        elif name in answered:
            fault = "its server holds no replica, and is to hold one"
        elif failures:
            fault = f"its server gives no answer: {'; '.join(failures)}"
        else:
            fault = "its server's monitoring URL was not given"
        account, stream = replicas[0].account, replicas[0].stream
        yield Standing(
            name, account, stream, None, faults=(fault,), reachable=answered.get(name) == ""
        )
