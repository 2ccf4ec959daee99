from datetime import UTC, datetime

import pytest

from tabard.cli.moments import At, MomentError, parse

NOW = datetime(2026, 11, 27, 6, 30, tzinfo=UTC)
AT_0312 = 1_795_749_120_000_000_000
"""2026-11-27T03:12:00Z"""

SECOND = 1_000_000_000


@pytest.mark.parametrize(
    ("text", "at"),
    [
        ("0", At(sequence=0)),
        ("881", At(sequence=881)),
        ("2026-11-27T03:12:00Z", At(time=AT_0312, span=SECOND)),
        ("2026-11-27 03:12", At(time=AT_0312)),
        ("2026-11-27T04:12:00.5+01:00", At(time=AT_0312 + 500_000_000, span=SECOND // 10)),
        ("03:12", At(time=AT_0312)),
        ("3:12:01", At(time=AT_0312 + SECOND, span=SECOND)),
        ("03:12:00.123", At(time=AT_0312 + 123_000_000, span=1_000_000)),
        ("2026-11-27T03:12:00.123456789Z", At(time=AT_0312 + 123_456_789)),
        ("20261127T031200", At(time=AT_0312, span=SECOND)),
        ("2026-11-27", At(time=AT_0312 - 192 * 60 * SECOND)),
        ("07:00", At(time=AT_0312 + (228 - 24 * 60) * 60_000_000_000)),
        ("-3h", At(time=AT_0312 + 18 * 60_000_000_000)),
        ("-1500ms", At(time=AT_0312 + (198 * 60_000 - 1_500) * 1_000_000)),
    ],
)
def test_a_moment_is_read_as_people_write_it(text: str, at: At) -> None:
    assert parse(text, NOW) == at


@pytest.mark.parametrize("text", ["", "-5", "5m", "yesterday", "25:00", "-99999999999d", "1.5"])
def test_what_is_no_moment_is_refused_with_what_would_be(text: str) -> None:
    with pytest.raises(MomentError):
        parse(text, NOW)
