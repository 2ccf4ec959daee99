"""`tabard policy diff`: folders, the cluster and points of its ledger against each other."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from command import Tabard
from ledgers import append
from linting import WEB_AND_DB, document, network_policy
from shops import SHOP, opened
from tabard.bus.memory import MemoryBus, MemoryStore
from tabard.events import ledger as events

WEB = "{podSelector: {matchLabels: {app: web}}}"
DB_ALLOWS = "{podSelector: {matchLabels: {app: db}}, ingress: [{from: [%s], ports: [{port: %s}]}]}"


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    """`before` has workloads and a policy; `after` another policy, and no workloads."""
    before, after = tmp_path / "before", tmp_path / "after"
    before.mkdir()
    after.mkdir()
    (before / "all.yaml").write_text(WEB_AND_DB + network_policy(DB_ALLOWS % (WEB, 5432)))
    (after / "policies.yaml").write_text(network_policy(DB_ALLOWS % (WEB, 5433)))
    return before, after


def said(tabard: Tabard, *words: str, exits: int = 1) -> Any:
    result = tabard("policy", "diff", *words, "-o", "json")
    assert result.exit_code == exits, result.stderr
    return json.loads(result.stdout)


def test_ports_that_become_allowed_and_denied_are_told_with_both_rules(
    tabard: Tabard, folders: tuple[Path, Path]
) -> None:
    before, after = map(str, folders)
    changes = said(tabard, before, after)["changes"]
    assert [(row["change"], row["from"], row["to"]) for row in changes] == [
        ("allowed", ["x/web"], ["x/db"]),
        ("denied", ["x/web"], ["x/db"]),
    ]
    won, lost = changes
    assert won["connections"] == [{"protocol": "TCP", "first": 5433, "last": 5433}]
    (why,) = lost["why"]
    assert why["direction"] == "ingress"
    assert why["before"]["rule"]["rule"] == "spec.ingress[0]"
    assert why["before"]["rule"]["origin"] == f"{before}/all.yaml:23"
    assert why["after"]["rule"] is None
    assert [each["name"] for each in why["after"]["isolated_by"]] == ["p"]
    assert why["after"]["isolated_by"][0]["origin"] == f"{after}/policies.yaml:2"


def test_the_same_in_other_words_exits_0(tabard: Tabard, folders: tuple[Path, Path]) -> None:
    before, after = folders
    twice = (
        f"[{{from: [{WEB}], ports: [{{port: 5432}}]}}, {{from: [{WEB}], ports: [{{port: 5432}}]}}]"
    )
    spec = f"{{podSelector: {{matchLabels: {{app: db}}}}, ingress: {twice}}}"
    (after / "policies.yaml").write_text(network_policy(spec, "another"))
    result = tabard("policy", "diff", str(before), str(after))
    assert result.exit_code == 0
    assert result.stdout == ""
    assert "no verdict differs" in result.stderr


def test_what_changed_alike_for_one_reason_is_one_line(tabard: Tabard, tmp_path: Path) -> None:
    one, other = tmp_path / "one.yaml", tmp_path / "other.yaml"
    one.write_text(WEB_AND_DB)
    other.write_text(network_policy("{podSelector: {matchLabels: {app: db}}, ingress: []}"))
    (change,) = said(tabard, str(one), str(other))["changes"]
    assert change["to"] == ["x/db"]
    assert set(change["from"]) == {"any other node", "other IPv4", "other IPv6", "x/db", "x/web"}
    table = tabard("policy", "diff", str(one), str(other)).stdout
    assert table.splitlines()[1].split()[:4] == ["denied", "everyone", "x/db", "all"]
    assert "ingress: no policy isolates it → no rule of x/p" in table


def test_each_part_of_the_world_that_a_cidr_tells_apart_is_compared(
    tabard: Tabard, tmp_path: Path
) -> None:
    one, other = tmp_path / "one.yaml", tmp_path / "other.yaml"
    rule = "{podSelector: {matchLabels: {app: db}}, ingress: [{from: [{ipBlock: {cidr: %s}}]}]}"
    one.write_text(WEB_AND_DB + network_policy(rule % "192.0.2.0/24"))
    other.write_text(network_policy(rule % "192.0.2.0/25"))
    (change,) = said(tabard, str(one), str(other))["changes"]
    assert (change["change"], change["from"], change["to"]) == (
        "denied",
        ["192.0.2.0/24"],
        ["x/db"],
    )


def test_a_denial_that_came_is_the_reason(tabard: Tabard, tmp_path: Path) -> None:
    one, other = tmp_path / "one.yaml", tmp_path / "other.yaml"
    one.write_text(WEB_AND_DB + network_policy(DB_ALLOWS % (WEB, 5432)))
    deny = (
        "{endpointSelector: {matchLabels: {app: db}}, "
        "ingressDeny: [{fromEndpoints: [{matchLabels: {app: web}}]}]}"
    )
    other.write_text(
        network_policy(DB_ALLOWS % (WEB, 5432))
        + document("CiliumNetworkPolicy", "cilium.io/v2", "no-web", deny, "x")
    )
    (change,) = said(tabard, str(one), str(other))["changes"]
    assert (change["change"], change["from"]) == ("denied", ["x/web"])
    (why,) = change["why"]
    assert why["after"]["rule"]["name"] == "no-web"
    assert why["after"]["rule"]["action"] == "deny"
    assert why["after"]["rule"]["rule"] == "spec.ingressDeny[0]"


def test_workloads_of_one_side_alone_are_named_and_not_compared(
    tabard: Tabard, tmp_path: Path
) -> None:
    one, other = tmp_path / "one.yaml", tmp_path / "other.yaml"
    one.write_text(WEB_AND_DB)
    other.write_text(WEB_AND_DB.replace("name: db", "name: cache"))
    found = said(tabard, str(one), str(other), exits=0)
    assert found["only"] == {"before": ["x/db"], "after": ["x/cache"]}
    assert found["changes"] == []


def test_policies_alone_need_workloads_from_somewhere(
    tabard: Tabard, folders: tuple[Path, Path]
) -> None:
    before, after = map(str, folders)
    result = tabard("policy", "diff", after, after)
    assert result.exit_code == 2
    assert "--workloads" in result.stderr
    assert tabard("policy", "diff", after, after, "--workloads", before).exit_code == 0


def test_the_cluster_is_compared_with_its_past_and_with_a_folder(
    tabard: Tabard, store: MemoryStore
) -> None:
    async def build() -> int:
        desk = await opened(store)
        gone = events.PolicyForgotten("NetworkPolicy", "data", "redis")
        await append(MemoryBus(store), gone)
        return desk.state.sequence

    then = asyncio.run(build())
    found = said(tabard, str(then), "cluster")
    assert (found["before"], found["after"]) == (then, then + 1)
    assert {row["change"] for row in found["changes"]} == {"denied"}
    assert {name for row in found["changes"] for name in row["to"]} == {"data/redis"}
    assert all(row["why"][0]["before"]["rule"]["event"] for row in found["changes"])
    # This bus's clock stands still: the moment is understood, and after all that it knows.
    assert "is yet to come" in tabard("policy", "diff", "-1h", "cluster").stderr
    # The folder's workloads have no addresses, and what the shop's policies mean is as before.
    back = said(tabard, "cluster", str(SHOP))
    assert {row["change"] for row in back["changes"]} == {"allowed"}
    assert {name for row in back["changes"] for name in row["to"]} == {"data/redis"}


def test_a_side_that_is_nothing_is_a_usage_error(tabard: Tabard, tmp_path: Path) -> None:
    result = tabard("policy", "diff", "cluster", "yesterday")
    assert result.exit_code == 2
    assert "'yesterday' is no file or directory that is there" in result.stderr
    broken = tmp_path / "broken.yaml"
    broken.write_text("kind: [")
    assert tabard("policy", "diff", str(broken), str(broken)).exit_code == 2
