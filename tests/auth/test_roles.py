import pytest

from tabard.auth.accounts import permissions, text
from tabard.auth.keys import new_key
from tabard.auth.roles import ABOUT, Holder, HolderFault, Role, accounts_rights, holder, rights


@pytest.mark.parametrize("name", ["operator", "operator.alice", "agent.n1", "agent.a.b-c.example"])
def test_a_holder_is_written_as_it_is_read(name: str) -> None:
    assert str(holder(name)) == name


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("agent", "no node's name"),
        ("agent.", "no node's name"),
        ("agent.*", "no node's name"),
        ("agent.N1", "no node's name"),
        ("agent.a/../b", "no node's name"),
        ("operator.a.b", "no name"),
        ("operator.>", "no name"),
        ("king", "no role 'king'; roles are allocator"),
        ("", "no role ''"),
    ],
)
def test_what_is_no_holder_is_refused(name: str, why: str) -> None:
    with pytest.raises(HolderFault, match=why):
        holder(name)


def test_a_node_has_its_own_subjects_and_its_account_those_of_all() -> None:
    one, all_ = rights(holder("agent.a.b")), accounts_rights(Role.AGENT)
    assert one.writes[:2] == ("tabard.status.node.a_b", "tabard.flows.a_b")
    assert all_.writes[:2] == ("tabard.status.node.*", "tabard.flows.*")
    assert not any("*" in subject for subject in (*one.writes, *one.asks))
    assert len(one.writes) == len(all_.writes) == 4


def test_every_role_is_told_about() -> None:
    assert set(ABOUT) == set(Role)


def test_every_key_of_a_holder_has_an_inbox_of_its_own() -> None:
    old, new = new_key().public, new_key().public
    who = holder("auditor")
    for key, other in ((old, new), (new, old)):
        for subjects in permissions(who, key):
            assert f"_INBOX_{key}.>" in subjects
            assert not any(other in subject for subject in subjects)
    both = text({who: [old, new]})
    assert both.count("nkey: ") == 2


def test_accounts_are_the_same_whatever_the_order_in_which_keys_were_given() -> None:
    keys = {Holder(role): [new_key().public] for role in Role if role is not Role.AGENT}
    assert text(keys) == text(dict(reversed(keys.items())))
