"""The engine's copy of the policy, in the engine's numerics."""

from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from steadyrl.base.errors import UserError
from steadyrl.engines.protocol import EngineCapabilities, Request
from steadyrl.policies.float32_head import HeadDtype, separate_head
from steadyrl.policies.loading import model_from_config
from steadyrl.policies.merged_weights import MergedWeights
from steadyrl.policies.numerics import (
    WEIGHT_ROUNDINGS,
    LowPrecision,
    Numerics,
    WeightScaling,
)
from steadyrl.policies.output_head import OutputHead
from steadyrl.policies.passes import PASS_COST, plan_passes
from steadyrl.policies.policy import Policy
from steadyrl.policies.positions import frequency_change, max_positions
from steadyrl.policies.products import speed_up
from steadyrl.policies.reach import Reach, WeightSample
from steadyrl.policies.rounding import Rounding, round_into
from steadyrl.policies.routing import RoutingHook
from steadyrl.policies.routing_noise import RoutingNoise
from steadyrl.policies.token_scores import scores_by_head, scores_of_logits
from steadyrl.policies.weights import copy_weights, perturb_weights
from steadyrl.records.weight_source import WeightSource, full_weights

MAX_ROUNDING_DISTANCE = 0.5
"""Largest distance of a rounded or noisy tensor from the original, as a share of its norm.
Per-channel INT4 has 0.2."""

DTYPES = {Numerics.FLOAT32: torch.float32, Numerics.BFLOAT16: torch.bfloat16}


class EngineModel:
    """A second model of the policy's architecture, whose weights are rounded when they are loaded.

    Args:
        policy: Source of architecture, dtype, device, end tokens and initial weights.
        rounding: Rounding of float32 weights to bfloat16 at each load.
        seed: Seed of the thresholds of stochastic rounding, and of noise.
        record_routing: Whether to hook the routers. Requires a Mixture-of-Experts model.
        head_dtype: float32: compute logits in float32 from float32 weights of the head.
        routing_noise: Standard deviation of noise on the logarithms of the router scores.
        weight_noise: Relative standard deviation of noise on the weights, redrawn at each load.
        candidates: Number of most probable tokens to record of each sampled token.

    Raises:
        UserError: routing noise is set but the routers are not hooked.
    """

    def __init__(
        self,
        policy: Policy,
        *,
        numerics: Numerics,
        weight_scaling: WeightScaling,
        record_routing: bool,
        rounding: Rounding = "nearest",
        seed: int = 0,
        head_dtype: HeadDtype = "model",
        routing_noise: float = 0.0,
        weight_noise: float = 0.0,
        candidates: int = 0,
    ) -> None:
        if routing_noise and not record_routing:
            raise UserError(
                f"engine.routing_noise is {routing_noise}, but no router of this model can be "
                "hooked. Set it to 0, or choose a Mixture-of-Experts model."
            )
        dtype = DTYPES.get(numerics, policy.model.dtype)
        self.model = model_from_config(policy.model, dtype, head_dtype)
        if head_dtype == "float32":
            separate_head(self.model)
        speed_up(self.model)
        self.max_positions = max_positions(self.model)
        """Maximum tokens of a prompt and its completion together; None: no limit."""
        self.end_token_ids = policy.end_token_ids
        self.candidates = min(candidates, policy.vocabulary_size)
        """Number of most probable tokens to record of each sampled token."""
        self.policy_version = -1
        self.reach: Reach | None = None
        """Share of the trainer's last update that reached this model."""
        self._rounding, self._seed = rounding, seed
        self._weight_noise = weight_noise
        self._sample: WeightSample | None = None
        lowered = numerics in WEIGHT_ROUNDINGS
        self._low = LowPrecision(self.model, numerics, weight_scaling) if lowered else None
        self.load_weights(MergedWeights(policy.model), version=0)
        noise = RoutingNoise(routing_noise, seed) if routing_noise else None
        self.hook = RoutingHook(self.model, noise=noise) if record_routing else None
        self.head = OutputHead(self.model)

    @property
    def device(self) -> torch.device:
        """Device of the model."""
        return self.model.device

    @property
    def needs_versions(self) -> bool:
        """Whether tensors must track versions, which rounding reads."""
        return self._low is not None

    @property
    def capabilities(self) -> EngineCapabilities:
        """Capabilities of an engine with this model."""
        return EngineCapabilities(
            max_positions=self.max_positions,
            routing=self.hook is not None,
            exact_draws=True,
            scoring=True,
            sampling_support=True,
            candidates=True,
        )

    def sync(self, weights: WeightSource) -> None:
        """Loads a learner's weights. An adapter is merged into its base.

        Raises:
            UserError: the weights are an adapter without its base.
        """
        self.load_weights(dict(full_weights(weights).tensors("model")), weights.version)

    def load_weights(self, weights: Mapping[str, Tensor], version: int) -> None:
        """Loads `weights` and rounds them to the engine's numerics."""
        own = self.model.state_dict()
        copy_weights(weights, own, rounding=self._rounding, seed=self._seed)
        if self._weight_noise:
            seed = (self._seed + (version << 20)) % (1 << 63)
            perturb_weights(self.model, self._weight_noise, seed)
        if self._low is not None:
            self._low.round_weights()
        sample = WeightSample.of(own, weights)
        self.reach = None if self._sample is None else self._sample.reach(sample)
        self._sample = sample
        self.policy_version = version

    @torch.no_grad()
    def differing_tensors(self, weights: WeightSource) -> list[str]:
        """Names of tensors that differ from `weights`, rounded in the same way."""
        exact = self._low is None and not self._weight_noise
        given, names = dict(full_weights(weights).tensors("model")), []
        state = self.model.state_dict()
        written = {weight.data_ptr(): name for name, weight in state.items()}
        for name in written.values():  # of tied weights, the last name was written last
            own = state[name]
            expected = torch.empty_like(own)
            round_into(expected, given[name], self._rounding, name=name, seed=self._seed)
            distance = (own - expected).float().norm()
            if distance > (0 if exact else MAX_ROUNDING_DISTANCE * expected.float().norm()):
                names.append(name)
        return names

    def check(self, request: Request) -> None:
        """Rejects a request that exceeds the model's positions."""
        length, budget = len(request.prompt_ids), request.sampling.max_new_tokens
        if length == 0:
            raise UserError("A prompt has no tokens. Check the chat template.")
        if self.max_positions is not None and length + budget > self.max_positions:
            raise UserError(
                f"A prompt of {length} tokens with max_new_tokens {budget} needs "
                f"{length + budget} positions, but the model has {self.max_positions}"
                f"{self._position_limit_reason()}. Lower max_new_tokens or shorten the prompts."
            )

    @torch.no_grad()
    def score(
        self, sequences: Sequence[Int[Tensor, " _T"]], max_pass_positions: int
    ) -> list[Float[Tensor, " _T"]]:
        """Log-probability of every token given those before it; 0 for the first token.

        Args:
            max_pass_positions: Maximum positions of a forward pass, padding included.
        """
        for sequence in sequences:
            self._check_length(len(sequence))
        lengths = torch.tensor([len(sequence) for sequence in sequences])
        scored: dict[int, Float[Tensor, " _T"]] = {}
        plan = plan_passes(lengths, max_pass_positions, pass_cost=PASS_COST) if sequences else []
        for numbers in plan:
            rows = self._score_pass([sequences[number] for number in numbers])
            scored.update(zip(numbers.tolist(), rows, strict=True))
        return [scored[number] for number in range(len(sequences))]

    def _score_pass(self, sequences: list[Int[Tensor, " _T"]]) -> list[Float[Tensor, " _T"]]:
        tokens = pad_sequence(sequences, batch_first=True).to(self.device)
        lengths = torch.tensor([len(sequence) for sequence in sequences], device=self.device)
        columns = torch.arange(tokens.shape[1], device=self.device)[None]
        # Padding is on the right: causality alone keeps it from every real token.
        inputs = {"input_ids": tokens, "position_ids": columns, "use_cache": False}
        followed = columns < lengths[:, None] - 1
        targets = tokens.roll(-1, dims=1)[followed][:, None]
        if self.head.is_plain:
            states = self.head.states(inputs, followed)
            logprobs, _ = scores_by_head(states, self.head.linear, targets, temperature=1.0)
        else:
            logits = self.head.logits(inputs, followed)
            logprobs, _ = scores_of_logits(logits, targets, temperature=1.0)
        rows = logprobs[:, 0].float().cpu().split((lengths - 1).tolist())
        return [torch.nn.functional.pad(row, (1, 0)) for row in rows]

    def _check_length(self, length: int) -> None:
        if length == 0:
            raise UserError("A sequence to score has no tokens. Give at least one.")
        if self.max_positions is not None and length > self.max_positions:
            raise UserError(
                f"Cannot score a sequence of {length} tokens: the model has {self.max_positions} "
                f"positions{self._position_limit_reason()}. Shorten it."
            )

    def _position_limit_reason(self) -> str:
        if frequency_change(self.model) is None:
            return ""
        return " before it changes its rotary frequencies for every row of a batch"
