"""Checks of what a method declares: its docstring (the card), its options and its pairs."""

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
OURS = ("baseline", "bsrbench")  # a source that begins with one of these needs no paper


def declares_what_a_method_must(subject: Subject) -> None:
    """The method is a frozen dataclass that declares source, exact_forward and kinds."""
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
        f"not an option of the method: {', '.join(plain)}; write @dataclass(frozen=True) above the "
        "class, or ClassVar as the type",
    )


def describes_itself(subject: Subject) -> None:
    """The method has a docstring and a source, and JSON does not change its default options."""
    cls = subject.find(subject.name)
    require(
        bool(cls.__doc__) and not str(cls.__doc__).startswith(f"{cls.__name__}("),
        "the class has no docstring of its own: write one, it is the card of the method",
    )
    require(
        bool(cls.source), "source is empty: name the paper and the section, or write 'baseline'"
    )
    options = json.loads(json.dumps(dataclasses.asdict(cls())))
    require(
        cls() == subject.load(subject.name, **options),
        f"the default options change when they are written to JSON and read again: {options}",
    )


def documents_every_option(subject: Subject) -> None:
    """The docstring describes each option."""
    cls = subject.find(subject.name)
    missing = [f.name for f in dataclasses.fields(cls) if f"{f.name}:" not in str(cls.__doc__)]
    require(not missing, f"'Attributes:' in the docstring lacks {', '.join(missing)}")


def card_says_the_three_things(subject: Subject) -> None:
    """The docstring says what is stored, approximated and not saved; the source has a section."""
    cls = subject.find(subject.name)
    card = " ".join(str(cls.__doc__).split())
    missing = [what for words, what in SAID.items() if words not in card]
    require(
        not missing,
        f"the docstring does not say {', '.join(missing)} (it must contain the words 'Stores', "
        "'Approximates' and 'Does not save')",
    )
    require(
        cls.source.startswith(OURS) or any(word in cls.source for word in WHERE),
        f"source {cls.source!r} does not name a section, the abstract or official code",
    )


def pairs_are_on_the_card(subject: Subject) -> None:
    """Each method in ``refines`` exists, and the docstring says what the pair with it means."""
    cls = subject.find(subject.name)
    for first in cls.refines:
        subject.find(first)
        require(
            f"``{first}+{cls.name()}``" in str(cls.__doc__),
            f"'refines' names {first!r}, but the docstring does not say what ``{first}+"
            f"{cls.name()}`` means",
        )


def says_that_a_model_is_prepared_already(subject: Subject) -> None:
    """A second prepare() is refused and does not change which parameters train."""
    model = subject.prepared()
    before = [parameter.requires_grad for parameter in model.parameters()]
    try:
        subject.method().prepare(model)
    except Unsupported as refused:
        message = str(refused)
        require(
            "already prepared" in message,
            f"the refusal of a second prepare() does not say 'already prepared': {message!r}",
        )
    else:
        require(
            kept=False,
            said="a second prepare() on the same model is not refused: call require_all_train() "
            "first, or raise Unsupported('... already prepared ...')",
        )
    after = [parameter.requires_grad for parameter in model.parameters()]
    require(before == after, "the refused prepare() changed which parameters train")
