"""Probes against real sockets on loopback."""

import socket
import threading
from collections.abc import Iterator
from contextlib import closing

import pytest

from tabard.demo.probe import Target, probe_here


@pytest.fixture
def greeter() -> Iterator[Target]:
    """A TCP listener that says its pod's name to whoever connects."""
    with closing(socket.create_server(("127.0.0.1", 0))) as server:

        def serve() -> None:
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                with connection:
                    connection.sendall(b"shop/cart\n")

        thread = threading.Thread(target=serve)
        thread.start()
        yield Target("127.0.0.1", server.getsockname()[1])
        server.shutdown(socket.SHUT_RDWR)
        thread.join()


def test_a_connection_passes_and_tells_who_answered(greeter: Target) -> None:
    [answer] = probe_here([greeter], 2.0)
    assert (answer.passed, answer.said) == (True, "shop/cart")
    assert answer.began <= answer.ended


def test_a_refusal_is_a_packet_that_came_back() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        [answer] = probe_here([Target("127.0.0.1", unused.getsockname()[1])], 2.0)
    assert answer.passed


def test_silence_is_not_passing() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
        silent.bind(("127.0.0.1", 0))
        [answer] = probe_here([Target("127.0.0.1", silent.getsockname()[1], "UDP")], 0.05)
    assert not answer.passed


def test_answers_stand_in_the_order_of_their_targets(greeter: Target) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
        silent.bind(("127.0.0.1", 0))
        nobody = Target("127.0.0.1", silent.getsockname()[1], "UDP")
        answers = probe_here([nobody, greeter, nobody], 0.2)
    assert [answer.target for answer in answers] == [nobody, greeter, nobody]
    assert [answer.passed for answer in answers] == [False, True, False]
