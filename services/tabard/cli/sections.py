"""A described object as sections for people, laid out as its fields are declared."""

from collections.abc import Iterator
from typing import Any

from tabard.cli.documents import DESCRIBED
from tabard.cli.events import TITLES
from tabard.cli.fields import OBJECTS, READABLE, Field
from tabard.cli.kinds import SHOWN
from tabard.cli.printing import as_yaml, cell, counted, room, show_line, table
from tabard.cli.records import Row, cells, date
from tabard.cli.tables import VIEWS, laid_out

ROWS_MAX = 20
"""Most rows of one section, but by `-o wide`."""
LINE_CHARACTERS_MAX = 80
INDENT = "  "
SEQUENCES = frozenset({"digest_at"})
"""Keys that end like a time's, and are LEDGER's sequences."""


def show_sections(kind: str, found: Row, *, wide: bool = False) -> None:
    """Print what `describe` found; by `wide` whole."""
    stored = found["stored_at"]
    when = f", stored {date(stored)}" if stored is not None else ""
    for position, field in enumerate(DESCRIBED[kind]):
        if position:
            print()
            doc = field.doc.partition(";")[0]  # what null means is for JSON's readers
            show_line(f"{field.name.replace('_', ' ').capitalize()}: {doc}", "bold")
        else:
            row = found[SHOWN[kind][0]]
            name = "/".join(filter(None, (str(row[key]) for key in VIEWS[kind].name)))
            title = f"{SHOWN[kind][0].capitalize()} {name}"
            show_line(f"{title} at LEDGER/{found['sequence']}{when}", "bold")
        for line in _section(field, found[field.name], wide):
            show_line(f"{INDENT}{line}".rstrip())


def _section(field: Field, value: Any, wide: bool) -> Iterator[str]:
    match value:
        case None | []:
            yield "none"
        case dict() if field.fields:
            width = max(len(each.name) for each in field.fields)
            for each in field.fields:
                first, *more = _shown(field, each.name, value[each.name])
                yield f"{each.name:<{width}}   {first}"
                yield from (f"{'':<{width}}   {line}" for line in more)
        case list():
            yield from _table(field, value, wide)
        case _:
            yield from as_yaml(value).splitlines()


def _shown(field: Field, name: str, value: Any) -> list[str]:
    """A value of an object as one line, or a long list as one each."""
    kind = _kind(field)
    columns = VIEWS[kind].columns if kind else ()
    form = next((column.form for column in columns if column.key == name), None)
    if form is not None and value is not None:
        return [form(value)]
    if isinstance(value, bool):
        return ["yes" if value else "no"]
    if name.endswith("_at") and name not in SEQUENCES and isinstance(value, int):
        return [date(value)]
    line = cell(value)
    if isinstance(value, list) and (len(line) > LINE_CHARACTERS_MAX or "{" in str(value)):
        return [cell(each) for each in value]
    if isinstance(value, dict) and len(line) > LINE_CHARACTERS_MAX:
        return [cell({key: each}) for key, each in sorted(value.items())]
    return [line]


def _kind(field: Field) -> str | None:
    """What `get` calls the object, if it shows such."""
    return next((kind for kind, fields in OBJECTS.items() if fields is field.fields), None)


def _table(field: Field, rows: list[Row], wide: bool) -> Iterator[str]:
    kind = _kind(field)
    most = len(rows) if wide else ROWS_MAX
    more = len(rows) - most
    if field.fields is READABLE:
        # The last ones are what it is now.
        if more > 0:
            yield f"… {counted(more, 'earlier event')}; -o wide has all"
        lines = [cells(row, whole=wide) for row in rows[-most:]]
        yield from table(TITLES, lines, room(wide=wide, indent=len(INDENT)))
        return
    if kind is not None:
        titles, lines = laid_out(VIEWS[kind].columns, rows[:most], wide=wide)
    else:
        titles = [each.name.upper() for each in field.fields]
        lines = [[row[each.name] for each in field.fields] for row in rows[:most]]
    yield from table(titles, lines, room(wide=wide, indent=len(INDENT)))
    if more > 0:
        yield f"… and {more} more; -o wide has all"
