"""Servers with the interfaces of vLLM 0.30 and SGLang 0.5.23, and a model of two tokens.

Replies have the fields of the real ones. Instead of sampling, a server answers `GOOD` while it
holds the weights of the last sync and `BAD` after a restart: a test sees which weights answered.
"""

import base64
import io
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np

GOOD, BAD = 11, 12
LAYERS, EXPERTS_PER_TOKEN = 2, 2

VLLM_CONFIG: dict[str, Any] = {
    "model_config": {
        "dtype": "torch.float32",
        "max_model_len": 64,
        "logprobs_mode": "processed_logprobs",
        "generation_config": "vllm",
        "enable_return_routed_experts": True,
    },
    "lora_config": {"max_lora_rank": 8},
    "device_config": {"device": "cuda"},
    "parallel_config": {"worker_extension_cls": ""},
}

Reply = tuple[int, Any]


@dataclass
class FakeServer:
    """State of a server, and the requests that it got."""

    tag: str = "default"
    loaded: str | None = None
    """Folder of the weights; None: those that it started with."""

    files: list[str] = field(default_factory=list)
    calls: list[tuple[str, Any]] = field(default_factory=list)
    faults: list[Callable[["FakeServer"], Reply | None]] = field(default_factory=list)
    """What happens instead of the next answers: a reply, or None for a broken connection."""

    running: int = 0
    most_running: int = 0
    answer_seconds: float = 0.0
    lock: threading.RLock = field(default_factory=threading.RLock)

    def restart(self) -> None:
        """Forgets the weights and their tag."""
        self.tag, self.loaded = "default", None

    def load(self, folder: str) -> None:
        """Loads a folder."""
        self.loaded = folder
        self.files = sorted(path.name for path in Path(folder).iterdir())

    def reply(self, path: str, body: Any) -> Reply | None:
        """The reply to a request; None breaks the connection."""
        with self.lock:
            self.calls.append((path, body))
            if self.is_answer(path) and self.faults:
                return self.faults.pop(0)(self)
        return self.respond(path, body)

    def is_answer(self, path: str) -> bool:
        """Whether a request asks for an answer or a score."""
        raise NotImplementedError

    def respond(self, path: str, body: Any) -> Reply:
        """The reply of a server without faults."""
        raise NotImplementedError

    def of(self, path: str) -> list[Any]:
        """Bodies of the requests to `path`."""
        return [body for called, body in self.calls if called.split("?")[0] == path]

    @contextmanager
    def answering(self) -> Iterator[None]:
        """Counts a running request."""
        with self.lock:
            self.running += 1
            self.most_running = max(self.most_running, self.running)
        try:
            time.sleep(self.answer_seconds)
            yield
        finally:
            with self.lock:
                self.running -= 1

    @property
    def token(self) -> int:
        """The token that it answers."""
        return BAD if self.loaded is None else GOOD

    def routes(self, rows: int, dtype: Any) -> np.ndarray:
        """Experts 0 and 1 in the first layer, 2 and 3 in the second."""
        experts = np.arange(LAYERS * EXPERTS_PER_TOKEN, dtype=dtype)
        return np.tile(experts.reshape(LAYERS, EXPERTS_PER_TOKEN), (rows, 1, 1))


@dataclass
class FakeVllm(FakeServer):
    """vLLM with `VLLM_SERVER_DEV_MODE=1`."""

    config: dict[str, Any] = field(default_factory=lambda: json.loads(json.dumps(VLLM_CONFIG)))
    adapters: list[str] = field(default_factory=list)

    def is_answer(self, path: str) -> bool:
        return path == "/v1/completions"

    def restart(self) -> None:
        super().restart()
        self.adapters = []

    def respond(self, path: str, body: Any) -> Reply:
        match path:
            case "/server_info?config_format=json":
                return 200, {"vllm_config": self.config}
            case "/weight_info":
                return 200, {"weight_version": self.tag}
            case "/update_weight_version":
                self.tag = body["new_version"]
                return 200, {"success": True, "new_version": self.tag}
            case "/collective_rpc":
                self.load(body.get("kwargs", {}).get("weights_path") or body["args"][0])
                return 200, {"results": [None]}
            case "/v1/load_lora_adapter":
                self.adapters.append(body["lora_name"])
                return 200, f"Success: LoRA adapter '{body['lora_name']}' added successfully."
            case "/v1/unload_lora_adapter":
                if body["lora_name"] not in self.adapters:
                    return 404, {"error": {"message": "no such adapter"}}
                self.adapters.remove(body["lora_name"])
                return 200, "Success"
            case "/reset_prefix_cache":
                return 200, {"success": True}
            case "/pause?mode=abort" | "/resume":
                return 200, {"status": path[1:]}
            case "/v1/completions":
                with self.answering():
                    return self.complete(body)
        return 404, {"detail": "Not Found"}

    def complete(self, body: Any) -> Reply:
        """The reply to a completion request."""
        if body.get("model", "base") not in ["base", *self.adapters]:
            message = f"The model `{body['model']}` does not exist."
            return 404, {"error": {"message": message, "type": "NotFoundError", "code": 404}}
        prompt, end = body["prompt"], body.get("stop_token_ids", [0])[0]
        scores = None
        if "prompt_logprobs" in body:
            entry = {"rank": 1, "decoded_token": "a"}
            scores = [{str(token): {"logprob": -token / 10, **entry}} for token in prompt[1:]]
            scores.insert(0, None)  # type: ignore[arg-type]
        file = io.BytesIO()
        np.save(file, self.routes(len(prompt) + 1, np.uint8))
        return 200, {
            "id": "cmpl-839202c309bc95c9",
            "object": "text_completion",
            "created": 1796015341,
            "model": "base",
            "choices": [
                {
                    "index": 0,
                    "text": "(y",
                    "logprobs": {"text_offset": [0, 11], "token_logprobs": [-0.5, -1.25]},
                    "finish_reason": "stop",
                    "stop_reason": end,
                    "token_ids": [self.token, end],
                    "prompt_logprobs": scores,
                    "prompt_token_ids": prompt,
                    "routed_experts": base64.b64encode(file.getvalue()).decode(),
                }
            ],
            "usage": {"prompt_tokens": len(prompt), "completion_tokens": 2},
        }


@dataclass
class FakeSglang(FakeServer):
    """SGLang with `--enable-return-routed-experts`."""

    info: dict[str, Any] = field(
        default_factory=lambda: {
            "dtype": "float32",
            "max_req_input_len": 64,
            "enable_return_routed_experts": True,
            "version": "0.5.23",
        }
    )
    architectures: list[str] = field(default_factory=list)

    def is_answer(self, path: str) -> bool:
        return path == "/generate"

    def respond(self, path: str, body: Any) -> Reply:
        match path:
            case "/server_info":
                return 200, self.info
            case "/model_info":
                return 200, {"weight_version": self.tag, "architectures": self.architectures}
            case "/update_weights_from_disk":
                self.load(body["model_path"])
                self.tag = body["weight_version"]
                return 200, {"success": True, "message": "Succeeded.", "num_paused_requests": 0}
            case "/flush_cache":
                return 200, "Cache flushed.\n"
            case "/generate":
                with self.answering():
                    return self.generate(body)
        return 404, {"detail": "Not Found"}

    def generate(self, body: Any) -> Reply:
        """The reply to a request for an answer."""
        prompt = body["input_ids"]
        end = body["sampling_params"].get("stop_token_ids", [0])[0]
        meta = {
            "id": "3b0a36dc9bd64a3e9b6f3c4d5e6f7a8b",
            "finish_reason": {"type": "stop", "matched": end},
            "prompt_tokens": len(prompt),
            "weight_version": self.tag,
            "num_retractions": 0,
            "input_token_logprobs": [],
            "output_token_logprobs": [[-0.5, self.token, None], [-1.25, end, None]],
            "output_token_logprobs_length": 2,
            "completion_tokens": 2,
            "cached_tokens": 0,
        }
        if body.get("logprob_start_len") == 0:
            scores: list[Any] = [[-token / 10, token, None] for token in prompt]
            scores[0][0] = None
            meta["input_token_logprobs"] = scores
        if body.get("return_routed_experts"):
            routes = self.routes(len(prompt) + 1, np.int32)
            meta["routed_experts"] = base64.b64encode(routes.tobytes()).decode()
        return 200, {"text": "(y", "output_ids": [self.token, end], "meta_info": meta}


@contextmanager
def listening(fake: FakeServer) -> Iterator[str]:
    """The address at which `fake` listens."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self.send(fake.reply(self.path, None))

        def do_POST(self) -> None:
            length = int(self.headers.get("Content-Length", 0))
            self.send(fake.reply(self.path, json.loads(self.rfile.read(length) or "null")))

        def send(self, reply: Reply | None) -> None:
            self.close_connection = reply is None
            if reply is None:
                return
            status, content = reply
            text = content if isinstance(content, str) else json.dumps(content)
            self.send_response(status)
            self.send_header("Content-Length", str(len(text.encode())))
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
