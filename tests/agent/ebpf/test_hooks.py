"""No frame at any hook is judged as anything but the packet that it is, whatever came before it."""

from random import Random

import pytest

from fuzzing.parsers.frames import frames_at
from fuzzing.parsers.hunt import corpus, failure, findings
from laboratory import Laboratory

pytestmark = pytest.mark.ebpf


def test_crafted_kept_and_bent_frames_at_all_hooks(lab: Laboratory) -> None:
    target = frames_at(lab.kernels)
    random, pool = Random(7), [*target.seeds(), *corpus(target)]
    kept = [path.read_bytes() for path in findings(target)]
    bent = (
        target.form.bent(random, random.choice(pool), random.choice(pool))
        for _ in range(target.short)
    )
    for data in (*kept, *pool, *bent):
        found = failure(target, data)
        assert found is None, (data, found.error)
