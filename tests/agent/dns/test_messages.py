import ipaddress
import struct

import dns.edns
import dns.flags
import dns.message
import dns.opcode
import dns.rcode
import dns.rrset
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tabard.agent.dns.messages import Answer, Question, answer, bare, question, refusal
from tabard.policy.names import ADDRESSES_OF_NAME_MAX, ANSWER_KEPT_S_MAX


def asked(name: str = "Api.Example.com.", kind: str = "A") -> dns.message.Message:
    return dns.message.make_query(name, kind, id=7)


def answered(query: dns.message.Message, *records: tuple[str, int, str, str]) -> bytes:
    """`records`: owner, TTL, type, text."""
    found = dns.message.make_response(query)
    for owner, ttl, kind, text in records:
        found.answer.append(dns.rrset.from_text(owner, ttl, "IN", kind, text))
    wire: bytes = found.to_wire(max_size=65_535)
    return wire


QUESTION = Question(7, "api.example.com", 1, 1)


def test_a_query_asks_for_one_name_in_lower_case_without_the_last_dot() -> None:
    assert question(asked().to_wire()) == QUESTION
    assert question(asked(".", "NS").to_wire()) == Question(7, "", 2, 1)
    with_options = dns.message.make_query("a.io", "AAAA", id=7, use_edns=0, payload=1232)
    assert question(with_options.to_wire()) == Question(7, "a.io", 28, 1)


@pytest.mark.parametrize("name", [r"a\032b.io.", r"a\.b.io.", "ä.io."])
def test_a_name_of_other_characters_is_none_that_a_pattern_could_name(name: str) -> None:
    found = question(asked(name).to_wire())
    assert found is not None
    assert found.name not in ("a b.io", "a.b.io", "ä.io")


def test_what_is_no_query_for_one_name_is_none() -> None:
    wire = asked().to_wire()
    assert question(b"") is None
    assert question(wire[:20]) is None
    assert question(answered(asked())) is None
    update = asked()
    update.set_opcode(dns.opcode.UPDATE)
    assert question(update.to_wire()) is None
    assert question(wire[:4] + b"\0\2" + wire[6:] + wire[12:]) is None
    assert question(wire[:4] + b"\0\0" + wire[6:12]) is None


def test_a_query_with_anything_behind_its_question_is_none() -> None:
    secret = dns.rrset.from_text("secret.example.", 9, "IN", "TXT", "exfiltrated")
    assert question(asked().to_wire() + b"secret") is None
    with_options = dns.message.make_query("a.io", "A", use_edns=0)
    assert question(with_options.to_wire() + b"\0") is None
    for section in range(1, 4):
        query = asked()
        query.sections[section].append(secret)
        assert question(query.to_wire()) is None


@pytest.mark.parametrize("code", [dns.edns.COOKIE, dns.edns.PADDING, dns.edns.ECS, 65_001])
def test_a_query_goes_on_without_options_and_with_the_rest_of_what_a_server_needs(
    code: int,
) -> None:
    data = b"\0\1\x18\0\xc0\0\2" if code == dns.edns.ECS else b"secret!!"
    query = dns.message.make_query("Api.Example.com", "AAAA", id=7, want_dnssec=True, payload=1400)
    plain = query.to_wire()
    query.use_edns(0, dns.flags.DO | 0x55, 1400, options=[dns.edns.GenericOption(code, data)])
    query.flags |= dns.flags.AA | 0x40
    wire = query.to_wire()
    assert question(wire) == question(plain) == Question(7, "api.example.com", 28, 1)
    assert bare(wire) == bare(plain) == plain
    assert b"Api" in plain, "letters as they were, which resolvers compare"
    assert bare(asked().to_wire()) == asked().to_wire()


def test_an_answers_addresses_are_those_of_the_name_through_its_aliases() -> None:
    wire = answered(
        asked(),
        ("api.example.com.", 300, "CNAME", "cdn.example.net."),
        ("cdn.example.net.", 30, "CNAME", "edge.example.net."),
        ("edge.example.net.", 60, "A", "203.0.113.7"),
        ("edge.example.net.", 60, "A", "203.0.113.8"),
        ("other.example.net.", 5, "A", "203.0.113.99"),
    )
    assert answer(wire) == Answer(QUESTION, ("203.0.113.7", "203.0.113.8"), 30)


@pytest.mark.parametrize(
    ("ttl", "kept"),
    [
        (0, 0),
        (ANSWER_KEPT_S_MAX, ANSWER_KEPT_S_MAX),
        (ANSWER_KEPT_S_MAX + 1, ANSWER_KEPT_S_MAX),
        ((1 << 31) - 1, ANSWER_KEPT_S_MAX),
        (1 << 31, 0),
        ((1 << 32) - 1, 0),
    ],
)
def test_a_time_to_live_counts_for_a_week_at_most_and_one_with_its_first_bit_set_is_none(
    ttl: int, kept: int
) -> None:
    alias, address = ("CNAME", "b.example.com."), ("A", "203.0.113.7")
    direct = answered(asked(), ("api.example.com.", 77, *address))
    aliased = answered(
        asked(), ("api.example.com.", 77, *alias), ("b.example.com.", 3_000_000, *address)
    )
    for wire in (direct, aliased):
        found = answer(wire.replace(struct.pack("!I", 77), struct.pack("!I", ttl)))
        assert found is not None
        assert (found.addresses, found.ttl_s) == (("203.0.113.7",), kept)


def test_an_answer_without_addresses_of_the_name_says_none() -> None:
    for wire in (
        answered(asked()),
        answered(asked(), ("api.example.com.", 300, "CNAME", "cdn.example.net.")),
        answered(asked(), ("other.example.com.", 300, "A", "203.0.113.7")),
    ):
        found = answer(wire)
        assert found is not None
        assert (found.question, found.addresses) == (QUESTION, ())
    found = answer(answered(asked(kind="TXT"), ("api.example.com.", 300, "TXT", "203.0.113.7")))
    assert found is not None
    assert found.addresses == ()


def test_a_failure_and_a_cut_answer_are_answers() -> None:
    failed = dns.message.make_response(asked())
    failed.set_rcode(dns.rcode.NXDOMAIN)
    found = answer(failed.to_wire())
    assert found is not None
    assert (found.question, found.addresses) == (QUESTION, ())
    cut = dns.message.make_response(asked())
    cut.flags |= dns.flags.TC
    found = answer(cut.to_wire())
    assert found is not None
    assert found.addresses == ()


def test_what_is_no_answer_is_none() -> None:
    assert answer(asked().to_wire()) is None
    wire = answered(asked(), ("api.example.com.", 300, "A", "203.0.113.7"))
    assert answer(wire[:-1]) is None
    assert answer(b"\0\7\x80") is None
    loop = answered(
        asked(),
        ("api.example.com.", 300, "CNAME", "b.example.com."),
        ("b.example.com.", 300, "CNAME", "api.example.com."),
    )
    assert answer(loop) is None


def test_addresses_of_another_class_are_none() -> None:
    query = dns.message.make_query("api.example.com", "A", "CH", id=7)
    found = dns.message.make_response(query)
    found.answer.append(dns.rrset.from_text("api.example.com.", 60, "CH", "A", "example. 7"))
    assert answer(found.to_wire()) == Answer(Question(7, "api.example.com", 1, 3), (), 0)


@given(cut=st.integers(0, 200), flips=st.lists(st.integers(0, 8 * 120), max_size=12))
def test_bytes_that_were_changed_raise_nothing(cut: int, flips: list[int]) -> None:
    records = (
        ("api.example.com.", 60, "CNAME", "b.example.com."),
        ("b.example.com.", 60, "A", "1.2.3.4"),
    )
    for whole in (asked().to_wire(), answered(asked(), *records)):
        changed = bytearray(whole)
        for bit in flips:
            if bit < 8 * len(changed):
                changed[bit // 8] ^= 1 << bit % 8
        for wire in (bytes(changed), bytes(changed[:cut])):
            found = answer(wire)
            assert found is None or all(map(ipaddress.ip_address, found.addresses))
            if question(wire) is not None:
                assert dns.message.from_wire(refusal(wire)).rcode() == dns.rcode.REFUSED
                assert question(bare(wire)) == question(wire)


@given(wire=st.binary(max_size=80))
def test_bytes_of_unknown_origin_raise_nothing(wire: bytes) -> None:
    answer(wire)
    if question(wire) is not None:
        refusal(wire)
        bare(wire)


def test_of_more_addresses_than_stand_for_a_name_the_first_are_taken() -> None:
    records = [("api.example.com.", 60, "A", f"203.0.113.{n}") for n in range(1, 80)]
    found = answer(answered(asked(), *records))
    assert found is not None
    assert len(found.addresses) == ADDRESSES_OF_NAME_MAX


def test_addresses_are_canonical() -> None:
    records = [("api.example.com.", 60, "AAAA", text) for text in ("::1.2.3.4", "2001:db8:0::1")]
    found = answer(answered(asked(kind="AAAA"), *records))
    assert found is not None
    assert found.addresses == ("::102:304", "2001:db8::1")


def test_a_refusal_answers_the_query() -> None:
    refused = dns.message.from_wire(refusal(asked().to_wire()))
    assert refused.is_response is not None
    assert asked().is_response(refused)
    assert refused.rcode() == dns.rcode.REFUSED
