"""Kernels shared by a whole run: each test puts its own maps in and starts without flows."""

from collections.abc import Iterator

import pytest

from kernel import Kernel
from tabard.dataplane.maps import Maps, Mode


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
