"""Hugging Face transformers' Llama, which the transformer is compared with."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import torch


def available() -> bool:
    """Whether Hugging Face transformers is installed."""
    return find_spec("transformers") is not None


def of_size(codes: int, length: int, width: int, layers: int, heads: int, kv_heads: int) -> Any:
    """A Llama of the layers, widths and heads of a transformer of ours, in eval mode."""
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=codes + 1,  # and a first token
        hidden_size=width,
        intermediate_size=-(-8 * width // 3 // 16) * 16,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=kv_heads,
        max_position_embeddings=length + 1,
        bos_token_id=codes,
        eos_token_id=None,
        pad_token_id=codes,
    )
    return LlamaForCausalLM(config).eval()


def generator(model: Any, batch: int, length: int) -> Callable[[], object]:
    """Draws ``length`` tokens for each of a batch, with the key-value cache."""
    start = torch.full((batch, 1), model.config.bos_token_id, device=model.device)
    attended = torch.ones_like(start)
    return lambda: model.generate(
        start,
        attention_mask=attended,
        do_sample=True,
        top_k=0,
        use_cache=True,
        min_new_tokens=length,
        max_new_tokens=length,
    )
