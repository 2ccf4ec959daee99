"""`python -m tabard.server`: become a nats-server, configured by environment variables.

Exit codes, before it is one: 1 failed, 2 wrong settings.
"""

import os
import sys
import sysconfig
from pathlib import Path
from typing import NoReturn

from tabard.bus.config import text
from tabard.process.environment import settings_or_exit
from tabard.server.settings import Settings

CONFIGURATION = "nats-server.conf"


def main() -> NoReturn:
    settings = settings_or_exit(Settings)
    binary = Path(sysconfig.get_path("scripts")) / "nats-server"
    configuration = settings.data / CONFIGURATION
    try:
        os.umask(0o077)
        settings.data.mkdir(parents=True, exist_ok=True)
        configuration.write_text(text(settings.config()))
        os.execv(binary, [str(binary), "-c", str(configuration)])
    except OSError as error:
        print(f"tabard.server: {error}", file=sys.stderr)
        raise SystemExit(1) from error


if __name__ == "__main__":
    main()
