"""Train the tokenizer of the model that ships: byte-level BPE whose units are the parts of the reply dialect.

    python -m training.tokenizer corpus.txt --out models/warehouse --vocabulary 2048
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

END_OF_TEXT, END_OF_TURN = "<|endoftext|>", "<|im_end|>"
SPECIAL = (
    END_OF_TEXT, "<|im_start|>", END_OF_TURN, "<tool_call>", "</tool_call>", "<think>", "</think>",
    "<tool_response>", "</tool_response>",
)  # fmt: skip
# Structural tags whole; one digit at a time; the underscore of ids alone; words with one space before them; runs of
# line ends; then other white space and signs. Ids such as dock_3 so split the same way wherever they are copied to.
PIECES = (
    r"</?(?:function|parameter)[=>]?"
    r"|\p{N}|_| ?\p{L}+|[\r\n]+| ?[^\s\p{L}\p{N}_<]+|<| +|\s"
)


def train(corpus: Iterator[str], vocabulary: int) -> Tokenizer:
    """Return a tokenizer of `vocabulary` tokens: the special ones first, then all 256 bytes, then merges by frequency.

    Every text can be encoded, and decoding gives it back. Raises ValueError if the vocabulary has no room for bytes.
    """
    if vocabulary < len(SPECIAL) + 256:
        raise ValueError(f"a vocabulary of {vocabulary} has no room for {len(SPECIAL)} special tokens and 256 bytes")
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(PIECES), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    special = [AddedToken(text, special=True, normalized=False) for text in SPECIAL]
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        min_frequency=2,
        show_progress=False,
    )
    tokenizer.train_from_iterator(corpus, trainer)
    return tokenizer


def save(tokenizer: Tokenizer, folder: Path) -> None:
    """Write tokenizer.json, tokenizer_config.json and generation_config.json."""
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    end, pad = tokenizer.token_to_id(END_OF_TURN), tokenizer.token_to_id(END_OF_TEXT)
    _write(
        folder / "tokenizer_config.json",
        {
            "add_bos_token": False,
            "add_eos_token": False,
            "clean_up_tokenization_spaces": False,
            "eos_token": END_OF_TURN,
            "model_max_length": 8192,
            "pad_token": END_OF_TEXT,
            "tokenizer_class": "PreTrainedTokenizerFast",
        },
    )
    _write(folder / "generation_config.json", {"do_sample": False, "eos_token_id": [end, pad], "pad_token_id": pad})


def _write(path: Path, content: dict[str, object]) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpus", type=Path, help="text of rendered conversations (python -m training.encode --corpus)")
    parser.add_argument("--out", type=Path, default=Path("models/warehouse"), help="model folder")
    parser.add_argument("--vocabulary", type=int, default=2048)
    args = parser.parse_args()
    with args.corpus.open(encoding="utf-8") as lines:
        tokenizer = train(lines, args.vocabulary)
    save(tokenizer, args.out)
    print(f"{args.out / 'tokenizer.json'}: {tokenizer.get_vocab_size()} tokens")


if __name__ == "__main__":
    main()
