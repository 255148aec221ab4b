"""The table of promises that a method must keep, and the functions that run their checks."""

import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from bsrbench.harness.conformance import (
    forward_passes,
    method_card,
    method_states,
    promises,
    steps,
    weight_storage,
)
from bsrbench.harness.conformance.subject import BrokenPromise, Subject, estimates
from bsrbench.harness.method import Unsupported


@dataclass(frozen=True)
class Check:
    """A promise and the function that checks it.

    Attributes:
        examine: raises ``BrokenPromise`` with a message; any other exception comes from the method.
        composed: whether compositions of methods must keep the promise, too.
        first: whether the promises after this one are checked only if it is kept.
    """

    examine: Callable[[Subject], None]
    composed: bool = True
    first: bool = False

    def name(self) -> str:
        """Return the check's name."""
        return self.examine.__name__

    def promise(self) -> str:
        """Return the promise as one line."""
        return str(inspect.getdoc(self.examine)).splitlines()[0]

    def place(self) -> str:
        """Return the file of the check, relative to the project's root, and its line."""
        _, line = inspect.getsourcelines(self.examine)
        return f"harness/conformance/{Path(inspect.getfile(self.examine)).name}:{line}"


CHECKS = (
    Check(method_card.declares_what_a_method_must, composed=False, first=True),
    Check(method_card.describes_itself, composed=False),
    Check(method_card.documents_every_option, composed=False),
    Check(method_card.card_says_the_three_things, composed=False),
    Check(method_card.pairs_are_on_the_card, composed=False),
    Check(promises.keeps_the_parameters, first=True),
    Check(method_states.states_train_what_prepare_leaves, first=True),
    Check(method_states.state_of_a_step_depends_on_step_and_seed_only),
    Check(promises.forward_promise),
    Check(promises.gradient_promise),
    Check(forward_passes.step_has_the_forward_passes_it_declares),
    Check(forward_passes.loss_is_made_of_cross_entropies),
    Check(forward_passes.evaluation_differs_as_declared),
    Check(steps.ten_steps_learn_and_move_the_trained_and_only_those),
    Check(steps.same_seed_same_gradients),
    Check(promises.holds_less_than_full_fine_tuning),
    Check(promises.passes_on_the_tokens_it_declares),
    Check(weight_storage.stores_weights_in_fewer_bytes),
    Check(steps.runs_in_bf16_near_fp32),
    Check(steps.runs_in_fp16_near_fp32),
    Check(steps.state_dict_round_trip),
    Check(method_card.says_that_a_model_is_prepared_already, composed=False),
    Check(steps.compiles_in_one_piece, composed=False),
)


@dataclass(frozen=True)
class Examined:
    """The result of one check.

    Attributes:
        check: the check.
        broken: a message if the promise was broken; otherwise empty.
        where: file and line in the method that caused the failure, if known.
    """

    check: Check
    broken: str = ""
    where: str = ""


def examine(subject: Subject) -> Iterator[Examined]:
    """Check every promise of a method; stop early only if a promise with ``first`` is broken."""
    for check in CHECKS:
        if not check.composed and "+" in subject.name:
            continue
        if check.examine is method_card.says_that_a_model_is_prepared_already and (
            subject.name == "full" or estimates(subject.method())
        ):
            continue  # they change nothing in the model, so they cannot detect a prepared one
        result = examined(check, subject)
        yield result
        if check.first and result.broken:
            return


def examined(check: Check, subject: Subject) -> Examined:
    """Check one promise; an exception that the method raises counts as a broken promise."""
    try:
        check.examine(subject)
    except BrokenPromise as broken:
        return Examined(check, str(broken))
    except Unsupported as reason:
        return Examined(check, f"does not support the test model (12 blocks, width 32): {reason}")
    except Exception as error:  # noqa: BLE001 - the method's code can raise anything
        lines = f"{type(error).__name__}: {error}".splitlines()
        return Examined(check, lines[0], _where(error, subject))
    return Examined(check)


def _where(error: Exception, subject: Subject) -> str:
    """Return the last place of a traceback in the method's own files, as ``file:line``."""
    files = {inspect.getfile(subject.find(part)) for part in subject.name.split("+")}
    place = ""
    trace = error.__traceback__
    while trace is not None:
        file = trace.tb_frame.f_code.co_filename
        if file in files:
            place = f"{Path(file).name}:{trace.tb_lineno}"
        trace = trace.tb_next
    return place
