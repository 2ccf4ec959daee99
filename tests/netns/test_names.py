"""Names are short enough, unambiguous, and the same in every process."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tabard.netns import names

UID = "0B1C2D3E-4f50-4161-8273-8495a6b7c8d9"


def test_names_are_those_of_the_contract() -> None:
    assert names.node_namespace("shop", "node-1") == "tb-shop-node-1"
    assert names.hub_namespace("shop") == "tb-shop-hub"
    assert names.service_namespace("shop", "nats.1") == "tb-shop-s_nats.1"
    assert names.pod_namespace("shop", UID) == "tb-shop-p-0b1c2d3e4f50"
    assert names.host_interface(UID) == "tb0b1c2d3e4f50"
    assert names.pod_mac(UID) == "02:0b:1c:2d:3e:4f"
    assert names.host_mac(UID) == "06:0b:1c:2d:3e:4f"


@pytest.mark.parametrize("node", ["hub", "p-1", "", "a/b", "Node", "-a", "a" * 64])
def test_a_node_name_that_would_be_taken_for_something_else_is_refused(node: str) -> None:
    with pytest.raises(ValueError, match="names no namespace"):
        names.node_namespace("shop", node)


@pytest.mark.parametrize("run", ["", "a" * 17, "a/b", "-a", "a-", "A"])
def test_a_run_name_outside_its_alphabet_is_refused(run: str) -> None:
    with pytest.raises(ValueError, match="run name"):
        names.hub_namespace(run)


def test_a_pod_of_another_run_is_not_recognised() -> None:
    assert names.pod_id_of("shop", "tb-shop-p-0b1c2d3e4f50") == "0b1c2d3e4f50"
    assert names.pod_id_of("shop", "tb-shop-p-node-1") is None
    assert names.pod_id_of("shop", "tb-shop2-p-0b1c2d3e4f50") is None
    assert names.pod_id_of("shop", "tb-shop-node-1") is None


@given(st.text(min_size=1))
def test_any_uid_gives_an_interface_name_that_the_kernel_takes(uid: str) -> None:
    name = names.host_interface(uid)
    assert len(name.encode()) <= names.INTERFACE_BYTES_MAX
    assert names.pod_id_of("run", names.pod_namespace("run", uid)) == names.pod_id(uid)
