"""What `tabard chaos simulate` prints, key by key. Pure."""

from tabard.cli.fields import Field

VIOLATION = (
    Field("seed", "integer", "the history's"),
    Field("step", "integer", "after which it was seen; one more than there are: at the end"),
    Field("invariant", "string", "what does not hold"),
    Field("what", "string", "what was seen, and what should have been"),
    Field(
        "choices", "[string]", "the shrunk history: act, process, what, amount, with tabs between"
    ),
    Field("trace", "[string]", "the same told step by step"),
    Field("minimal", "boolean", "none of these choices can be left out"),
    Field("replay", "string", "the command that carries out the whole history again"),
)

SIMULATED = (
    Field("first_seed", "integer", "of the first history"),
    Field("steps", "integer", "of each history"),
    Field("fault", "string?", "what was broken on purpose; null if nothing was"),
    Field("histories", "integer", "how many were carried out"),
    Field("carried_out", "integer", "steps of all of them"),
    Field("seconds", "number", "what that took"),
    Field("counts", "{string: integer}", "what happened in them"),
    Field("trace", "[string]", "the one history step by step, by --trace"),
    Field("violation", "object?", "the first one; null if all held", VIOLATION),
)

FAULTS = (
    Field(
        "items",
        "[object]",
        "what can be broken on purpose",
        (
            Field("name", "string", "as --fault takes it"),
            Field("caught_by", "string", "the invariant whose checker must notice"),
            Field("breaks", "string", "what is broken"),
        ),
    ),
)
