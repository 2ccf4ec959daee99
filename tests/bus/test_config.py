import subprocess
import sysconfig
from dataclasses import replace
from pathlib import Path

import pytest

from tabard.bus.config import (
    Address,
    ConfigError,
    Membership,
    ServerConfig,
    Tls,
    text,
)

PLAIN = ServerConfig(
    name="nats-1",
    listen=Address("127.0.0.1", 4222),
    monitoring=Address("127.0.0.1", 8222),
    store=Path("/data"),
    ports=Path("/data/run"),
    log=Path("/data/nats-server.log"),
)
ROUTES = (Address("127.0.0.1", 6222), Address("::1", 6223))


def accepted(config: str, directory: Path) -> tuple[bool, str]:
    """Whether the real server takes the configuration, and what it says."""
    file = directory / "nats-server.conf"
    file.write_text(config)
    binary = Path(sysconfig.get_path("scripts")) / "nats-server"
    done = subprocess.run([binary, "-t", "-c", file], capture_output=True, check=False)
    return done.returncode == 0, (done.stdout + done.stderr).decode()


def test_a_server_of_its_own_has_no_cluster_and_no_tls() -> None:
    made = text(PLAIN)
    assert "cluster" not in made
    assert "tls" not in made
    assert 'listen: "127.0.0.1:4222"\n' in made
    assert "sync_interval: always\n" in made
    assert "max_buffered_msgs: 2048\n" in made
    assert "sync_interval: 120s\n" in text(replace(PLAIN, sync_always=False))


def test_a_free_port_is_asked_for_in_the_servers_words() -> None:
    assert 'http: "127.0.0.1:-1"\n' in text(replace(PLAIN, monitoring=Address("127.0.0.1")))


def test_a_member_of_a_cluster_listens_and_knows_its_peers() -> None:
    made = text(replace(PLAIN, membership=Membership("demo", ROUTES[0], ROUTES)))
    assert '  name: "demo"\n  listen: "127.0.0.1:6222"\n' in made
    assert "  ping_interval: 2s\n  ping_max: 2\n" in made
    assert '    "nats-route://127.0.0.1:6222"\n    "nats-route://[::1]:6223"\n' in made


def test_tls_and_accounts_stand_where_the_server_reads_them() -> None:
    tls = Tls(Path("/s/cert.pem"), Path("/s/key.pem"), Path("/s/ca.pem"))
    membership = Membership("demo", ROUTES[0], ROUTES)
    made = text(replace(PLAIN, tls=tls, membership=membership, accounts="include 'auth.conf'"))
    assert made.count('cert_file: "/s/cert.pem"') == 2
    assert made.index("verify: false") < made.index("cluster {") < made.index("verify: true")
    assert made.endswith("}\ninclude 'auth.conf'\n")


NASTY = [
    'x"\nport: 1\n#',
    "x\\",
    "x$HOME",
    "x\r\n\t\x01\x7f",
    "x é 猫 # // ; { } [ ] include",
    "x'y`z",
]


@pytest.mark.nats
@pytest.mark.parametrize("nasty", NASTY)
def test_no_path_adds_a_setting_and_the_server_reads_the_path_as_it_is(
    nasty: str, tmp_path: Path
) -> None:
    # A file with secrets that must be there is the one path that `-t` tells back.
    missing = tmp_path / nasty / "cert.pem"
    tls = Tls(missing, missing, missing)
    config = replace(PLAIN, store=tmp_path / nasty, log=tmp_path / nasty, ports=tmp_path / nasty)
    taken, said = accepted(text(config), tmp_path)
    assert taken, said
    taken, said = accepted(text(replace(config, tls=tls)), tmp_path)
    assert not taken
    assert str(missing) in said


@pytest.mark.nats
def test_the_server_takes_a_member_of_a_cluster(tmp_path: Path) -> None:
    member = replace(PLAIN, membership=Membership("demo", ROUTES[0], ROUTES))
    taken, said = accepted(text(member), tmp_path)
    assert taken, said


@pytest.mark.parametrize("name", ["", "a b", 'a"', "a\n", "-a", "a.", "x" * 65, "é"])
def test_a_name_that_the_server_could_misread_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match="server name"):
        replace(PLAIN, name=name)
    with pytest.raises(ConfigError, match="cluster name"):
        Membership(name, ROUTES[0], ROUTES)


@pytest.mark.parametrize(
    ("host", "port"), [("", 1), ("a b", 1), ("::1\n", 1), ('::1%"', 1), ("a", 65536)]
)
def test_an_address_that_is_none_is_refused(host: str, port: int) -> None:
    with pytest.raises(ConfigError, match=r"host|port"):
        Address(host, port)


def test_routes_need_fixed_ports() -> None:
    with pytest.raises(ConfigError, match="fixed ports"):
        Membership("demo", Address("127.0.0.1"), ROUTES)
    with pytest.raises(ConfigError, match="fixed ports"):
        Membership("demo", ROUTES[0], (Address("127.0.0.1"),))
