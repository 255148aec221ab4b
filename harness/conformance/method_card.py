"""Checks of a method's declarations: its card, its options, its pairs."""

import dataclasses
import inspect
import json

from bsrbench.harness.conformance.subject import Subject, require
from bsrbench.harness.method import Kind, Unsupported

SAID = {
    "Stores": "what it stores",
    "pproximates": "what it approximates",
    "oes not save": "what it does not save",
}
WHERE = ("section", "abstract", "official code")
OURS = ("baseline", "bsrbench")  # begin the source of what no paper is behind


def declares_what_a_method_must(subject: Subject) -> None:
    """It is a frozen dataclass with a source, exact_forward and kinds."""
    cls = subject.find(subject.name)
    for fact in ("source", "exact_forward", "kinds"):
        require(hasattr(cls, fact), f"the class does not declare {fact!r} (harness/method.py)")
    kinds: object = cls.kinds  # whatever an author wrote
    require(
        isinstance(kinds, frozenset) and kinds <= frozenset(Kind),
        f"kinds = {kinds!r}; expected a frozenset of bsrbench.harness.method.Kind",
    )
    options = {field.name for field in dataclasses.fields(cls)}
    plain = [
        name
        for name, kind in inspect.get_annotations(cls).items()
        if name not in options and "ClassVar" not in str(kind)
    ]
    require(
        not plain,
        f"{', '.join(plain)} would be no option: write @dataclass(frozen=True) above the class, or "
        "ClassVar as the type",
    )


def describes_itself(subject: Subject) -> None:
    """It has a card and names its source, and its options survive JSON."""
    cls = subject.find(subject.name)
    require(
        bool(cls.__doc__) and not str(cls.__doc__).startswith(f"{cls.__name__}("),
        "the class has no docstring of its own: that is its card",
    )
    require(bool(cls.source), "source is empty: name paper and section, or write 'baseline'")
    options = json.loads(json.dumps(dataclasses.asdict(cls())))
    require(
        cls() == subject.load(subject.name, **options),
        f"the default options {options} do not come back from JSON as they were",
    )


def documents_every_option(subject: Subject) -> None:
    """The card names each option."""
    cls = subject.find(subject.name)
    missing = [f.name for f in dataclasses.fields(cls) if f"{f.name}:" not in str(cls.__doc__)]
    require(not missing, f"the docstring's 'Attributes:' lacks {', '.join(missing)}")


def card_says_the_three_things(subject: Subject) -> None:
    """The card says what is stored, approximated and not saved; the source names a section."""
    cls = subject.find(subject.name)
    card = " ".join(str(cls.__doc__).split())
    missing = [what for words, what in SAID.items() if words not in card]
    require(
        not missing,
        f"the docstring does not say {', '.join(missing)} (the words 'Stores', 'Approximates', "
        "'Does not save' are looked for)",
    )
    require(
        cls.source.startswith(OURS) or any(word in cls.source for word in WHERE),
        f"source {cls.source!r} names neither a section, the abstract nor official code",
    )


def pairs_are_on_the_card(subject: Subject) -> None:
    """A pair of methods of one kind is defined in words, and both methods exist."""
    cls = subject.find(subject.name)
    for first in cls.refines:
        subject.find(first)
        require(
            f"``{first}+{cls.name()}``" in str(cls.__doc__),
            f"'refines' names {first!r}, and the docstring does not say what ``{first}+"
            f"{cls.name()}`` means",
        )


def says_that_a_model_is_prepared_already(subject: Subject) -> None:
    """Preparing a model twice is refused, and leaves what trains as it was."""
    model = subject.prepared()
    before = [parameter.requires_grad for parameter in model.parameters()]
    try:
        subject.method().prepare(model)
    except Unsupported as refused:
        require("already prepared" in str(refused), f"the refusal says {str(refused)!r}")
    else:
        require(
            kept=False,
            said="a second prepare() on the same model is not refused: call require_all_train() "
            "first, or raise Unsupported('... already prepared ...')",
        )
    after = [parameter.requires_grad for parameter in model.parameters()]
    require(before == after, "the refused prepare() changed which parameters train")
