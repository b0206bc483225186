"""Weights of a sharded learner, each gathered from its ranks when it is read."""

from collections.abc import Callable, Iterator, Mapping, Sequence

from torch import Tensor

from steadyrl.learners.fsdp.ranks import RankGroup
from steadyrl.learners.fsdp.sharded_policy import WeightForm


class GatheredWeights(Mapping[str, Tensor]):
    """Weights by name. No process holds more than one of them whole.

    Args:
        is_current: Whether the ranks still hold these weights.
    """

    def __init__(
        self,
        ranks: RankGroup,
        names: Sequence[str],
        *,
        form: WeightForm,
        of_reference: bool,
        is_current: Callable[[], bool],
    ) -> None:
        self._ranks = ranks
        self._names = dict.fromkeys(names)
        self._form = form
        self._of_reference = of_reference
        self._is_current = is_current

    def __getitem__(self, name: str) -> Tensor:
        if name not in self._names:
            raise KeyError(name)
        if not self._is_current():
            raise RuntimeError(
                "Weights of a sharded learner were read after a later update. Read a published "
                "source before the next update."
            )
        weight: Tensor = self._ranks.call("gather", name, self._form, self._of_reference)[0]
        return weight

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)
