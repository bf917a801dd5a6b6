"""What `scoring.py` scores: models, texts of a given length, and how much arithmetic a model asks for.

Each function that imports torch runs in a process of its own, so that the one that starts them stays small.
"""

import itertools
import json
import random
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

CONVERTED = Path(__file__).resolve().parents[1] / "models" / "converted"
SEPARATOR = "<|endoftext|>"
PASSAGE = 500  # characters
# Shapes of published models: the width and depth of Gemma-3-270m, and Llama-3.2-1B.
RANDOM: dict[str, dict[str, Any]] = {
    "small": {
        "vocab_size": 49152,
        "hidden_size": 640,
        "intermediate_size": 2048,
        "num_hidden_layers": 18,
        "num_attention_heads": 10,
        "num_key_value_heads": 2,
    },
    "1b": {
        "vocab_size": 128256,
        "hidden_size": 2048,
        "intermediate_size": 8192,
        "num_hidden_layers": 16,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
    },
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A model and a text, and how they are run.

    Attributes:
        name: what to call it.
        folder: the model, as transformers reads it.
        separator: the token before a document, where the tokenizer adds none.
        is_random: whether its weights are.
        source: file of the documents to take text from, empty for generated text.
        texts: file of the texts to score, and of the passages.
    """

    name: str
    folder: str
    separator: str | None
    is_random: bool
    source: tuple[str, ...]
    texts: str
    tokens: int
    documents: int
    window: int
    stride: int
    precision: float
    dtype: str
    device: str
    threads: int


def generated() -> Iterator[str]:
    """Yield seeded texts without end, drawn by a Zipf law from made-up words."""
    rng = random.Random(20240701)
    syllables = [a + b for a in "bdfgklmnprstvz" for b in "aeiou"]
    words = ["".join(rng.choices(syllables, k=rng.randint(1, 4))) for _ in range(20_000)]
    weights = list(itertools.accumulate(1 / (rank + 10) for rank in range(len(words))))
    while True:
        yield " ".join(rng.choices(words, cum_weights=weights, k=500))


def read_source(files: Sequence[str]) -> Iterator[str]:
    """Yield the documents of JSON and Parquet files."""
    import pyarrow.parquet

    for file in files:
        if file.endswith(".parquet"):
            yield from pyarrow.parquet.read_table(file, columns=["text"])["text"].to_pylist()
        else:
            yield from json.loads(Path(file).read_text(encoding="utf-8"))


def cut(tokenizer: Any, text: str, tokens: int) -> str | None:
    """Return a part of a text that the tokenizer makes so many tokens of, None where none is found.

    A cut inside a word may change how its beginning is split, so the text starts at another word until
    the count is right.
    """
    for word in itertools.islice(re.finditer(r"\S+", text), 200):
        rest = text[word.start() :]
        offsets = tokenizer(rest, return_offsets_mapping=True)["offset_mapping"]
        if len(offsets) < tokens:
            return None
        part = rest[: offsets[tokens - 1][1]]
        if len(tokenizer(part)["input_ids"]) == tokens:
            return part
    return None


def write_texts(case: Case) -> int:
    """Write the texts to score and the passages for `precision`; return how many tokens a text has at least.

    All but the first have a multiple of the stride, the first a window, a token and such a multiple.
    """
    import transformers

    transformers.logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    tokenizer = transformers.AutoTokenizer.from_pretrained(case.folder)
    source = read_source(case.source) if case.source else generated()
    texts: list[str] = []
    head = case.window + 1
    first = head + max(0, -(-(case.tokens - head) // case.stride)) * case.stride
    wanted = [first, *[-(-case.tokens // case.stride) * case.stride] * (case.documents - 1)]
    for tokens in wanted:
        text, part = "", None
        while part is None:
            document = next(source, None)
            if document is None:
                return 0
            text += document + "\n"
            # What is likely too short is not worth tokenising again and again.
            part = cut(tokenizer, text, tokens) if len(text) > 2 * tokens else None
        texts.append(part)
    documents = read_source(case.source) if case.source else ()
    passages = [text[k : k + PASSAGE] for text in documents for k in range(0, len(text), PASSAGE)]
    Path(case.texts).write_text(json.dumps({"texts": texts, "passages": passages}))
    return min(wanted)


def write_random(folder: str, shape: dict[str, Any]) -> None:
    """Write a Llama with random weights, and a tokenizer trained on generated text."""
    import torch
    import transformers
    from tokenizers import ByteLevelBPETokenizer

    transformers.logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    backend: Any = ByteLevelBPETokenizer()
    backend.train_from_iterator(
        itertools.islice(generated(), 200), vocab_size=8192, special_tokens=[SEPARATOR]
    )
    tokenizer: Any = transformers.PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=backend._tokenizer,  # noqa: SLF001  there is no other way to it
        eos_token=SEPARATOR,
    )
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    config = transformers.LlamaConfig(**shape, tie_word_embeddings=True, max_position_embeddings=65536)
    auto: Any = transformers.AutoModelForCausalLM
    auto.from_config(config, dtype=torch.bfloat16).save_pretrained(folder)


def convert(source: str, sha256: str | None) -> str:
    """Return the folder of a model, which a GGUF file is converted to once."""
    from evaluate.backends.gguf_conversion import converted
    from evaluate.backends.weights import identity

    if Path(source).suffix != ".gguf":
        return source
    digest = identity(source, revision=None, sha256=sha256).removeprefix("sha256:")
    return str(converted(Path(source), digest, CONVERTED))


def arithmetic(folder: str) -> dict[str, int]:
    """Return the operations a model does per token forwarded, per query and key, and per row of logits."""
    import torch
    import transformers

    config = transformers.AutoConfig.from_pretrained(folder)
    auto: Any = transformers.AutoModelForCausalLM
    with torch.device("meta"):
        model = auto.from_config(config)
    embedding, head = model.get_input_embeddings().weight, model.get_output_embeddings().weight
    body = sum(
        weight.numel() for weight in model.parameters() if weight is not embedding and weight is not head
    )
    text = config.get_text_config()
    width = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
    return {
        "parameters": sum(weight.numel() for weight in model.parameters()),
        "vocabulary": head.shape[0],
        "token": 2 * body,
        "pair": 4 * text.num_hidden_layers * text.num_attention_heads * width,
        "row": 2 * head.numel(),
    }
