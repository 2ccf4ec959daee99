"""The kernel's dataplane keeps the contract of all: a real namespace, real links, real programs."""

import os
import secrets
from collections.abc import Iterator
from dataclasses import replace

import pytest

from dataplane.contract import HOSTS_MAX, DataplaneContract, Rig
from kernel import COMPILED, SHOT, SMALL, cluster_name
from packets import SYN, TCP, packet
from tabard.agent.ebpf import syscalls
from tabard.agent.ebpf.dataplane import EbpfDataplane
from tabard.dataplane.maps import Address, Mode, address, address_text
from tabard.dataplane.port import Dataplane, NodeConfig
from tabard.netns import enter
from topology import ip

pytestmark = pytest.mark.ebpf

CONFIG = NodeConfig("n1", Mode.OVERLAY, (address("192.168.9.1"),))


class TestEbpfDataplane(DataplaneContract):
    @pytest.fixture
    def rig(self) -> Iterator[Rig]:
        namespace = f"tbc{os.getpid()}{secrets.token_hex(3)}"
        cluster = cluster_name()

        def made() -> EbpfDataplane:
            sizes = replace(SMALL, hosts=HOSTS_MAX)
            return EbpfDataplane(
                CONFIG, cluster=cluster, sizes=sizes, netns=namespace, compiled=COMPILED
            )

        opened = [made()]

        def reopened() -> Dataplane:
            opened[-1].close()
            opened.append(made())
            opened[-1].open()
            return opened[-1]

        def send(ifindex: int, source: Address, destination: Address, port: int) -> bool:
            syn = packet(
                address_text(source), address_text(destination), TCP, 40_000, port, flags=SYN
            )
            program = opened[-1].programs["from_pod"]
            run = syscalls.program_test_run
            ran = enter.call(namespace, lambda: run(program, syn, ifindex=ifindex))
            return ran.returned != SHOT

        enter.create(namespace, lambda: None)
        try:
            opened[-1].open()
            yield Rig(
                opened[-1],
                reopened,
                lambda name: ip(namespace, f"link add {name} type veth peer name {name}p"),
                lambda name: ip(namespace, f"link delete {name}"),
                send,
            )
        finally:
            opened[-1].remove()
            enter.delete(namespace)
