"""What a model entry points at, and the digest that identifies it; needs no deep-learning library."""

import hashlib
import re
from pathlib import Path

from collectors.document import UserError, sha256_of

_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")


def identity(source: str, *, revision: str | None = None, sha256: str | None = None) -> str:
    """Return what identifies a model's weights: `sha256:…` of a local one, the revision of a hub id.

    A folder's digest is over the names and digests of all of its files, one line each.

    Args:
        source: a GGUF file, a folder with safetensors, or a hub id.
        revision: commit of a hub id; without one the identity of a hub id is empty.
        sha256: what a local model must hash to.

    Raises:
        UserError: when the source is none of these, holds no safetensors, or is not what is declared.
    """
    path = Path(source)
    if path.is_file() and path.suffix == ".gguf":
        digest = sha256_of(path)
    elif path.is_dir():
        if not list(path.glob("*.safetensors")):
            raise UserError(
                f"folder {source} holds no .safetensors file; convert the model first, for pickled weights "
                "can run code and are never opened"
            )
        files = sorted(p for p in path.iterdir() if p.is_file())
        listing = "".join(f"{p.name} {sha256_of(p)}\n" for p in files)
        digest = hashlib.sha256(listing.encode()).hexdigest()
    elif _HUB_ID.fullmatch(source) and not source.startswith((".", "models/")) and path.suffix != ".gguf":
        if sha256:
            raise UserError(f"sha256 identifies local models; give hub id {source} a `revision` instead")
        return revision or ""
    else:
        raise UserError(
            f"model {source!r} is neither a name in params.yaml, a .gguf file, a folder with safetensors, "
            "nor a hub id such as org/name; `make models` fetches the default model"
        )
    if sha256 and digest != sha256:
        raise UserError(f"{source} has sha256 {digest}, not {sha256} as declared; fetch it again")
    return f"sha256:{digest}"
