"""Token rows that a trainer can score and learn from."""

from dataclasses import dataclass, replace

from jaxtyping import Bool, Float, Int
from torch import Tensor

from steadyrl.records.routing import Routing


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenBatch:
    """`B` right-padded rows of `T` tokens.

    Per-token values are aligned with `tokens`: entry `t` speaks of `tokens[:, t]` given what
    precedes it. Entry 0 never carries loss.
    """

    tokens: Int[Tensor, "B T"]

    attention_mask: Bool[Tensor, "B T"]
    """Real tokens, as against padding."""

    loss_mask: Bool[Tensor, "B T"]
    """Tokens that carry gradient: those the policy sampled, or a teacher wrote."""

    group_ids: Int[Tensor, " B"]
    """Which rows were sampled for one prompt."""

    response_ids: Int[Tensor, " B"]
    """Which rows are one response: all that was sampled in one episode. They are several where a
    later prompt did not continue the tokens before it."""

    advantages: Float[Tensor, "B T"]
    """0 outside the loss mask."""

    rollout_logprobs: Float[Tensor, "B T"] | None = None
    """log mu_old, of the rollout engine. None for rows that no engine sampled."""

    rollout_routing: Routing | None = None
    """Experts the rollout engine chose."""

    old_logprobs: Float[Tensor, "B T"] | None = None
    """log pi_old, of the trainer before the update. None: those of the update's forward pass."""

    old_routing: Routing | None = None
    """Experts the trainer chose under the old weights."""

    temperature: float | None = None
    """Logits are divided by it, as when the tokens were sampled. None: that of the stage."""

    reprompted: bool = False
    """The tokens were sampled under another prompt than the one they stand under here, and so were
    `rollout_logprobs`. They say nothing of how far engine and trainer are apart."""

    teacher: "TokenBatch | None" = None
    """The same loss tokens, row by row, under the prompt of a policy that is to be imitated. With a
    teacher, the rows are copies of rows that stand in another batch as well."""

    def __len__(self) -> int:
        return self.tokens.shape[0]

    @property
    def lengths(self) -> Int[Tensor, " B"]:
        """Real tokens in each row."""
        return self.attention_mask.sum(dim=1)

    @property
    def responses(self) -> int:
        """How many responses the rows are."""
        return len(self.response_ids.unique())

    @property
    def is_measured(self) -> bool:
        """Whether metrics of the policies read it: each sampled token once, under its prompt."""
        return not self.reprompted and self.teacher is None

    @property
    def has_signal(self) -> Bool[Tensor, " B"]:
        """Rows with a non-zero advantage on some token."""
        return ((self.advantages != 0) & self.loss_mask).any(dim=1)

    def rows(self, index: Int[Tensor, " b"]) -> "TokenBatch":
        """The rows `index`, cut to the longest of them."""
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
            old_logprobs=cut(self.old_logprobs),
            old_routing=cut_routing(self.old_routing),
            teacher=None if self.teacher is None else self.teacher.rows(index),
        )
