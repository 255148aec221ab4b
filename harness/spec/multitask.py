"""Several data sets that one model is trained on at once."""

from typing import Annotated

from pydantic import Field, model_validator

from bsrbench.harness.spec.frozen_data import Count, Frozen, Name, Place, Several, named_twice


class MultiTask(Frozen):
    """Several data sets that one model is trained on at once, with experts instead of some MLPs.

    In each step every task has its turn, and each turn ends with an optimizer step.

    Attributes:
        tasks: the data sets, named like ``data``, in the order of their turns.
        classes: widths of the tasks' heads; ``None`` takes the classes of the data sets.
        expert_blocks: blocks whose MLP becomes a mixture of experts, counted from 0; empty leaves
            the model dense.
        experts: experts per block; all begin as copies of the block's MLP.
        top_k: number of experts that each token is sent to.
    """

    tasks: Annotated[tuple[Name, ...], Field(strict=False, min_length=2)]
    classes: Annotated[tuple[Several, ...], Field(strict=False)] | None = None
    expert_blocks: Annotated[tuple[Place, ...], Field(strict=False)] = (3, 7, 11)
    experts: Several = 16
    top_k: Count = 4

    @model_validator(mode="after")
    def _names_each_once(self) -> "MultiTask":
        blocks = map(str, self.expert_blocks)
        for what, named in (("tasks", self.tasks), ("expert_blocks", tuple(blocks))):
            if twice := named_twice(named):
                raise ValueError(f"multitask.{what} names {', '.join(twice)} more than once")
        return self

    @model_validator(mode="after")
    def _has_a_head_a_task(self) -> "MultiTask":
        if self.classes is not None and len(self.classes) != len(self.tasks):
            more = "tasks than heads" if len(self.tasks) > len(self.classes) else "heads than tasks"
            raise ValueError(
                f"multitask has more {more}: {len(self.tasks)} tasks ({', '.join(self.tasks)}) and "
                f"{len(self.classes)} heads (classes = {list(self.classes)}); expected one head "
                "per task"
            )
        return self

    @model_validator(mode="after")
    def _has_the_experts_it_asks_for(self) -> "MultiTask":
        if self.top_k > self.experts:
            raise ValueError(
                f"multitask.top_k {self.top_k} is larger than the number of experts, {self.experts}"
            )
        return self
