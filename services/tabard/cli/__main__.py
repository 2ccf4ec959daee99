"""Entry point of the command `tabard`."""

from tabard.cli.app import app


def main() -> None:
    app(prog_name="tabard")


if __name__ == "__main__":
    main()
