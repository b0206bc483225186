"""What another version of Transformers computes from checkpoints: run by `older_readers.py`.

usage: older_reader.py FOLDER ...     prints a JSON object for each

It imports nothing of this project, so that it runs where only torch and Transformers are.
"""

import json
import sys
from pathlib import Path

import torch
import transformers
from transformers import AutoModelForCausalLM, AutoTokenizer


def read(folder: Path, text: str) -> dict:
    """The folder's logits beside the expected ones, the tokens of `text`, or what failed."""
    found = {"version": transformers.__version__, "difference": None, "tokens": None}
    try:
        expected = torch.load(folder / "expected.pt")
        model = AutoModelForCausalLM.from_pretrained(
            folder,
            dtype=torch.float32,
            attn_implementation="eager",  # Gemma 2 lost its soft cap in the other one
        )
        with torch.no_grad():
            logits = model(input_ids=expected["tokens"]).logits
        scale = expected["logits"].abs().max()
        found["difference"] = float((logits - expected["logits"]).abs().max() / scale)
        tokenizer = AutoTokenizer.from_pretrained(folder)
        chat = [{"role": "user", "content": text}]
        found["tokens"] = tokenizer(text, add_special_tokens=False)["input_ids"]
        found["prompt"] = tokenizer.apply_chat_template(
            chat, tokenize=False, add_generation_prompt=True
        )
        found["end"] = tokenizer.eos_token_id
    except Exception as error:  # the table tells it
        found["failure"] = f"{type(error).__name__}: {error}"
    return found


if __name__ == "__main__":
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    for name in sys.argv[2:]:
        print(json.dumps(read(Path(name), sys.argv[1])), flush=True)
