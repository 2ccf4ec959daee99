"""The Dataplane port on the kernel's maps (no packets; see test_verdict and test_packets)."""

import asyncio
import os
import time
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings

from entries import allowing
from kernel import COMPILED, SMALL, Kernel, cluster_name, endpoint
from packets import TCP, packet
from random_maps import worlds
from tabard.agent.ebpf import layout, syscalls
from tabard.agent.ebpf.dataplane import EbpfDataplane
from tabard.agent.ebpf.maps import KernelMap
from tabard.agent.ebpf.pins import BPF_ROOT, Pins, mount_bpffs
from tabard.dataplane.maps import (
    Address,
    Direction,
    Maps,
    Mode,
    PolicyKey,
    PrefixEntry,
    Protocol,
    Reason,
    address,
)
from tabard.dataplane.port import (
    Change,
    DataplaneError,
    LinkGone,
    MapFull,
    MapSizes,
    NodeConfig,
    Verdict,
)
from tabard.policy.diff import diff

pytestmark = pytest.mark.ebpf


@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(first=worlds, second=worlds)
def test_what_is_read_is_what_was_written(native: Kernel, first: Maps, second: Maps) -> None:
    for maps in (first, second, Maps()):
        native.put(maps)
        assert native.dataplane.read() == maps


def test_removing_what_is_not_there_removes_the_rest(native: Kernel) -> None:
    native.put(Maps(identities=frozenset({1, 2, 3})))
    native.dataplane.write(Change(identities_removed=frozenset({9, 1, 8, 3, 7})))
    assert native.dataplane.read().identities == {2}
    native.maps = Maps(identities=frozenset({2}))


FILLED = {
    "identities": Maps(identities=frozenset(range(1, SMALL.identities + 1))),
    "policies": Maps(
        policies=allowing(
            PolicyKey(1, Direction.INGRESS, n, Protocol.ANY) for n in range(SMALL.policies)
        )
    ),
    "nodes": Maps(nodes=frozenset(Address(n.to_bytes(16)) for n in range(SMALL.nodes))),
    "prefixes": Maps(
        prefixes={(Address(n.to_bytes(16)), 128): PrefixEntry(n) for n in range(SMALL.prefixes)}
    ),
    "hosts": Maps(hosts={Address(n.to_bytes(16)): n for n in range(SMALL.hosts)}),
    "endpoints": Maps(
        endpoints={Address(n.to_bytes(16)): endpoint(n) for n in range(SMALL.endpoints)}
    ),
}
ONE_MORE = {
    "identities": Change(identities_added=frozenset({1 << 20})),
    "policies": Change(policies_set=allowing([PolicyKey(2, Direction.INGRESS, 1, Protocol.ANY)])),
    "nodes": Change(nodes_added=frozenset({Address(b"\xff" * 16)})),
    "prefixes": Change(prefixes_set={(Address(b"\xff" * 16), 128): PrefixEntry(1)}),
    "hosts": Change(hosts_set={Address(b"\xff" * 16): 1}),
    "endpoints": Change(endpoints_set={Address(b"\xff" * 16): endpoint()}),
}


@pytest.mark.parametrize("name", FILLED)
def test_a_map_is_full_one_past_its_bound(native: Kernel, name: str) -> None:
    native.put(FILLED[name])
    removals = Change(
        identities_removed=frozenset({1}), hosts_removed=frozenset({Address(bytes(16))})
    )

    with pytest.raises(MapFull) as full:
        native.dataplane.write(
            replace(
                ONE_MORE[name],
                identities_removed=removals.identities_removed,
                hosts_removed=removals.hosts_removed,
            )
        )

    size = getattr(SMALL, name)
    assert (
        str(full.value)
        == f'map "{name}" is full ({size} of {size}); raise TABARD_{name.upper()}_MAX'
    )
    assert native.dataplane.read() == FILLED[name], "removals are not done after an error"
    native.dataplane.write(diff(Maps(), FILLED[name]))  # what is there can still be replaced


def test_counters_are_by_direction_and_reason(native: Kernel) -> None:
    before = native.dataplane.counters().get((Direction.EGRESS, Reason.DENIED_UNKNOWN_ENDPOINT), 0)
    frame = packet("10.1.0.1", "10.1.0.2", TCP, 1, 2)
    syscalls.program_test_run(native.dataplane.programs["from_pod"], frame, repeat=1000)
    after = native.dataplane.counters()[Direction.EGRESS, Reason.DENIED_UNKNOWN_ENDPOINT]
    assert after - before == 1000


# ---- the ring buffer


async def test_verdicts_are_delivered_on_the_loop_and_stop_when_told(native: Kernel) -> None:
    delivered: list[Verdict] = []
    arrived = asyncio.Event()

    def deliver(verdicts: list[Verdict]) -> None:
        delivered.extend(verdicts)
        arrived.set()

    stop = native.dataplane.watch(deliver)
    frame = packet("10.1.0.1", "10.1.0.2", TCP, 1, 2)
    native.egress(frame)
    await asyncio.wait_for(arrived.wait(), 5)
    assert [v.reason for v in delivered] == [Reason.DENIED_UNKNOWN_ENDPOINT]
    assert abs(delivered[0].at - time.time_ns()) < 5e9

    stop()
    stop()
    native.egress(frame)
    await asyncio.sleep(0)
    assert len(delivered) == 1
    assert len(native.events()) == 1, "the next reader gets what none has read"


def test_a_full_ring_loses_events_and_changes_no_verdict(native: Kernel) -> None:
    room = SMALL.events // (56 + 8)
    frame = packet("10.1.0.1", "10.1.0.2", TCP, 1, 2)
    syscalls.program_test_run(native.dataplane.programs["from_pod"], frame, repeat=room)
    for _ in range(3):
        assert native.egress(frame) is Reason.DENIED_UNKNOWN_ENDPOINT

    assert len(native.events()) in (room, room - 1)
    assert native.egress(frame) is Reason.DENIED_UNKNOWN_ENDPOINT
    assert len(native.events()) == 1, "and goes on when there is room"


def test_events_are_read_whole_beyond_the_rings_end(native: Kernel) -> None:
    some = SMALL.events // (56 + 8) * 2 // 3
    for port in range(1, 6):
        frame = packet("10.1.0.1", "10.1.0.2", TCP, port, 2)
        syscalls.program_test_run(native.dataplane.programs["from_pod"], frame, repeat=some)
        told = native.events()
        assert len(told) == some
        assert {(v.source_port, v.destination_port) for v in told} == {(port, 2)}


# ---- errors at the edge


def test_a_dataplane_that_is_not_open_says_so() -> None:
    closed = EbpfDataplane(NodeConfig("n1", Mode.NATIVE, ()), cluster="none")
    with pytest.raises(DataplaneError, match="not open"):
        closed.read()
    assert closed.attached() == {}
    closed.close()


def test_an_interface_that_does_not_exist_is_gone(native: Kernel) -> None:
    with pytest.raises(LinkGone, match="'nosuch0' does not exist"):
        native.dataplane.attach("pod-1", "nosuch0")
    assert native.dataplane.attached() == {}


def test_sources_that_do_not_compile_are_reported_and_leave_no_pins(tmp_path: Path) -> None:
    (tmp_path / "programs.c").write_text("int from_pod(struct __sk_buff *skb) { return nonsense; }")
    os.symlink(Path(__file__).parents[3] / "bpf" / "kstub", tmp_path / "kstub")
    cluster = cluster_name()
    dataplane = EbpfDataplane(
        NodeConfig("n1", Mode.NATIVE, ()), cluster=cluster, sizes=SMALL, sources=tmp_path
    )
    try:
        with pytest.raises(DataplaneError, match="nonsense"):
            dataplane.open()
        with pytest.raises(DataplaneError, match="not open"):
            dataplane.read()
    finally:
        dataplane.remove()
    assert not (BPF_ROOT / "tabard" / cluster).exists()


def test_opening_again_compiles_nothing_and_keeps_everything(
    native: Kernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    native.put(Maps(identities=frozenset({1, 2}), hosts={address("10.1.0.1"): 300}))
    dataplane = native.dataplane

    def no_process(*_: object, **__: object) -> None:
        raise AssertionError("a process was started")

    monkeypatch.setattr("subprocess.run", no_process)
    dataplane.close()
    dataplane.open()
    dataplane.open()
    native._events = dataplane._maps["events"]

    assert dataplane.read() == native.maps


@pytest.mark.parametrize(
    ("schema", "sizes"),
    [
        # Its policy entries had no strength and its endpoints one side: nothing can be copied.
        ("1-0123456789ab", {"policies": 1, "endpoints": 40, "settings": 20}),
        # Its settings had no age.
        ("3-0123456789ab", {"settings": 20}),
    ],
)
def test_maps_of_an_earlier_format_stand_until_a_full_set_is_written(
    schema: str, sizes: dict[str, int]
) -> None:
    cluster = cluster_name()
    pins = Pins(BPF_ROOT, cluster, "n1")
    mount_bpffs(BPF_ROOT)
    directory = pins.make(pins.maps(schema))
    old = {
        shape.name: KernelMap.create(
            replace(shape, value=sizes.get(shape.name, shape.value)), directory / shape.name
        )
        for shape in layout.shapes(SMALL)
    }
    filled = layout.Settings(Mode.NATIVE, 0, 8472, filled=True)
    old["settings"].update([(layout.SETTINGS_KEY, layout.pack_settings(filled)[:20])])
    strength = bytes(old["policies"].shape.value)
    old["policies"].update([((128).to_bytes(4, "little") + bytes(16), strength)])
    flow = bytes(layout.FLOW_KEY.size), bytes(layout.FLOW.size)
    old["conntrack"].update([flow])
    dataplane = EbpfDataplane(
        NodeConfig("n1", Mode.NATIVE, ()), cluster=cluster, sizes=SMALL, compiled=COMPILED
    )
    try:
        dataplane.open()
        assert dataplane.read() == Maps()
        assert len(pins.schemas()) == 2, "links would still be with the old ones"
        assert list(dataplane._maps["conntrack"].items()) == [flow]
        full = Maps(identities=frozenset({1}), endpoints={address("10.1.0.1"): endpoint()})
        dataplane.write(diff(Maps(), full))
        assert dataplane.read() == full
        assert pins.schemas() == [layout.schema(SMALL)]
    finally:
        for each in old.values():
            each.close()
        dataplane.remove()


def test_what_is_known_of_the_maps_age_goes_over_to_maps_of_other_sizes() -> None:
    cluster = cluster_name()

    def opened(sizes: MapSizes) -> EbpfDataplane:
        dataplane = EbpfDataplane(
            NodeConfig("n1", Mode.NATIVE, (), stale_after_s=7),
            cluster=cluster,
            sizes=sizes,
            compiled=COMPILED,
        )
        dataplane.open()
        return dataplane

    dataplane = opened(SMALL)
    try:
        dataplane.refresh(1_234)
        dataplane.close()
        dataplane = opened(replace(SMALL, hosts=2_048))
        settings = dataplane._settings()
        assert (settings.fresh_at, settings.stale_after_s) == (1_234, 7)
    finally:
        dataplane.remove()


def test_default_sizes_are_what_the_kernel_takes() -> None:
    dataplane = EbpfDataplane(
        NodeConfig("n1", Mode.NATIVE, ()),
        cluster=cluster_name(),
        sizes=MapSizes(),
        compiled=COMPILED,
    )
    try:
        dataplane.open()
        assert dataplane.read() == Maps()
    finally:
        dataplane.remove()
