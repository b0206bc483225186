"""The cold start on drills."""

from steadyrl.algorithms.supervised import Supervised
from steadyrl.lab.worlds.drills import Drills
from tests.rollout.fakes import TOKENIZER, Quiz


def taught(drills: Drills) -> Supervised:
    """Supervised learning on `drills`; the run's own tasks are others."""
    return Supervised(
        teacher=drills,
        environment=Quiz(),
        tokenizer=TOKENIZER,
        closing_id=TOKENIZER.eos_token_id,
        batch_size=16,
        seed=0,
    )
