"""The README's table of roles is the one that the servers' accounts are made of."""

from pathlib import Path

import pytest

from tabard.auth.roles import ABOUT, Role, accounts_rights
from tabard.bus.port import Stream
from tabard.bus.subjects import BUCKET_STREAM, direct_get

README = (Path(__file__).parents[2] / "README.md").read_text()


def row(role: Role) -> str:
    """`| role | what for | account | writes | reads |`, subjects without `tabard.`"""
    of = accounts_rights(role)
    names = {stream: stream.value for stream in Stream} | {BUCKET_STREAM: "snapshots"}
    reads = [name for stream, name in names.items() if direct_get(stream) in of.asks]
    if ">" in of.asks:
        reads, asks = list(names.values()), ["everything of JetStream's API"]
    else:
        told = ("STREAM.INFO.", "DIRECT.GET.", "CONSUMER.")
        asks = [f"`{each}`" for each in of.asks if not each.startswith(told)]
        if any(each.startswith("CONSUMER.") for each in of.asks):
            asks.append("consumers")
    if role is Role.AGENT:
        reads.append("its own STATUS")
    writes = [f"`{each.removeprefix('tabard.')}`" for each in of.writes]
    cells = (f"`{role}`", ABOUT[role], of.account, ", ".join([*writes, *asks]), ", ".join(reads))
    return "| " + " | ".join(cell or "-" for cell in cells) + " |"


@pytest.mark.parametrize("role", Role)
def test_the_readme_tells_what_each_role_may(role: Role) -> None:
    assert row(role) in README
