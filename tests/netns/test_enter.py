"""Threads in namespaces, in the real kernel."""

import os
import secrets
import socket
from collections.abc import Iterator

import pytest

from tabard.netns import enter

pytestmark = pytest.mark.ebpf


@pytest.fixture
def name() -> Iterator[str]:
    name = f"tb-t{os.getpid()}{secrets.token_hex(2)}"
    yield name
    enter.delete(name)


def interfaces() -> list[str]:
    return [interface for _, interface in socket.if_nameindex()]


def current() -> int:
    return os.stat("/proc/thread-self/ns/net").st_ino


def test_a_call_runs_inside_and_the_caller_stays_where_it_was(name: str) -> None:
    before = current()

    made = enter.create(name, current)

    assert made != before
    assert enter.call(name, current) == made
    assert enter.call(name, interfaces) == ["lo"]
    assert current() == before


def test_a_socket_opened_inside_stays_inside(name: str) -> None:
    enter.create(name, lambda: None)
    inner = enter.call(name, lambda: socket.socket(socket.AF_INET, socket.SOCK_STREAM))
    # Nothing is up in there, its loopback included.
    with inner, pytest.raises(OSError, match="unreachable"):
        inner.connect(("127.0.0.1", 9))


def test_a_namespace_that_is_held_is_entered_when_its_name_is_gone(name: str) -> None:
    made = enter.create(name, current)
    held = enter.hold(name)
    enter.delete(name)
    with pytest.raises(enter.NamespaceAbsent):
        enter.hold(name)

    def inside() -> int:
        enter.enter_held(held, name)
        return current()

    assert enter.on_own_thread(inside) == made
    os.close(held)


def test_a_name_on_which_no_namespace_is_mounted_yet_is_none(name: str) -> None:
    os.close(os.open(enter.path(name), os.O_CREAT | os.O_EXCL))
    with pytest.raises(enter.NamespaceAbsent, match="not there yet"):
        enter.hold(name)


def test_names_are_listed_by_prefix_until_deleted(name: str) -> None:
    enter.create(name, lambda: None)
    assert enter.names(name) == [name]
    assert enter.exists(name)

    enter.delete(name)
    enter.delete(name)

    assert enter.names(name) == []
    with pytest.raises(enter.NamespaceAbsent, match=name):
        enter.call(name, current)


def test_making_namespaces_again_and_again_mounts_their_directory_once(name: str) -> None:
    for number in range(3):
        enter.create(f"{name}{number}", lambda: None)
        enter.delete(f"{name}{number}")
    with open("/proc/self/mountinfo") as mounts:
        assert [line.split()[4] for line in mounts].count(enter.RUN_DIR) == 1


def test_a_taken_name_is_refused_and_left_as_it_is(name: str) -> None:
    made = enter.create(name, current)
    with pytest.raises(enter.NamespaceError, match="exists already"):
        enter.create(name, current)
    assert enter.call(name, current) == made


def test_a_namespace_whose_setup_fails_is_deleted(name: str) -> None:
    def fail() -> None:
        raise OSError("no")

    with pytest.raises(OSError, match="no"):
        enter.create(name, fail)
    assert not enter.exists(name)


@pytest.mark.parametrize("bad", ["", ".", "..", "a/b"])
def test_a_name_that_leaves_the_directory_is_refused(bad: str) -> None:
    with pytest.raises(ValueError, match="no namespace name"):
        enter.path(bad)
