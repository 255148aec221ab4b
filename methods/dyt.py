"""DyT, dynamic tuning: adapters for all tokens, and the MLP only for those that a block chooses."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bsrbench.harness.method import Kind, Method
from bsrbench.harness.model.vit import blocks, head, vision_transformer, width
from bsrbench.methods.parts.block_side_data import BlockSideData, TakesSideData
from bsrbench.methods.parts.bottleneck import Bottleneck, check_bottleneck
from bsrbench.methods.parts.extend_module import extend
from bsrbench.methods.parts.new_modules import draw, place
from bsrbench.methods.parts.option_checks import check_share
from bsrbench.methods.parts.token_dropping import kept_tokens, require_all_tokens
from bsrbench.methods.parts.trained_parameters import require_all_train, train_only

TEMPERATURE = 5.0
RATE_WEIGHT = 2.0


@dataclass(frozen=True)
class DynamicTuning(Method):
    """Train a bottleneck and a token dispatcher in each block, and the head; freeze all else.

    A dispatcher is a Linear layer with one output. It reads the tokens after the attention's
    residual addition, before the norm of the MLP, and decides which tokens pass the MLP. The
    bottleneck, that of ``adapter``, reads the same tokens and is added for all of them. Training
    saves nothing: every token passes the MLP in training only, where its output is multiplied by
    0 or 1, and a step has two forward and two backward passes. Evaluation saves the norm and the
    MLP of the tokens that are not chosen, so ``evaluation_seconds`` and ``forward_macs`` show what
    the method is for. Leading tokens, such as the class token, always pass. How many tokens a new
    dispatcher chooses is a matter of chance, often all or none. So passes that only measure first
    move its bias until ``rate`` of the tokens of one image are chosen, and a prediction, in which
    there are no values, takes as many; a training starts without this.

    The loss is the cross-entropy of a complete pass, in which all tokens pass the MLP; the
    cross-entropy of the dynamic pass; the Kullback-Leibler divergence of the dynamic pass from the
    complete one, KL(complete, dynamic), without a gradient for the complete pass, which is our
    choice; and 2 ((m - ``rate``)^2 + the sum over blocks of max(0, ``least_rate`` - m_i)),
    where m_i is the share of chosen tokens in a block, over the (micro-)batch, and m their mean.
    The complete pass has its backward pass before the dynamic one begins, so one of them is stored
    at a time.

    Stores, for each pass, what the gradient needs to reach the first block, as ``adapter`` does,
    the input of the bottleneck (the tokens that the norm stores too, which the dispatcher shares)
    and its inner activation; in the dynamic pass the output of each MLP, for the gradient of the
    choice. Approximates the gradient of the choice: the straight-through gradient of sigmoid((logit
    + noise) / 5) takes the place of that of the step at 0.5, which is 0; the declared error is that
    of the first step. The noise is drawn from the logistic distribution, which is that of the
    difference of two Gumbel numbers. Does not save the forward pass, the backward pass through all
    blocks, or anything in training.

    Differences: the official code, in the versions for images and VTAB that we have read, has no
    complete pass and no divergence, which are the paper's. Its scripts give the least rate no
    weight; the weight 1 and 0.1 are the defaults of its loss, which applies it to each token. As
    there, LayerScale and stochastic depth act on the MLP alone, the weights of dispatchers are
    drawn with standard deviation 0.02, and their biases are 0.

    Attributes:
        rate: share of the tokens that shall pass the MLP, in (0, 1]; the paper: 0.5.
        least_rate: share of the tokens below which a block is penalised, in [0, 1]; see above.
        bottleneck: inner width of the adapters; the paper: 64; 16 on VTAB.
        scale: factor of the bottleneck's output; the paper: 0.1; official script of VTAB: 1.
        dropout: share of its inner activations dropped in training; official code: 0.1; here 0, as
            in ``adapter``.
    """

    rate: float = 0.5
    least_rate: float = 0.1
    bottleneck: int = 64
    scale: float = 0.1
    dropout: float = 0.0

    source = "Zhao et al. 2024 (DyT), arXiv:2403.11808, section 3; official code 1d26be5, 00cde95"
    exact_forward = False
    gradient_error = 0.002
    forward_passes = 2
    evaluates_alike = False
    kinds: ClassVar = frozenset({Kind.SELECTS_WEIGHTS, Kind.DROPS_TOKENS})

    def __post_init__(self) -> None:
        check_share("rate", self.rate)
        if not 0 <= self.least_rate <= 1:
            raise ValueError(f"least_rate {self.least_rate} must lie in [0, 1]")
        check_bottleneck(self.bottleneck, self.scale, self.dropout)

    def prepare(self, model: nn.Module) -> nn.Module:
        """Freeze everything except the head; give each block a bottleneck and a dispatcher."""
        chain = blocks(model)
        require_all_tokens(model)
        require_all_train(model)
        train_only(model, [head(model)])
        carried = Passes(self.rate)
        for block in chain:
            extend(
                block,
                Dispatches,
                inside=True,
                carried=carried,
                leading=vision_transformer(model).num_prefix_tokens,
                dispatcher=nn.Linear(width(model), 1, **place(model)),
                adapter=Bottleneck(
                    width(model),
                    self.bottleneck,
                    scale=self.scale,
                    dropout=self.dropout,
                    where=place(model),
                ),
            )
            draw(block.dispatcher)
        return model

    def settle(self, model: nn.Module, images: Tensor) -> None:
        """Move the biases of dispatchers until ``rate`` of the first of images [n, ...] passes."""
        carried, training = blocks(model)[0].carried, model.training
        carried.settling = True
        try:
            model.eval()(images[:1])
        finally:
            carried.settling = False
            model.train(training)

    def losses(
        self,
        model: nn.Module,
        forward: Callable[[], Tensor],
        loss_of: Callable[[Tensor], Tensor],
    ) -> Iterator[Tensor]:
        """Yield the loss of the complete pass, then that of the dynamic pass, each of shape [].

        Logits are [n, classes].
        """
        carried = blocks(model)[0].carried
        carried.complete = True
        try:
            logits = forward()
            yield loss_of(logits)  # its backward pass can run blocks again, as complete ones
        finally:
            carried.complete = False
        target = _log_shares(logits.detach())
        carried.now = target.new_empty(0)
        try:
            logits = forward()
            rates = carried.now
        finally:
            carried.now = None
        apart = F.kl_div(_log_shares(logits), target, reduction="batchmean", log_target=True)
        yield loss_of(logits) + apart + RATE_WEIGHT * self._penalty(rates)

    def _penalty(self, rates: Tensor) -> Tensor:
        """Return how far the shares of chosen tokens [blocks] are from the target, of shape []."""
        return (rates.mean() - self.rate) ** 2 + (self.least_rate - rates).relu().sum()

    def added_macs(self, tokens: tuple[int, ...], width: int) -> int:
        """Return the multiply-adds of both projections and the dispatcher, for all tokens."""
        return sum(tokens) * width * (2 * self.bottleneck + 1)


class Passes(BlockSideData):
    """What the blocks of a model share: the kind of the pass, and the shares of chosen tokens.

    Attributes:
        now: the shares of chosen tokens of the blocks so far, [blocks]; ``None`` if nobody asks.
        rate: the share of tokens that shall be chosen.
        complete: whether all tokens pass the MLPs.
        settling: whether blocks in evaluation move their biases until this share is chosen.
    """

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate
        self.complete = self.settling = False


class Dispatches(TakesSideData):
    """A timm block in which a dispatcher chooses the tokens that pass the MLP."""

    carried: Passes
    leading: int
    dispatcher: nn.Linear
    adapter: Bottleneck

    def forward(self, x: Tensor) -> Tensor:
        """Map [batch, tokens, dim] to [batch, tokens, dim]."""
        block: Any = self  # it has the submodules of timm's Block
        x = x + block.drop_path1(block.ls1(block.attn(block.norm1(x))))
        adapted: Tensor = x + self.adapter(x)
        if self.carried.complete:
            return adapted + self._branch(x)
        if self.training:
            return adapted + self._choices(x) * self._branch(x)
        rows = self._chosen_rows(x)
        branch = self._branch(x.flatten(0, 1)[rows].unsqueeze(0)).squeeze(0)
        return adapted.flatten(0, 1).index_add(0, rows, branch.to(adapted.dtype)).view_as(x)

    def _branch(self, x: Tensor) -> Tensor:
        """Return what the MLP adds to tokens [batch, tokens, dim]."""
        block: Any = self
        output: Tensor = block.drop_path2(block.ls2(block.mlp(block.norm2(x))))
        return output

    def _choices(self, x: Tensor) -> Tensor:
        """Return 1 for tokens that pass the MLP and 0 for others, [batch, tokens, 1].

        The dispatcher reads all tokens [batch, tokens, dim], because a part of them would be copied
        and stored. Under autocast the noise is still drawn in fp32, from the same numbers.
        """
        logits: Tensor = self.dispatcher(x)[:, self.leading :]
        exact = torch.promote_types(logits.dtype, torch.float32)
        noise = torch.rand_like(logits, dtype=exact).logit()
        soft = ((logits + noise) / TEMPERATURE).sigmoid()
        hard = (soft > 0.5).to(exact)  # noqa: PLR2004 - the step is at one half
        chosen = hard + (soft - soft.detach())
        if self.carried.now is not None:
            self.carried.now = torch.cat([self.carried.now, chosen.mean().view(1)])
        whole: Tensor = F.pad(chosen, (0, 0, self.leading, 0), value=1.0)
        return whole

    def _chosen_rows(self, x: Tensor) -> Tensor:
        """Return the places of the chosen tokens among those of all images, [chosen]."""
        logits: Tensor = self.dispatcher(x).squeeze(-1)
        if x.is_meta:
            taken = self.leading + kept_tokens(x.shape[1] - self.leading, self.carried.rate)
            return logits[:, :taken].flatten().argsort()  # any places
        if self.carried.settling:
            logits = logits - self._settle(logits)
        chosen = logits > 0  # its sigmoid is above one half
        chosen[:, : self.leading] = True
        return chosen.flatten().nonzero().squeeze(1)

    def _settle(self, logits: Tensor) -> Tensor:
        """Lower the bias so that the target share of logits [batch, tokens] is above 0.

        Return by how much, of shape [].
        """
        falling = logits[:, self.leading :].flatten().sort(descending=True).values
        taken = kept_tokens(len(falling), self.carried.rate)
        last = falling[taken - 1]
        above = last - 1 if taken == len(falling) else (last + falling[taken]) / 2
        self.dispatcher.bias.sub_(above)
        return above


def _log_shares(logits: Tensor) -> Tensor:
    """Return the logarithms of the softmax of logits [batch, classes], in fp32 at least."""
    return logits.log_softmax(-1, dtype=torch.promote_types(logits.dtype, torch.float32))
