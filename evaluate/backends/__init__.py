"""What an entry of params.yaml names: a backend, its options, and the weights they come to."""

from collections.abc import Callable
from inspect import signature
from typing import TYPE_CHECKING, get_args, get_type_hints

from collectors.document import UserError
from evaluate.backends.weights import identity
from evaluate.model import LanguageModel, ModelEntry

if TYPE_CHECKING:
    from evaluate.backends.transformers_model import TransformersModel

BACKENDS = ("transformers", "llama.cpp", "endpoint", "compressors")

_REQUIRED = {
    "transformers": ("source",),
    "llama.cpp": ("source",),
    "endpoint": ("url", "model", "tokenizer", "revision"),
}
# What a loader is told by us, or by its tests, and not by an entry.
_OURS = {"name", "cache", "pause"}


def load(entry: ModelEntry) -> LanguageModel:
    """Load the language model of an entry.

    Raises:
        UserError: when the backend is unknown, an option is wrong, or the model does not load or not fit into memory.
    """
    loader = _loader(entry)
    _require(entry)
    known = [name for name in signature(loader).parameters if name not in _OURS]
    wrong = sorted(map(str, set(entry.options) - set(known)))
    if wrong:
        raise UserError(
            f"model {entry.slug} in params.yaml has wrong options ({', '.join(wrong)}); backend {entry.backend} takes "
            f"{', '.join(known)}; any entry takes name, family, initializer_range, training_flops, cutoff and price"
        )
    hints = get_type_hints(loader)
    for name, value in entry.options.items():
        kinds = get_args(hints[name]) or (hints[name],)
        if value is not None and type(value) not in kinds and value not in kinds:
            raise UserError(
                f"`{name}` of model {entry.slug} in params.yaml is {value!r}; backend {entry.backend} takes "
                f"{' or '.join(getattr(kind, '__name__', str(kind)) for kind in kinds if kind is not type(None))}"
            )
    try:
        return loader(**{**entry.options, "name": entry.slug})
    except MemoryError as error:
        raise UserError(
            f"model {entry.slug} does not fit into memory ({error}); free some or choose a smaller model or dtype"
        ) from error


def check_open(entry: ModelEntry, lacks: str, command: str) -> None:
    """Refuse a model whose backend shows likelihoods alone.

    Args:
        entry: the model's.
        lacks: what is not to be had of such a model.
        command: of `python -m evaluate` that needs it.

    Raises:
        UserError: with what to use instead.
    """
    if not entry.is_open:
        raise UserError(
            f"model {entry.slug} runs in backend {entry.backend!r}, which {lacks}; {command} needs backend transformers"
        )


def load_open(entry: ModelEntry) -> "TransformersModel":
    """Load a model that `check_open` lets pass; see `load`."""
    from evaluate.backends.transformers_model import TransformersModel

    model = load(entry)
    assert isinstance(model, TransformersModel)  # noqa: S101
    return model


def weights_of(entry: ModelEntry) -> str:
    """Return what identifies an entry's weights, or its codec; empty for a hub id without a revision.

    Raises:
        UserError: when an option is missing, or a local model is missing or not what its entry declares.
    """
    _require(entry)
    if entry.backend in {"transformers", "llama.cpp"}:
        wanted = {name: entry.options.get(name) for name in ("revision", "sha256")}
        return identity(entry.options["source"], **wanted)
    if entry.backend == "endpoint":
        return f"declared:{entry.options['revision']}"
    return f"codec:{entry.options.get('codec', entry.slug)}"


def _require(entry: ModelEntry) -> None:
    required = _REQUIRED.get(entry.backend, ())
    missing = [name for name in required if not isinstance(entry.options.get(name), str)]
    if missing:
        raise UserError(
            f"model {entry.slug} in params.yaml lacks {', '.join(missing)}; backend {entry.backend} needs "
            f"{', '.join(required)} as text"
        )


def _loader(entry: ModelEntry) -> Callable[..., LanguageModel]:
    # Each backend imports what takes seconds, and may be missing.
    if entry.backend == "transformers":
        from evaluate.backends import transformers_model

        return transformers_model.load
    if entry.backend == "llama.cpp":
        from evaluate.backends import gguf_model

        return gguf_model.load
    if entry.backend == "endpoint":
        from evaluate.backends import endpoint_model

        return endpoint_model.load
    raise UserError(
        f"backend {entry.backend!r} of {entry.slug} is unknown; choose one of {', '.join(BACKENDS)}"
    )
