"""The walls between packages: import contracts, and the two roots of the `tabard` namespace."""

import subprocess
import sysconfig
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
ROOTS = (ROOT / "services" / "tabard", ROOT / "shared" / "tabard")


def packages() -> set[str]:
    return {f"tabard.{path.parent.name}" for root in ROOTS for path in root.glob("*/__init__.py")}


def test_imports_respect_the_walls() -> None:
    linter = Path(sysconfig.get_path("scripts")) / "lint-imports"
    done = subprocess.run(
        [linter, "--no-cache"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_contracts_see_every_package() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert set(settings["tool"]["importlinter"]["root_packages"]) == packages()


def test_neither_source_root_is_a_package_itself() -> None:
    # One __init__.py here would hide the other root at run time, while type checkers stay green.
    assert [str(root) for root in ROOTS if (root / "__init__.py").exists()] == []
    assert len(packages()) > 10
