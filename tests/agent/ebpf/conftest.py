"""Kernels shared by a whole run: each test puts its own maps in and starts without flows."""

from collections.abc import Iterator

import pytest

from kernel import Kernel
from laboratory import Laboratory, laboratory
from tabard.dataplane.maps import Maps, Mode


@pytest.fixture(scope="session")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Laboratory]:
    with laboratory(tmp_path_factory.mktemp("bpf")) as made:
        yield made


def _kernel(mode: Mode) -> Iterator[Kernel]:
    kernel = Kernel(mode)
    try:
        yield kernel
    finally:
        kernel.remove()


@pytest.fixture(scope="session")
def native_kernel() -> Iterator[Kernel]:
    yield from _kernel(Mode.NATIVE)


@pytest.fixture(scope="session")
def overlay_kernel() -> Iterator[Kernel]:
    yield from _kernel(Mode.OVERLAY)


@pytest.fixture
def native(native_kernel: Kernel) -> Kernel:
    return _fresh(native_kernel)


@pytest.fixture
def overlay(overlay_kernel: Kernel) -> Kernel:
    return _fresh(overlay_kernel)


def _fresh(kernel: Kernel) -> Kernel:
    kernel.put(Maps())
    kernel.forget_flows()
    kernel.events()
    return kernel
