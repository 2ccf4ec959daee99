"""Why a selector matches nothing, in words, and which label was probably meant."""

from difflib import get_close_matches

from tabard.identity.labels import NAMESPACE_KEY, NAMESPACE_LABELS_PREFIX
from tabard.policy.landscape import Landscape
from tabard.policy.model import Requirement, Selector
from tabard.policy.wording import asked


def nothing(land: Landscape, selector: Selector) -> str:
    """Why `selector` matches no pod."""
    place = [one for one in selector.requirements if one.key == NAMESPACE_KEY]
    inside = land.select(Selector(tuple(place))) & land.pods
    if not inside and any(one.operator == "In" for one in place):
        return f"there is no pod in namespace {' or '.join(sorted(place[0].values))}"
    rest = [one for one in selector.requirements if one.key != NAMESPACE_KEY]
    alone = [one for one in rest if not land.select(Selector((one,))) & inside]
    if not alone:
        return f"no pod has {' and '.join(map(asked, rest))} together"
    where = f" in namespace {' or '.join(sorted(place[0].values))}" if place and inside else ""
    hints = "; ".join(
        dict.fromkeys(filter(None, (near(land, one, inside) for one in alone))),
    )
    said = f"no pod{where if place and place[0].values else ''} has "
    return said + " and ".join(map(asked, alone)) + (f"; {hints}" if hints else "")


def near(land: Landscape, one: Requirement, inside: int) -> str:
    """`did you mean name=carts?`, of labels that pods have; those `inside` go first."""
    for scope in (inside, land.pods):
        values = [value for value, bits in land.values(one.source, one.key) if bits & scope]
        for wanted in sorted(one.values):
            for close in get_close_matches(wanted, values, n=1):
                return f"did you mean {one.key}={close}?"
        if values:
            continue
        keys = {key for key in land.keys(one.source) if not of_namespace(Requirement(key, "In"))}
        for close in get_close_matches(one.key, sorted(keys), n=1):
            return f"did you mean the label {close}?"
    return ""


def of_namespace(one: Requirement) -> bool:
    return one.key.startswith(NAMESPACE_LABELS_PREFIX) or (
        one.key == NAMESPACE_KEY and one.operator == "In"
    )
