"""Which language a text is written in."""

from functools import cache
from typing import Any

# The detector looks at bytes; past this many characters its answer no longer changes.
_ENOUGH = 20_000


def detect(text: str) -> tuple[str, float]:
    """Return an ISO 639-1 code and the detector's probability; empty and 0.0 for a blank text."""
    if not text.strip():
        return "", 0.0
    language, probability = _identifier().classify(text[:_ENOUGH])
    return str(language), round(float(probability), 6)


@cache
def _identifier() -> Any:
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
