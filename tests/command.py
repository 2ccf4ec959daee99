"""The type of the fixture that runs the command line in tests."""

from collections.abc import Callable

from typer.testing import Result

Tabard = Callable[..., Result]
"""`tabard("get", "pods")`: exit code, stdout and stderr of that command."""
