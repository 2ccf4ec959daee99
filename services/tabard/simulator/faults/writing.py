"""Faults of what is written to a node's maps, and in which order."""

from tabard.agent.reconciler import Reconciler
from tabard.invariants.verdict import Invariant
from tabard.policy.compile import Compiler
from tabard.simulator.faults.planting import Edit, Fault

_FIRST = "self._have_room(change, desired)\n            await self._write(change)\n        except"

FAULTS = (
    Fault(
        "ipcache-before-policy",
        "Addresses and endpoints are written before the identities and rules that they lead to",
        Invariant.ORDER,
        (
            Edit(
                Reconciler._enforce,
                _FIRST,
                "await self._write(\n"
                "                Change(hosts_set=change.hosts_set, "
                "endpoints_set=change.endpoints_set)\n"
                "            )\n"
                "            await self._write(change)\n"
                "        except",
            ),
        ),
    ),
    Fault(
        "policy-removed-first",
        "Rules and identities are removed before the endpoints and addresses that lead to them",
        Invariant.ORDER,
        (
            Edit(
                Reconciler._enforce,
                _FIRST,
                "await self._write(\n"
                "                Change(\n"
                "                    policies_removed=change.policies_removed,\n"
                "                    identities_removed=change.identities_removed,\n"
                "                )\n"
                "            )\n"
                "            await self._write(change)\n"
                "        except",
            ),
        ),
    ),
    Fault(
        "failed-write-swallowed",
        "A write that failed counts as done",
        Invariant.FOLD,
        (
            Edit(
                Reconciler._write,
                "            self.report.wrote(carried_out(change, self.actual).counts())\n"
                "            raise\n",
                "            return\n",
            ),
        ),
    ),
    Fault(
        "compiler-not-told",
        "What was compiled stays when a policy changes",
        Invariant.FOLD,
        (
            Edit(
                Compiler._touch,
                "touched.policies.add((event.kind, event.namespace, event.name))",
                "pass",
            ),
        ),
    ),
    Fault(
        "removals-forgotten",
        "Endpoints and addresses that go are left in the maps",
        Invariant.FOLD,
        (
            Edit(Compiler._go_on, "endpoints_removed=endpoints[1],", ""),
            Edit(Compiler._go_on, "hosts_removed=hosts[1],", ""),
        ),
    ),
)
