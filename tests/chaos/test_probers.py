"""What probers choose, send on open flows and write down; packets over real namespaces are in
test_probing."""

import socket
import time
from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest

from chaos.written import Written
from tabard.chaos.probers.choosing import Chooser
from tabard.chaos.probers.flows import UNANSWERED_MAX, Flow
from tabard.chaos.probers.held import Held
from tabard.chaos.probers.stamps import Stamps, read
from tabard.chaos.probers.telling import Come, Gone, line, told
from tabard.chaos.record import Packet

WEB = Come("u-web", "tb-x-p-1", ("10.0.0.1", "fd00::1"), (("http", 80, "TCP"),))
DB = Come("u-db", "tb-x-p-2", ("10.0.0.2", "fd00::2"), (("sql", 54, "TCP"), ("dns", 53, "UDP")))


@pytest.mark.parametrize("news", [WEB, Gone("u-web")])
def test_what_is_told_is_what_was_said(news: Come | Gone) -> None:
    assert told(line(news)) == news


def test_a_line_that_says_something_else_is_refused() -> None:
    with pytest.raises(ValueError, match="Went"):
        told(b'{"Went": {}}\n')


def test_packets_are_read_as_they_were_stamped(tmp_path: Path) -> None:
    run = Written()
    packets = [run.packet(1), run.packet(2, passed=False), run.packet(3, opened=1, kind="forger")]
    with (tmp_path / "p").open("wb") as file:
        stamps = Stamps(file)
        for packet in packets:
            stamps.add(packet)
    assert list(read(tmp_path / "p")) == packets


def test_a_file_of_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "p").write_bytes(b"\x93\x01\x02\x03")
    with pytest.raises(ValueError, match="no packet"):
        list(read(tmp_path / "p"))


def held(*pods: Come) -> dict[str, Held]:
    return {pod.uid: Held(pod, descriptor=0) for pod in pods}


def chosen(chooser: Chooser, times: int = 500) -> set[tuple[str, str, int, str]]:
    pairs = filter(None, (chooser.next() for _ in range(times)))
    return {(pod.pod.uid, to.address, to.port, to.protocol) for pod, to in pairs}


def test_every_pod_sends_to_every_listener_but_its_own() -> None:
    listeners = {
        (at, port, kind) for at in DB.addresses for port, kind in ((54, "TCP"), (53, "UDP"))
    }
    found = chosen(Chooser(Random(1), held(WEB, DB)))
    by_web = {(address, port, kind) for uid, address, port, kind in found if uid == "u-web"}
    assert by_web >= listeners
    assert not {address for address, *_ in by_web} & set(WEB.addresses)


def test_whoever_is_gone_sends_and_is_sent_to_still() -> None:
    pods = held(WEB, DB)
    pods["u-db"].gone_at = 1.0
    assert {uid for uid, *_ in chosen(Chooser(Random(1), pods), 5_000)} == {"u-web", "u-db"}


def test_a_pod_whose_namespace_is_not_there_sends_nothing() -> None:
    pods = held(WEB, DB)
    pods["u-db"].descriptor = None
    assert {uid for uid, *_ in chosen(Chooser(Random(1), pods))} == {"u-web"}


def test_what_passed_is_tried_again_and_again_until_its_address_is_forgotten() -> None:
    pods = held(WEB, DB)
    chooser = Chooser(Random(1), pods)
    target = pods["u-db"].targets[0]

    def tries() -> int:
        pairs = [chooser.next() for _ in range(1_000)]
        return sum(pair is not None and pair[1] == target for pair in pairs)

    before = tries()
    chooser.passed(("u-web", target))
    assert tries() > before + 200
    chooser.forget(frozenset({target.address}))
    assert tries() < before + 100


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, socket.socket]]:
    """A flow's two ends; what is written at one is read at the other, datagram by datagram."""
    near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    near.setblocking(False)
    with near, far:
        yield near, far


def flow(connection: socket.socket, protocol: str = "UDP") -> Flow:
    opening = Packet("u-web", "10.0.0.1", "10.0.0.2", 53, protocol, 5, 6, True, "shop/db")
    return Flow(opening, connection, 0.0)


def test_an_exchange_is_stamped_with_who_answered_and_when_its_flow_was_opened(
    ends: tuple[socket.socket, socket.socket],
) -> None:
    near, far = ends
    under_test = flow(near)
    assert under_test.send()
    assert list(under_test.receive()) == []
    far.send(b"shop/db" + far.recv(64))
    [packet] = under_test.receive()
    assert (packet.passed, packet.answered, packet.opened) == (True, "shop/db", 5)


def test_one_that_was_given_up_and_is_answered_after_all_has_passed(
    ends: tuple[socket.socket, socket.socket],
) -> None:
    near, far = ends
    under_test = flow(near)
    under_test.send()
    [given_up] = under_test.give_up(time.time_ns())
    assert not given_up.passed
    assert list(under_test.give_up(time.time_ns())) == [], "it is told once"
    far.send(b"shop/db" + far.recv(64))
    [late] = under_test.receive()
    assert late.passed
    assert late.began == given_up.began


def test_no_more_exchanges_are_waited_for_than_the_bound(
    ends: tuple[socket.socket, socket.socket],
) -> None:
    near, far = ends
    under_test = flow(near)
    sent = []
    for _ in range(UNANSWERED_MAX + 1):
        under_test.send()
        sent.append(far.recv(64))
    for number, data in enumerate(sent):
        far.send(data)
        assert len(list(under_test.receive())) == (number > 0), "the first was forgotten"


def test_a_streams_answers_are_told_apart_where_they_come_in_pieces() -> None:
    near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    near.setblocking(False)
    with near, far:
        under_test = flow(near, "TCP")
        under_test.send()
        under_test.send()
        data = far.recv(64)
        far.send(data[:-2])
        assert len(list(under_test.receive())) == 1
        far.send(data[-2:])
        [second] = under_test.receive()
        assert second.answered == "shop/db"
        far.close()
        assert list(under_test.receive()) == []
        assert under_test.broken
