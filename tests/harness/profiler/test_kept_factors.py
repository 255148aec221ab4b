"""The factors from which a layer's next iteration starts are counted as kept between steps."""

from torch import nn

from bsrbench import methods
from bsrbench.harness.profiler.counted_step import counted_step
from bsrbench.harness.profiler.profiled_step import job_and_batch
from bsrbench.harness.training.kept_storages import census, total_bytes


def test_factors_are_kept_between_steps_and_nothing_else(make_six_spec):
    """Three layers of six blocks; ranks 2, 4, 8, of which images (2 of 2) have no factor.

    The fourth layer reads what attention stores.
    """
    spec = make_six_spec("asi", batch=2, options={"ranks": [2, 4, 8]})
    with census() as kept:
        job, batch = job_and_batch(spec, methods.load, kept=kept)
        first, second = (counted_step(job, batch) for _ in range(2))
        found = total_bytes(job.find_kept(batch))
    inputs = [
        part.in_features
        for name, part in job.model.blocks.named_modules()
        if isinstance(part, nn.Linear) and not name.endswith("attn.proj")
    ]
    tokens = job.model.pos_embed.shape[1]
    expected = sum(4 * (4 * tokens + 8 * wide) for wide in inputs)

    assert len(inputs) == 3 * len(job.model.blocks)
    assert found == expected
    assert (first.left_behind > 0, second.left_behind) == (True, 0)
