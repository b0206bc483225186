"""Settings of dataset environments: columns, splits and rewards."""

import json
import re
from collections.abc import Mapping
from hashlib import sha256
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from steadyrl.base.errors import UserError
from steadyrl.base.settings import Settings
from steadyrl.base.variants import Variants
from steadyrl.environments.answer_formats import AnswerFormat, format_instruction
from steadyrl.environments.dataset.choice_reward import ChoiceReward
from steadyrl.environments.dataset.environment import ComparingDataset, Dataset, WeightedReward
from steadyrl.environments.dataset.examples import Columns, Example, RowReader, template_fields
from steadyrl.environments.dataset.function_reward import FunctionReward
from steadyrl.environments.dataset.json_reward import JSONSchemaReward
from steadyrl.environments.dataset.loading import SplitAssigner, SplitTables
from steadyrl.environments.dataset.math_reward import MathReward
from steadyrl.environments.dataset.rewards import RewardSettings
from steadyrl.environments.dataset.sources import find_split, open_splits
from steadyrl.environments.dataset.text_rewards import ExactReward, LengthReward, RegexReward
from steadyrl.environments.protocol import Split
from steadyrl.environments.settings import EnvironmentSettings

AnyReward = Annotated[
    RewardSettings,
    Variants(
        RewardSettings,
        "steadyrl.rewards",
        ExactReward,
        MathReward,
        ChoiceReward,
        RegexReward,
        JSONSchemaReward,
        LengthReward,
        wrapper=FunctionReward,
    ),
]


class SplitNames(Settings):
    """Names of the dataset splits."""

    train: str | None = None
    """Split to train on. None: the split named train, or the only one."""

    validation: str | None = None
    """Split to validate on. None: the split of that name, or a share of `train` if there is
    none."""

    test: str | None = None
    """Split to test on. None: the split of that name, or a share of `train` if there is none."""

    held_out: float = Field(0.1, gt=0.0, lt=0.5)
    """Share of `train` for each split that the dataset lacks. Rows are selected by the text of
    their prompts, so held-out rows stay held out when the data grow."""


class DatasetSettings(EnvironmentSettings):
    """Dataset, its columns, and rewards."""

    name: Literal["dataset"] = "dataset"

    path: str = Field(min_length=1)
    """File (.jsonl, .json, .csv, .tsv, .parquet), folder of such files, or name of a dataset on the
    Hugging Face Hub."""

    subset: str | None = None
    """Configuration of a dataset on the Hub; None: the default one."""

    revision: str | None = None
    """Commit, tag or branch on the Hub; None: the latest. Only a commit pins the data."""

    splits: SplitNames = SplitNames()

    columns: Columns = Columns()

    system: str | None = None
    """System prompt."""

    template: str | None = None
    """Template of the prompt, with column names in braces, as in `{question}`; replaces the column
    `columns.prompt`. A list of texts becomes lines that begin with A., B. and so on."""

    answer_pattern: str | None = None
    """Regular expression with one group that extracts the correct answer from its column, as in
    `#### (.*)`."""

    answer_format: AnswerFormat = AnswerFormat.WHOLE
    """Format in which responses state their answers."""

    instruction: str | None = None
    """Text after each prompt. None: a request for the answer format."""

    rewards: tuple[AnyReward, ...] = Field(min_length=1)
    """Rewards whose weighted sum is trained on. A name stands for a reward with default
    settings."""

    invalid_rows: Literal["refuse", "skip"] = "refuse"
    """Handling of rows without a valid prompt or answer."""

    @field_validator("rewards", mode="before")
    @classmethod
    def _one_is_a_list(cls, given: Any) -> Any:
        return (given,) if isinstance(given, str | dict | RewardSettings) else given

    @field_validator("template")
    @classmethod
    def _has_fields(cls, template: str | None) -> str | None:
        if template is not None and not template_fields(template):
            raise ValueError(
                f"{template!r} has no column in braces, so all prompts would be equal. Write "
                "{column} where its text belongs."
            )
        return template

    @field_validator("answer_pattern")
    @classmethod
    def _has_one_group(cls, pattern: str | None) -> str | None:
        if pattern is None:
            return None
        try:
            groups = re.compile(pattern).groups
        except re.error as error:
            raise ValueError(f"{pattern!r} is not a regular expression ({error})") from error
        if groups != 1:
            raise ValueError(f"{pattern!r} has {groups} groups. Put the answer into one (...).")
        return pattern

    @model_validator(mode="after")
    def _check_titles(self) -> "DatasetSettings":
        titles = [reward.title for reward in self.rewards]
        twice = sorted({title for title in titles if titles.count(title) > 1})
        if twice:
            raise ValueError(
                f"two rewards are named {twice[0]!r}, and so would be their metrics. Give each a "
                "label."
            )
        if not any(reward.weight for reward in self.rewards):
            raise ValueError(
                "every reward has the weight 0, so every response would earn 0. Give at least one "
                "another weight."
            )
        return self

    def make(self) -> Dataset:
        """The environment.

        Raises:
            UserError: the data or a reward is invalid; the message names the row or reward.
        """
        rewards: dict[str, WeightedReward] = {}
        try:
            for each in self.rewards:
                reward = each.make(self.answer_format)
                rewards[each.title] = WeightedReward(reward=reward, weight=each.weight)
            return self.make_with(rewards)
        except BaseException:
            for weighed in rewards.values():
                weighed.reward.close()
            raise

    def tables(self) -> dict[Split, SplitTables]:
        """Tables of the splits that the dataset has.

        Raises:
            UserError: the dataset cannot be read, or lacks a named split.
        """
        splits = open_splits(self.path, self.subset, self.revision)
        found: dict[Split, SplitTables] = {}
        for split in Split:
            name = find_split(splits, split, getattr(self.splits, split), self.path)
            twice = [other for other, tables in found.items() if tables.name == name]
            if twice:
                raise UserError(
                    f"The split {name!r} of {self.path} is both {twice[0]} and {split}. Name "
                    "another one in environment.splits."
                )
            if name is not None:
                found[split] = SplitTables(name=name, tables=splits[name]())
        return found

    def digest(self) -> str:
        """SHA-256 of all rows, for data that are not local files.

        Raises:
            UserError: the rows cannot be read.
        """
        digest = sha256()
        for split, found in self.tables().items():
            for row in (row for table in found.tables for row in table.rows):
                line = json.dumps([split, row], sort_keys=True, default=repr)
                digest.update(f"{line}\n".encode())
        return digest.hexdigest()

    def make_with(self, rewards: Mapping[str, WeightedReward]) -> Dataset:
        """The environment with these rewards by title, which may be none, instead of its own.

        Raises:
            UserError: the data or a reward is invalid.
        """

        def check(example: Example) -> None:
            for weighed in rewards.values():
                weighed.reward.check(example)

        request = self.instruction
        reader = RowReader(
            columns=self.columns,
            template=self.template,
            system=self.system,
            request=format_instruction(self.answer_format) if request is None else request,
            answer_pattern=self.answer_pattern,
            reads_answer=any(each.reads_answer for each in self.rewards),
        )
        assigner = SplitAssigner(
            reader=reader,
            check=check,
            held_out=self.splits.held_out,
            skip=self.invalid_rows == "skip",
        )
        locations = assigner.sort(self.tables())
        compares = any(weighed.reward.compares for weighed in rewards.values())
        environment = (ComparingDataset if compares else Dataset)(
            self.path,
            reader=reader,
            locations=locations,
            rewards=rewards,
            answer_format=self.answer_format,
            notes=assigner.notes,
        )
        environment.try_rewards([each.title for each in self.rewards if ":" in each.name])
        return environment
