"""The report's directory: `index.html` and `report.json`."""

import json
from pathlib import Path

from tabard.chaos.report.document import document
from tabard.chaos.report.outcome import Outcome
from tabard.chaos.report.page import page

PAGE = "index.html"
DOCUMENT = "report.json"


def ready(directory: Path) -> None:
    """Make the directory, and see that both files can be written; OSError if not.

    Before a run of minutes is the time to learn that. What is there stays until there is a new
    report; a file that was not there is not there afterwards, lest a run that is ended early leave
    an empty page.
    """
    directory.mkdir(parents=True, exist_ok=True)
    for name in (PAGE, DOCUMENT):
        place = directory / name
        was_there = place.exists()
        place.touch()
        if not was_there:
            place.unlink()


def write(outcome: Outcome, directory: Path) -> Path:
    """Write both; the page."""
    said = json.dumps(document(outcome), indent=1, ensure_ascii=False)
    (directory / DOCUMENT).write_text(said + "\n", encoding="utf-8")
    (directory / PAGE).write_text(page(outcome), encoding="utf-8")
    return directory / PAGE
