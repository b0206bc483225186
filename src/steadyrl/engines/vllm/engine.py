"""vLLM in this process.

    submit       adds one vLLM request per answer
    step         runs one step of vLLM; finished answers are checked and stored
    sync         aborts running requests, replaces weights, drops caches, resubmits the requests
    failure      restarts vLLM with the weights of the last sync; finished answers are kept, the
                 others are resubmitted with their seeds

So each answer is sampled by one version of the weights, none is lost, and none counts twice.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from jaxtyping import Float, Int
from torch import Tensor

from steadyrl.base.errors import UserError
from steadyrl.base.progress import NO_PROGRESS, Progress
from steadyrl.base.temporary_folder import TemporaryFolder
from steadyrl.engines.answers import Answer, completion
from steadyrl.engines.driver import engine_loop
from steadyrl.engines.model_engine import GenerationProgress
from steadyrl.engines.protocol import EngineCapabilities, Request, TokenListener
from steadyrl.engines.sampler import has_candidates
from steadyrl.engines.served_model import Checksummed, ServedModel, completion_seed
from steadyrl.engines.stepped import SteppedEngine
from steadyrl.engines.vllm.jobs import Job, JobRunner
from steadyrl.engines.vllm.library import drawing, scoring
from steadyrl.engines.vllm.outputs import (
    TokenReports,
    likely_tokens,
    prompt_scores,
    sampled_logprobs,
)
from steadyrl.engines.vllm.weights import load_adapter, load_model
from steadyrl.engines.vllm.worker import differing
from steadyrl.records.completion import Completion
from steadyrl.records.weight_source import AdapterSource, WeightSource, full_weights

CHEAP_BYTES = 2 << 30
"""Maximum size of a model of which a second copy is made without being asked for."""


class VllmEngine(SteppedEngine):
    """A rollout engine around a `vllm.LLMEngine`.

    Args:
        launch: Starts an `LLMEngine` of the model with any weights.
        weights: Initial weights.
        restarts: Maximum number of restarts between two syncs.
        timeout: Maximum seconds in which no request finishes.
        progress: Receives the number of answers and tokens.
        candidates: Number of most probable tokens to record in place of each sampled one.
    """

    def __init__(
        self,
        launch: Callable[[], Any],
        model: ServedModel,
        weights: WeightSource,
        capabilities: EngineCapabilities,
        *,
        restarts: int,
        timeout: float,
        progress: Progress = NO_PROGRESS,
        candidates: int = 0,
    ) -> None:
        super().__init__()
        self.capabilities = capabilities
        self.policy_version = -1
        self.launch = launch
        self._model, self._candidates = model, candidates
        self._base: WeightSource = weights
        self._base_sum: int | None = None
        self._adapter: WeightSource | None = None
        self._adapters = 0
        self._folder = TemporaryFolder()
        self._runner = JobRunner(self._start, restarts=restarts, timeout=timeout)
        self._generated = GenerationProgress(progress=progress)
        self._submitted = 0
        self._open: dict[int, list[Completion | None]] = {}
        self._answered: dict[int, list[Completion]] = {}
        try:
            self._replace(weights)
        except BaseException:
            self.close()
            raise

    @property
    def vllm(self) -> Any:
        """The current `vllm.LLMEngine`; None after a failed sync."""
        return self._runner.llm

    streams_tokens = True

    async def stream(self, request: Request, listener: TokenListener) -> list[Completion]:
        """Answers to `request`, whose tokens `listener` receives as they are sampled."""
        loop = engine_loop()
        return await self._finished(self._add(request, listener), loop)

    def submit(self, request: Request) -> int:
        """Adds a request and returns its number, under which `step` returns the answers."""
        return self._add(request, None)

    def _add(self, request: Request, listener: TokenListener | None) -> int:
        self.capabilities.check_room(len(request.prompt_ids), request.sampling)
        self._generated.start(request, first=not self._runner.running)
        number = self._submitted
        self._submitted += 1
        if request.num_completions == 0:
            self._answered[number] = []
            return number
        self._open[number] = [None] * request.num_completions
        for index in range(request.num_completions):
            seed, ends = completion_seed(request.seed, index), self._model.end_token_ids
            report = None
            if listener is not None:
                report = TokenReports(sample=index, listener=listener, end_token_ids=ends)
            job = Job(
                prompt_ids=request.prompt_ids.tolist(),
                parameters=drawing(
                    request.sampling,
                    seed,
                    ends,
                    reported=report is not None,
                    candidates=self._candidates_of(request),
                ),
                finish=partial(self._take_answer, number, index, request),
                report=report,
            )
            self._runner.add(f"{number}/{index}", job)
        return number

    def withdraw(self, number: int) -> None:
        """Cancels a request."""
        self._answered.pop(number, None)
        answers = self._open.pop(number, [])
        self._runner.withdraw(f"{number}/{index}" for index in range(len(answers)))

    def step(self) -> Mapping[int, list[Completion]]:
        """Runs one step of vLLM."""
        if self._runner.running:
            self._runner.step()
        answered, self._answered = self._answered, {}
        return answered

    async def score(self, sequences: Sequence[Int[Tensor, " _T"]]) -> list[Float[Tensor, " _T"]]:
        """Log-probability of every given token after those before it, at temperature 1."""
        scores: dict[int, Float[Tensor, " _T"]] = {}

        def take(place: int, tokens: Int[Tensor, " _T"], output: Any) -> None:
            scores[place] = prompt_scores(tokens, output.prompt_logprobs)

        for place, tokens in enumerate(sequences):
            self.capabilities.check_room(len(tokens) + 1)
            job = Job(
                prompt_ids=tokens.tolist(),
                parameters=scoring(),
                finish=partial(take, place, tokens),
            )
            self._runner.add(f"score/{place}", job)
        try:
            while len(scores) < len(sequences):
                self._runner.step()
        finally:
            self._runner.withdraw(f"score/{place}" for place in range(len(sequences)))
        return [scores[place] for place in range(len(sequences))]

    async def sync(self, weights: WeightSource) -> None:
        """Replaces the weights with those of a learner."""
        weights = self._accepted(weights)
        self._runner.pause()
        self._replace(weights)
        self._runner.resume()

    @property
    def compares_cheaply(self) -> bool:
        """Whether a second copy of the model is cheap."""
        return self._model.nbytes <= CHEAP_BYTES

    def differing_tensors(self, weights: WeightSource) -> list[str]:
        """Names in vLLM of tensors that differ from a fresh load of `weights`.

        Needs memory for a second copy of the model. Of an adapter, only the base is compared.
        """
        weights = self._accepted(weights)
        base = self._base if weights.kind == "adapter" else weights
        compare = self._runner.llm.collective_rpc
        [names] = compare(differing, args=(self._model.stream(base),))
        return names

    def close(self) -> None:
        """Shuts vLLM down."""
        self._runner.discard()
        self._folder.close()

    def _accepted(self, weights: WeightSource) -> WeightSource:
        """`weights` as vLLM takes them: an adapter as it is, or merged."""
        return weights if self.capabilities.adapters else full_weights(weights)

    def _replace(self, weights: WeightSource) -> None:
        runner = self._runner
        self._base_sum = None if weights.kind == "full" else self._base_sum
        try:
            if weights.kind == "adapter":
                self._adapter = weights
            else:
                self._base, self._adapter = weights, None
            if runner.llm is None:
                runner.llm = self._start()
            elif weights.kind == "adapter":
                self._load_adapter(runner.llm)
            else:
                self._load_base(runner.llm)
        except BaseException:
            runner.discard()  # some weights may be old, some new
            raise
        self.policy_version = weights.version

    def _start(self) -> Any:
        """Starts a vLLM engine with the weights of the last sync."""
        llm = self.launch()
        self._load_base(llm)
        if self._adapter is not None:
            self._load_adapter(llm)
        return llm

    def _load_base(self, llm: Any) -> None:
        self._runner.adapter = None
        stream = Checksummed(self._model.stream(self._base))
        load_model(llm, stream)
        if self._base_sum not in (None, stream.checksum):
            raise UserError(
                f"vLLM failed and was restarted, but the learner has moved on from version "
                f"{self.policy_version}, so these weights are lost. Resume the run from its last "
                "checkpoint."
            )
        self._base_sum = stream.checksum

    def _load_adapter(self, llm: Any) -> None:
        assert isinstance(self._adapter, AdapterSource), "an adapter has a configuration"
        self._adapters += 1
        folder = self._folder.path / str(self._adapters)
        self._runner.adapter = load_adapter(llm, self._adapter, folder, self._adapters)

    def _candidates_of(self, request: Request) -> int:
        return self._candidates if has_candidates(request.sampling) else 0

    def _take_answer(self, number: int, index: int, request: Request, output: Any) -> None:
        written = output.outputs[0]
        logprobs = sampled_logprobs(written.token_ids, written.logprobs)
        if request.sampling.temperature == 0:
            logprobs = [0.0] * len(logprobs)  # no other token can be sampled
        count = self._candidates_of(request)
        answers = self._open[number]
        answers[index] = answer = completion(
            request.prompt_ids,
            Answer(
                token_ids=written.token_ids,
                logprobs=logprobs,
                finish_reason=written.finish_reason,
                routed_experts=written.routed_experts,
                candidates=likely_tokens(written.logprobs, count) if count else None,
            ),
            end_token_ids=self._model.end_token_ids,
            moe=self._model.moe,
            policy_version=self.policy_version,
        )
        self._generated.report(answers=1, tokens=len(answer.token_ids))
        if all(each is not None for each in answers):
            self._answered[number] = [each for each in answers if each is not None]
            del self._open[number]
