"""Settings from TABARD_… variables: the types they share, and what is said of a wrong one."""

import json
import sys
from typing import Annotated, Literal, TypeVar

from pydantic import BeforeValidator, ValidationError
from pydantic_settings import BaseSettings, NoDecode

S = TypeVar("S", bound=BaseSettings)

PREFIX = "TABARD_"
WRONG_SETTINGS = 2
"""Exit code of a process that was told something wrong."""

LogLevel = Literal["debug", "info", "warning", "error"]
LogFormat = Literal["auto", "json", "console"]
"""`auto` is `console` at a terminal and `json` everywhere else."""


def _split(value: object) -> object:
    if isinstance(value, str):
        return tuple(part.strip() for part in value.split(",") if part.strip())
    return value


def from_json(value: object) -> object:
    """What a variable's text says as JSON; for a field that has pydantic-settings' NoDecode, which
    tells of a variable that is none without its name."""
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"is not JSON ({error})") from error


Listed = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_split)]
"""`a,b` as two items."""


def settings_or_exit(kind: type[S]) -> S:
    """The settings of this process; names each wrong variable on stderr and exits otherwise."""
    try:
        return kind()
    except ValidationError as error:
        for fault in error.errors(include_url=False):
            variable = PREFIX + "_".join(str(part) for part in fault["loc"]).upper()
            print(f"{variable}: {fault['msg']}", file=sys.stderr)
        raise SystemExit(WRONG_SETTINGS) from None
