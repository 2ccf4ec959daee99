"""The overlay device, as iproute2 sees it in a namespace of the test's own."""

import json
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest

from tabard.agent.ebpf import device
from tabard.dataplane.port import DataplaneError
from topology import inside, ip, topology

pytestmark = pytest.mark.ebpf


@pytest.fixture
def namespace() -> Iterator[str]:
    with topology() as one:
        yield one.node().namespace


def shown(namespace: str, name: str = "tb0") -> list[dict[str, Any]]:
    asked = ["ip", "-n", namespace, "-d", "-j", "link", "show"]
    links = json.loads(subprocess.run(asked, capture_output=True, check=True).stdout)
    return [link for link in links if link["ifname"] == name]


def test_it_is_made_external_and_down_and_then_set_up(namespace: str) -> None:
    index = inside(namespace, lambda: device.ensure("tb0", 8472))
    (link,) = shown(namespace)
    assert link["ifindex"] == index
    assert "UP" not in link["flags"]
    assert link["linkinfo"]["info_kind"] == "vxlan"
    data = link["linkinfo"]["info_data"]
    assert (data["external"], data["port"], data["learning"]) == (True, 8472, False)
    inside(namespace, lambda: device.raise_up(index))
    assert "UP" in shown(namespace)[0]["flags"]


def test_it_is_kept_as_it_is_and_made_anew_for_another_port(namespace: str) -> None:
    index = inside(namespace, lambda: device.ensure("tb0", 8472))
    inside(namespace, lambda: device.raise_up(index))
    assert inside(namespace, lambda: device.ensure("tb0", 8472)) == index
    assert "UP" in shown(namespace)[0]["flags"]
    assert inside(namespace, lambda: device.ensure("tb0", 8473)) != index
    assert shown(namespace)[0]["linkinfo"]["info_data"]["port"] == 8473


def test_one_whose_packets_do_not_say_where_they_go_is_made_anew(namespace: str) -> None:
    ip(namespace, "link add tb0 type vxlan id 7 dstport 8472")
    inside(namespace, lambda: device.ensure("tb0", 8472))
    assert shown(namespace)[0]["linkinfo"]["info_data"]["external"]


def test_another_kind_of_device_is_not_touched(namespace: str) -> None:
    ip(namespace, "link add tb0 type veth peer name tb1")
    before = shown(namespace)
    with pytest.raises(DataplaneError, match="is no VXLAN device"):
        inside(namespace, lambda: device.ensure("tb0", 8472))
    inside(namespace, lambda: device.remove("tb0"))
    assert shown(namespace) == before


def test_it_is_removed_and_absent_is_no_error(namespace: str) -> None:
    inside(namespace, lambda: device.ensure("tb0", 8472))
    for _ in range(2):
        inside(namespace, lambda: device.remove("tb0"))
        assert shown(namespace) == []


def test_what_the_kernel_refuses_is_told(namespace: str) -> None:
    inside(namespace, lambda: device.ensure("tb0", 8472))
    with pytest.raises(DataplaneError, match=r"'a{40}'.*cannot be made"):
        inside(namespace, lambda: device.ensure("a" * 40, 8472))
    with pytest.raises(DataplaneError, match=r"999999 cannot be set up: .*No such device"):
        inside(namespace, lambda: device.raise_up(999_999))
