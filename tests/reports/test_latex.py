"""Tables for a paper: what LaTeX is given, and that it compiles."""

import shutil
import subprocess

import pytest

from bsrbench.reports.compare.comparison import compare
from bsrbench.reports.compare.contrast import Pair, contrast
from bsrbench.reports.documents import contrast_document, latex_tables

MIB = 2**20
STRANGE = 'a_b|&%$#{}~^\\<script>"`×–† Ångström 名前*'
DOCUMENT = r"""\documentclass{article}
\usepackage[T1]{fontenc}\usepackage{booktabs}\usepackage{graphicx}
\begin{document}
TABLES
\end{document}
"""


@pytest.fixture
def records(make):
    return [
        make("full", peak_counted_bytes=100 * MIB, step_flop=1e9, step_seconds=[1.0, 1.1, 0.9]),
        make("bsr", peak_counted_bytes=40 * MIB, step_flop=3e8, step_seconds=[0.4, 0.5, 0.4]),
        make(STRANGE, peak_counted_bytes=50 * MIB, step_flop=2e8, step_seconds=[0.2, 0.2, 0.2]),
        make("int8", status="out of memory"),
        *(make("full", seed=s, accuracy_top1=a) for s, a in ((0, 0.9), (1, 0.8))),
        *(make("bsr", seed=s, accuracy_top1=a) for s, a in ((0, 0.7), (1, 0.75))),
    ]


def compiled(text, folder):
    """Run LaTeX over a document that holds the text; return what it says."""
    (folder / "paper.tex").write_text(DOCUMENT.replace("TABLES", text), encoding="utf-8")
    done = subprocess.run(
        ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "paper.tex"],
        cwd=folder,
        capture_output=True,
        check=False,
    )
    return done.returncode, done.stdout.decode(errors="replace")


def test_the_best_are_bold_and_the_baseline_is_marked(records, no_details, tmp_path):
    latex_tables.write(compare(records, no_details), "bsrbench: a_b", tmp_path / "report.tex")
    text = (tmp_path / "report.tex").read_text()

    assert r"bsr $\dagger$ & 0.725 [0.700, 0.750] & \textbf{40.0} & \textbf{0.40$\times$}" in text
    assert r"full & \textbf{0.850 [0.800, 0.900]} & 100.0 & 1.00$\times$" in text
    assert r"int8, seed 0: out of memory (why)" in text
    assert r"\label{tab:bsrbench-a-b}" in text


def test_everything_special_is_escaped():
    text = latex_tables.escape(STRANGE)

    assert text == (
        r"a\_\allowbreak{}b\textbar{}\&\%\$\#\{\}$\sim$\textasciicircum{}"
        r"\textbackslash{}\textless{}script\textgreater{}\textquotedbl{}\textasciigrave{}"
        r"$\times$--$\dagger$ Ångström \texttt{U+540D}\texttt{U+524D}*"
    )


def test_a_minus_is_no_hyphen():
    assert (
        latex_tables.escape("-3.0 [-0.1, -2] 1e-05 a-3 -x") == "$-$3.0 [$-$0.1, $-$2] 1e-05 a-3 -x"
    )


@pytest.mark.latex
@pytest.mark.skipif(not shutil.which("pdflatex"), reason="no pdflatex on PATH")
def test_the_table_compiles(records, no_details, tmp_path):
    latex_tables.write(compare(records, no_details), STRANGE, tmp_path / "report.tex")
    code, said = compiled((tmp_path / "report.tex").read_text(), tmp_path)

    assert code == 0, said[-2000:]
    assert "Overfull" not in said  # a wide table shrinks to the column
    assert (tmp_path / "paper.pdf").stat().st_size > 1000


@pytest.mark.latex
@pytest.mark.skipif(not shutil.which("pdflatex"), reason="no pdflatex on PATH")
def test_a_contrast_compiles(records, no_details, tmp_path):
    (comparison,) = compare(records, no_details)
    rows = comparison.find("bsr"), comparison.find("full")
    found = contrast([Pair(*rows, comparison.title())], no_details)
    code, said = compiled(contrast_document.to_latex(found), tmp_path)

    assert code == 0, said[-2000:]
    assert "Overfull" not in said


FORGED = (
    *(r"\input{/etc/hostname}", r"\immediate\write18{touch PWNED}", r"\end{document}", "^^5cinput"),
    *(
        r"\catcode`\%=12",
        "%\n\n",
        r"\verb|",
        "$$",
        "{{{",
        "}}}",
        "\\",
        "#1",
        r"\csname",
        "&&&",
        "~^",
    ),
    *("--", "``''", "<<>>", "?`!`", "a" * 5000, "\ud800", "\x1b]0;x\x07", "\u202e", "x\u0301"),
)


@pytest.mark.latex
@pytest.mark.skipif(not shutil.which("pdflatex"), reason="no pdflatex on PATH")
def test_every_character_and_forged_names_compile_and_run_nothing(tmp_path):
    everything = [chr(number) for number in range(0x3000)]
    texts = ["".join(everything[start : start + 64]) for start in range(0, 0x3000, 64)]
    rows = [[text, "1"] for text in (*texts, *FORGED)]
    drawn = "\n".join(rf"\noindent {latex.escape(text)}\par" for text, _ in rows)
    code, said = compiled(
        drawn + latex_tables.table_of(["name", "n"], rows[-40:], "forged"), tmp_path
    )

    assert code == 0, said[-2000:]
    assert not (tmp_path / "PWNED").exists()
    assert "/etc/hostname" not in said
