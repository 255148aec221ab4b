"""Command lines that start no training, and strange words in them."""

import json

from click.testing import CliRunner

from bsrbench.harness.cli import main

LINES = (
    *(["report", "late"], ["report", "late", "--title", "x"], ["compare", "head", "bsr"]),
    *(["export", "late", "--format", "csv"], ["export", "late", "--format", "json"]),
    *(["claims", "late"], ["list", "methods"], ["list", "methods", "--long"], ["list", "suites"]),
    *(
        ["list", "models"],
        ["list", "suite-schema"],
        ["status", "late"],
        ["status", "late", "--json"],
    ),
    *(["results", "check", "late"], ["results", "repair", "late"], ["new-method", "mine"]),
    *(["results", "merge", "late", "other"], ["results", "diff", "late", "late"], ["completion"]),
    ["run", "quick", "--dry-run", "--seeds", "0"],
    ["run", "quick", "--set", "workload.batch=0", "--dry-run"],
    ["run", "late", "--methods", "none", "--dry-run"],
    ["estimate", "--model", "none", "--method", "bsr", "--batch", "2"],
    ["fit", "--model", "none", "--memory", "1GiB", "--methods", "bsr (a=1)", "--no-check"],
    ["search", "--memory", "none", "--time", "1h"],
)
# None leads out of the target: what a person asks for by a path is written there.
WORDS = (
    *("", "-", "--", ".", "late", "late/records", "x" * 4000, "a/" * 1900),
    *("--results", "--json", "--csv", "--help", "--format", "--output", "--fail-if", "--set"),
    *(
        "ratio(step_flop) > 1",
        "ratio(",
        "(" * 3000,
        "[" * 20_000,
        "bsr (a=" + "[" * 5000,
        "*" * 999,
    ),
    *("9" * 5000, "1e999", "nan", "-1", "0x1", "\x1b[31m", "\u202ex", "\udcff\udcfe", "a\nb", "{}"),
    *('"\\ud800"', 'bsr (a="\\u0000")', "full,full", ",", ",,,", "a=1", "=", "a.b.c=1", "💥"),
    *(
        "file:../../x",
        "pack:/etc/passwd",
        "folder:..",
        "--methods",
        "--seeds",
        "--with",
        "--memory",
    ),
)


def some_words(draw, content, others=()):
    """Return a command line with a few words changed, put in or left out."""
    line = json.loads(content)
    for _ in range(draw.randint(1, 3)):
        place = draw.randrange(1, len(line) + 1)
        how = draw.randrange(4)
        if how == 0:
            line.insert(place, draw.choice(WORDS))
        elif how == 1 and place < len(line):
            line[place] = draw.choice(WORDS)
        elif how == 2 and place < len(line):
            word = list(line[place])
            if word:
                word[draw.randrange(len(word))] = draw.choice(
                    ("\x1b", "\u202e", "é", "(", '"', "9")
                )
            line[place] = "".join(word)
        elif place < len(line):
            del line[place]
    if starts_work(line):
        line.append("--no such option")
    return json.dumps(line).encode()


def starts_work(line):
    """Return whether a line could begin a training, which no test waits for."""
    return line[0] in {"run", "profile", "fit", "estimate", "search", "tune"} and "none" not in line


def called(line):
    """Call a command in this process.

    Raises:
        SystemExit: as the command ends.
        Exception: what the command did not turn into words.
    """
    ended = CliRunner().invoke(main, line)
    if ended.exception is not None and not isinstance(ended.exception, SystemExit):
        raise ended.exception
    if "Traceback (most recent call last)" in ended.output:
        raise AssertionError(ended.output)
    raise SystemExit(ended.exit_code)
