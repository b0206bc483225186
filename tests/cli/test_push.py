"""Uploads to a hub on this machine, and the model card that goes along."""

import json
import shutil
from pathlib import Path

import pytest
from huggingface_hub import ModelCard, constants
from transformers import AutoModelForCausalLM, AutoTokenizer

from steadyrl.records.run_folder import RunFolder
from steadyrl.run.public_text import public_text
from steadyrl.training.checkpoint import latest_checkpoint
from tests.cli.fake_hub import FakeHub, Repository
from tests.cli.tiny_demo import TINY, Steady

# The client's own: it gives `data` to its HTTP library, which wants `content`.
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")

UPLOADED = {
    "README.md",
    "chat_template.jinja",
    "config.json",
    "generation_config.json",
    "model.safetensors",
    "steadyrl/config.yaml",
    "steadyrl/metrics.jsonl",
    "steadyrl/training.png",
    "tokenizer.json",
    "tokenizer_config.json",
}


def contents(folder: Path) -> dict[str, bytes]:
    return {
        file.relative_to(folder).as_posix(): file.read_bytes()
        for file in folder.rglob("*")
        if file.is_file()
    }


@pytest.fixture
def run(demo: Path, tmp_path: Path) -> Path:
    """A copy of the run, which a test may change."""
    return Path(shutil.copytree(demo, tmp_path / "run"))


def test_a_dry_run_writes_a_folder_that_transformers_loads_and_uploads_nothing(
    steadyrl: Steady, run: Path
) -> None:
    code, out, err = steadyrl("push", str(run), "--to", "me/demo", "--dry-run")
    folder = run / "hub"

    assert (code, out, err) == (0, f"Not uploaded (--dry-run): {folder}\n", "")
    assert contents(folder).keys() == UPLOADED
    checkpoint = latest_checkpoint(RunFolder(run))
    assert checkpoint is not None
    model = AutoModelForCausalLM.from_pretrained(folder)
    saved = AutoModelForCausalLM.from_pretrained(checkpoint).state_dict()
    assert all(weight.equal(saved[name]) for name, weight in model.state_dict().items())
    assert AutoTokenizer.from_pretrained(folder).chat_template


def test_the_card_states_what_the_run_recorded(steadyrl: Steady, run: Path) -> None:
    steadyrl("push", str(run), "--to", "me/demo", "--dry-run", "--license", "apache-2.0")
    card = ModelCard.load(run / "hub" / "README.md")
    rows, manifest = RunFolder(run).read_metrics(), json.loads((run / "run.json").read_text())
    first, last = [row for row in rows if "score" in row]
    steps = [row for row in rows if row["stage"] == "rl" and row["step"]]
    tokens = sum(row["response_length"] * row["responses"] for row in steps)

    assert card.data.license == "apache-2.0"
    assert card.data.base_model is None
    assert card.data.tags == ["steadyrl", "reinforcement-learning", "policy_gradient"]
    for row in (first, last):
        interval = f"(95% interval {row['score_low']:.3f} to {row['score_high']:.3f})"
        assert f"{row['score']:.3f} {interval} at step {row['step']}" in card.text
    assert f"- responses sampled: {4 * 4 * 2}\n" in card.text
    assert f"- tokens sampled: {tokens:,.0f}\n" in card.text
    assert "- steps: 6 of cold start and 2 of reinforcement learning" in card.text
    assert f"- machine: {manifest['machine']}\n" in card.text
    assert "- base model: none: a `small_moe` with random weights" in card.text
    assert "routing_replay: r3" in card.text
    assert "This is one run with seed 0." in card.text
    assert "What the model forgot outside its tasks was not measured." in card.text


def test_nothing_that_is_uploaded_names_a_place_on_this_machine(
    steadyrl: Steady, run: Path
) -> None:
    config = run / "config.yaml"
    text = config.read_text().replace("seed: 0", f"seed: 0\nsecret_path: {run}/data.csv", 1)
    config.write_text(text)
    manifest = json.loads((run / "run.json").read_text())
    manifest["command"] = ["steadyrl", "train", "demo", f"--out={run}", "~/tasks/my.yaml"]
    (run / "run.json").write_text(json.dumps(manifest))
    code, _, err = steadyrl("push", str(run), "--to", "me/demo", "--dry-run")
    texts = contents(run / "hub")

    assert (code, err) == (0, "")
    assert [name for name, content in texts.items() if str(run.parent).encode() in content] == []
    assert b"secret_path: data.csv" in texts["steadyrl/config.yaml"]
    assert b"steadyrl train demo --out=run my.yaml\n" in texts["README.md"]


@pytest.mark.parametrize(
    ("text", "public"),
    [
        ("/data/me/train.csv", "train.csv"),
        ("/data/Jo Doe/my data", "my data"),
        ("--out=/data/me/runs/a", "--out=a"),
        ("{path: /data/x.jsonl}", "{path: x.jsonl}"),
        ("~/models/mine", "mine"),
        ("org/model", "org/model"),
        ("https://host.org/api/v1", "https://host.org/api/v1"),
        ("https://me:secret@host.org/v1", "https://host.org/v1"),
        ("true and/or false", "true and/or false"),
        ("/no_think", "/no_think"),
    ],
)
def test_paths_are_shortened_and_addresses_lose_their_credentials(text: str, public: str) -> None:
    assert public_text(text) == public


def test_push_uploads_the_same_files_and_leaves_no_folder(
    steadyrl: Steady, run: Path, hub: FakeHub
) -> None:
    steadyrl("push", str(run), "--to", "me/demo", "--dry-run")
    wanted = contents(run / "hub")
    code, out, err = steadyrl("push", str(run), "--to", "me/demo", "--private")

    assert (code, err) == (0, "")
    assert out.endswith(f"uploaded: {hub.url}/me/demo\n")
    assert hub.repositories["me/demo"].private
    assert hub.repositories["me/demo"].files == wanted
    assert not (run / "hub").exists()


def test_weights_of_an_earlier_upload_do_not_stay_beside_the_new_ones(
    steadyrl: Steady, run: Path, hub: FakeHub
) -> None:
    old = {"model-00001-of-00002.safetensors": b"old", "adapter_config.json": b"{}", "LICENSE": b""}
    hub.repositories["me/demo"] = Repository(private=False, files=dict(old))
    code, _, _ = steadyrl("push", str(run), "--to", "me/demo")

    assert code == 0
    assert hub.repositories["me/demo"].files.keys() == UPLOADED | {"LICENSE"}


def test_a_public_repository_is_not_taken_for_a_private_one(
    steadyrl: Steady, run: Path, hub: FakeHub
) -> None:
    hub.repositories["me/demo"] = Repository(private=False)
    code, _, err = steadyrl("push", str(run), "--to", "me/demo", "--private")

    assert code == 2
    assert err == (
        "steadyrl: me/demo exists and is public, but --private was given. Make it private in its "
        "settings on the hub, or give another name.\n"
    )
    assert hub.repositories["me/demo"].files == {}


@pytest.mark.parametrize("name", ["a/b/c", "me/no..dots", "me/", "name"])
def test_a_name_that_the_hub_would_refuse_is_refused_in_a_sentence(
    steadyrl: Steady, run: Path, hub: FakeHub, name: str
) -> None:
    code, out, err = steadyrl("push", str(run), "--to", name)

    assert (code, out) == (2, "")
    assert err.startswith(f"steadyrl: {name!r} ")
    assert "Give owner/name" in err
    assert err.count("\n") == 1
    assert hub.repositories == {}


def test_a_missing_token_is_one_sentence(
    steadyrl: Steady, run: Path, hub: FakeHub, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("HF_TOKEN")
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "none"))

    assert steadyrl("push", str(run), "--to", "me/demo") == (
        2,
        "",
        "steadyrl: There is no Hugging Face token. Run 'hf auth login', or set HF_TOKEN to a "
        "token with write access.\n",
    )


def test_offline_is_one_sentence(
    steadyrl: Steady, run: Path, hub: FakeHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    code, out, err = steadyrl("push", str(run), "--to", "me/demo")

    assert (code, out) == (2, "")
    assert err.startswith("steadyrl: HF_HUB_OFFLINE is set, so nothing can be uploaded.")


def test_a_refused_token_and_a_failed_commit_are_one_sentence_and_leave_nothing(
    steadyrl: Steady, run: Path, hub: FakeHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.fails_with = 403
    forbidden = steadyrl("push", str(run), "--to", "me/demo")
    monkeypatch.setenv("HF_TOKEN", "hf_another")
    refused = steadyrl("push", str(run), "--to", "me/other")

    assert forbidden[0] == refused[0] == 2
    assert forbidden[2] == (
        "steadyrl: me/demo was not uploaded: the token may not write there. Give a token with "
        "write access, or another name.\n"
    )
    assert refused[2] == (
        "steadyrl: me/other was not uploaded: the token was refused. Run 'hf auth login' again.\n"
    )
    assert not (run / "hub").exists()


def test_a_hub_that_is_not_there_is_one_sentence(
    steadyrl: Steady, run: Path, hub: FakeHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    nobody = "http://127.0.0.1:1"
    monkeypatch.setattr(constants, "ENDPOINT", nobody)
    code, _, err = steadyrl("push", str(run), "--to", "me/demo")

    assert code == 2
    assert err.startswith(f"steadyrl: me/demo was not uploaded: {nobody} cannot be reached (")
    assert err.count("\n") == 1


def test_a_run_without_a_checkpoint_is_refused(steadyrl: Steady, run: Path) -> None:
    shutil.rmtree(run / "checkpoints")
    code, _, err = steadyrl("push", str(run), "--to", "me/demo", "--dry-run")

    assert code == 2
    assert "has no checkpoint yet" in err


def test_an_adapter_names_its_base_on_the_hub_and_says_how_it_is_loaded(
    steadyrl: Steady, run: Path
) -> None:
    checkpoint = latest_checkpoint(RunFolder(run))
    assert checkpoint is not None
    (checkpoint / "adapter_config.json").write_text('{"base_model_name_or_path": "./mine"}')
    words = ("push", str(run), "--to", "me/demo", "--dry-run")
    refused = steadyrl(*words)
    code, _, _ = steadyrl(*words, "--base-model", "org/base")
    folder = run / "hub"
    card = ModelCard.load(folder / "README.md")

    assert refused[0] == 2
    assert "The checkpoint is an adapter of ./mine, which is not a repository" in refused[2]
    assert code == 0
    assert json.loads((folder / "adapter_config.json").read_text()) == {
        "base_model_name_or_path": "org/base"
    }
    assert "./mine" in (checkpoint / "adapter_config.json").read_text()
    assert card.data.base_model == "org/base"
    assert card.data.library_name == "peft"
    assert 'model = PeftModel.from_pretrained(base, "me/demo")' in card.text


# After a training.


@pytest.mark.slow
def test_a_training_uploads_its_last_checkpoint(
    steadyrl: Steady, tmp_path: Path, hub: FakeHub
) -> None:
    path = tmp_path / "run"
    code, out, _ = steadyrl("train", "demo", "--out", str(path), *TINY, "--push-to-hub", "me/demo")
    weights = (path / "checkpoints" / "rl-000002" / "model.safetensors").read_bytes()

    assert code == 0
    assert out.endswith(f"uploaded: {hub.url}/me/demo\n")
    assert hub.repositories["me/demo"].files["model.safetensors"] == weights


@pytest.mark.slow
def test_a_failed_upload_does_not_fail_the_run_and_says_how_to_repeat_it(
    steadyrl: Steady, tmp_path: Path, hub: FakeHub
) -> None:
    path, hub.fails_with = tmp_path / "run", 403
    words = ("--push-to-hub", "me/demo", "--private")
    code, out, _ = steadyrl("train", "demo", "--out", str(path), *TINY, *words)
    repeat = f"steadyrl push {path} --to me/demo --private"

    assert code == 0
    assert out.endswith(f"The run is complete. Repeat the upload with: {repeat}\n")
    hub.fails_with = None
    assert steadyrl(*repeat.split()[1:])[0] == 0


def test_an_upload_that_cannot_be_tried_is_refused_before_the_run(
    steadyrl: Steady, tmp_path: Path, hub: FakeHub
) -> None:
    path = tmp_path / "run"
    named = steadyrl("train", "demo", "--out", str(path), *TINY, "--push-to-hub", "demo")
    alone = steadyrl("train", "demo", "--out", str(path), *TINY, "--private")

    assert named[0] == alone[0] == 2
    assert named[2] == (
        "steadyrl: 'demo' names no owner. Give owner/name, as in your-account/demo.\n"
    )
    assert alone[2].startswith("steadyrl: --private is given without --push-to-hub.")
    assert not path.exists()
