"""Shell completion, and the command that prints its script."""

import click
from click.shell_completion import CompletionItem, get_completion_class

PROGRAM = "bsrbench"


def suite_names(_: click.Context, __: click.Parameter, begun: str) -> list[CompletionItem]:
    """Return the shipped suites that begin with the typed text, and files."""
    from bsrbench.harness.spec import suite_file

    suites = [CompletionItem(name) for name in suite_file.names() if name.startswith(begun)]
    return [*suites, CompletionItem(begun, type="file")]


def method_names(_: click.Context, __: click.Parameter, begun: str) -> list[CompletionItem]:
    """Return methods that begin with the typed text, or with its part after the last + or comma."""
    from bsrbench import methods

    cut = max(begun.rfind("+"), begun.rfind(",")) + 1
    return [
        CompletionItem(begun[:cut] + name)
        for name in methods.names()
        if name.startswith(begun[cut:])
    ]


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print the script that lets a shell complete commands, options, suites and methods.

    \b
    Examples:
      bsrbench completion bash > ~/.local/share/bash-completion/completions/bsrbench
      bsrbench completion zsh > ~/.zfunc/_bsrbench
      bsrbench completion fish > ~/.config/fish/completions/bsrbench.fish
    """  # noqa: D301 - click's mark for text that is not wrapped
    from bsrbench.harness.cli import main

    made = get_completion_class(shell)
    if made is None:
        raise click.ClickException(f"click has no completion for {shell}")
    click.echo(made(main, {}, PROGRAM, f"_{PROGRAM.upper()}_COMPLETE").source())
