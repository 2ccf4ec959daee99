import pytest

from tabard.cluster import preflight
from tabard.cluster.errors import ClusterError
from tabard.cluster.settings import Settings


def test_auto_takes_ebpf_where_nothing_is_missing() -> None:
    assert preflight.choose(Settings(), lambda: "") == ("ebpf", "")


def test_auto_takes_memory_and_says_what_is_missing() -> None:
    assert preflight.choose(Settings(), lambda: "not root") == ("memory", "not root")


def test_what_was_asked_for_by_name_is_never_replaced_silently() -> None:
    for settings in (Settings(dataplane="ebpf"), Settings(pods="netns")):
        with pytest.raises(ClusterError, match="not root") as raised:
            preflight.choose(settings, lambda: "not root")
        assert raised.value.next == "tabard up --dataplane memory"


def test_memory_asks_the_kernel_nothing() -> None:
    def never() -> str:
        raise AssertionError

    assert preflight.choose(Settings(dataplane="memory"), never) == ("memory", "it was asked for")


@pytest.mark.ebpf
def test_this_kernel_takes_the_probe() -> None:
    assert preflight.missing() == ""
    preflight.mount_bpf_fs()
    preflight.mount_bpf_fs()  # again is no error
