"""What became of a run: its record and ledger, held against what must hold. Pure but for `dumps`,
which asks nodes what their kernels hold.
"""
