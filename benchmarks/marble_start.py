"""Where learning in marble-v1 begins: a small model that writes legal layouts, and knows no more.

Its tokenizer is trained on prompts of the training split, so that a prompt has some hundred tokens.
Its teacher answers each level by the solution of another level with the same piece.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import Field
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from steadyrl.environments.protocol import Environment, Split, Task
from steadyrl.environments.settings import TeacherSettings
from steadyrl.policies.loading import load_model
from steadyrl.policies.model_settings import SmallMoE
from steadyrl.policies.older_readers import save_for_all_readers
from steadyrl.policies.tokenizers import END, PAD, ROLES, with_chat_template

VOCABULARY = 4000


def piece_of(task: Task) -> str:
    """The piece of a level that has one."""
    (piece,) = task.payload.data.inventory
    return str(piece)


def layout_of(task: Task) -> list[dict[str, Any]]:
    """The solution of a level, in whole numbers."""
    return [
        {name: value if name == "kind" else round(value) for name, value in piece.items()}
        for piece in task.payload.data.solution
    ]


def answer(layout: list[dict[str, Any]]) -> str:
    """A layout as the prompt asks for it."""
    return f"```json\n{json.dumps(layout)}\n```"


class OtherLevelsSettings(TeacherSettings):
    """The teacher in `ColdStart.teacher`, as `marble_start:OtherLevelsSettings`."""

    levels: int = Field(1000, ge=2)
    """Number of training levels that are demonstrated, in turn."""

    def make(self, environment: Environment) -> "OtherLevels":
        """The teacher."""
        return OtherLevels(environment, self.levels)


class OtherLevels:
    """Answers a level by the solution of another one that has the same piece."""

    def __init__(self, environment: Environment, levels: int) -> None:
        self._levels = [environment.task(Split.TRAIN, number) for number in range(levels)]

    def task(self, split: Split, index: int) -> Task:
        """A training level, whatever the split."""
        return self._levels[index % len(self._levels)]

    def demonstrate(self, task: Task, generator: np.random.Generator) -> str:
        """An answer in the right form, which solves the level by chance only."""
        others = [
            other
            for other in self._levels
            if other.id != task.id and piece_of(other) == piece_of(task)
        ]
        return answer(layout_of(others[generator.integers(len(others))]))


def save_model(folder: Path, levels: list[Task], seed: int) -> None:
    """Saves a small Mixture-of-Experts model with random weights into `folder`.

    Args:
        levels: Levels whose prompts and solutions the tokenizer is trained on.
    """
    tokenizer = _tokenizer(
        [level.prompt[0].content for level in levels] + [answer(layout_of(x)) for x in levels]
    )
    model = load_model(SmallMoE(max_positions=512), tokenizer=tokenizer, seed=seed)
    save_for_all_readers(folder, model, tokenizer)


def _tokenizer(texts: list[str]) -> PreTrainedTokenizerFast:
    """Byte BPE that keeps numbers apart from the text around them."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(r"-?\d+"), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        min_frequency=2,
        special_tokens=[PAD, END, *ROLES],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return with_chat_template(tokenizer)
