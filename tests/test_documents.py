"""What the documents refer to is there: headings, decisions, files."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
DOCUMENTS = ("README.md", "ARCHITECTURE.md", "CHANGELOG.md")


def text(document: str) -> str:
    return (ROOT / document).read_text()


def anchors(document: str) -> set[str]:
    """As code hosts make them of headings."""
    headings = re.findall(r"^#+ (.*)$", text(document), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_link_leads_somewhere(document: str) -> None:
    for link in re.findall(r"\]\(([^)\s]+)\)", text(document)):
        if "://" in link:
            continue
        file, _, anchor = link.partition("#")
        assert (ROOT / file).exists(), link
        assert not anchor or anchor in anchors(file or document), link


def test_decisions_are_numbered_once_each_and_those_that_are_named_are_there() -> None:
    made = [int(number) for number in re.findall(r"^(\d+)\. \*\*", text("ARCHITECTURE.md"), re.M)]
    assert made == list(range(1, len(made) + 1))
    places = [ROOT / document for document in DOCUMENTS]
    places += [
        path for room in ("services", "shared", "bpf") for path in ROOT.glob(f"{room}/**/*.[pch]*")
    ]
    for path in places:
        if path.suffix in (".py", ".c", ".h", ".md"):
            for number in re.findall(r"\bdecisions? (\d+)", path.read_text()):
                assert int(number) in made, path
