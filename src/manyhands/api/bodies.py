"""The bodies of requests, as OpenAI writes them: types and ranges, nothing else.

Values are taken as they are (no "5" for 5). Lists are read up to their first mistake, or a million
wrong entries would make a million complaints. Fields that are not named here are kept in
`model_extra`; `parameters` says what becomes of them.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

MOST_CHOICES = 16
MOST_PROMPTS = 128
MOST_INPUTS = 2048
MOST_TOP_LOGPROBS = 20
MOST_BIASES = 1024

StopText = Annotated[str, Field(min_length=1)]
Ids = Annotated[list[int], Field(min_length=1, fail_fast=True)]
Texts = Annotated[list[str], Field(min_length=1, max_length=MOST_PROMPTS, fail_fast=True)]
Inputs = Annotated[list[str], Field(min_length=1, max_length=MOST_INPUTS, fail_fast=True)]
ListsOfIds = Annotated[list[Ids], Field(min_length=1, max_length=MOST_PROMPTS, fail_fast=True)]
InputsOfIds = Annotated[list[Ids], Field(min_length=1, max_length=MOST_INPUTS, fail_fast=True)]


class StreamOptions(BaseModel):
    """What else comes with a stream."""

    model_config = ConfigDict(strict=True, extra="ignore")

    include_usage: bool | None = None


class AskBody(BaseModel):
    """What both kinds of request have. A missing `model` is the first one served."""

    model_config = ConfigDict(strict=True, extra="allow", protected_namespaces=())

    model: str | None = None
    max_tokens: Annotated[int, Field(ge=1)] | None = None
    temperature: float | None = Field(None, description="0 is greedy; absent is 1.0")
    top_p: float | None = None
    top_k: int | None = Field(None, description="0 or -1 is off")
    min_p: float | None = None
    frequency_penalty: float | None = None
    presence_penalty: float | None = None
    repetition_penalty: float | None = None
    logit_bias: Annotated[dict[str, float], Field(max_length=MOST_BIASES)] | None = None
    seed: Annotated[int, Field(ge=-(2**63), lt=2**64)] | None = Field(
        None,
        description=(
            "Same seed, model and kernels, same text up to near-ties. Absent is a new one."
        ),
    )
    stop: StopText | Annotated[list[StopText], Field(max_length=16)] | None = None
    n: Annotated[int, Field(ge=1, le=MOST_CHOICES)] | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None

    @model_validator(mode="after")
    def _options_need_a_stream(self) -> AskBody:
        if self.stream_options is not None and not self.stream:
            raise ValueError("stream_options may only be given with stream: true")
        return self


class ChatMessage(BaseModel):
    """One message. `content` is a text or a list of parts; only `text` parts are served."""

    model_config = ConfigDict(strict=True, extra="allow")

    role: Literal["system", "developer", "user", "assistant", "tool", "function"]
    content: str | list[dict[str, Any]] | None = None
    name: str | None = None


class ChatBody(AskBody):
    """`POST /v1/chat/completions`."""

    messages: Annotated[list[ChatMessage], Field(min_length=1, fail_fast=True)]
    max_completion_tokens: Annotated[int, Field(ge=1)] | None = Field(
        None, description="Goes before max_tokens. Absent is 1,024, or what the context has left."
    )
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=MOST_TOP_LOGPROBS)] | None = None

    @model_validator(mode="after")
    def _alternatives_need_logprobs(self) -> ChatBody:
        if self.top_logprobs and not self.logprobs:
            raise ValueError("top_logprobs may only be given with logprobs: true")
        return self


class CompletionBody(AskBody):
    """`POST /v1/completions`. Several prompts give `n` choices each, in their order."""

    prompt: str | Ids | Texts | ListsOfIds
    echo: bool | None = Field(None, description="Say the prompt before the answer.")
    logprobs: Annotated[int, Field(ge=0, le=MOST_TOP_LOGPROBS)] | None = None
    best_of: int | None = Field(None, description="Only the same as n.")


class EmbeddingBody(BaseModel):
    """`POST /v1/embeddings`."""

    model_config = ConfigDict(strict=True, extra="allow", protected_namespaces=())

    input: str | Ids | Inputs | InputsOfIds
    model: str | None = None
    encoding_format: Literal["float", "base64"] | None = Field(
        None, description="base64: little-endian float32."
    )
    dimensions: int | None = Field(None, description="Only what the model makes.")
