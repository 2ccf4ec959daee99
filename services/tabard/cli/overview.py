"""A status as lines: who is how far, for people. Pure."""

from tabard.cli.printing import capped, table
from tabard.cli.records import Row, date
from tabard.cli.tables import Column, laid_out, trouble

QUARANTINED_SHOWN = 10
"""Most events that readers go on past which are named without -o wide."""


def _digest(node: Row) -> str:
    """`3fa9c1d2@881`, loud if it is not the ledger's, with a question mark if not compared."""
    if not node["digest"]:
        return ""
    mark = {True: "", False: " DIFFERS", None: "?"}[node["digest_agrees"]]
    return f"{node['digest'][:8]}@{node['digest_at']}{mark}"


def _stale(node: Row) -> str:
    """What becomes of new flows while the node does not know for too long what the ledger says."""
    if node["stale_since"] is None:
        return ""
    return "denies new" if node["denies_new"] else "holds"


def _holder(node: Row) -> str:
    holder = node["holder"]
    return f"{holder['pid']} on {holder['host']}" if holder else ""


def _age(age_ms: int) -> str:
    return f"{age_ms / 1000:.1f} s"


ALLOCATORS = (
    Column("ALLOCATOR", "name"),
    Column("STATUS", "status"),
    Column("EPOCH", "epoch"),
    Column("SEQUENCE", "sequence"),
    Column("LAG", "lag"),
    Column("CURSOR", "cursor"),
    Column("OBSERVED-LAG", "observed_lag"),
    Column("WAITING", "waiting", wide=True),
    Column("SUPERSEDED", "superseded", wide=True),
    Column("SAID", "age_ms", form=_age),
    Column("HOLDER", "holder", wide=True),
    Column("ERROR", "error"),
)
COLUMNS = (
    Column("NODE", "name"),
    Column("STATUS", "status"),
    Column("WATERMARK", "watermark"),
    Column("LAG", "lag"),
    Column("LAG-MS", "lag_ms"),
    Column("SAID", "said_at", wide=True, form=date),
    Column("DATAPLANE", "dataplane"),
    Column("ENDPOINTS", "enforced_endpoints"),
    Column("MAP-WRITES", "map_writes", wide=True),
    Column("DRIFT", "drift"),
    Column("FULL", "full"),
    Column("STALE", "stale_since", whole=_stale),
    Column("FRESH", "fresh_at", wide=True, form=date),
    Column("HOLDER", "holder", wide=True, whole=_holder),
    Column("DIGEST", "digest", whole=_digest),
    Column("ADDRESSES", "addresses", wide=True),
    Column("POD-CIDRS", "pod_cidrs", wide=True),
    Column("ERROR", "error", whole=trouble),
)


def lines(found: Row, wide: bool) -> list[tuple[str, str]]:
    """Each with its style at a terminal."""
    shown = [(line, "") for line in head(found, wide)]
    tables = [nodes(found, wide)]
    if found["allocators"]:
        tables.insert(0, allocators(found, wide))
    for titles, *rows in tables:
        shown += [("", ""), (titles, "bold"), *((row, "") for row in rows)]
    return shown


def allocators(found: Row, wide: bool) -> list[str]:
    return table(*laid_out(ALLOCATORS, found["allocators"], wide=wide))


def nodes(found: Row, wide: bool) -> list[str]:
    return table(*laid_out(COLUMNS, found["nodes"], wide=wide))


def head(found: Row, wide: bool) -> list[str]:
    told = []
    if cluster := found["cluster"]:
        told.append(
            f"cluster    {cluster['name']}: {cluster['mode']}, {cluster['dataplane']} dataplane, "
            f"pods {cluster['pods']}"
        )
        if wide:
            told.append(f"data       {cluster['data']}")
            width = max(map(len, cluster["http"]), default=0)
            for name, url in cluster["http"].items():
                told.append(f"service    {name:<{width}}   {url}")
    ledger, observed = found["ledger"], found["observed"]
    if observed["head"] is None:  # the past
        stored = ledger["stored_at"]
        when = "before the first event" if stored is None else f"stored {date(stored)}"
        told.append(f"ledger     as of {ledger['sequence']}, {when}; head {ledger['head']}")
        told.append(f"digest     {ledger['digest']}")
        told.append(f"observed   taken {observed['cursor']}")
    else:
        enforced = "not by every node yet" if found["enforced"] is None else found["enforced"]
        told.append(f"ledger     head {ledger['head']}, enforced through {enforced}")
        told.append(f"digest     {ledger['digest']} at {ledger['sequence']}")
        told.append(
            f"observed   head {observed['head']}, taken {observed['cursor']}, lag {observed['lag']}"
        )
    if bus := found["bus"]:
        # Of a server that gives no answer nothing is known but that.
        is_damaged = len(bus["faults"]) > bus["servers"] - bus["answering"]
        whole = "DAMAGED" if is_damaged else "replicas as they must be, by their counts"
        told.append(f"bus        {bus['answering']} of {bus['servers']} servers answer, {whole}")
        told += [f"           {fault}" for fault in bus["faults"]]
    if observed["error"]:
        told.append(f"           stopped before {observed['error']}")
    allocator = found["allocator"]
    told.append(f"allocator  {allocator['holder'] or 'none yet'}, epoch {allocator['epoch']}")
    told.append(f"enforcement {found['enforcement']}")
    counted = ", ".join(f"{count} {what}" for what, count in found["pods"].items())
    told.append(f"pods       {counted}")
    if exhausted := found["exhausted"]:
        heaviest = ", ".join(f"{each['key']} ({each['values']})" for each in exhausted["heaviest"])
        told.append(
            f"EXHAUSTED  no identity number is free, {exhausted['identities']} are in use; most "
            f"values: {heaviest}"
        )
    if skipped := found["quarantined"]:
        shown = skipped if wide else capped(skipped, QUARANTINED_SHOWN)
        told.append(f"quarantined {', '.join(shown)}")
    if found["error"]:
        told.append(f"error      {found['error']}")
    if found["diverged"]:
        told.append(
            f"DIVERGED   {', '.join(found['diverged'])}: its state is not what the ledger says; "
            "stop its agent, remove agent.db from its data directory, and start it again"
        )
    return told
