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

SCENARIOS = (
    Field(
        "items",
        "[object]",
        "the scenarios, in the order of `all`",
        (
            Field("name", "string", "as `chaos run` takes it"),
            Field("line", "string", "what happens to the cluster"),
            Field("modes", "[string]", "overlay, native: in which it means something"),
            Field("hold_s", "number", "for how long its faults are held"),
            Field("needs", "string", "the Debian package that its faults use, or empty"),
        ),
    ),
)

AT = Field("at", "number", "when: seconds since the run began")

REHEARSED = (
    Field("schema", "integer", "of this document; it goes up when a reader must know of a change"),
    Field("held", "boolean", "every scenario was carried out and every checker is green"),
    Field("seed", "integer", "what all chance was drawn from"),
    Field("mode", "string", "overlay or native"),
    Field("minutes", "number", "for how long it was to go round again"),
    Field("rate_per_s", "number", "what happened to pods and policies a second"),
    Field("command", "string", "what does the same again"),
    Field("began", "integer", "Unix nanoseconds"),
    Field("seconds", "number", "how long it took"),
    Field("versions", "{string: string}", "of what it ran on"),
    Field("failures", "[string]", "what failed that was not to fail"),
    Field("not_carried_out", "[string]", "scenarios that were to be"),
    Field(
        "totals",
        "object",
        "of the whole run",
        (
            Field("scenarios", "integer", "how many different ones"),
            Field("times", "integer", "how often one was carried out"),
            Field("faults", "integer", "injected"),
            Field("acknowledged", "integer", "events that the bus acknowledged"),
            Field(
                "unanswered", "integer", "events of which it is not known whether they are there"
            ),
            Field("packets", "integer", "probes, each judged"),
            Field("passed", "integer", "of them, those that were answered"),
            Field("denied", "integer", "of them, those that were not"),
            Field("violations", "integer", "of all checkers"),
            Field("converge_s_max", "number?", "longest from a heal until all was as it should be"),
        ),
    ),
    Field(
        "verdicts",
        "[object]",
        "each checker's",
        (
            Field("invariant", "string", "as ARCHITECTURE names it"),
            Field("held", "boolean", "something was judged, and nothing violated it"),
            Field("judged", "integer", "how many things"),
            Field("unit", "string", "what they are"),
            Field("violations", "integer", "how many there were"),
            Field("note", "string", "what else there is to say"),
            Field(
                "told",
                "[object]",
                "the first violations",
                (
                    Field("what", "string", "what was seen, and what should have been"),
                    Field("at", "number?", "when; null if it has no time of its own"),
                ),
            ),
        ),
    ),
    Field(
        "scenarios",
        "[object]",
        "what each went through; its figures last until the next one",
        (
            Field("name", "string", "empty: before the first one"),
            Field("line", "string", "what happens to the cluster"),
            Field("times", "integer", "how often it was carried out"),
            Field("faults", "integer", "injected"),
            Field("acknowledged", "integer", "events that the bus acknowledged"),
            Field("packets", "integer", "probes"),
            Field("violations", "integer", "those that are told and have a time"),
            Field("converge_s", "number?", "longest of all times; null if it never was"),
        ),
    ),
    Field(
        "faults",
        "[object]",
        "each that was injected",
        (
            Field("scenario", "string", "of which scenario"),
            Field("fault", "string", "what it is"),
            Field("target", "string", "whom it hit"),
            Field("detail", "string", "what else there is to say"),
            Field("began", "number", "when: seconds since the run began"),
            Field("healed", "number", "when"),
            Field("converged", "number?", "when all was as it should be; null if it was not"),
        ),
    ),
    Field(
        "lag",
        "{string: [object]}",
        "how far each node was behind the ledger's head",
        (
            AT,
            Field("events", "integer", "how many it had yet to enforce"),
            Field("seconds", "number", "how old the oldest of them was"),
        ),
    ),
    Field(
        "probes",
        "[object]",
        "what became of those that ended in one second",
        (
            AT,
            Field("passed", "integer", "answered"),
            Field("denied", "integer", "not answered"),
        ),
    ),
)
