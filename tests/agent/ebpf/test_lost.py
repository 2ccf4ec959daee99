"""A node that nobody waited for any more, and which is back: as the kernel's programs judge."""

import pytest

from agent.rig import Bench
from agent.test_lost import FAR, Cut
from frames import frame
from kernel import LOOPBACK, Kernel
from tabard.dataplane.maps import Mode, Protocol, Reason, address
from tabard.dataplane.packet import Packet, TcpFlag

pytestmark = pytest.mark.ebpf


class InKernel(Cut):
    ifindex = LOOPBACK

    def __init__(self, kernel: Kernel) -> None:
        bench = Bench(mode=Mode.NATIVE)
        bench.reconciler.dataplane = kernel.dataplane
        bench.reconciler.actual = None
        super().__init__(bench)
        self._kernel = kernel

    def sent(self) -> Reason | None:
        ends = address(FAR), address("10.244.1.5")
        packet = Packet(*ends, Protocol.TCP, 40_000, 80, tcp_flags=TcpFlag.ACK)
        return self._kernel.run("to_pod", frame(packet), ifindex=LOOPBACK).reason


async def test_a_number_that_became_anothers_opens_nothing_when_the_node_is_back(
    native: Kernel,
) -> None:
    try:
        cut = InKernel(native)
        await cut.come_up()
        lost_at = cut.ledger.state.sequence
        end = await cut.go_by()
        assert cut.sent() is Reason.ALLOWED_ESTABLISHED, "its kernel goes on with what it had"
        await cut.come_back(end)
        assert cut.sent() is Reason.DENIED_POLICY
        assert not [at for at in cut.enforced if lost_at + 301 <= at < end]
    finally:
        native.maps = native.dataplane.read()
