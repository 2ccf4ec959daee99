"""What is probably not meant in policies, told before anything is enforced. Pure.

`catalogue` says which rules there are, `survey` what they look at, `run` asks all of them; each of
the other modules holds the rules of one subject. What a rule finds is about the pods that there are
now: a policy for pods that are still to come is told of too, and can say that it means it (`IGNORE`
in `run`).
"""
