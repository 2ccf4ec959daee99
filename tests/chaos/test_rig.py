from tabard.chaos.rig import leading
from tabard.cluster.allocators import SILENT_S, AllocatorWord
from tabard.events.status import AllocatorStatus, Role

NOW = 10**18


def word(name: str, role: Role, epoch: int, age_s: float = 0.0) -> tuple[str, AllocatorWord]:
    status = AllocatorStatus(name, f"{name}/1", role, epoch, 1, 1)
    return name, AllocatorWord(status, NOW - int(age_s * 1e9))


def test_the_later_epoch_leads_while_a_zombie_says_that_it_does() -> None:
    words = dict([word("allocator-1", "leading", 7), word("allocator-2", "leading", 8)])
    assert leading(words, NOW) == "allocator-2"


def test_nobody_leads_by_a_word_that_is_old_or_of_another_role() -> None:
    old = word("allocator-1", "leading", 7, SILENT_S + 1)
    assert leading(dict([old, word("allocator-2", "following", 7)]), NOW) == ""
