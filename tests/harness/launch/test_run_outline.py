"""What a run says about its rows, its settings, and the kernels it compiles first."""

from bsrbench import methods
from bsrbench.harness.launch.planning.companions import Companions
from bsrbench.harness.launch.planning.run_outline import compiled_first, outline, timed_again
from bsrbench.harness.spec.recipe import Training
from bsrbench.harness.spec.trial_spec import Profile
from bsrbench.harness.trial.trial_passes import check
from bsrbench.methods.parts import kernel_builds

PROFILE = Profile(rounds=3, generations=4, steps=2, warmup_steps=1, budget_seconds=0)


def test_the_outline_names_rows_seeds_and_what_is_not_the_default(make_spec):
    recipe = Training(steps=10, learning_rate=0.1)
    specs = [make_spec("full", training=recipe, seed=seed) for seed in (0, 1)]
    specs.append(make_spec("bsr", training=recipe, micro_batch=2, image_size=96))
    lines = outline(specs)

    assert lines[0] == "3 trials to run: full, bsr (micro-batch 2); seed 0, 1"
    assert lines[1] == ("  workload: model test_vit, classes 5, image_size 64 | 96, batch 4")
    assert lines[2] == "  training: steps 10, learning_rate 0.1"


def test_many_values_of_a_setting_are_counted(make_spec):
    specs = [make_spec(batch=size) for size in range(1, 10)]

    assert "batch 1 | 2 | 3 | 4 | 5 | 6 and 3 more" in outline(specs)[1]


def test_the_plan_says_each_kernel_to_compile_once():
    rows = {"int8": ("PACK8", "UNPACK8"), "bsr+int8": ("PACK8",)}

    (line,) = compiled_first(rows)

    assert compiled_first({}) == []
    assert "2 kernels (PACK8, UNPACK8) of bsr+int8, int8;" in line


def test_a_check_says_which_kernels_a_row_compiles_first(make_spec, tmp_path, monkeypatch):
    monkeypatch.setattr(kernel_builds, "kernel_folder", lambda: tmp_path)
    monkeypatch.setenv("BSRBENCH_KERNELS", "auto")
    kernels = {
        method: check(make_spec(method, profile=PROFILE), methods.load).kernels_to_compile
        for method in ("full", "int4", "bsr+int8")
    }

    assert kernels == {
        "full": (),
        "int4": ("PACK4", "UNPACK4"),
        "bsr+int8": ("EXTREMES8", "MOVE8", "PACK8", "UNPACK8"),
    }


def test_a_plan_says_each_thing_about_rows_timed_again_once(make_spec, record_of):
    """Two questions with the same rows are one line; of many rows six are named."""
    beside = Companions((record_of(make_spec("bsr")),), {"it is stale": ("a", "b")})
    many = Companions(tuple(record_of(make_spec(name)) for name in "abcdefgh"))
    lines = timed_again([([make_spec("head")], beside)] * 2 + [([make_spec("lora")], many)])
    again = "stored and will be timed again, in turns with"
    because = "only times measured in turns can be compared; the stored records do not change"

    assert lines == [
        f"  bsr is {again} head: {because}",
        "  no ratio of times between head and a, b: it is stale",
        f"  a, b, c, d, e, f and 2 more are {again} lora: {because}",
    ]
