"""`tabard auth` on directories of its own; of running clusters in tests/cluster/test_guard.py."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from clusters import running
from command import Tabard
from tabard.auth.directory import opened
from tabard.auth.keys import read_key
from tabard.auth.roles import Role, holder
from tabard.cluster import profile


@pytest.fixture
def auth(tabard: Tabard, tmp_path: Path) -> Path:
    path = tmp_path / "auth"
    done = tabard(
        "auth", "init", str(path), "--server", "a=10.0.0.1,a.example", "--server", "b=10.0.0.2",
        "--node", "n1,n2", "--node", "n3",
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    return path


def test_a_directory_is_made_for_servers_and_nodes(tabard: Tabard, auth: Path) -> None:
    shown = json.loads(tabard("auth", "list", "--dir", str(auth), "-o", "json").stdout)
    assert shown["path"] == str(auth)
    assert [each["holder"] for each in shown["holders"]] == sorted(
        [f"agent.n{number}" for number in (1, 2, 3)] + [role for role in Role if role != "agent"]
    )
    assert [(each["server"], each["hosts"]) for each in shown["servers"]] == [
        ("a", ["10.0.0.1", "a.example"]),
        ("b", ["10.0.0.2"]),
    ]
    assert all(len(each["keys"]) == 1 and not each["fault"] for each in shown["holders"])
    assert not shown["authority"]["rotating"]
    as_yaml = tabard("auth", "list", "--dir", str(auth), "-o", "yaml").stdout
    assert yaml.safe_load(as_yaml) == shown
    names = tabard("auth", "list", "--dir", str(auth), "-o", "name").stdout.split()
    assert names == [each["holder"] for each in shown["holders"]]


def test_holders_and_servers_are_added_and_told_where_their_files_are(
    tabard: Tabard, auth: Path
) -> None:
    for words, said in (
        (("node", "n4"), f"TABARD_NATS_NKEY={auth}/keys/agent.n4.seed"),
        (("operator", "alice"), f"TABARD_NATS_NKEY={auth}/keys/operator.alice.seed"),
        (("server", "c=10.0.0.3"), f"{auth}/servers/c.pem"),
    ):
        done = tabard("auth", "add", *words, "--dir", str(auth))
        assert (done.exit_code, said in done.stderr) == (0, True), done.output
        assert "nats-server --signal reload=PID" in done.stderr
    assert tabard("auth", "add", "node", "n4", "--dir", str(auth)).exit_code == 1


def test_a_rotation_has_two_steps_and_is_shown(tabard: Tabard, auth: Path) -> None:
    old = read_key(opened(auth).seed(holder("agent.n1")))
    begun = tabard("auth", "rotate", "agent", "tls", "--dir", str(auth))
    assert "until: tabard auth rotate agent tls --finish" in begun.stderr
    shown = tabard("auth", "list", "--dir", str(auth))
    assert shown.stdout.count("rotating") == 3
    assert "certificates are being rotated" in shown.stderr
    assert tabard("auth", "rotate", "all", "--finish", "--dir", str(auth)).exit_code == 0
    assert "rotating" not in tabard("auth", "list", "--dir", str(auth)).output
    assert read_key(opened(auth).seed(holder("agent.n1"))) != old


def test_keys_that_a_cluster_was_given_are_said_to_be_where_they_are(
    tabard: Tabard, auth: Path
) -> None:
    given = replace(running(), nkey=str(auth / "keys" / "operator.seed"))
    profile.claim(given, profile.run_directory())
    shown = tabard("auth", "list", "--cluster", "a")
    assert shown.exit_code == 1
    assert f"next: the same command with --dir {auth}" in shown.stderr


def test_a_revoked_holder_is_gone(tabard: Tabard, auth: Path) -> None:
    assert tabard("auth", "revoke", "agent.n2", "--dir", str(auth)).exit_code == 0
    assert "agent.n2" not in tabard("auth", "list", "--dir", str(auth)).stdout
    again = tabard("auth", "revoke", "agent.n2", "--dir", str(auth))
    assert (again.exit_code, "has no key here" in again.stderr) == (1, True)


def test_a_file_that_cannot_be_used_is_shown(tabard: Tabard, auth: Path) -> None:
    (auth / "keys" / "source.seed").chmod(0o644)
    (auth / "keys" / "auditor.seed").write_bytes((auth / "keys" / "operator.seed").read_bytes())
    (auth / "keys" / "agent.n1.seed").unlink()  # it was taken to its machine
    done = tabard("auth", "list", "--dir", str(auth), "-o", "json")
    assert done.exit_code == 1
    faults = {each["holder"]: each["fault"] for each in json.loads(done.stdout)["holders"]}
    assert {who for who, fault in faults.items() if fault} == {"source", "auditor"}
    assert "mode 0644" in faults["source"]
    assert "holds another key" in faults["auditor"]


@pytest.mark.parametrize(
    ("words", "code", "why"),
    [
        (("add", "king"), 2, "there is no role 'king'"),
        (("add", "node"), 2, "no node's name"),
        (("add", "server", "a"), 2, "write NAME=HOST"),
        (("rotate", "king"), 2, "there is no role 'king'"),
        (("rotate", "agent.n9"), 1, "agent.n9 has no key here"),
        (("revoke", "agent.n9"), 1, "agent.n9 has no key here"),
    ],
)
def test_what_cannot_be_done_is_told_with_why(
    tabard: Tabard, auth: Path, words: tuple[str, ...], code: int, why: str
) -> None:
    done = tabard("auth", *words, "--dir", str(auth))
    assert (done.exit_code, why in done.stderr) == (code, True), done.output


def test_no_directory_and_no_guarded_cluster_are_told(tabard: Tabard, tmp_path: Path) -> None:
    done = tabard("auth", "list", "--dir", str(tmp_path / "none"))
    assert "is no auth directory" in done.stderr
    assert f"tabard auth init {tmp_path}/none" in done.stderr
    assert "no cluster of this machine is meant" in tabard("auth", "list").stderr
    taken = tabard("auth", "init", str(tmp_path.parent))
    assert "is there already, and not empty" in taken.stderr


def test_roles_are_shown_in_every_form(tabard: Tabard) -> None:
    roles = json.loads(tabard("auth", "roles", "-o", "json").stdout)["roles"]
    assert [each["role"] for each in roles] == list(Role)
    assert tabard("auth", "roles", "-o", "name").stdout.split() == list(Role)
    assert "tabard.status.node.*" in tabard("auth", "roles", "-o", "wide").stdout
    assert "one node's agent" in tabard("auth", "roles").stdout


def test_a_seed_that_cannot_be_used_is_told_at_once(tabard: Tabard, auth: Path) -> None:
    (auth / "keys" / "auditor.seed").chmod(0o640)
    done = tabard("--nkey", f"{auth}/keys/auditor.seed", "status", "--nats", "tls://127.0.0.1:1")
    assert (done.exit_code, "mode 0640" in done.stderr) == (1, True), done.output
    assert f"tabard --nkey {auth}/keys/auditor.seed" in done.stderr
