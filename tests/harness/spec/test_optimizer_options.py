"""An optimizer with an option that it does not have is refused with a sentence."""

import pytest
from click.testing import CliRunner
from pydantic import ValidationError

from bsrbench.harness.cli import main
from bsrbench.harness.spec.trial_spec import Workload

REFUSALS = [
    (
        "sgd",
        "rank",
        8,
        "optimizer sgd has no option rank: it has no options; rank is an option of galore, apollo",
    ),
    (
        "adamw",
        "block_size",
        64,
        (
            "optimizer adamw has no option block_size: its options are beta1, beta2, eps; "
            "block_size is an option of adamw8, adamw4"
        ),
    ),
    (
        "apollo-mini",
        "rank",
        1,
        (
            "optimizer apollo-mini has no option rank: its options are beta1, beta2, eps, "
            "refresh_steps, scale, norm_growth; rank is an option of galore, apollo"
        ),
    ),
]


@pytest.mark.parametrize(("optimizer", "option", "value", "message"), REFUSALS)
def test_a_workload_names_the_option_and_who_has_it(optimizer, option, value, message):
    with pytest.raises(ValidationError) as caught:
        Workload(model="test_vit", batch=1, optimizer=optimizer, optimizer_options={option: value})

    assert message in str(caught.value)


@pytest.mark.parametrize(("optimizer", "option", "value", "message"), REFUSALS)
def test_the_command_line_says_the_same_sentence(optimizer, option, value, message):
    words = ["estimate", "--model", "test_vit", "--method", "full", "--batch", "1"]
    words += ["--optimizer", optimizer, "--optimizer-option", f"{option}={value}"]
    result = CliRunner().invoke(main, words)

    assert result.exit_code == 2
    assert message in " ".join(result.output.split())
    assert "Traceback" not in result.output
