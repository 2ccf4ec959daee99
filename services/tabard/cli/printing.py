"""Rows and values as text: aligned tables, JSON, names. Colour only for a person at a terminal."""

import json
import os
import shutil
import sys
from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum
from typing import TYPE_CHECKING, Any, TextIO

from tabard.cli.advice import following

if TYPE_CHECKING:
    from rich.text import Text

GAP = "   "
COLUMN_MIN = 12
"""Least characters that a column is cut to."""


class Output(StrEnum):
    TABLE = "table"
    WIDE = "wide"
    JSON = "json"
    YAML = "yaml"
    NAME = "name"


def cell(value: Any) -> str:
    """A JSON value in a table's cell: lists joined by commas, maps as key=value, nothing as `-`."""
    match value:
        case None | "":
            return "-"
        case dict() | list() if not value:
            return "-"
        case dict():
            return ",".join(visible(f"{key}={each}") for key, each in sorted(value.items()))
        case list():
            return ",".join(cell(each) for each in value)
        case _:
            return visible(str(value).replace("\n", " "))


def visible(text: str) -> str:
    """`text` with what steers a terminal spelt out: names and reasons are others' words.

    Line feeds and tabs stay; all else that str.isprintable() denies is escaped as in Python.
    """
    if text.isprintable():
        return text
    return "".join(
        each if each.isprintable() or each in "\n\t" else each.encode("unicode_escape").decode()
        for each in text
    )


def table(
    titles: Sequence[str], rows: Iterable[Sequence[Any]], room: int | None = None
) -> list[str]:
    """Lines with aligned columns; the last column is not padded.

    With `room` the widest columns are cut to COLUMN_MIN at least, until that many characters do.
    """
    cells = _fitted(titles, [list(row) for row in rows], room)
    widths = [max(len(line[at]) for line in cells) for at in range(len(titles))]
    return [
        GAP.join(
            [*(text.ljust(width) for text, width in zip(line[:-1], widths, strict=False)), line[-1]]
        ).rstrip()
        for line in cells
    ]


def _fitted(titles: Sequence[str], rows: list[list[Any]], room: int | None) -> list[list[str]]:
    """A table's titles and cells, cut so that a line takes no more than `room`."""
    cells = [list(titles), *([cell(value) for value in row] for row in rows)]
    if room is None:
        return cells
    widths = [max(len(line[at]) for line in cells) for at in range(len(titles))]
    least = [max(len(title), COLUMN_MIN) for title in titles]
    while sum(widths) + len(GAP) * (len(widths) - 1) > room:
        wide = [at for at in range(len(widths)) if widths[at] > least[at]]
        if not wide:
            break
        widths[max(wide, key=lambda at: widths[at])] -= 1
    return [
        cells[0],
        *([cut(value, width) for value, width in zip(row, widths, strict=True)] for row in rows),
    ]


def cut(value: Any, width: int) -> str:
    """A cell of at most `width` characters: of a list its first items, and how many more."""
    text = cell(value)
    if len(text) <= width:
        return text
    if isinstance(value, list):
        for most in range(len(value) - 1, 0, -1):
            shown = f"{cell(value[:most])},… (+{len(value) - most})"
            if len(shown) <= width:
                return shown
    return f"{text[: width - 1]}…"


def room(*, wide: bool, indent: int = 0) -> int | None:
    """Characters of a table's line: the terminal's, if a person looks; any number by `wide`."""
    if wide or not sys.stdout.isatty():
        return None
    return shutil.get_terminal_size().columns - indent


def capped(items: Sequence[str], most: int) -> list[str]:
    """The first of `items`, and how many `-o wide` has beside them."""
    more = len(items) - most
    return [*items[:most], f"… (+{more}, -o wide)"] if more > 0 else list(items)


def as_json(value: Any) -> str:
    return json.dumps(value, indent=2, default=_json)


def json_line(value: Any) -> str:
    return json.dumps(value, default=_json)


def as_yaml(value: Any) -> str:
    """The same value as `as_json`, as a YAML document that ends with a newline."""
    import yaml

    plain = json.loads(as_json(value))
    return yaml.safe_dump(plain, sort_keys=False, allow_unicode=True, width=100)


def show_value(value: Any, output: str) -> None:
    """Print a value as JSON or YAML."""
    print(
        as_yaml(value) if output == Output.YAML else as_json(value),
        end="" if output == Output.YAML else "\n",
    )


def show_next(value: Any, output: str) -> None:
    """Print one of many values as they come: JSON a line each, YAML documents."""
    print(
        f"---\n{as_yaml(value)}" if output == Output.YAML else json_line(value) + "\n",
        end="",
        flush=True,
    )


def _json(value: object) -> Any:
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"{type(value).__name__} has no JSON form")


def show_table(
    titles: Sequence[str], rows: Iterable[Sequence[Any]], room: int | None = None
) -> None:
    """Print a table to stdout; at a terminal its head is bold, and STYLES are in colour."""
    head, *body = table(titles, rows, room)
    show_lines([(head, "bold"), *((line, "") for line in body)])


def show_lines(lines: Iterable[tuple[str, str]]) -> None:
    """Print a table's lines to stdout, each in its style at a terminal."""
    lines = [(visible(line), style) for line, style in lines]
    if coloured(sys.stdout):
        from rich.console import Console

        console = Console()
        for line in lines:
            console.print(styled(*line), soft_wrap=True)
    else:
        print("\n".join(line for line, _ in lines), flush=True)


def show_line(line: str, style: str = "") -> None:
    show_lines([(line, style)])


STYLES = {
    "green": r"\b(Current|Enforced|Accepted)\b",
    "yellow": r"\b(Lagging|Bound|Waiting|Outdated|Silent|Stopped|Unknown)\b",
    "red": r"\b(Failing|Refused)\b",
}
"""How the words of a STATUS column look to a person at a terminal."""


def styled(line: str, style: str = "") -> "Text":
    """A table's line, coloured for a terminal."""
    from rich.text import Text

    text = Text(line, style)
    for colour, words in STYLES.items():
        text.highlight_regex(words, colour)
    return text


def coloured(stream: TextIO) -> bool:
    """Whether a person looks at `stream` and wants colour (no-color.org)."""
    return stream.isatty() and not os.environ.get("NO_COLOR")


def counted(number: int, one: str, more: str = "") -> str:
    """`1 node`, `2 nodes`; `more` where the plural is not `one` with an s."""
    return f"{number} {one if number == 1 else more or one + 's'}"


def tell(line: str) -> None:
    """Prose and progress, for people: stderr."""
    print(visible(line), file=sys.stderr, flush=True)


def tell_next(command: str) -> None:
    """What to type next, to stderr."""
    tell(f"next: {following(command)}")
