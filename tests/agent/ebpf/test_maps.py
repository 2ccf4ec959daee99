"""One pinned map."""

import errno
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from kernel import cluster_name
from tabard.agent.ebpf import maps as ebpf_maps
from tabard.agent.ebpf import syscalls
from tabard.agent.ebpf.layout import HASH, LPM_TRIE, NO_PREALLOC, Shape
from tabard.agent.ebpf.maps import BATCH_MAX, KernelMap
from tabard.agent.ebpf.pins import BPF_ROOT, Pins, mount_bpffs
from tabard.dataplane.port import DataplaneError

pytestmark = pytest.mark.ebpf


@pytest.fixture
def directory() -> Iterator[Path]:
    mount_bpffs(BPF_ROOT)
    pins = Pins(BPF_ROOT, cluster_name(), "n1")
    yield pins.make(pins.base)
    pins.drop_node()


@pytest.mark.parametrize("kind", [HASH, LPM_TRIE])
@pytest.mark.parametrize("batches", [True, False])
def test_batches_and_single_calls_do_the_same(
    directory: Path, kind: int, batches: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not batches:

        def refuse(*_: object) -> None:
            raise syscalls.BatchError(errno.EOPNOTSUPP, 0)

        for name in ("map_update_batch", "map_delete_batch", "map_items_batch"):
            monkeypatch.setattr(ebpf_maps.syscalls, name, refuse)
    count = BATCH_MAX * 2 + 1
    shape = Shape("m", kind, 8, 4, count, NO_PREALLOC)
    table = KernelMap.create(shape, directory / "m")
    entries = {
        (32).to_bytes(4, "little") + n.to_bytes(4): (n * 3).to_bytes(4) for n in range(count)
    }

    table.update(entries.items())
    assert dict(table.items()) == entries

    absent = b"\x20\0\0\0\xff\xff\xff\xff"
    kept = dict(list(entries.items())[-10:])
    table.delete([absent, *(key for key in entries if key not in kept), absent])
    assert dict(table.items()) == kept
    table.close()


def test_a_pin_of_another_shape_is_refused_by_name(directory: Path) -> None:
    shape = Shape("m", HASH, 8, 4, 16, NO_PREALLOC)
    KernelMap.create(shape, directory / "m").close()
    for other in (
        replace(shape, entries=17),
        replace(shape, key=4),
        replace(shape, value=8),
        replace(shape, flags=0),
        replace(shape, kind=LPM_TRIE),
    ):
        assert KernelMap.find(other, directory / "m") is None
        with pytest.raises(DataplaneError, match=r"/m is pinned, but .* remove the pin"):
            ebpf_maps.open_map(other, directory / "m")
