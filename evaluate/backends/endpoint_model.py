"""Language models behind an HTTP endpoint that gives the log-probabilities of a prompt.

Two dialects of `POST {url}/completions` with token ids as the prompt are spoken:

- `vllm`: `prompt_logprobs: 0` gives `choices[0].prompt_logprobs`, None for the first token, then for
  each token {its id: {"logprob", "rank", "decoded_token"}} (vLLM, *OpenAI-Compatible Server*).
- `openai`: `echo: true, logprobs: 1` gives `choices[0].logprobs.token_logprobs`, None for the first
  token, then those of the prompt and of one generated token (OpenAI, *Completions*). SGLang answers
  so, and computes them only for `logprobs` of 1 or more.

llama.cpp's server (it refuses `echo`) and text-generation-inference (it has no `echo`) give none.
A reply counts only when it says that the tokens read are those sent: a server that puts a BOS before
them, or cuts them, is refused.
"""

import json
import re
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from collectors.document import UserError
from evaluate.backends import tokenizer as plain
from evaluate.backends.endpoint import TRIES_AT_LOAD, Client, EndpointError, UnsupportedError, kind_of
from evaluate.model import Conditions, Prefix, Tokens

# What servers write for the logarithm of zero, which JSON has no number for.
LOG_ZERO = -9999.0
# How far above zero a log-softmax in float32 may round.
ROUNDING = 1e-5

Dialect = Literal["vllm", "openai"]

# OpenAI refuses fields that it does not know, so what names the tokens read is asked for and then left out.
_ASKED: dict[Dialect, tuple[dict[str, Any], ...]] = {
    "vllm": ({"prompt_logprobs": 0, "return_token_ids": True},),
    "openai": ({"echo": True, "logprobs": 1, "return_token_ids": True}, {"echo": True, "logprobs": 1}),
}
_PROBE = "The quick brown fox jumps over the lazy dog."


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class EndpointModel:
    """A `LanguageModel` that an endpoint runs; build one with `load`."""

    name: str
    revision: str
    context_length: int | None
    vocabulary_size: int
    prefix: Prefix
    conditions: Conditions
    software: str
    batch_tokens: int
    tokenizer: Any
    client: Client
    dialect: Dialect
    fields: Mapping[str, Any]
    concurrency: int
    sink_refusal: str = "an endpoint keeps its cache to itself, and no request can drop tokens from it"

    def encode(self, texts: Sequence[str]) -> list[Tokens]:
        """Tokenise texts as plain text; see `LanguageModel.encode`."""
        return plain.encode(self.tokenizer, texts)

    def decode(self, tokens: Tokens) -> str:
        """Return the text that the tokens restore; see `LanguageModel.decode`."""
        return plain.decode(self.tokenizer, tokens)

    def nll(self, inputs: Sequence[Tokens], targets: Sequence[Tokens]) -> list[NDArray[np.float64]]:
        """Return -ln p of each target; see `LanguageModel.nll`.

        Every row is a request of its own: its inputs and its last target.

        Raises:
            UserError: when the endpoint stays away, or a reply cannot be used.
        """
        stop = threading.Event()
        pool = ThreadPoolExecutor(self.concurrency)
        try:
            rows = [pool.submit(self._row, *row, stop) for row in zip(inputs, targets, strict=True)]
            wait(rows, return_when=FIRST_EXCEPTION)
            failed = next((error for row in rows if row.done() and (error := row.exception())), None)
            if isinstance(failed, EndpointError):
                raise UserError(f"the endpoint of {self.name} cannot be used: {failed}") from failed
            return [row.result() for row in rows]
        finally:
            stop.set()
            pool.shutdown(wait=False, cancel_futures=True)

    def sink_nll(self, *_: Any, **__: Any) -> list[NDArray[np.float64]]:
        """Raise `UserError`: see `sink_refusal`."""
        raise UserError(f"{self.name} cannot be scored with protocol sink: {self.sink_refusal}")

    def _row(self, inputs: Tokens, targets: Tokens, stop: threading.Event) -> NDArray[np.float64]:
        prompt = [*inputs.tolist(), int(targets[-1])]
        costs = prompt_nll(self.dialect, self.client.ask(self.fields, prompt, stop), prompt)
        return costs[-len(targets) :]


def load(
    url: str,
    *,
    name: str,
    model: str,
    tokenizer: str,
    revision: str,
    context_length: int | None = None,
    dtype: str = "",
    quantization: str = "",
    separator: str | None = None,
    dialect: Dialect | None = None,
    concurrency: int = 8,
    pause: Callable[[threading.Event, float], object] = threading.Event.wait,
) -> EndpointModel:
    """Reach a model behind an endpoint, and check that it gives log-probabilities of a prompt.

    An API key is taken from the environment variable `FRESHBITS_API_KEY`.

    Args:
        url: the base of the API, such as `http://localhost:8000/v1`.
        name: what to call it.
        model: its name at the server.
        tokenizer: a local folder or a hub id with the tokenizer that the server's model has.
        revision: what the weights are, in words that you vouch for: nothing here can check it.
        context_length: the most tokens that the server reads and writes in one request. Two of them
            are for the last target and the token that the server generates.
        dtype: precision of the server's weights, as declared.
        quantization: how they are quantised, as declared; `none` where they are not.
        separator: the token that stands before a document where the tokenizer adds no BOS.
        dialect: `vllm` or `openai`; None finds out.
        concurrency: requests in flight at a time.
        pause: waits some seconds, or until the event is set.

    Raises:
        UserError: when an option is wrong, the tokenizer does not load, or the endpoint cannot be used.
    """
    _check_options(name, model, revision, context_length, dtype, quantization, dialect, concurrency)
    client = Client(url, model, concurrency, pause)
    reader = plain.load(tokenizer)
    probe = plain.encode(reader, [_PROBE])[0].tolist()
    try:
        found, fields, software = _dialect(client, probe, [dialect] if dialect else list(get_args(Dialect)))
    except EndpointError as error:
        raise UserError(f"the endpoint of {name} cannot be used: {error}") from error
    import transformers

    backend = getattr(reader, "backend_tokenizer", None)
    rules = backend.to_str() if backend else json.dumps(sorted(reader.get_vocab().items()))
    return EndpointModel(
        name=name,
        revision=f"declared:{revision}",
        context_length=None if context_length is None else context_length - 2,
        vocabulary_size=len(reader),
        prefix=plain.prefix(reader, separator, tokenizer),
        conditions=Conditions(
            dtype=f"{dtype} as declared" if dtype else "not declared",
            quantization={"": "not declared", "none": ""}.get(quantization, f"{quantization} as declared"),
            device="endpoint",
        ),
        software=(
            f"{software}, transformers {transformers.__version__}, "
            f"tokenizer sha256:{sha256(rules.encode()).hexdigest()[:16]}"
        ),
        # A batch ends with its slowest rows: several per connection keep all of them busy until then.
        batch_tokens=4 * 2048 * concurrency,
        tokenizer=reader,
        client=client,
        dialect=found,
        fields=fields,
        concurrency=concurrency,
    )


def prompt_nll(dialect: Dialect, reply: Any, prompt: Sequence[int]) -> NDArray[np.float64]:
    """Return -ln p of each token of a prompt but its first, shape [len(prompt) - 1], from a reply.

    Raises:
        UnsupportedError: when the reply holds no log-probabilities of the prompt.
        EndpointError: when it holds others than those of this prompt.
    """
    choices = reply.get("choices") if isinstance(reply, dict) else None
    if not isinstance(choices, list) or len(choices) != 1 or not isinstance(choices[0], dict):
        raise EndpointError("its reply has no list `choices` with one choice")
    choice, n = choices[0], len(prompt)
    _check_read(reply, choice, prompt)
    if dialect == "vllm":
        values = choice.get("prompt_logprobs")
        lengths = {n}
    else:
        logprobs = choice.get("logprobs")
        values = logprobs.get("token_logprobs") if isinstance(logprobs, dict) else None
        lengths = {n, n + 1}  # the one token generated has a value too, unless it ended the text
    if not isinstance(values, list) or (len(values) < n and len(values) < 2):
        got = f"{len(values)} value(s) for {n} tokens" if isinstance(values, list) else kind_of(values)
        raise UnsupportedError(f"it gives no log-probabilities of the prompt but {got}")
    if len(values) not in lengths:
        raise EndpointError(f"it gives {len(values)} log-probabilities for a prompt of {n} tokens")
    if values[0] not in (None, 0):
        raise EndpointError(
            "it gives the first token of a prompt a log-probability, so something stands before it; have the "
            "server add no BOS"
        )
    if dialect == "vllm":
        values = [
            _of_token(entry, token, i) for i, (entry, token) in enumerate(zip(values, prompt, strict=True))
        ]
    if not any(value is not None for value in values[1:n]):
        raise UnsupportedError("it gives null for every token of the prompt")
    return np.array([_nats(value, i) for i, value in enumerate(values[1:n], 1)])


def _check_read(reply: dict[str, Any], choice: dict[str, Any], prompt: Sequence[int]) -> None:
    """Refuse a reply unless it says that the tokens read are those of the prompt."""
    usage, n = reply.get("usage"), len(prompt)
    ids = choice.get("prompt_token_ids") or reply.get("prompt_token_ids")
    count = usage.get("prompt_tokens") if isinstance(usage, dict) else None
    if ids is not None and not isinstance(ids, list):
        raise EndpointError(f"its `prompt_token_ids` are {kind_of(ids)}, not a list")
    if ids is None and (isinstance(count, bool) or not isinstance(count, int)):
        raise EndpointError("it says neither which tokens it read nor, as `usage.prompt_tokens`, how many")
    read = [n if count is None else count, n if ids is None else len(ids)]
    if max(read) > n:
        raise EndpointError(
            f"it read {max(read)} tokens where {n} were sent: it adds its own, such as a BOS; have the server take "
            "token ids as they are"
        )
    if min(read) < n:
        raise EndpointError(f"it read {min(read)} tokens where {n} were sent: it cuts prompts")
    if ids is not None and ids != list(prompt):
        raise EndpointError("it read other token ids than were sent: it rewrites prompts")


def _of_token(entry: Any, token: int, position: int) -> Any:
    """Return the value of one token in an entry of `prompt_logprobs`."""
    if position == 0 or entry is None:
        return None
    value = entry.get(str(token)) if isinstance(entry, dict) else None
    if not isinstance(value, dict):
        raise EndpointError(
            f"its entry {position} of `prompt_logprobs` does not hold token {token}, which was sent there"
        )
    return value.get("logprob")


def _nats(value: Any, position: int) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise EndpointError(f"its log-probability of token {position} is {kind_of(value)}, not a number")
    if not LOG_ZERO < value <= ROUNDING:  # not a number compares false
        shown = "below all that servers write" if value < LOG_ZERO else f"{float(min(value, 1e9)):g}"
        raise EndpointError(
            f"its log-probability of token {position} is {shown}; possible tokens have one between {LOG_ZERO:g} and 0"
        )
    return max(0.0, -float(value))


def _dialect(
    client: Client, probe: Sequence[int], dialects: Sequence[Dialect]
) -> tuple[Dialect, Mapping[str, Any], str]:
    """Return the first dialect that is answered soundly, its request, and what the server says it is."""
    stop, reasons = threading.Event(), []
    for dialect in dialects:
        for fields in _ASKED[dialect]:
            try:
                reply = client.ask(fields, probe, stop, tries=TRIES_AT_LOAD)
                costs = prompt_nll(dialect, reply, probe)
            except UnsupportedError as error:
                reasons.append(f"asked for {next(iter(fields))}, {error}")
                continue
            _check_sane(client, dialect, fields, probe, costs)
            known = str(reply.get("system_fingerprint") or "")
            said = f" {known}" if re.fullmatch(r"[A-Za-z0-9._:+-]{1,64}", known) else ""
            return dialect, fields, f"{dialect} endpoint{'' if client.leaks(said) else said}"
    raise EndpointError("; ".join(dict.fromkeys(reasons)))


def _check_sane(
    client: Client,
    dialect: Dialect,
    fields: Mapping[str, Any],
    probe: Sequence[int],
    costs: NDArray[np.float64],
) -> None:
    """Ask again with one token more: what stands before it must cost the same."""
    if len(set(costs.tolist())) == 1:
        raise EndpointError(f"it gives every token of a sentence the log-probability {-costs[0]:g}")
    longer = [*probe, probe[0]]
    again = prompt_nll(dialect, client.ask(fields, longer, threading.Event()), longer)[: len(costs)]
    if abs(again.sum() - costs.sum()) > 1e-3 * costs.sum():
        raise EndpointError(
            f"it gives a sentence {costs.sum():.6g} nats, and {again.sum():.6g} when asked again with one token more"
        )


def _check_options(
    name: str,
    model: str,
    revision: str,
    context_length: int | None,
    dtype: str,
    quantization: str,
    dialect: str | None,
    concurrency: int,
) -> None:
    """Refuse what YAML may hold and the types do not allow."""
    for option, value in {"model": model, "revision": revision}.items():
        if not isinstance(value, str) or not value.strip():
            raise UserError(
                f"{name}: `{option}` is {value!r}; name it, as nothing else says what is measured"
            )
    for option, value in {"dtype": dtype, "quantization": quantization}.items():
        if not isinstance(value, str) or not re.fullmatch(r"[\w. +-]{0,60}", value):
            raise UserError(f"{name}: `{option}` is {value!r}; declare it in a word, such as bfloat16 or awq")
    if dialect is not None and dialect not in get_args(Dialect):
        raise UserError(
            f"{name}: dialect {dialect!r} is unknown; choose one of {', '.join(get_args(Dialect))}"
        )
    for option, number, low, high in (
        ("concurrency", concurrency, 1, 256),
        ("context_length", 4 if context_length is None else context_length, 4, 2**31),
    ):
        if isinstance(number, bool) or not isinstance(number, int) or not low <= number <= high:
            raise UserError(f"{name}: `{option}` is {number!r}; give a whole number from {low} to {high}")
