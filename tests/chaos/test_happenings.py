from random import Random

from tabard.chaos.happenings import COMING_PODS, STAYING_PODS, Happening, Happenings, Relabel
from tabard.chaos.policies import CHANGING, STAYING
from tabard.events.observed import PolicyRemoved, PolicySet, WorkloadRemoved, WorkloadSet
from tabard.manifests.workloads import read_workload
from tabard.policy.reading import read_object

NODES = ("n1", "n2", "n3")


def course(seed: int, length: int = 400) -> list[Happening]:
    happenings = Happenings(Random(seed), NODES)
    return [*happenings.base(), *(happenings.next() for _ in range(length))]


def test_a_seed_decides_the_whole_sequence() -> None:
    assert course(1) == course(1)
    assert course(1) != course(2)


def test_pods_that_come_are_few_never_twice_there_and_come_back_as_others() -> None:
    present: dict[str, str] = {}
    lives: dict[str, list[WorkloadSet]] = {}
    for happening in course(3):
        if isinstance(happening, WorkloadSet):
            metadata = happening.document["metadata"]
            assert metadata["name"] not in present
            present[metadata["name"]] = metadata["namespace"]
            lives.setdefault(metadata["name"], []).append(happening)
        elif isinstance(happening, WorkloadRemoved):
            assert present.pop(happening.name) == happening.namespace
        elif isinstance(happening, Relabel):
            assert present[happening.name] == happening.namespace
        assert len(present) <= STAYING_PODS + COMING_PODS
    assert len(lives) == STAYING_PODS + COMING_PODS
    coming = [sets for name, sets in lives.items() if name.startswith("come")]
    for sets in coming:
        documents = [each.document for each in sets]
        assert len({str(document["metadata"]["labels"]) for document in documents}) > 1
        assert len({document["spec"]["nodeName"] for document in documents}) > 1


def test_every_version_of_every_policy_comes_into_force_and_goes() -> None:
    happenings = course(4)
    sets = [each.document for each in happenings if isinstance(each, PolicySet)]
    removed = {each.name for each in happenings if isinstance(each, PolicyRemoved)}
    for versions in CHANGING:
        assert all(version in sets for version in versions)
        assert versions[0]["metadata"]["name"] in removed


def test_all_that_is_published_can_be_enforced_and_run() -> None:
    for document in (*STAYING, *(version for versions in CHANGING for version in versions)):
        read_object(document)
    for happening in course(5):
        if isinstance(happening, WorkloadSet):
            template = read_workload(happening.document).template
            assert len(template.ports) == 3
            assert template.node_name in NODES
