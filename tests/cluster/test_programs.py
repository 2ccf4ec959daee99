from dataclasses import replace
from ipaddress import ip_address, ip_network

from clusters import running
from tabard.agent.settings import Settings as AgentSettings
from tabard.allocator.settings import Settings as AllocatorSettings
from tabard.cluster.programs import Place, agent, allocator, allocator_names, source
from tabard.cluster.settings import AGENT_SETTINGS, ALLOCATOR_SETTINGS, SERVICE_SETTINGS, places
from tabard.source.settings import Settings as SourceSettings

INHERITED = {"PATH": "/bin", "TABARD_CLUSTER": "another", "TABARD_NODE": "another"}
PLACE = Place(running("a"), "info", INHERITED)
(NODE,) = places(1)


def test_an_agent_is_told_all_it_must_know() -> None:
    program = agent(PLACE, NODE, "tb-a-n1")
    assert program.netns == "/run/netns/tb-a-n1"
    told = dict(program.environment)
    assert [ip_address(text) for text in told.pop("TABARD_UNDERLAY").split(",")]
    assert [ip_network(text) for text in told.pop("TABARD_POD_CIDRS").split(",")]
    assert told == {
        "PATH": "/bin",
        "TABARD_NATS": "nats://198.18.0.1:4222",
        "TABARD_CLUSTER": "a",
        "TABARD_DATA": "/tmp/a/nodes/n1",
        "TABARD_LOG_LEVEL": "info",
        "TABARD_NODE": "n1",
        "TABARD_UNDERLAY_DEVICE": "eth0",
        "TABARD_MODE": "overlay",
        "TABARD_DATAPLANE": "ebpf",
        "TABARD_SOCKET": "/tmp/a/nodes/n1/agent.sock",
        "TABARD_NETNS": "",
    }


def test_with_a_foreign_bus_only_the_agents_dataplane_is_in_the_nodes_namespace() -> None:
    foreign = replace(PLACE, profile=replace(running("a"), netns=""))
    program = agent(foreign, NODE, "tb-a-n1")
    assert program.netns == ""
    assert program.environment["TABARD_NETNS"] == "tb-a-n1"


def test_without_a_kernel_nothing_is_in_a_namespace() -> None:
    memory = replace(PLACE, profile=replace(running("a"), netns="", dataplane="memory"))
    program = agent(memory, NODE, "")
    assert (program.netns, program.environment["TABARD_NETNS"]) == ("", "")


def test_allocator_and_source_have_places_of_their_own() -> None:
    assert allocator(PLACE, "/run/netns/tb-a-hub").environment["TABARD_DATA"] == "/tmp/a/allocator"
    started = source(PLACE, "/run/netns/tb-a-hub")
    assert started.netns == "/run/netns/tb-a-hub"
    assert started.environment["TABARD_NODES_DIR"] == "/tmp/a/nodes"
    assert started.environment["TABARD_PODS"] == "netns"


def test_each_of_several_allocators_has_a_name_and_a_place_of_its_own() -> None:
    (alone,) = allocator_names(1)
    assert alone == "allocator"
    found = [allocator(PLACE, "", name).environment for name in (alone, *allocator_names(2))]
    assert [(each["TABARD_HOLDER"], each["TABARD_DATA"]) for each in found] == [
        ("allocator-1", "/tmp/a/allocator"),
        ("allocator-1", "/tmp/a/allocator.1"),
        ("allocator-2", "/tmp/a/allocator.2"),
    ]


def test_each_part_gets_its_own_of_the_extra_settings() -> None:
    chosen = replace(PLACE, extra={"HOSTS_MAX": "9", "RETIRE_GRACE_MS": "5"})
    assert agent(chosen, NODE, "tb-a-n1").environment["TABARD_HOSTS_MAX"] == "9"
    assert "TABARD_RETIRE_GRACE_MS" not in agent(chosen, NODE, "tb-a-n1").environment
    assert allocator(chosen, "").environment["TABARD_RETIRE_GRACE_MS"] == "5"


def test_a_service_is_given_its_socket_and_no_other() -> None:
    listening = replace(PLACE, listeners={"allocator": 7, "agent.n1": 8})
    one = agent(listening, NODE, "tb-a-n1")
    assert (one.environment["TABARD_HTTP"], one.descriptors) == ("fd:8", (8,))
    assert allocator(listening, "").descriptors == (7,)
    alone = source(listening, "")
    assert ("TABARD_HTTP" in alone.environment, alone.descriptors) == (False, ())


def test_settings_of_every_service_go_to_all() -> None:
    chosen = replace(PLACE, extra={"LOG_FORMAT": "console"})
    for program in (agent(chosen, NODE, ""), allocator(chosen, ""), source(chosen, "")):
        assert program.environment["TABARD_LOG_FORMAT"] == "console"
    for known in (AgentSettings, AllocatorSettings, SourceSettings):
        assert {name.lower() for name in SERVICE_SETTINGS} <= known.model_fields.keys()


def test_every_extra_setting_is_one_that_its_part_knows() -> None:
    assert {name.lower() for name in ALLOCATOR_SETTINGS} <= AllocatorSettings.model_fields.keys()
    assert {name.lower() for name in AGENT_SETTINGS} <= AgentSettings.model_fields.keys()
