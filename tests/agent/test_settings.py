from pathlib import Path

import pytest
from pydantic import ValidationError

from tabard.agent.settings import Settings

REQUIRED = {
    "TABARD_NATS": "nats://a:1, nats://b:2",
    "TABARD_CLUSTER": "demo",
    "TABARD_DATA": "/nowhere/n1",
    "TABARD_NODE": "n1",
}


def read(monkeypatch: pytest.MonkeyPatch, **more: str) -> Settings:
    for name, value in {**REQUIRED, **more}.items():
        monkeypatch.setenv(name, value)
    return Settings()  # type: ignore[call-arg]  # from the environment


def test_settings_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = read(
        monkeypatch,
        TABARD_UNDERLAY="198.18.0.11,FD00::B",
        TABARD_POD_CIDRS="10.244.1.0/24,fd00:244:1::/64",
        TABARD_MODE="native",
        TABARD_DATAPLANE="memory",
        TABARD_SOCKET="/nowhere/s",
        TABARD_UNDERLAY_DEVICE="eth0",
        TABARD_TICK_SPACING_MS="7",
    )
    assert settings.nats == ("nats://a:1", "nats://b:2")
    assert settings.underlay == ("198.18.0.11", "fd00::b")
    assert settings.pod_cidrs == ("10.244.1.0/24", "fd00:244:1::/64")
    assert (settings.mode, settings.dataplane) == ("native", "memory")
    assert settings.socket_path == Path("/nowhere/s")
    assert (settings.underlay_device, settings.tick_spacing_ms) == ("eth0", 7)


def test_the_socket_is_in_the_data_directory_if_not_given(monkeypatch: pytest.MonkeyPatch) -> None:
    assert read(monkeypatch).socket_path == Path("/nowhere/n1/agent.sock")


def test_a_node_has_its_name_as_hostname_beside_the_labels_it_is_given(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    hostname = "kubernetes.io/hostname"
    assert read(monkeypatch).labels == ((hostname, "n1"),)
    given = read(monkeypatch, TABARD_NODE_LABELS="role=edge, a.example/b=")
    assert given.labels == (("a.example/b", ""), (hostname, "n1"), ("role", "edge"))
    assert read(monkeypatch, TABARD_NODE_LABELS=f"{hostname}=x").labels == ((hostname, "x"),)
    long = f"{'a' * 62}.b"
    assert read(monkeypatch, TABARD_NODE_LABELS="", TABARD_NODE=long).labels == (
        (hostname, "a" * 62),
    )


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("TABARD_CLUSTER", "Demo"),
        ("TABARD_CLUSTER", "seventeen-letters"),
        ("TABARD_NODE", ""),
        ("TABARD_NODE", "../n1"),
        ("TABARD_UNDERLAY", "10.0.0"),
        ("TABARD_POD_CIDRS", "10.244.1.5/24"),
        ("TABARD_NODE_LABELS", "=edge"),
        ("TABARD_NODE_LABELS", "role=a b"),
        ("TABARD_NODE_LABELS", "role=a,role=b"),
        ("TABARD_MODE", "tunnel"),
        ("TABARD_DATAPLANE", "iptables"),
        ("TABARD_TICK_SPACING_MS", "-1"),
    ],
)
def test_a_wrong_variable_is_refused(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    with pytest.raises(ValidationError, match=name.removeprefix("TABARD_").lower()):
        read(monkeypatch, **{name: value})
