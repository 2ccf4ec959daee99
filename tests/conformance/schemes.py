"""Stub."""

from typing import Any


def reader(folder: Any, entry: Any) -> Any:
    return lambda: ()
