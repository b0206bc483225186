"""Our end of the line to vLLM, which runs in an environment of its own."""

import json
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TextIO

from benchmarks.performance.timing import Sample
from torch import Tensor

WORKER = Path(__file__).with_name("vllm_worker.py")


class VLLM:
    """A vLLM that has loaded `checkpoint`. It is asked, and asked again, until it is closed.

    Raises:
        RuntimeError: it does not start, with the last lines it wrote.
    """

    def __init__(
        self, python: Path, checkpoint: Path, *, dtype: str, max_sequences: int, log: Path
    ) -> None:
        if not python.is_file():
            raise RuntimeError(f"no vLLM: {python} does not exist. 'make bench' installs it.")
        command = [str(python), "-P", str(WORKER), str(checkpoint), dtype, str(max_sequences)]
        self._log = log
        with log.open("w") as errors:
            self._process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True
            )
        self._answer()

    def __enter__(self) -> "VLLM":
        return self

    def __exit__(self, *_: object) -> None:
        self._stream("stdin").close()
        self._process.wait()

    def generate(
        self,
        prompts: Sequence[Tensor],
        *,
        copies: int,
        max_new_tokens: int,
        end_token_id: int,
    ) -> Sample:
        """One rollout, timed on its side. It returns the log-probability of each token, as ours."""
        request = {
            "prompts": [prompt.tolist() for prompt in prompts],
            "copies": copies,
            "max_new_tokens": max_new_tokens,
            "end_token_id": end_token_id,
        }
        print(json.dumps(request), file=self._stream("stdin"), flush=True)
        answer = self._answer()
        return Sample(
            seconds=answer["seconds"],
            processor_seconds=answer["processor_seconds"],
            tokens=sum(answer["lengths"]),
        )

    def _answer(self) -> dict[str, Any]:
        line = self._stream("stdout").readline()
        if not line:
            self._process.wait()
            said = " | ".join(self._log.read_text(errors="replace").splitlines()[-3:])
            raise RuntimeError(f"vLLM ended with status {self._process.returncode}: {said}")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def _stream(self, name: str) -> TextIO:
        stream = getattr(self._process, name)
        assert stream is not None
        return stream
