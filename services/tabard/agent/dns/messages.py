"""DNS messages to the few facts that the proxy wants; the only module that knows the library.

Imported when the first message comes: most nodes' policies ask for no names.
"""

from dataclasses import dataclass
from ipaddress import ip_address

import dns.exception
import dns.flags
import dns.message
import dns.opcode
import dns.rcode
import dns.rdataclass
import dns.rdatatype

from tabard.policy.names import ADDRESSES_OF_NAME_MAX, ANSWER_KEPT_S_MAX

TTL_S_MAX = (1 << 31) - 1
"""A longer time to live is none (RFC 2181 8)."""


@dataclass(frozen=True, slots=True)
class Question:
    """What one query asks."""

    id: int
    name: str
    """Lower case, without the last dot; the root is empty. What is no letter, digit, `-` or `_` is
    escaped, so that only a lone `*` matches it."""
    type: int
    kind: int
    """The class."""


@dataclass(frozen=True, slots=True)
class Answer:
    question: Question
    addresses: tuple[str, ...]
    """Of the name, through its aliases: those that this answer holds, canonical and each once."""
    ttl_s: int
    """The shortest of its records, up to ANSWER_KEPT_S_MAX."""


def question(payload: bytes) -> Question | None:
    """Of a query for one name and nothing else; None if it is none (such as an update, an answer,
    or a question with records or bytes behind it)."""
    try:
        message = dns.message.from_wire(payload)
    except (dns.exception.DNSException, ValueError):
        return None
    if message.flags & dns.flags.QR or message.answer or message.authority or message.additional:
        return None
    return _question(message)


def bare(payload: bytes) -> bytes:
    """A query that `question` could read with no more than servers need, so that nothing goes
    along with an allowed name: of EDNS the version, the size and DO, without options."""
    query = dns.message.from_wire(payload)
    query.flags &= dns.flags.RD | dns.flags.AD | dns.flags.CD
    if query.opt is not None:
        query.use_edns(query.edns, query.ednsflags & dns.flags.DO, query.payload)
    wire: bytes = query.to_wire()
    return wire


def answer(payload: bytes) -> Answer | None:
    """None if it is no answer that can be read."""
    try:
        message = dns.message.from_wire(payload, raise_on_truncation=False)
        if not message.flags & dns.flags.QR or (asked := _question(message)) is None:
            return None
        wanted = (dns.rdatatype.A, dns.rdatatype.AAAA)
        is_wanted = asked.kind == dns.rdataclass.IN and asked.type in wanted
        if not isinstance(message, dns.message.QueryMessage) or not is_wanted:
            return Answer(asked, (), 0)
        found = message.resolve_chaining()
    except (dns.exception.DNSException, ValueError):
        return None
    if found.answer is None:
        return Answer(asked, (), 0)
    # The library writes ::1.2.3.4 where the canonical form is ::102:304.
    addresses = dict.fromkeys(str(ip_address(record.address)) for record in found.answer)
    times = [rrset.ttl for rrset in (*found.cnames, found.answer)]
    ttl_s = min(0 if ttl > TTL_S_MAX else ttl for ttl in times)
    return Answer(asked, tuple(addresses)[:ADDRESSES_OF_NAME_MAX], min(ttl_s, ANSWER_KEPT_S_MAX))


def refusal(payload: bytes) -> bytes:
    """The answer REFUSED to a query that `question` could read."""
    query = dns.message.from_wire(payload, question_only=True)
    answer = dns.message.make_response(query)
    answer.set_rcode(dns.rcode.REFUSED)
    wire: bytes = answer.to_wire()
    return wire


def _question(message: dns.message.Message) -> Question | None:
    if message.opcode() != dns.opcode.QUERY or len(message.question) != 1:
        return None
    (asked,) = message.question
    name = asked.name.to_text(omit_final_dot=True).lower()
    return Question(message.id, "" if name == "." else name, asked.rdtype, asked.rdclass)
