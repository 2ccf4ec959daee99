import pytest

from packets import TCP, UDP, packet
from tabard.agent.dns.frames import MARK, Datagram, answering, asking, read
from tabard.dataplane.maps import Direction

ENDS = [("10.0.0.1", "203.0.113.7"), ("fd00::1", "2001:db8::7")]


def marked(frame: bytes, direction: int = Direction.EGRESS) -> bytes:
    return MARK + bytes([direction]) + frame[6:]


@pytest.mark.parametrize(("source", "destination"), ENDS)
@pytest.mark.parametrize("direction", Direction)
def test_a_datagram_is_read_with_its_ends_and_where_it_was_taken_from(
    source: str, destination: str, direction: Direction
) -> None:
    frame = marked(packet(source, destination, UDP, 4000, 53, payload=b"asked"), direction)
    assert read(frame) == Datagram(direction, source, destination, 4000, 53, b"asked")
    assert read(frame + b"padding") == read(frame)


@pytest.mark.parametrize(("source", "destination"), ENDS)
def test_an_answer_is_a_datagram_the_other_way(source: str, destination: str) -> None:
    for text in (b"", b"odd", b"even", bytes(1200)):
        asked = Datagram(Direction.EGRESS, source, destination, 4000, 53, b"asked")
        answer = answering(asked, text)
        assert read(answer) == Datagram(Direction.INGRESS, destination, source, 53, 4000, text)


@pytest.mark.parametrize(("source", "destination"), ENDS)
def test_what_goes_on_is_the_datagram_alone(source: str, destination: str) -> None:
    frame = marked(packet(source, destination, UDP, 4000, 53, payload=b"asked"))
    asked = read(frame + b"secret")
    assert asked is not None
    made = asking(asked, b"asked")
    assert read(made) == asked
    assert len(made) == len(frame)
    assert b"secret" not in made


@pytest.mark.parametrize(("source", "destination"), ENDS)
def test_what_is_no_whole_datagram_is_none(source: str, destination: str) -> None:
    frame = marked(packet(source, destination, UDP, 4000, 53, payload=b"asked"))
    for length in range(len(frame)):
        assert read(frame[:length]) is None
    assert read(marked(frame, 2)) is None
    assert read(b"\x03" + frame[1:]) is None
    assert read(frame[:12] + b"\x08\x06" + frame[14:]) is None
    assert read(marked(packet(source, destination, TCP, 4000, 53, payload=b"asked"))) is None
