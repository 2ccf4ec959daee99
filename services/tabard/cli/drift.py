"""`tabard drift`: does each node's kernel hold what the ledger says?"""

import asyncio
from typing import Any

from tabard.cli.failing import Exit, Failure, fail, run
from tabard.cli.printing import Output, show_table, show_value, tell
from tabard.cli.reach import target
from tabard.cluster.errors import ClusterError
from tabard.cluster.gate import ask
from tabard.cluster.profile import Profile

TIMEOUT_S = 30.0
DIFFERENCES = ("missing", "extra", "different")


async def asked(profile: Profile, names: tuple[str, ...]) -> list[dict[str, Any]]:
    """{node, sequence, missing, extra, different, error} of each node's agent, in order."""

    async def one(node: str) -> dict[str, Any]:
        found: dict[str, Any] = {"node": node, "sequence": None, "error": ""}
        found |= {difference: [] for difference in DIFFERENCES}
        try:
            answer = await ask(profile.socket(node), "drift", TIMEOUT_S)
        except ClusterError as error:
            return found | {"error": str(error)}
        return found | {key: answer[key] for key in ("sequence", *DIFFERENCES)}

    return list(await asyncio.gather(*map(one, names)))


def drift(node: str, output: Output, cluster: str) -> None:
    """Exit.FAILED if a node differs, or could not be asked."""
    try:
        profile = target(cluster, "").profile
        if profile is None:
            raise Failure("agents are asked on their own machine, and no cluster runs on this one")
        if node and node not in profile.nodes:
            raise Failure(
                f"cluster {profile.name} has no node {node!r}: {', '.join(profile.nodes)}",
                "tabard get nodes",
            )
    except ClusterError as error:
        fail("look for drift", error)
    found = run("look for drift", asked(profile, (node,) if node else profile.nodes))
    if output is not Output.TABLE:
        show_value({"nodes": found}, output)
    else:
        show_table(
            ["NODE", "SEQUENCE", *(difference.upper() for difference in DIFFERENCES), "ERROR"],
            (
                [
                    each["node"],
                    each["sequence"],
                    *(len(each[d]) for d in DIFFERENCES),
                    each["error"],
                ]
                for each in found
            ),
        )
        for each in found:
            for difference in DIFFERENCES:
                for entry in each[difference]:
                    tell(f"{each['node']}: {difference}: {entry}")
    if any(each["error"] or any(each[d] for d in DIFFERENCES) for each in found):
        raise SystemExit(Exit.FAILED)
