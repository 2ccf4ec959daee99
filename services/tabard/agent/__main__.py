"""`python -m tabard.agent`: one node's agent, told by TABARD_… variables (`settings`).

SIGTERM or SIGINT ends it with status 0; the kernel goes on enforcing.
"""

import sys

from tabard.process.memory import leave_out_rich

if __name__ == "__main__":
    leave_out_rich()
    from tabard.agent.run import main  # not before: it imports structlog

    sys.exit(main())
