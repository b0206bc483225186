"""Batches of token rows for scoring and training."""

from dataclasses import dataclass, replace

from jaxtyping import Bool, Float, Int
from torch import Tensor

from steadyrl.records.candidates import Candidates
from steadyrl.records.router_scores import RouterScores
from steadyrl.records.routing import Routing
from steadyrl.records.support import Support


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenBatch:
    """`B` right-padded rows of `T` tokens.

    Per-token values are aligned with `tokens`: entry `t` belongs to `tokens[:, t]` given the tokens
    before it. Entry 0 never carries loss.
    """

    tokens: Int[Tensor, "B T"]

    attention_mask: Bool[Tensor, "B T"]
    """True at tokens, False at padding."""

    loss_mask: Bool[Tensor, "B T"]
    """Tokens that carry gradient: sampled by the policy or written by a teacher."""

    group_ids: Int[Tensor, " B"]
    """Rows with equal ids were sampled for the same prompt."""

    response_ids: Int[Tensor, " B"]
    """Rows with equal ids are one response: all tokens sampled in one episode. A response has
    several rows if a later prompt does not continue the tokens before it."""

    advantages: Float[Tensor, "B T"]
    """Advantage of each token; 0 outside the loss mask."""

    rollout_logprobs: Float[Tensor, "B T"] | None = None
    """log mu_old, from the rollout engine. None: the rows were not sampled by an engine."""

    rollout_routing: Routing | None = None
    """Experts chosen by the rollout engine."""

    support: tuple[Support, ...] | None = None
    """Tokens that could be drawn in place of the loss tokens of each row. Its log-probabilities are
    those among them. None: the whole vocabulary."""

    candidates: tuple[Candidates, ...] | None = None
    """The engine's most probable tokens in place of the loss tokens of each row. None: not
    recorded."""

    old_logprobs: Float[Tensor, "B T"] | None = None
    """log pi_old, from the trainer before the update. None: taken from the update's own forward
    pass."""

    old_routing: Routing | None = None
    """Experts chosen by the trainer under the old weights."""

    old_router: RouterScores | None = None
    """Router scores of the trainer under the old weights, if an objective reads router shifts.
    None: the update's own forward pass is at the old weights."""

    temperature: float | None = None
    """Divisor of the logits, as during sampling. None: the temperature of the stage."""

    reprompted: bool = False
    """Whether the tokens, and `rollout_logprobs`, were sampled under another prompt than the one in
    these rows. Such rows do not measure the training-inference discrepancy."""

    teacher: "TokenBatch | None" = None
    """The same loss tokens, row by row, under the prompt of the policy to imitate. With a teacher,
    the rows are copies of rows in another batch."""

    def __len__(self) -> int:
        return self.tokens.shape[0]

    @property
    def lengths(self) -> Int[Tensor, " B"]:
        """Number of tokens in each row, without padding."""
        return self.attention_mask.sum(dim=1)

    @property
    def responses(self) -> int:
        """Number of responses in the batch."""
        return len(self.response_ids.unique())

    @property
    def is_measured(self) -> bool:
        """Whether policy metrics include the batch, so that each sampled token counts once."""
        return not self.reprompted and self.teacher is None

    @property
    def token_support(self) -> Support | None:
        """Supports of the loss tokens, row after row; None: the whole vocabulary."""
        return None if self.support is None else Support.joined(self.support)

    @property
    def token_candidates(self) -> Candidates | None:
        """Candidates of the loss tokens, row after row; None: not recorded."""
        return None if self.candidates is None else Candidates.joined(self.candidates)

    @property
    def has_signal(self) -> Bool[Tensor, " B"]:
        """Rows with a non-zero advantage at some loss token."""
        return ((self.advantages != 0) & self.loss_mask).any(dim=1)

    def rows(self, index: Int[Tensor, " b"]) -> "TokenBatch":
        """The rows `index`, cut to the length of the longest."""
        length = int(self.lengths[index].max())

        def cut(values: Tensor | None) -> Tensor | None:
            return None if values is None else values[index, :length]

        def cut_routing(routing: Routing | None) -> Routing | None:
            return None if routing is None else routing.rows(index, length)

        return replace(
            self,
            tokens=self.tokens[index, :length],
            attention_mask=self.attention_mask[index, :length],
            loss_mask=self.loss_mask[index, :length],
            group_ids=self.group_ids[index],
            response_ids=self.response_ids[index],
            advantages=self.advantages[index, :length],
            rollout_logprobs=cut(self.rollout_logprobs),
            rollout_routing=cut_routing(self.rollout_routing),
            support=self.support and tuple(self.support[row] for row in index.tolist()),
            candidates=self.candidates and tuple(self.candidates[row] for row in index.tolist()),
            old_logprobs=cut(self.old_logprobs),
            old_routing=cut_routing(self.old_routing),
            old_router=self.old_router and self.old_router.rows(index, length),
            teacher=None if self.teacher is None else self.teacher.rows(index),
        )
