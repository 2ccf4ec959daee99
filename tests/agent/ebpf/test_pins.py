"""Names and places of pins."""

from pathlib import Path

import pytest

from tabard.agent.ebpf.pins import mount_bpffs, quoted
from tabard.dataplane.port import DataplaneError


def test_a_pin_root_that_is_no_bpf_file_system_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataplaneError, match="not in a bpf file system"):
        mount_bpffs(tmp_path)


@pytest.mark.parametrize(
    ("name", "safe"), [("n1", "n1"), ("a.b/c", "a%2Eb%2Fc"), ("ü", "%C3%BC"), ("..", "%2E%2E")]
)
def test_names_are_quoted_into_one_component(name: str, safe: str) -> None:
    assert quoted(name) == safe


@pytest.mark.parametrize("name", ["", "x" * 256, "." * 86])
def test_names_that_cannot_be_pins_are_refused(name: str) -> None:
    with pytest.raises(DataplaneError, match="cannot name a pin"):
        quoted(name)
