"""What policies mean: reading them, matching identities, compiling the maps of a node.

Pure and shared by allocator (acceptance), agent (enforcement), command line and audits, so that
all of them give one verdict. `model` is the language-neutral form; `reading` makes documents of all
kinds into it (`kubernetes`, `tiers`, `cilium`) or into what policies refer to (`referred`), which
`referents` puts in the place of references, and `staleness` reads an annotation of any kind;
`matching` says which identities a selector matches;
`rules` makes the policy map's entries and `prefixes` the CIDRs'; `hosts` says which addresses a
node must know, `local` which are its own pods'. `compile` turns a folded ledger into the maps of
one node, and goes on by what later events have `touched`; `diff` turns two maps into a change.
Beside them, and without them, `engine` reads verdicts off the policies and says which rule gave
them, in the terms of `rulings` (`naming` says whom rules name, over all `selectors` and
`networks`); `misses` says why other rules did not, in the words of `wording`, `parties` who stands
at an end of a flow, and `traffic` is a set of ports.

For questions about whole sets of policies `landscape` has sets of parties as numbers, `items` whom
each part of a rule means, and `outcome` what they come to: on these `redundancy` and `reduction`
find what changes nothing (`subsumption` by words alone), and `lint` what is hardly meant.
`difference` holds the engines of two states against each other.
"""
