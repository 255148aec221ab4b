"""The --version option: installed packages and available devices."""

import click

from bsrbench.harness.cli.printing import say


def print_version(ctx: click.Context, _: click.Parameter, is_set: bool) -> None:
    """Print versions and devices and exit, if --version was given."""
    if not is_set:
        return
    import torch

    from bsrbench.harness.records.environment import describe_machine, installed_versions

    versions = installed_versions()
    machine = describe_machine()
    say(f"bsrbench {versions.pop('bsrbench', 'from a checkout, not installed')}")
    say(", ".join(f"{name} {version}" for name, version in versions.items()))
    say(f"cpu: {machine.processor}, {machine.cores} cores")
    for index in range(torch.cuda.device_count()):
        say(f"cuda:{index}: {torch.cuda.get_device_name(index)}")
    ctx.exit()
