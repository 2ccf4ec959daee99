import asyncio

import pytest

from dataplane.contract import HOSTS_MAX, POD, STRANGER, DataplaneContract, Rig, full
from tabard.dataplane import memory
from tabard.dataplane.maps import Address, Maps, Mode, Protocol, address
from tabard.dataplane.memory import Action, MemoryDataplane
from tabard.dataplane.packet import Packet, TcpFlag
from tabard.dataplane.port import Dataplane, MapFull, MapSizes, NodeConfig, Verdict
from tabard.policy.diff import diff

CONFIG = NodeConfig("n1", Mode.OVERLAY, (address("192.168.9.1"),))


def syn(source: Address, destination: Address, port: int) -> Packet:
    return Packet(source, destination, Protocol.TCP, 40_000, port, tcp_flags=TcpFlag.SYN)


class TestMemoryDataplane(DataplaneContract):
    @pytest.fixture
    def rig(self) -> Rig:
        links: set[str] = set()
        dataplane = MemoryDataplane(CONFIG, sizes=MapSizes(hosts=HOSTS_MAX), links=links)

        def reopened() -> Dataplane:
            # Enforcement in memory ends with its process: only closing and opening can be tried.
            dataplane.close()
            dataplane.open()
            return dataplane

        def send(ifindex: int, source: Address, destination: Address, port: int) -> bool:
            outcome = dataplane.from_pod(ifindex, syn(source, destination, port))
            return outcome.action is not Action.DROP

        return Rig(dataplane, reopened, links.add, links.discard, send)


def test_any_interface_exists_unless_told_otherwise() -> None:
    dataplane: Dataplane = MemoryDataplane(CONFIG)
    assert dataplane.kind == "memory"
    ifindex, mac = dataplane.attach("uid", "veth0")
    assert dataplane.attached() == {"uid": ifindex}
    assert mac[0] & 3 == 2  # local, unicast (IEEE 802)


@pytest.mark.parametrize("name", ["identities", "policies", "nodes", "prefixes", "endpoints"])
def test_every_map_has_a_bound(name: str) -> None:
    used = len(getattr(full(), name))
    fits = MemoryDataplane(CONFIG, sizes=MapSizes(**{name: used}))
    fits.write(diff(Maps(), full()))
    full_at_once = MemoryDataplane(CONFIG, sizes=MapSizes(**{name: used - 1}))
    with pytest.raises(MapFull) as caught:
        full_at_once.write(diff(Maps(), full()))
    assert caught.value.name == name
    assert not full_at_once.read().endpoints


async def test_verdicts_beyond_the_bound_are_lost_not_kept(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(memory, "VERDICTS_PENDING_MAX", 2)
    dataplane = MemoryDataplane(CONFIG)
    dataplane.write(diff(Maps(), full()))
    seen: list[list[Verdict]] = []
    stop = dataplane.watch(seen.append)
    for port in (81, 82, 83):
        dataplane.from_pod(1, syn(POD, STRANGER, port))
    await _turn()
    assert [[verdict.destination_port for verdict in batch] for batch in seen] == [[81, 82]]
    dataplane.from_pod(1, syn(POD, STRANGER, 84))
    await _turn()
    assert len(seen) == 2
    stop()
    stop()


async def _turn() -> None:
    for _ in range(3):
        await asyncio.sleep(0)
