"""What of verl's configuration reaches our losses, and what they refuse."""

import json
import shlex
import sys
from pathlib import Path

import pytest

pytest.importorskip("verl")
pytestmark = [
    pytest.mark.verl,
    pytest.mark.filterwarnings("default"),  # what verl and its dependencies warn of is theirs
]

from verl.trainer.ppo import core_algos  # noqa: E402
from verl.utils.config import omega_conf_to_dataclass  # noqa: E402
from verl.workers.config import HFModelConfig  # noqa: E402

from steadyrl.base.errors import UserError  # noqa: E402
from steadyrl.integrations.verl_names import check_version  # noqa: E402
from steadyrl.objectives import GRPO, MiniRL, TokenTerms  # noqa: E402
from tests.integrations.verl_world import (  # noqa: E402
    EXACT,
    ROOT,
    actor_config,
    assert_same_loss,
    composed,
    in_ppo_loss,
    loss_in_verl,
    options,
    token_terms,
)


@pytest.fixture
def terms() -> TokenTerms:
    return token_terms()


def command_in_docs() -> list[str]:
    """The options of the command in docs/integrations.md."""
    text = (ROOT / "docs/integrations.md").read_text(encoding="utf-8")
    (block,) = [
        part.partition("```")[0]
        for part in text.split("```bash\n")[1:]
        if part.startswith("python -m verl")
    ]
    return shlex.split(block.replace("\\\n", " "))[3:]


def test_the_command_in_the_docs_is_minirl(terms: TokenTerms) -> None:
    micro_batch = "actor_rollout_ref.actor.ppo_micro_batch_size_per_gpu=8"
    config = composed(*command_in_docs(), micro_batch).actor_rollout_ref.actor

    loss, _ = in_ppo_loss(terms, omega_conf_to_dataclass(config))

    assert_same_loss(loss, MiniRL()(terms), terms, "seq-mean-token-sum")


def test_verls_workers_import_the_losses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "config.json").write_text(
        json.dumps({"model_type": "qwen3", "architectures": ["Qwen3ForCausalLM"]})
    )
    model = composed(
        *command_in_docs(),
        f"actor_rollout_ref.model.path={tmp_path}",
        "+actor_rollout_ref.model.load_tokenizer=False",
        "+actor_rollout_ref.model.override_config.attn_implementation=sdpa",
    ).actor_rollout_ref.model
    monkeypatch.setattr(core_algos, "POLICY_LOSS_REGISTRY", {})
    monkeypatch.delitem(sys.modules, "steadyrl.integrations.verl")

    assert isinstance(omega_conf_to_dataclass(model), HFModelConfig)

    assert "steadyrl.minirl" in core_algos.POLICY_LOSS_REGISTRY


@pytest.mark.parametrize(
    ("name", "overrides", "message"),
    [
        ("minirl", [], "but rollout_is is 'sequence'. Set it to token, and hand its settings"),
        ("minirl", options(correction=EXACT), "verl computed no rollout_is_weights"),
        (
            "minirl",
            options(correction={"rollout_is": "token"}),
            "rollout_is_threshold 2.0 bounds it before the loss does. Set it to 1e\\+09",
        ),
        (
            "dppo_tv",
            options(correction={"rollout_is": "token", "rollout_is_threshold": "0.5_5.0"}),
            "rollout_is_threshold 0.5_5.0 bounds it",
        ),
        (
            "dppo_kl",
            options(correction=EXACT | {"rollout_is_batch_normalize": True}),
            "rollout_is_batch_normalize is True. Set it to False",
        ),
        ("minirl", options(correction={"bypass_mode": True}), "reads pi_old, which verl replaces"),
        (
            "reinforce",
            options(correction={"bypass_mode": True, "rollout_rs": "seq_mean_k1"}),
            "rollout_rs is 'seq_mean_k1', but in bypass_mode",
        ),
        ("grpo", options(c=5.0), "does not read clip_ratio_c, got 5.0. Leave it at 3.0"),
        ("reinforce", options(low=0.1), "does not read clip_ratio_low, got 0.1"),
        ("dppo_tv", options(low=0.1, high=0.15), "one threshold, got clip_ratio_low=0.1"),
        ("dual_clip", options(c=0.5), "ratio_cap: Input should be greater than 1"),
        (
            "grpo",
            ["actor_rollout_ref.actor.clip_ratio=0.3"],
            "clip_ratio is 0.3, but verl reads clip_ratio_low=0.2",
        ),
        (
            "minirl",
            ["actor_rollout_ref.actor.policy_loss.ppo_kl_coef=0.2"],
            "does not read policy_loss.ppo_kl_coef",
        ),
    ],
)
def test_what_cannot_be_honored_is_told(
    terms: TokenTerms, name: str, overrides: list[str], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        loss_in_verl(name, terms, actor_config(overrides))


def test_null_bounds_are_clip_ratio(terms: TokenTerms) -> None:
    config = actor_config(
        [
            "actor_rollout_ref.actor.clip_ratio=0.1",
            "actor_rollout_ref.actor.clip_ratio_low=null",
            "actor_rollout_ref.actor.clip_ratio_high=null",
        ]
    )
    loss, _ = loss_in_verl("grpo", terms, config)

    assert_same_loss(loss, GRPO(clip_low=0.1, clip_high=0.1)(terms), terms, "token-mean")


@pytest.mark.parametrize("installed", ["0.8.0", "0.10.0", "1.0"])
def test_another_version_is_refused(installed: str) -> None:
    with pytest.raises(UserError, match=rf"supports verl 0\.9, got {installed}"):
        check_version(installed)
