"""Settings from TABARD_… variables: the types they share, and what is said of a wrong one."""

import json
import os
import sys
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationError

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


def _parse(value: object) -> object:
    return json.loads(value) if isinstance(value, str) else value


Listed = Annotated[tuple[str, ...], BeforeValidator(_split)]
"""`a,b` as two items."""
FROM_JSON = BeforeValidator(_parse)
"""Marks a type that is written as JSON."""


class EnvironmentSettings(BaseModel):
    """Fields from variables of their names; what is given goes before them."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)

    def __init__(self, **given: Any) -> None:
        variables = {name: PREFIX + name.upper() for name in type(self).model_fields}
        found = {name: os.environ[key] for name, key in variables.items() if key in os.environ}
        super().__init__(**(found | given))


S = TypeVar("S", bound=EnvironmentSettings)


def settings_or_exit(kind: type[S]) -> S:
    """The settings of this process; names each wrong variable on stderr and exits otherwise."""
    try:
        return kind()
    except ValidationError as error:
        for fault in error.errors(include_url=False):
            variable = PREFIX + "_".join(str(part) for part in fault["loc"]).upper()
            print(f"{variable}: {fault['msg']}", file=sys.stderr)
        raise SystemExit(WRONG_SETTINGS) from None
