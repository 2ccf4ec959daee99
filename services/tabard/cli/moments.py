"""Points of the ledger's history, as people name them: `--at SEQ|TIME|-5m`. Pure.

Output cuts times to milliseconds, so a time written to the second or finer stands for all of its
last digit's unit: `03:12:00.123` through the end of that millisecond, `03:12:00` through the end of
that second. As of it is as of its end, and from it on is from its begin. A time written to the
minute, a date and `-5m` are instants: `03:12` is when a clock strikes it.
"""

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

_AGO = re.compile(r"-(\d+)(ms|s|m|h|d)")
_UNITS = {"ms": "milliseconds", "s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
_SECONDS = re.compile(r"(?:^|\D)\d{1,2}(:?)\d{2}\1\d{2}(?:[.,](?P<digits>\d+))?(?=$|[Z+-])")
"""A time with seconds, and their decimal digits."""
_CLOCK = re.compile(r"\d{1,2}:\d{2}(:\d{2}(\.\d+)?)?")


class MomentError(ValueError):
    """The text names no point of a history; says what would."""


@dataclass(frozen=True, slots=True)
class At:
    """A LEDGER sequence, or a time in nanoseconds since the Unix epoch: exactly one is not None.

    `span` is how many nanoseconds from `time` on are meant.
    """

    sequence: int | None = None
    time: int | None = None
    span: int = 1


def parse(text: str, now: datetime | None = None) -> At:
    """A sequence (`881`), a time (`2026-11-27T03:12:00Z`, `03:12` of the last 24 hours; UTC unless
    it says otherwise), or how long ago (`-5m`; ms, s, m, h, d). What a time spans is in this
    module's docstring. MomentError on anything else."""
    now = datetime.now(UTC) if now is None else now
    if text.isascii() and text.isdigit():
        return At(sequence=int(text))
    if ago := _AGO.fullmatch(text):
        try:
            return At(time=_nanoseconds(now - timedelta(**{_UNITS[ago[2]]: int(ago[1])})))
        except OverflowError:
            raise MomentError(f"{text} is before time began") from None
    try:
        if _CLOCK.fullmatch(text):
            padded = text if text[1] != ":" else f"0{text}"
            today = datetime.fromisoformat(f"{now.astimezone(UTC).date()}T{padded}")
            found = today.replace(tzinfo=UTC)
            return _written(text, found if found <= now else found - timedelta(days=1))
        found = datetime.fromisoformat(text)
    except ValueError:
        raise MomentError(
            f"{text!r} is no point in time; write a LEDGER sequence (881), a time "
            "(2026-11-27T03:12:00Z, 03:12) or how long ago (-5m)"
        ) from None
    return _written(text, found if found.tzinfo else found.replace(tzinfo=UTC))


def _written(text: str, time: datetime) -> At:
    """`time`, which `text` says, with what it spans; datetime has no nanoseconds, `text` may."""
    seconds = _SECONDS.search(text)
    if seconds is None:
        return At(time=_nanoseconds(time))
    digits = (seconds["digits"] or "")[:9]
    begin = _nanoseconds(time.replace(microsecond=0)) + int(digits.ljust(9, "0"))
    return At(time=begin, span=10 ** (9 - len(digits)))


def _nanoseconds(time: datetime) -> int:
    since = time - datetime(1970, 1, 1, tzinfo=UTC)
    return (since.days * 86_400 + since.seconds) * 1_000_000_000 + since.microseconds * 1_000
