"""What a model costs to store, to move and to multiply, in numbers of values."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelShape:
    """Sizes of a model.

    Example:
        read_shape(config.model)  # of the model of a run
    """

    name: str
    parameters: int
    layers: int
    width: int
    vocabulary: int

    dense_weights: int
    """Weights of the trunk that multiply every token."""

    expert_weights: int
    """Weights of all experts."""

    head_weights: int

    experts: int
    experts_per_token: int
    """0 for dense models."""

    heads: int
    """Attention heads for queries in a layer."""

    kv_heads: int
    """Attention heads for keys and values in a layer."""

    attention_width: int
    """Channels of the queries of all layers that attend."""

    cached: int
    """Numbers that a position keeps in the caches of layers that attend to all positions."""

    windowed: int = 0
    """The same for layers that attend to a window."""

    window: int = 0

    layer_activations: float
    """Bytes per position that one layer saves for its backward pass in bfloat16."""

    tensors: int
    """Tensors of the checkpoint."""

    @property
    def is_sparse(self) -> bool:
        """Whether it is a Mixture of Experts."""
        return self.experts_per_token > 0

    def divides_among(self, devices: int) -> bool:
        """Whether as many devices of one engine can share the heads of attention."""
        shared = devices % self.kv_heads == 0 or self.kv_heads % devices == 0
        return self.heads % devices == 0 and shared

    @property
    def active(self) -> float:
        """Weights of the trunk that multiply one token."""
        share = self.experts_per_token / self.experts if self.is_sparse else 0.0
        return self.dense_weights + self.expert_weights * share

    def read_weights(self, tokens: float) -> float:
        """Weights that a pass over `tokens` reads: an expert only if a token chooses it."""
        chosen = 0.0
        if self.is_sparse:
            chosen = 1 - (1 - self.experts_per_token / self.experts) ** tokens
        return self.dense_weights + self.head_weights + self.expert_weights * chosen

    def cached_values(self, positions: float) -> float:
        """Numbers in the cache of a sequence of so many positions."""
        kept = min(positions, float(self.window)) if self.window else positions
        return self.cached * positions + self.windowed * kept

    def pass_operations(self, positions: float, answered: float, squares: float) -> float:
        """Operations of a forward pass: 2 for each weight and token, and those of attention.

        Args:
            positions: Positions that are computed.
            answered: Positions whose vocabulary scores are.
            squares: Sum of the squared lengths of the rows.
        """
        weights = 2 * (self.active * positions + self.head_weights * answered)
        return weights + 2 * self.attention_width * squares
