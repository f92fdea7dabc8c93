"""A GGUF file of the shapes of a nemotron_h config with random Q4_0 weights, for llama.cpp to be timed with.

    python -m bench.random_gguf MODEL_OR_CONFIG OUT.gguf [--tokenizer tokenizer.json]

Every matrix is Q4_0, the embedding table and lm_head too (llama-quantize would leave lm_head at 6 bits, which is
slower), so that llama.cpp reads as little as it can. Needs the `gguf` package (requirements/bench.txt).
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from nano_agent_ros.model.config import ATTENTION, MAMBA, NemotronHConfig

from .harness import say

BLOCK, BLOCK_BYTES = 32, 18  # Q4_0: a float16 scale and 32 values of 4 bits
DEVIATION = 0.02

Tensor = tuple[str, tuple[int, ...], bool]  # name, shape as in the checkpoint, whether it is a Q4_0 matrix


def tensors(config: NemotronHConfig) -> Iterator[Tensor]:
    """Every tensor under llama.cpp's name, in file order."""
    hidden, groups = config.hidden_size, config.n_groups
    yield "token_embd.weight", (config.vocab_size, hidden), True
    for i, layer in enumerate(config.layers):
        block = f"blk.{i}."
        yield block + "attn_norm.weight", (hidden,), False
        if layer == MAMBA:
            yield block + "ssm_in.weight", (config.in_proj_dim, hidden), True
            yield block + "ssm_conv1d.weight", (config.conv_dim, config.conv_kernel), False
            yield block + "ssm_conv1d.bias", (config.conv_dim,), False
            yield block + "ssm_dt.bias", (config.mamba_num_heads,), False
            yield block + "ssm_a", (config.mamba_num_heads, 1), False
            yield block + "ssm_d", (config.mamba_num_heads, 1), False
            yield block + "ssm_norm.weight", (groups, config.d_inner // groups), False
            yield block + "ssm_out.weight", (hidden, config.d_inner), True
        elif layer == ATTENTION:
            yield block + "attn_q.weight", (config.q_dim, hidden), True
            yield block + "attn_k.weight", (config.kv_dim, hidden), True
            yield block + "attn_v.weight", (config.kv_dim, hidden), True
            yield block + "attn_output.weight", (hidden, config.q_dim), True
        else:
            yield block + "ffn_up.weight", (config.intermediate_size, hidden), True
            yield block + "ffn_down.weight", (hidden, config.intermediate_size), True
    yield "output_norm.weight", (hidden,), False
    yield "output.weight", (config.vocab_size, hidden), True


def q4_0(shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    """Random Q4_0 rows as bytes [rows, cols / 32 * 18]: values of the wished deviation, one scale for all blocks."""
    rows, cols = shape
    blocks = np.frombuffer(rng.bytes(rows * cols // BLOCK * BLOCK_BYTES), dtype=np.uint8).copy()
    blocks = blocks.reshape(rows, cols // BLOCK, BLOCK_BYTES)
    scale = np.float16(DEVIATION / 4.6)  # 4.6: deviation of -8 .. 7
    blocks[:, :, :2] = np.frombuffer(scale.tobytes(), dtype=np.uint8)
    return blocks.reshape(rows, -1)


def plain(name: str, shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    """What is no matrix, float32, as a fresh network has it: steps of 1 ms to 100 ms, A of -16 to -1, norms of 1."""
    if name.endswith("ssm_dt.bias"):
        step = np.exp(rng.uniform(np.log(1e-3), np.log(1e-1), shape))
        return (step + np.log(-np.expm1(-step))).astype(np.float32)
    if name.endswith("ssm_a"):
        return -rng.uniform(1, 16, shape).astype(np.float32)
    if "conv1d" in name:
        return rng.uniform(-0.5, 0.5, shape).astype(np.float32)
    return np.ones(shape, dtype=np.float32)


def write_gguf(config: NemotronHConfig, path: Path, tokenizer: Path | None, seed: int = 0) -> None:
    """Write the file, one tensor in memory at a time. The tokens are those of a BPE tokenizer.json, or single bytes."""
    import gguf

    rng = np.random.default_rng(seed)
    writer = gguf.GGUFWriter(path, "nemotron_h")
    _hyperparameters(writer, config)
    _tokens(writer, config.vocab_size, tokenizer)
    made: list[Callable[[], np.ndarray]] = []
    for name, shape, matrix in tensors(config):
        if matrix:
            stored = (shape[0], shape[1] // BLOCK * BLOCK_BYTES)
            size = stored[0] * stored[1]
            kind = gguf.GGMLQuantizationType.Q4_0
            writer.add_tensor_info(name, stored, np.dtype(np.uint8), size, raw_dtype=kind)
            made.append(lambda shape=shape: q4_0(shape, rng))  # type: ignore[misc]
        else:
            writer.add_tensor_info(name, shape, np.dtype(np.float32), int(np.prod(shape)) * 4)
            made.append(lambda name=name, shape=shape: plain(name, shape, rng))  # type: ignore[misc]
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    for make in made:
        writer.write_tensor_data(make())
    writer.close()


def _hyperparameters(writer: Any, config: NemotronHConfig) -> None:
    import gguf

    writer.add_name("random weights")
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_Q4_0)
    writer.add_block_count(len(config.layers))
    writer.add_context_length(1 << 20)
    writer.add_embedding_length(config.hidden_size)
    writer.add_vocab_size(config.vocab_size)
    mixers = [layer if layer in (MAMBA, ATTENTION) else "mlp" for layer in config.layers]
    writer.add_feed_forward_length([config.intermediate_size if layer == "mlp" else 0 for layer in mixers])
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv([config.num_key_value_heads if layer == ATTENTION else 0 for layer in mixers])
    writer.add_key_length(config.head_dim)
    writer.add_value_length(config.head_dim)
    writer.add_layer_norm_rms_eps(config.layer_norm_epsilon)
    writer.add_layer_norm_eps(config.layer_norm_epsilon)
    writer.add_ssm_conv_kernel(config.conv_kernel)
    writer.add_ssm_state_size(config.ssm_state_size)
    writer.add_ssm_group_count(config.n_groups)
    writer.add_ssm_inner_size(config.d_inner)
    writer.add_ssm_time_step_rank(config.mamba_num_heads)
    writer.add_rope_scaling_finetuned(False)
    writer.add_rope_dimension_count(config.head_dim)


def _tokens(writer: Any, vocab_size: int, tokenizer: Path | None) -> None:
    """Tokens, merges and the end of a turn; what the model has beyond them is unused."""
    import gguf

    if tokenizer is None:
        texts, merges, special, eos = _bytes(), [], set(), 0
    else:
        raw = json.loads(tokenizer.read_text(encoding="utf-8"))
        texts = [text for text, _ in sorted(raw["model"]["vocab"].items(), key=lambda item: item[1])]
        merges = [m if isinstance(m, str) else " ".join(m) for m in raw["model"]["merges"]]
        special = {token["id"] for token in raw["added_tokens"]}
        eos = next((t["id"] for t in raw["added_tokens"] if t["content"] == "<|im_end|>"), 0)
    kinds = [gguf.TokenType.CONTROL if i in special else gguf.TokenType.NORMAL for i in range(len(texts))]
    unused = vocab_size - len(texts)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("default")
    writer.add_token_list(texts + [f"[unused{i}]" for i in range(unused)])
    writer.add_token_types(kinds + [gguf.TokenType.UNUSED] * unused)
    writer.add_token_merges(merges or ["a b"])
    writer.add_eos_token_id(eos)
    writer.add_add_bos_token(False)


def _bytes() -> list[str]:
    """The 256 bytes as byte-level BPE writes them."""
    shown = [*range(33, 127), *range(161, 173), *range(174, 256)]
    hidden = (n for n in range(256, 512))
    return [chr(b) if b in shown else chr(next(hidden)) for b in range(256)]


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m bench.random_gguf", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("model", type=Path, help="model folder or config.json")
    parser.add_argument("out", type=Path, metavar="OUT.gguf")
    parser.add_argument("--tokenizer", type=Path, metavar="FILE", help="tokenizer.json of byte-level BPE")
    options = parser.parse_args()
    config = NemotronHConfig.from_json(options.model)
    say(f"writing {options.out}")
    write_gguf(config, options.out, options.tokenizer)
    say(f"{options.out}: {options.out.stat().st_size / 1e9:.2f} GB")


if __name__ == "__main__":
    main()
