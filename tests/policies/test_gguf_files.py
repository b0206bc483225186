"""GGUF files as checkpoints, and what is refused of them."""

import struct
from pathlib import Path
from typing import Any

import gguf
import pytest
import torch
from gguf import GGMLQuantizationType as Kind
from transformers import AutoModelForCausalLM, AutoTokenizer

from steadyrl.base.errors import UserError
from steadyrl.policies.gguf_files import gguf_file
from steadyrl.policies.loading import load_model, load_tokenizer
from steadyrl.policies.model_settings import Pretrained
from steadyrl.policies.older_readers import save_for_all_readers
from steadyrl.policies.policy import Policy
from tests.closeness import assert_close
from tests.policies.gguf_writer import TOKENS, small_llama, write_gguf


def load(path: Path, **options: Any):
    settings = Pretrained(path=str(path), **options)
    return load_model(settings, tokenizer=load_tokenizer(settings), seed=0)


def logits(model: Any) -> torch.Tensor:
    with torch.no_grad():
        return model(input_ids=torch.arange(12)[None]).logits


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return write_gguf(tmp_path / "small.gguf", small_llama(), Kind.F32)


def test_a_float32_file_holds_the_model_to_the_bit(file: Path) -> None:
    model, loaded = small_llama(), load(file)
    expected = dict(model.named_parameters())
    assert {name for name, _ in loaded.named_parameters()} == expected.keys()
    for name, weight in loaded.named_parameters():
        assert torch.equal(weight, expected[name]), name
    assert loaded.lm_head.weight is loaded.model.embed_tokens.weight
    assert_close(logits(loaded), logits(model), terms=64)


def test_eight_bits_are_dequantized_by_their_definition(tmp_path: Path) -> None:
    model = small_llama()
    loaded = load(write_gguf(tmp_path / "small.gguf", model, Kind.Q8_0))
    exact = model.model.layers[0].mlp.down_proj.weight.detach()
    # Q8_0: blocks of 32 share the scale max|w| / 127, kept in float16.
    blocks = exact.reshape(-1, 32)
    scale = blocks.abs().amax(dim=1, keepdim=True) / 127
    expected = (blocks / scale).round() * scale.half().float()
    found = loaded.model.layers[0].mlp.down_proj.weight.reshape(-1, 32)
    assert_close(found, expected, terms=2)
    assert not torch.equal(found, blocks)


def test_its_tokenizer_and_template_come_with_it(file: Path) -> None:
    tokenizer = load_tokenizer(Pretrained(path=str(file)))
    ids = tokenizer("née in?", add_special_tokens=False)["input_ids"]
    assert len(ids) == len("née in?".encode()) - 1  # "i" and "n" are merged
    assert tokenizer.decode(ids) == "née in?"
    message = [{"role": "user", "content": "hi"}]
    text = tokenizer.apply_chat_template(message, tokenize=False, add_generation_prompt=True)
    assert text == "<|start|>user\nhi<|end|>\n<|start|>assistant\n"
    assert tokenizer("<|end|>")["input_ids"] == [TOKENS.index("<|end|>")]


def test_it_has_no_tokens_beside_those_of_the_file(file: Path) -> None:
    tokenizer = load_tokenizer(Pretrained(path=str(file)))
    assert sorted(tokenizer.get_vocab(), key=tokenizer.get_vocab().get) == TOKENS
    assert len(tokenizer("<|endoftext|>")["input_ids"]) == len("<|endoftext|>")
    assert (tokenizer.eos_token, tokenizer.pad_token) == ("<|end|>", "<|end|>")


def test_what_is_saved_of_it_loads_in_transformers(file: Path, tmp_path: Path) -> None:
    settings = Pretrained(path=str(file))
    tokenizer = load_tokenizer(settings)
    model = load_model(settings, tokenizer=tokenizer, seed=0)
    save_for_all_readers(tmp_path / "saved", model, tokenizer)
    back = AutoModelForCausalLM.from_pretrained(tmp_path / "saved")
    assert torch.equal(logits(back), logits(model))
    assert not hasattr(back.config, "quantization_config")
    again = AutoTokenizer.from_pretrained(tmp_path / "saved")
    assert again("a <|end|>")["input_ids"] == tokenizer("a <|end|>")["input_ids"]


def test_a_folder_with_one_file_is_that_file(file: Path) -> None:
    assert gguf_file(str(file.parent)) == file
    assert torch.equal(logits(load(file.parent)), logits(load(file)))
    (file.parent / "config.json").write_text("{}")
    assert gguf_file(str(file.parent)) is None


def test_it_is_scored_like_any_other_model(file: Path) -> None:
    settings = Pretrained(path=str(file))
    tokenizer = load_tokenizer(settings)
    policy = Policy(load_model(settings, tokenizer=tokenizer, seed=0), tokenizer)
    tokens, mask = torch.arange(8)[None], torch.ones(1, 8, dtype=torch.bool)
    scored = policy.score(tokens, mask, mask).logprobs[0, 1:]
    with torch.no_grad():
        expected = small_llama()(input_ids=tokens).logits[0].log_softmax(-1)
    assert_close(scored, expected[torch.arange(7), tokens[0, 1:]], terms=64)


def test_several_files_in_a_folder_are_named(file: Path) -> None:
    (file.parent / "other.gguf").write_bytes(b"GGUF")
    with pytest.raises(UserError, match=r"holds 2 GGUF files: other\.gguf, small\.gguf\. Give the"):
        load(file.parent)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.gguf", None, r"There is no file '.*a\.gguf'\. Give an existing GGUF file"),
        ("a.gguf", b"PK\3\4 zip", r"is not a GGUF file: it begins with b'PK.*', not with b'GGUF'"),
        ("a.bin", b"\x80\2}q", r"is not a GGUF file: .* Give a GGUF file, a folder written by"),
        ("a-00001-of-00002.gguf", b"GGUF", r"is one part of several\. Join them first: llama-gguf"),
        ("a.gguf", b"GGUF" + struct.pack("<IQQ", 9, 0, 0), r"cannot be loaded: .*(version |v)9"),
    ],
)
def test_what_is_not_gguf_is_refused(
    tmp_path: Path, name: str, content: bytes | None, message: str
) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    for read in (load, lambda path: load_tokenizer(Pretrained(path=str(path)))):
        with pytest.raises(UserError, match=message) as caught:
            read(tmp_path / name)
        assert "\n" not in str(caught.value)


def test_a_file_cut_short_is_refused(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-20_000])
    with pytest.raises(UserError, match=r"cannot be loaded: .* Download it again if it may be cut"):
        load(file)


def test_an_unknown_quantization_is_named(file: Path) -> None:
    reader = gguf.GGUFReader(file)
    (tensor,) = (t for t in reader.tensors if t.name == "blk.0.attn_q.weight")
    content = bytearray(file.read_bytes())
    place = tensor.field.offset + len(tensor.field.parts[0].tobytes()) + len(tensor.name)
    place += 4 + 8 * len(tensor.shape)  # the number of axes, and each
    assert struct.unpack_from("<I", content, place) == (Kind.F32,)
    struct.pack_into("<I", content, place, 77)
    file.write_bytes(content)
    with pytest.raises(UserError, match=r"quantization type 77, which the installed gguf cannot"):
        load(file)


def test_an_architecture_that_transformers_cannot_read_is_named(tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "small.gguf", small_llama(), Kind.F32, arch="plamo")
    with pytest.raises(UserError, match=r"cannot be loaded: .*plamo"):
        load(path)


@pytest.mark.parametrize("module", ["gguf", "accelerate"])
def test_the_extra_is_asked_for(file: Path, monkeypatch: pytest.MonkeyPatch, module: str) -> None:
    monkeypatch.setattr(
        "steadyrl.base.extras.find_spec", lambda name: None if name == module else name
    )
    with pytest.raises(UserError, match=rf"'{module}' is not installed\. .*'steadyrl\[gguf\]'"):
        load(file)


@pytest.mark.parametrize("folder", [False, True])
def test_only_the_hub_has_revisions(file: Path, folder: bool) -> None:
    path = file.parent if folder else file
    kind = "folder" if folder else "file"
    with pytest.raises(UserError, match=rf"'main' is given for .* is a {kind}: .* Remove it"):
        load(path, revision="main")
