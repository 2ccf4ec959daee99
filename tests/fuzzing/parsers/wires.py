"""What comes over sockets: the gate's requests, DNS, and the bus's answers."""

import json
import struct
from functools import cache

import dns.message

from fuzzing.parsers.mutation import BYTES, JSON
from fuzzing.parsers.target import Target
from tabard.agent import packets as told
from tabard.agent import requests
from tabard.agent.dns import frames, messages
from tabard.agent.errors import GateError
from tabard.bus.jetstream import objects
from tabard.bus.jetstream.tail import Cursor
from tabard.bus.jetstream.wire import Reply, answer, stored_message, stored_sequence
from tabard.bus.port import BusError, Stored
from tabard.bus.subjects import BUCKET, RECORDS
from tabard.dataplane.maps import Direction, Mode, address
from tabard.dataplane.memory import MemoryDataplane
from tabard.dataplane.port import NodeConfig
from tabard.events.codec import encode
from tabard.events.envelope import Envelope
from tabard.events.observed import PodStarted
from tabard.ledger import archive
from traffic import LOCAL


def _lines() -> list[bytes]:
    pod = {
        "uid": "u1", "namespace": "shop", "name": "web-0", "node": "n1", "addresses": ["10.1.1.7"],
        "labels": [["app", "web"]], "started_at": 5, "service_account": "default",
        "ports": [["http", 80, "TCP"]], "owner": "Deployment/shop/web", "host_network": False,
    }  # fmt: skip
    packet = {
        "hook": "from_pod", "uid": "u1", "source": LOCAL[0][0], "destination": LOCAL[1][0],
        "protocol": 6, "source_port": 40_000, "destination_port": 80, "tcp_flags": 2, "mark": 300,
        "outer_source": "192.168.9.2", "tunnel_id": 300, "icmp_type": 8, "icmp_id": 1,
    }  # fmt: skip
    attach = {"op": "attach", "pod": pod, "interface": "tb1", "mac": "02:00:00:00:00:01"}
    asked = [
        {**attach, "timeout_ms": 100},
        {"op": "detach", "uid": "u1"},
        *({"op": op} for op in ("status", "drift", "contents")),
        *({"op": "packet", **packet, "hook": hook} for hook in ("from_pod", "to_pod", "from_wire")),
        *({"op": "packet", **packet, "hook": hook} for hook in ("from_overlay", "to_wire")),
    ]
    return [json.dumps({"id": number, **each}).encode() for number, each in enumerate(asked)]


@cache
def _memory() -> MemoryDataplane:
    memory = MemoryDataplane(NodeConfig("n1", Mode.OVERLAY, (address("192.168.9.1"),)))
    memory.open()
    memory.attach("u1", "tb1")
    return memory


def _request(line: bytes) -> None:
    """A packet is judged too; whatever is asked, its id can be sent back."""
    found = requests.envelope(line)
    json.dumps({"id": found.get("id")}).encode()
    request = requests.read(found, "n1")
    if isinstance(request, requests.Attach):
        assert isinstance(request.pod, PodStarted)
        encode(request.pod, Envelope(bytes(16), request.pod.uid, 1))
    if isinstance(request, requests.Packet):
        try:
            answer = told.judge(_memory(), request.fields)
        except ValueError:
            return
        json.dumps(answer).encode()


def _queries() -> list[bytes]:
    plain = dns.message.make_query("www.example.com", "A", id=7)
    with_options = dns.message.make_query("example.com", "AAAA", use_edns=0, want_dnssec=True, id=8)
    found = [plain.to_wire(), with_options.to_wire(), dns.message.make_query(".", "NS").to_wire()]
    for query, text in (
        (plain, "www.example.com. 60 IN CNAME a.example.\na.example. 30 IN A 203.0.113.9"),
        (plain, "www.example.com. 60 IN A 203.0.113.9\nwww.example.com. 5 IN A 203.0.113.10"),
        (with_options, "example.com. 60 IN AAAA 2001:db8::9"),
    ):
        response = dns.message.make_response(query)
        response.answer = dns.message.from_text(f"id 1\n;ANSWER\n{text}").answer
        found.append(response.to_wire())
    return found


def _message(data: bytes) -> None:
    """What is sent on asks the same, and what is refused answers it."""
    asked = messages.question(data)
    if asked is not None:
        again = messages.question(messages.bare(data))
        assert again == asked, f"{again} is not {asked}"
        assert dns.message.from_wire(messages.refusal(data)).id == asked.id
    said = messages.answer(data)
    if said is not None:
        for place in said.addresses:
            address(place)
        assert said.ttl_s >= 0


def _frames() -> list[bytes]:
    found = []
    for one, other in zip(LOCAL[0], LOCAL[1], strict=True):
        asked = frames.Datagram(Direction.EGRESS, one, other, 4000, 53, b"query")
        found += [frames.asking(asked, b"query"), frames.answering(asked, b"an answer")]
    return found


def _frame(data: bytes) -> None:
    """A datagram that was read is the same when it is sent on."""
    found = frames.read(data)
    if found is not None:
        send = frames.asking if found.direction is Direction.EGRESS else frames.answering
        again = frames.read(send(found, found.payload))
        assert again is not None
        assert again.payload == found.payload


_STORED = (
    b"NATS/1.0\r\nNats-Msg-Id: 00\r\nNats-Stream: LEDGER\r\nNats-Subject: tabard.ledger.x\r\n"
    b"Nats-Sequence: 881\r\nNats-Last-Sequence: 7\r\n"
    b"Nats-Time-Stamp: 2026-01-02T03:04:05.67Z\r\n\r\n"
)


def _answers() -> list[bytes]:
    """Headers and payload, each after its length."""
    said = (
        (_STORED, b"payload"),
        (b"NATS/1.0 404 Message Not Found\r\n\r\n", b""),
        (b"NATS/1.0 204 EOB\r\nNats-Num-Pending: 7\r\n\r\n", b""),
        (b"", b'{"stream":"OBSERVED","seq":7,"duplicate":true,"batch":"x","count":3}'),
        (b"", b'{"error":{"code":400,"err_code":10071,"description":"wrong last sequence: 3"}}'),
        (b"", b'{"type":"x","config":{"name":"LEDGER"},"state":{"messages":7,"last_seq":7}}'),
    )
    return [struct.pack("!H", len(headers)) + headers + payload for headers, payload in said]


def _answered(data: bytes) -> None:
    size = int.from_bytes(data[:2])
    headers, payload = data[2 : 2 + size], data[2 + size :]
    reply = Reply(headers, payload)
    assert 0 <= reply.status <= 999
    if sequence := stored_sequence(headers):
        stored = stored_message(sequence, headers, payload)
        assert stored.sequence > 0
        Cursor(1).on_message(b"tabard.live.ledger.x", headers, payload)
    else:
        said, code, description = answer(reply)
        assert isinstance(said, dict) and isinstance(code, int) and isinstance(description, str)  # noqa: PT018


def _records() -> list[bytes]:
    record = {
        "name": "881", "bucket": BUCKET, "nuid": "a1b2", "size": 7, "chunks": 1, "digest": DIGEST,
        "metadata": {"tabard-sequence": "881"}, "options": {"max_chunk_size": 131072},
    }  # fmt: skip
    return [json.dumps(each).encode() for each in (record, {**record, "deleted": True})]


DIGEST = "SHA-256=47DEQpj8HBSa-_TImW-5JCeuQeRkm5NMpJWZG3hSuFU="


def _record(data: bytes) -> None:
    """Whoever may write to the bucket writes what he likes there: it is a record or passed over."""
    for subject in (RECORDS + "ODgx", RECORDS + "x"):
        record = objects._read(Stored(1, subject, data, 0))
        if record is not None:
            info = objects._info(record, 1)
            assert (info.name, subject) == ("881", RECORDS + "ODgx")
            archive._entry(info)


TARGETS = (
    Target("objects", JSON, _records, _record),
    Target("gate", JSON, _lines, _request, (GateError,)),
    Target("dns", BYTES, _queries, _message),
    Target("datagrams", BYTES, _frames, _frame),
    Target("answers", BYTES, _answers, _answered, (BusError,)),
)
