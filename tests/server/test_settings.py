"""What a server is told, and the configuration that follows."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from tabard.bus.config import Address, text
from tabard.server.settings import Settings

GUARD = {
    "server_certificate": Path("/etc/a.pem"),
    "server_key": Path("/etc/a.key"),
    "nats_ca": Path("/etc/ca.pem"),
    "server_accounts": Path("/etc/accounts.conf"),
}


def settings(**more: object) -> Settings:
    given = {"cluster": "c", "data": Path("/data"), "server_name": "nats-1", **more}
    return Settings(**given)  # type: ignore[arg-type]


def test_alone_and_unguarded_it_is_a_bus_by_itself() -> None:
    config = settings().config()
    assert (config.membership, config.tls, config.accounts) == (None, None, "")
    assert config.sync_always
    assert "log_file" not in text(config)


def test_with_peers_and_a_guard_servers_show_each_other_who_they_are() -> None:
    config = settings(server_peers="nats-1:6222,[fd00::2]:6222", **GUARD).config()
    assert config.membership is not None
    assert config.membership.peers == (Address("nats-1", 6222), Address("fd00::2", 6222))
    clients, _, servers = text(config).partition("cluster {")
    assert "  verify: false\n" in clients
    assert "  verify: true\n" in servers
    assert 'include "../etc/accounts.conf"' in servers


@pytest.mark.parametrize("absent", GUARD)
def test_half_a_guard_is_none(absent: str) -> None:
    with pytest.raises(ValidationError, match="belong together"):
        settings(**{name: value for name, value in GUARD.items() if name != absent})


@pytest.mark.parametrize("peer", ["nats-1", "nats-1:", ":6222", "nats 1:6222", "x:99999", "x:0"])
def test_a_peer_that_is_no_place_is_refused(peer: str) -> None:
    with pytest.raises(ValidationError):
        settings(server_peers=peer)
