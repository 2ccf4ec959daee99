"""Packets for the memory dataplane, told in JSON: for demos where no kernel could judge real ones.

    {"op":"packet","hook":"from_pod","uid":"…","source":"10.244.1.7","destination":"10.244.2.9",
     "protocol":6,"source_port":40000,"destination_port":80,"tcp_flags":2}

`hook` is from_pod or to_pod (with `uid`, and to_pod with the sender's `mark`), from_overlay (with
`outer_source` and `tunnel_id`), from_wire or to_wire. The answer is MemoryDataplane's Outcome:
`action`, `reason`, `uid` of the pod delivered to, the sender's `identity`, and the `node` (underlay
address) tunnelled to.
"""

from dataclasses import dataclass
from typing import Any, Literal, assert_never

from pydantic import TypeAdapter

from tabard.dataplane.maps import address, address_text
from tabard.dataplane.memory import MemoryDataplane, Outcome
from tabard.dataplane.packet import Packet, TcpFlag


@dataclass(frozen=True, slots=True)
class Told:
    """The fields of a request; addresses as text."""

    hook: Literal["from_pod", "to_pod", "from_overlay", "from_wire", "to_wire"]
    source: str
    destination: str
    protocol: int
    source_port: int = 0
    destination_port: int = 0
    icmp_type: int = 0
    icmp_id: int = 0
    tcp_flags: int = 0
    uid: str = ""
    mark: int | None = None
    outer_source: str = ""
    tunnel_id: int = 0


_told = TypeAdapter(Told)


def judge(dataplane: MemoryDataplane, fields: dict[str, Any]) -> dict[str, Any]:
    """What becomes of a packet; ValueError if the fields describe none."""
    told = _told.validate_python(fields)  # pydantic's error is a ValueError
    packet = Packet(
        address(told.source),
        address(told.destination),
        told.protocol,
        told.source_port,
        told.destination_port,
        told.icmp_type,
        told.icmp_id,
        TcpFlag(told.tcp_flags),
    )
    ifindexes = dataplane.attached()
    if told.hook in ("from_pod", "to_pod") and told.uid not in ifindexes:
        raise ValueError(f"pod {told.uid!r} is not attached")
    match told.hook:
        case "from_pod":
            outcome = dataplane.from_pod(ifindexes[told.uid], packet)
        case "to_pod":
            outcome = dataplane.to_pod(ifindexes[told.uid], packet, told.mark)
        case "from_overlay":
            outcome = dataplane.from_overlay(address(told.outer_source), told.tunnel_id, packet)
        case "from_wire":
            outcome = dataplane.from_wire(packet)
        case "to_wire":
            outcome = dataplane.to_wire(packet)
        case _:
            assert_never(told.hook)
    return _answer(outcome, {ifindex: uid for uid, ifindex in ifindexes.items()})


def _answer(outcome: Outcome, uids: dict[int, str]) -> dict[str, Any]:
    return {
        "action": outcome.action.value,
        "reason": None if outcome.reason is None else outcome.reason.name.lower(),
        "uid": uids.get(outcome.ifindex, ""),
        "identity": outcome.identity,
        "node": address_text(outcome.node) if outcome.node else "",
    }
