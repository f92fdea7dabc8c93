"""A small model of random weights: everything of a real one but understanding, for tests of the plumbing."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from nano_agent_ros.model.checkpoint import save_checkpoint
from nano_agent_ros.model.config import NemotronHConfig
from nano_agent_ros.model.network import NemotronH, initialise
from nano_agent_ros.quantize.convert import convert
from nano_agent_ros.resources import find
from training.tokenizer import save, train

CORPUS = "<function=navigate_to>\n<parameter=location>\ndock_3\n</parameter>\n</function>\ngo to the dock please\n"


def write_random_model(folder: Path, seed: int = 0) -> Path:
    """Write tokenizer, template and INT4 weights of a two-layer network to `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = train(iter(CORPUS.splitlines(keepends=True) * 4), 512)
    vocabulary = -(-tokenizer.get_vocab_size() // 64) * 64
    config = NemotronHConfig.from_dict(
        {
            "model_type": "nemotron_h",
            "hybrid_override_pattern": "M*-",
            "vocab_size": vocabulary,
            "hidden_size": 64,
            "intermediate_size": 128,
            "mamba_num_heads": 4,
            "mamba_head_dim": 32,
            "ssm_state_size": 64,
            "n_groups": 1,
            "conv_kernel": 4,
            "chunk_size": 64,
            "num_attention_heads": 2,
            "num_key_value_heads": 1,
            "head_dim": 64,
        }
    )
    network = NemotronH(config)
    initialise(network, seed)
    with tempfile.TemporaryDirectory() as checkpoint:
        save_checkpoint(network, checkpoint)
        save(tokenizer, Path(checkpoint))
        shutil.copy(find("models/warehouse/chat_template.jinja"), checkpoint)
        convert(checkpoint, folder, progress=False)
    return folder
