"""The form of the log, from real processes: on a file, and on a terminal."""

import json
import os
import pty
import subprocess
import sys

import pytest

PROGRAM = """
import structlog
from tabard.process.environment import settings_or_exit
from tabard.process.logs import log_to_stderr
log_to_stderr("info", {form!r})
log = structlog.get_logger("tabard.test")
log.debug("test.unseen")
try:
    1 / 0
except ZeroDivisionError:
    log.exception("test.failed", sequence=881)
"""


def said(form: str, **environment: str) -> str:
    program = PROGRAM.format(form=form)
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stderr


def said_at_a_terminal(form: str, **environment: str) -> str:
    ours, theirs = pty.openpty()
    try:
        program = PROGRAM.format(form=form)
        env = {**os.environ, "TERM": "xterm", **environment}
        subprocess.run([sys.executable, "-c", program], env=env, stderr=theirs, check=True)
        os.close(theirs)
        found = b""
        while True:
            try:
                found += os.read(ours, 65536)
            except OSError:  # EIO: the other side is closed and all is read
                return found.decode()
    finally:
        os.close(ours)


@pytest.mark.parametrize("form", ["auto", "json"])
def test_a_file_gets_one_json_object_a_line(form: str) -> None:
    (line,) = said(form).splitlines()
    event = json.loads(line)
    assert (event["event"], event["level"], event["sequence"]) == ("test.failed", "error", 881)
    assert event["timestamp"].endswith("Z")
    assert "ZeroDivisionError" in event["exception"]


def test_the_console_form_can_be_asked_for_anywhere_and_is_plain_in_a_file() -> None:
    text = said("console")
    assert "test.failed" in text
    assert "sequence=881" in text
    assert "ZeroDivisionError" in text
    assert "\x1b" not in text
    assert not text.startswith("{")


def test_a_terminal_gets_lines_for_people_unless_json_is_asked_for() -> None:
    assert "\x1b[" in said_at_a_terminal("auto", NO_COLOR="")
    assert "\x1b[" not in said_at_a_terminal("auto", NO_COLOR="1")
    (line,) = said_at_a_terminal("json").splitlines()
    assert json.loads(line)["event"] == "test.failed"
