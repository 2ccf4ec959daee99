"""Files and directories, the shop that the project ships among them."""

import io
import sys
from collections import Counter
from pathlib import Path

import pytest

from tabard.manifests import reading
from tabard.manifests.errors import ManifestError
from tabard.manifests.objects import Role
from tabard.manifests.reading import read
from tabard.manifests.workloads import read_workload

SHOP = Path(__file__).parents[2] / "compose" / "shop"
NODES = 3

NAMESPACE = "apiVersion: v1\nkind: Namespace\nmetadata: {{name: {}}}\n"


def test_a_directory_is_read_by_name_without_its_subdirectories(tmp_path: Path) -> None:
    for name in ("b.yml", "a.yaml", "c.json", "ignored.txt"):
        (tmp_path / name).write_text(NAMESPACE.format(name[0]))
    (tmp_path / "d.yaml").mkdir()
    (tmp_path / "d.yaml" / "e.yaml").write_text(NAMESPACE.format("e"))
    found = read([tmp_path]).objects
    assert [manifest.origin for manifest in found] == [
        f"{tmp_path}/{name}:1" for name in ("a.yaml", "b.yml", "c.json")
    ]


def test_a_file_is_read_whatever_it_is_called_and_with_a_byte_order_mark(tmp_path: Path) -> None:
    file = tmp_path / "manifest"
    file.write_bytes(b"\xef\xbb\xbf" + NAMESPACE.format("a").encode())
    assert len(read([str(file)]).objects) == 1


def test_standard_input_is_a_dash(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO(NAMESPACE.format("a")))
    assert [manifest.origin for manifest in read(["-"]).objects] == ["stdin:1"]


def test_what_cannot_be_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ManifestError, match=r"absent.yaml: cannot be read: No such file"):
        read([tmp_path / "absent.yaml"])
    with pytest.raises(ManifestError, match=r"holds no .yaml"):
        read([tmp_path])
    bad = tmp_path / "bad.yaml"
    bad.write_bytes(b"\xff\xfe")
    with pytest.raises(ManifestError, match="is not UTF-8"):
        read([bad])
    bad.write_text("a" * 11)
    monkeypatch.setattr(reading, "TEXT_BYTES_MAX", 10)
    with pytest.raises(ManifestError, match="larger than 10 bytes"):
        read([bad])


def test_files_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "FILES_MAX", 2)
    for name in "ab":
        (tmp_path / f"{name}.yaml").write_text(NAMESPACE.format(name))
    assert len(read([tmp_path]).objects) == 2
    (tmp_path / "c.yaml").write_text(NAMESPACE.format("c"))
    with pytest.raises(ManifestError, match="3 files are more than 2"):
        read([tmp_path])


def test_the_shop_is_whole_and_affordable_to_probe() -> None:
    shop = read([SHOP])
    workloads = [read_workload(m.document) for m in shop.objects if m.role is Role.WORKLOAD]
    pods = Counter[str]()
    ports = 0
    for workload in workloads:
        count = NODES if workload.replicas is None else workload.replicas
        pods[workload.namespace] += count
        ports += count * len(workload.template.ports)
    assert pods == {"shop": 11, "data": 5, "ops": 7}
    assert ports <= 2.5 * pods.total()
    assert [note.kind for note in shop.notes] == ["CronJob"]
    assert all(manifest.origin.startswith(str(SHOP)) for manifest in shop.objects)
