"""Training of all weights of a model: what is stored and published."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path

from torch import Tensor, nn

from steadyrl.learners.reference import load_reference, save_reference
from steadyrl.policies.checkpoint_names import to_checkpoint_names
from steadyrl.policies.older_readers import save_for_all_readers
from steadyrl.policies.policy import Policy
from steadyrl.policies.weights import copy_weights, saved_weights
from steadyrl.records.weight_source import StateDictWeights, WeightSource


class WholeModel:
    """All weights of a policy's model. `AdaptedModel` has the same methods for an adapter."""

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        self._reference: Policy | None = None

    def parameters(self) -> Mapping[str, nn.Parameter]:
        """Trained weights by name."""
        return dict(self._policy.model.named_parameters())

    def publish(self, version: int) -> WeightSource:
        """The present weights, without copies."""
        return _published(self._policy, version)

    def save(self, folder: Path) -> None:
        """Writes a folder for `from_pretrained`."""
        save_for_all_readers(folder, self._policy.model, self._policy.tokenizer)

    def load(self, folder: Path) -> Mapping[str, Tensor]:
        """Takes over the weights in `folder`, and returns them in the dtype they were saved in.

        Raises:
            ValueError: names or shapes differ from the model's.
        """
        saved = saved_weights(folder, self._policy.head_dtype)
        copy_weights(saved, self._policy.model.state_dict())
        return saved

    def save_reference(self, folder: Path) -> None:
        """Writes the present weights to `folder`, all or nothing."""
        save_reference(folder, self._policy)

    def load_reference(self, folder: Path) -> Policy:
        """A second policy, with the weights in `folder`."""
        self._reference = None  # before there are two
        self._reference = load_reference(folder, self._policy)
        return self._reference

    def publish_reference(self) -> WeightSource:
        """The weights of the policy that was loaded as reference."""
        assert self._reference is not None, "no reference policy was loaded"
        return _published(self._reference, 0)


def _published(policy: Policy, version: int) -> WeightSource:
    return StateDictWeights(
        state=policy.model.state_dict(),
        version=version,
        to_checkpoint=partial(to_checkpoint_names, policy.model),
    )
