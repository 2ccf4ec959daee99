"""`tabard explain`: what the keys of a command's JSON mean."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from textwrap import wrap

from tabard.cli import kinds
from tabard.cli.documents import COMMANDS
from tabard.cli.fields import OBJECTS, Field
from tabard.cli.printing import Output, show_line, show_value

WIDTH = 100
"""Characters of a line."""


def found(words: str) -> Mapping[str, tuple[Field, ...]]:
    """The commands that `words` mean: those of a kind, or all that have these words."""
    kind = kinds.shown(words)
    names = {kind, kinds.SHOWN[kind][0]} if kind else set()
    wanted = set(words.replace(",", "").split())

    def meant(command: str) -> bool:
        said = set(command.replace(",", "").split())
        return bool(names & said) if kind else wanted <= said

    return {command: fields for command, fields in COMMANDS.items() if meant(command)}


def explain(chosen: Mapping[str, tuple[Field, ...]], output: Output) -> None:
    if output is Output.NAME:
        print("\n".join(chosen))
        return
    if output in (Output.JSON, Output.YAML):
        named = {name: [asdict(each) for each in fields] for name, fields in chosen.items()}
        show_value(named, output)
        return
    told: set[int] = set()
    for position, (command, fields) in enumerate(chosen.items()):
        if position:
            print()
        show_line(f"tabard {command} -o json", "bold")
        for line in _lines(fields, told):
            show_line(line)


def _lines(fields: tuple[Field, ...], told: set[int], depth: int = 1) -> Iterator[str]:
    """An object that was told already is not told again."""
    names = max(len(each.name) for each in fields)
    types = max(len(each.type) for each in fields)
    for each in fields:
        again = id(each.fields) in told
        kind = next((kind for kind, known in OBJECTS.items() if known is each.fields), "")
        where = f" (see {kind})" if again and kind else ""
        head = f"{'  ' * depth}{each.name:<{names}}   {each.type:<{types}}   "
        yield from wrap(
            each.doc + where, WIDTH, initial_indent=head, subsequent_indent=" " * len(head)
        )
        if each.fields and not again:
            told.add(id(each.fields))
            yield from _lines(each.fields, told, depth + 1)
