"""Settings of placements: what they accept, and what they say about the rest."""

import importlib.util
from pathlib import Path

import pytest
from pydantic import ValidationError

from steadyrl.base.errors import UserError
from steadyrl.base.progress import NO_PROGRESS
from steadyrl.cli.main import main
from steadyrl.engines.vllm.settings import VllmSettings
from steadyrl.learners.fsdp.settings import FsdpLearnerSettings
from steadyrl.learners.local import LocalLearnerSettings
from steadyrl.run.config import from_yaml, to_yaml
from steadyrl.run.devices import learner_device
from steadyrl.run.memory_check import require_memory
from steadyrl.run.placement.addresses import local_cpus, port_of
from steadyrl.run.placement.settings import RayPlacement
from steadyrl.run.placement.versions import check_versions
from tests.run.tiny import tiny_run

LOCAL = RayPlacement(address="local:2")


def test_a_run_is_in_this_process_unless_told_otherwise() -> None:
    assert tiny_run().placement.name == "embedded"


def test_a_placement_is_read_back_from_yaml(tmp_path: Path) -> None:
    config = tiny_run(placement=LOCAL, learner=FsdpLearnerSettings())
    (tmp_path / "config.yaml").write_text(to_yaml(config), encoding="utf-8")
    assert from_yaml(tmp_path / "config.yaml") == config


@pytest.mark.parametrize(
    ("address", "cpus", "place"),
    [
        ("auto", None, None),
        ("local:12", 12, None),
        ("10.0.0.3:6379", None, ("10.0.0.3", 6379)),
        ("head-node:6379", None, ("head-node", 6379)),
        ("[fd00::1]:6379", None, ("fd00::1", 6379)),
    ],
)
def test_addresses(address: str, cpus: int | None, place: tuple[str, int] | None) -> None:
    assert RayPlacement(address=address).address == address
    assert local_cpus(address) == cpus
    assert port_of(address) == place


@pytest.mark.parametrize(
    ("address", "remedy"),
    [
        ("ray://head:10001", "Ray Client .* is not supported: run steadyrl on a node"),
        ("local:0", "Use auto, HOST:PORT or local:N"),
        ("local", "Use auto, HOST:PORT or local:N"),
        ("head", "Use auto, HOST:PORT or local:N"),
    ],
)
def test_other_addresses_are_refused(address: str, remedy: str) -> None:
    with pytest.raises(ValidationError, match=remedy):
        RayPlacement(address=address)


def test_a_server_is_refused() -> None:
    with pytest.raises(ValidationError, match="is on a server of its own"):
        tiny_run(placement=LOCAL, engine=VllmSettings(url="http://host:8000"))


def test_without_ray_the_command_says_how_to_install_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(
        "steadyrl.base.extras.find_spec", lambda name: None if name == "ray" else find(name)
    )
    config = tmp_path / "config.yaml"
    config.write_text(to_yaml(tiny_run()), encoding="utf-8")
    options = ["--placement", "ray", "--placement.address", "local:2"]
    assert main(["train", str(config), *options, "--out", str(tmp_path / "run")]) == 2
    errors = " ".join(capsys.readouterr().err.split())
    assert "placement is 'ray'. The Python module 'ray' is not installed." in errors
    assert "pip install 'steadyrl[ray]'" in errors
    assert not (tmp_path / "run").exists()
    with pytest.raises(UserError, match="not installed"):
        LOCAL.open(tiny_run(), NO_PROGRESS)


def test_the_driver_of_a_sharded_learner_keeps_its_weights_on_the_cpu(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    for learner, device in ((FsdpLearnerSettings(), "cpu"), (LocalLearnerSettings(), "cuda")):
        assert learner_device(tiny_run(placement=LOCAL, learner=learner)).type == device


def test_memory_is_counted_for_every_engine_of_this_machine() -> None:
    from steadyrl.policies.loading import load_tokenizer

    cluster = tiny_run(placement=RayPlacement(engines=1000))
    require_memory(cluster, load_tokenizer(cluster.model), available=1)  # that of other machines
    here = tiny_run(placement=RayPlacement(address="local:2", engines=1000))
    with pytest.raises(UserError, match="engine's weights"):
        require_memory(here, load_tokenizer(here.model), available=1 << 20)


def test_other_versions_of_a_node_are_named() -> None:
    driver = {"Python": "3.12.1", "steadyrl": "0.2", "ray": "2.60.0"}
    check_versions(driver, dict(driver), "10.0.0.3")
    with pytest.raises(UserError, match=r"10\.0\.0\.3 .*: steadyrl 0\.1 \(here 0\.2\)\. Install"):
        check_versions(driver, driver | {"steadyrl": "0.1"}, "10.0.0.3")
