"""A whole guarded cluster: each process works with its own key, and nothing secret shows."""

import asyncio
import json
import os
import re
import secrets
import sys
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

import guards
from clusters import remains
from guards import Guarded
from tabard.auth.keys import read_key
from tabard.auth.roles import holder
from tabard.bus.port import Denied, Outgoing, Stream
from tabard.cluster import guard, profile
from tabard.cluster.errors import ClusterError
from tabard.cluster.settings import Settings
from tabard.cluster.supervisor import Cluster

pytestmark = pytest.mark.nats

SEED = re.compile(rb"SU[A-Z2-7]{56}|BEGIN [A-Z ]*PRIVATE KEY")
POD = """
apiVersion: v1
kind: Pod
metadata: {name: web, namespace: default, labels: {app: web}}
spec: {containers: [{name: web, image: x, ports: [{containerPort: 80}]}]}
"""


def settings(**values: object) -> Settings:
    known = {"name": f"t{secrets.token_hex(4)}", "nodes": 2, "dataplane": "memory"}
    return Settings(**(known | values))  # type: ignore[arg-type]


async def tabard(run_directory: Path, *words: str) -> tuple[int, str]:
    """Exit code of a command, and all that it said."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tabard.cli",
        *words,
        env={**os.environ, "TABARD_RUN_DIR": str(run_directory)},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    said, _ = await process.communicate()
    assert process.returncode is not None
    return process.returncode, said.decode()


def told_to(pid: int) -> bytes:
    """What everybody who may look at a process sees that it was told."""
    return b"".join(Path(f"/proc/{pid}/{file}").read_bytes() for file in ("environ", "cmdline"))


async def test_a_guarded_cluster_works_is_rotated_under_way_and_shows_no_secret(
    tmp_path: Path,
) -> None:
    run, manifest = tmp_path / "run", tmp_path / "pod.yaml"
    manifest.write_text(POD)
    told: list[str] = []
    asked = settings(secure=True, bus_servers=3, allocators=2)
    async with Cluster(asked, directory=run, tell=told.append) as cluster:
        auth, said = guard.given(guard.place(cluster.data)), []

        async def does(*words: str) -> str:
            code, output = await tabard(run, *words)
            assert code == 0, (words, output)
            said.append(output)
            return output

        assert all(url.startswith("tls://") for url in cluster.profile.nats)
        await does("apply", "-f", str(manifest), "--wait")
        # What each role is for: who looks, and who takes snapshots.
        auditor = ("--nkey", str(auth.seed(holder("auditor"))))
        status = json.loads(await does(*auditor, "status", "-o", "json"))
        assert {each["name"] for each in status["nodes"]} == {"n1", "n2"}
        code, output = await tabard(run, *auditor, "delete", "pod", "default/web")
        assert (code, "does not let" in output) == (1, True)
        await does("snapshots", "take")
        # Each process has its own key; none holds it where others look.
        before = {}
        for name in cluster.profile.http:
            known = told_to(cluster.pid(name))
            assert f"TABARD_NATS_NKEY={auth.seed(holder(name))}".encode() in known.split(b"\0")
            assert not SEED.search(known)
            before[name] = read_key(auth.seed(holder(name))).public
        assert len(set(before.values())) == len(before)
        await does("auth", "rotate")
        await does("auth", "rotate", "--finish")
        await does("delete", "pod", "default/web", "--wait")
        after = {name: read_key(auth.seed(holder(name))).public for name in before}
        assert not set(before.values()) & set(after.values())
        assert not any(cluster.exits(name) for name in cluster.children)
        kept = profile.read(cluster.name, run)
        assert kept is not None
        shown = f"{told} {said} {json.dumps(asdict(kept))}"
        assert not SEED.search(shown.encode())
        for file in (*run.iterdir(), *(cluster.data / "auth").rglob("*")):
            assert file.stat().st_mode & 0o077 == 0, file
        for file in cluster.data.rglob("*"):
            if file.is_file() and guard.place(cluster.data) not in file.parents:
                content = file.read_bytes()
                assert not SEED.search(content), file
                assert b"bus.denied" not in content, content
        data = cluster.data
    assert remains(cluster.name, tmp_path, data) == []


async def test_kept_data_is_guarded_by_the_same_keys_and_new_nodes_get_theirs(
    tmp_path: Path,
) -> None:
    data, run = tmp_path / "data", tmp_path / "run"
    kept = {"data": data, "secure": True, "pods": "none"}
    async with Cluster(settings(nodes=1, **kept), directory=run) as cluster:
        auth = guard.given(guard.place(cluster.data))
        first = {who: given.key for who, given in auth.book.keys.items()}
    async with Cluster(settings(nodes=2, name=cluster.name, **kept), directory=run) as cluster:
        again = guard.given(guard.place(cluster.data))
        assert {who: again.book.keys[who].key for who in first} == first
        assert again.book.keys.keys() - first.keys() == {holder("agent.n2")}
        await cluster.wait_enforced()


async def test_another_guarded_bus_is_used_with_its_auth_directory(tmp_path: Path) -> None:
    auth = guards.directory(tmp_path / "auth")
    server = guards.server(auth, tmp_path / "nats")
    await server.start()
    try:
        asked = settings(nats=(server.url,), auth=auth.path, pods="none")
        async with Cluster(asked, directory=tmp_path / "run") as cluster:
            assert cluster.profile.nkey == str(auth.seed(holder("operator")))
            await cluster.wait_enforced()
        with pytest.raises(ClusterError, match=r"no key for agent.n3") as raised:
            async with Cluster(
                settings(nats=(server.url,), auth=auth.path, nodes=3),
                directory=tmp_path / "run",
            ):
                pass
        assert raised.value.next == f"tabard auth add agent n3 --dir {auth.path}"
    finally:
        await server.stop()


async def test_flows_that_ended_with_their_server_are_made_anew_by_an_allocator(
    tmp_path: Path,
) -> None:
    auth = guards.directory(tmp_path / "auth")
    server = guards.server(auth, tmp_path / "nats")
    await server.start()
    running = Guarded(auth.path, server)
    seen = Outgoing("tabard.flows.n1", b"1")
    try:
        async with (
            running.bus("admin") as admin,
            running.bus("agent.n1") as agent,
            running.bus("allocator") as allocator,
        ):
            await admin.ensure_streams()
            await agent.publish(Stream.FLOWS, [seen])
            await server.stop()
            await server.start()
            with pytest.raises(Exception, match="FLOWS"):
                await agent.publish(Stream.FLOWS, [seen])
            with pytest.raises(Denied):
                await agent.keep_flows()
            await allocator.keep_flows()
            assert await agent.publish(Stream.FLOWS, [seen]) == [1]
    finally:
        await server.stop()


@pytest.mark.parametrize(
    ("asked", "why"),
    [
        ({"secure": True, "nats": ("nats://a",)}, "guarded by whoever runs it"),
        ({"auth": Path("a")}, "one of an existing bus"),
    ],
)
def test_a_guard_that_cannot_be_is_refused(asked: dict[str, object], why: str) -> None:
    with pytest.raises(ClusterError, match=why):
        settings(**asked)


@pytest.mark.parametrize(
    ("days", "spoil", "outcome", "fact"),
    [
        (0, "", "ok", "8 keys; the certificate of nats expires on"),
        (370, "", "warn", "the certificate of nats expires on"),
        (400, "", "fault", "the certificate of nats expires on"),
        (0, "keys/source.seed", "fault", "source.seed cannot be used"),
        (0, "servers/nats.pem", "fault", "nats.pem cannot be used"),
    ],
)
def test_what_is_wrong_with_a_guard_is_found_by_the_doctor(
    tmp_path: Path, days: int, spoil: str, outcome: str, fact: str
) -> None:
    auth = guards.directory(tmp_path / "auth", datetime.now(UTC) - timedelta(days=days))
    if spoil:
        (auth.path / spoil).write_text("junk")
    found = guard.examined(auth, datetime.now(UTC))
    assert (found.outcome, fact in found.fact) == (outcome, True), found
    assert bool(found.next) == (outcome != "ok")


async def test_a_server_that_does_not_take_its_files_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(guard, "RELOAD_S_MAX", 0.5)
    run = tmp_path / "run"
    asked = settings(secure=True, pods="none", nodes=1)
    async with Cluster(asked, directory=run) as cluster:
        assert await asyncio.to_thread(guard.reload_servers, cluster.profile) == ["nats"]
        (guard.place(cluster.data) / "accounts.conf").write_text("accounts { broken")
        with pytest.raises(ClusterError, match=r"nats did not take the files") as raised:
            await asyncio.to_thread(guard.reload_servers, cluster.profile)
        said = f"grep -i reload {cluster.data}/bus/nats-server.log"
        assert raised.value.next == said
        await cluster.wait_enforced()
