"""HTTP routes of the gateway.

/v1/...                        OpenAI's API; with a session's header or key, recorded
/sessions/ID/v1/...            the same, recorded as the session ID
/sessions/ID                   GET what is recorded, DELETE it
/sessions/ID/reward            POST {"reward": 1.0}
/sessions/ID/feedback          POST a thumb, a number, a text or consent, with a durable store only
/health, /metrics
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from dataclasses import dataclass
from typing import Any

from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from steadyrl.base.errors import UserError
from steadyrl.environments.protocol import as_reward
from steadyrl.gateway.access import SessionAccess
from steadyrl.gateway.answers import Answer
from steadyrl.gateway.chunks import ChatChunks, TextChunks
from steadyrl.gateway.conversation import Conversation
from steadyrl.gateway.errors import ApiError, as_api_error
from steadyrl.gateway.gateway import Gateway
from steadyrl.gateway.http import read_json, unless_gone
from steadyrl.gateway.recording import note_consent, read_feedback
from steadyrl.gateway.replies import Body, chat_body, head, text_body
from steadyrl.gateway.requests import ChatRequest, CompletionRequest, read_request
from steadyrl.gateway.response_bodies import ResponseEvents, ResponseReply
from steadyrl.gateway.responses import ResponsesRequest
from steadyrl.gateway.sessions import rows_as_json
from steadyrl.gateway.streams import stream_answers

_LOST = 499
"""Status, for the metrics, of a request whose client has gone."""

Endpoint = Callable[[Request], Awaitable[Response]]


@dataclass(slots=True, kw_only=True)
class GatewayApp:
    """The endpoints of a gateway."""

    access: SessionAccess
    running: int = 0

    @property
    def gateway(self) -> Gateway:
        """The gateway."""
        return self.access.gateway

    def starlette(self) -> Starlette:
        """The application."""
        return Starlette(routes=list(self._routes()))

    def _routes(self) -> Iterable[Route]:
        for prefix in ("", "/sessions/{session}"):
            yield self._route(f"{prefix}/v1/chat/completions", self._chat, "POST")
            yield self._route(f"{prefix}/v1/completions", self._complete, "POST")
            yield self._route(f"{prefix}/v1/responses", self._respond, "POST")
            yield self._route(f"{prefix}/v1/models", self._models, "GET")
            yield self._route(f"{prefix}/v1/models/{{model:path}}", self._model, "GET")
        yield self._route("/sessions/{session}", self._show, "GET")
        yield self._route("/sessions/{session}", self._delete, "DELETE")
        yield self._route("/sessions/{session}/reward", self._reward, "POST")
        if self.gateway.recorder is not None:
            yield self._route("/sessions/{session}/feedback", self._feedback, "POST")
        yield self._route("/metrics", self._metrics, "GET")
        yield Route("/health", _healthy, methods=["GET"])
        every = ["GET", "POST", "PUT", "PATCH", "DELETE"]
        yield Route("/{path:path}", self._guarded(_nowhere), methods=every)

    def _route(self, path: str, endpoint: Endpoint, method: str) -> Route:
        return Route(path, self._guarded(endpoint), methods=[method])

    def _guarded(self, endpoint: Endpoint) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """`endpoint` with every failure as a reply in OpenAI's schema."""

        async def answer(request: Request) -> Response:
            try:
                response = await endpoint(request)
            except ClientDisconnect:
                response = Response(status_code=_LOST)
            except Exception as error:
                failure = as_api_error(error)
                response = JSONResponse(failure.to_json(), status_code=failure.status)
            self.gateway.counts[f"responses_{response.status_code}"] += 1
            return response

        return answer

    async def _chat(self, request: Request) -> Response:
        session = self.access.session(request)
        given = await read_json(request, self.access.limits)
        asked = read_request(ChatRequest, given)
        note_consent(session, request, given)
        gateway, conversation = self.gateway, Conversation.of(asked)
        with_logprobs = bool(asked.logprobs)
        if asked.stream:
            live = gateway.live_answers(asked, conversation)
            chunks = ChatChunks(
                head=head("chatcmpl", "chat.completion.chunk", gateway.model),
                tokenizer=gateway.tokenizer,
                count=asked.n,
                with_logprobs=with_logprobs,
                include_usage=asked.include_usage,
            )
            answering = gateway.converse(session, asked, conversation, live)
            return await stream_answers(self._within_limits(request, answering), live, chunks)
        answering = gateway.converse(session, asked, conversation)
        answers = await self._within_limits(request, answering)
        return JSONResponse(
            chat_body(answers, gateway.tokenizer, model=gateway.model, with_logprobs=with_logprobs)
        )

    async def _complete(self, request: Request) -> Response:
        session = self.access.session(request)
        given = await read_json(request, self.access.limits)
        asked = read_request(CompletionRequest, given)
        note_consent(session, request, given)
        gateway, with_logprobs = self.gateway, asked.logprobs is not None
        if asked.stream:
            live = gateway.live_answers(asked)
            chunks = TextChunks(
                head=head("cmpl", "text_completion", gateway.model),
                tokenizer=gateway.tokenizer,
                with_logprobs=with_logprobs,
                include_usage=asked.include_usage,
            )
            answering = gateway.complete(session, asked, live)
            return await stream_answers(self._within_limits(request, answering), live, chunks)
        answers = await self._within_limits(request, gateway.complete(session, asked))
        return JSONResponse(
            text_body(answers, gateway.tokenizer, model=gateway.model, with_logprobs=with_logprobs)
        )

    async def _respond(self, request: Request) -> Response:
        session = self.access.session(request)
        given = await read_json(request, self.access.limits)
        asked = read_request(ResponsesRequest, given)
        note_consent(session, request, given)
        conversation = asked.conversation(session)
        reply = ResponseReply(asked, self.gateway.tokenizer)
        live = self.gateway.live_answers(asked, conversation) if asked.stream else None

        async def answer() -> list[Answer]:
            answers = await self.gateway.converse(session, asked, conversation, live)
            if session is not None:
                said = asked.without_instructions(conversation)
                session.responses[reply.id] = (*said, answers[0].reply)
            return answers

        answering = self._within_limits(request, answer())
        if live is not None:
            return await stream_answers(answering, live, ResponseEvents(reply))
        return JSONResponse(reply.body(*await answering))

    async def _models(self, request: Request) -> Response:
        self.access.session(request)
        return JSONResponse({"object": "list", "data": [self._model_body()]})

    async def _model(self, request: Request) -> Response:
        self.access.session(request)
        name = request.path_params["model"]
        if name != self.gateway.model:
            raise ApiError(
                f"The model {name!r} does not exist. This server has {self.gateway.model!r}.",
                status=404,
                code="model_not_found",
            )
        return JSONResponse(self._model_body())

    def _model_body(self) -> Body:
        return {"id": self.gateway.model, "object": "model", "created": 0, "owned_by": "steadyrl"}

    async def _show(self, request: Request) -> Response:
        return JSONResponse(rows_as_json(self.access.known_session(request)))

    async def _delete(self, request: Request) -> Response:
        name, recorder = request.path_params["session"], self.gateway.recorder
        self.access.authorize(request)
        stored = recorder is not None and recorder.forget(name)
        if not stored or name in self.gateway.sessions:
            session = self.access.known_session(request)
            session.closed = True
            del self.gateway.sessions[session.id]
        return JSONResponse({"id": name, "deleted": True})

    async def _feedback(self, request: Request) -> Response:
        self.access.authorize(request)
        name, recorder = request.path_params["session"], self.gateway.recorder
        asked = read_feedback(await read_json(request, self.access.limits))
        assert recorder is not None, "the route exists only with a recorder"
        try:
            turn = recorder.give_feedback(name, asked.feedback, asked.turn, asked.consent)
        except UserError as error:
            raise ApiError(str(error), status=503, code="store_unavailable") from error
        if turn is None:
            which = "answer" if asked.turn is None else f"turn {asked.turn}"
            raise ApiError(
                f"The store has no {which} of the session {name!r}. Give feedback after an answer.",
                status=404,
                code="no_session",
            )
        return JSONResponse({"id": name, "turn": turn})

    async def _reward(self, request: Request) -> Response:
        session = self.access.known_session(request)
        session.require_open()
        body = await read_json(request, self.access.limits)
        try:
            session.reward = as_reward(body.get("reward") if isinstance(body, dict) else body)
        except (TypeError, ValueError) as error:
            raise ApiError(f"{error} Send {{'reward': NUMBER}}.", param="reward") from error
        return JSONResponse({"id": session.id, "reward": session.reward})

    async def _metrics(self, request: Request) -> Response:
        self.access.authorize(request)
        sessions = self.gateway.sessions.values()
        numbers = {
            "running_requests": self.running,
            "sessions": len(sessions),
            "policy_version": self.gateway.engine.policy_version,
            **{f"{name}_total": count for name, count in sorted(self.gateway.counts.items())},
        }
        lines = [f"steadyrl_{name} {value}" for name, value in numbers.items()]
        return PlainTextResponse("\n".join(lines) + "\n")

    async def _within_limits(
        self, request: Request, answering: Coroutine[Any, Any, list[Answer]]
    ) -> list[Answer]:
        """The answers, unless there are too many requests, they take too long, or nobody waits.

        Raises:
            ApiError: a limit is exceeded.
            ClientDisconnect: the client has gone.
        """
        limits = self.access.limits
        if self.running >= limits.max_requests:
            answering.close()
            raise ApiError(
                f"The server answers {self.running} requests already. Try again later.",
                status=429,
                code="rate_limit_exceeded",
            )
        self.running += 1
        try:
            async with asyncio.timeout(limits.timeout):
                return await unless_gone(request, answering)
        except TimeoutError as error:
            raise ApiError(
                f"The answer took more than {limits.timeout:g} s. Ask for fewer tokens.",
                status=504,
                code="timeout",
            ) from error
        finally:
            self.running -= 1


async def _healthy(request: Request) -> Response:
    return JSONResponse({"status": "ok"})


async def _nowhere(request: Request) -> Response:
    raise ApiError(
        f"There is no {request.method} {request.url.path}. The server has /v1/chat/completions, "
        "/v1/completions, /v1/responses and /v1/models.",
        status=404,
        code="not_found",
    )
