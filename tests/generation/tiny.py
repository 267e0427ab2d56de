"""A language model of one running sum, in chunks too, and a tokenizer of bytes for it."""

from __future__ import annotations

import functools

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from torch import Tensor, nn

from hycompile.capture import Call, capture
from hycompile.program import Program

VOCABULARY, WIDTH, PROMPT, CHUNK = 260, 16, 8, 5
END = "<|endoftext|>"


def tokenizer() -> Tokenizer:
    """257 tokens: the end of a text, and the bytes, so that most characters outside ASCII take several."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    built = Tokenizer(
        models.BPE(vocab={END: 0} | {letter: 1 + index for index, letter in enumerate(letters)}, merges=[])
    )
    built.pre_tokenizer, built.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    built.add_special_tokens([END])
    return built


class Sums(nn.Module):
    """Logits from the sum of all embeddings so far and from the position."""

    total: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.table, self.head = nn.Embedding(VOCABULARY, WIDTH), nn.Linear(WIDTH, VOCABULARY)
        self.register_buffer("total", torch.zeros(1, 1, WIDTH))

    def forward(self, tokens: Tensor) -> Tensor:
        """Logits of every token, without state."""
        start, count = torch.zeros(1, dtype=torch.int64), torch.tensor([tokens.shape[1]])
        return self._logits(self._sums(tokens, torch.zeros_like(self.total), count), start)

    def prefill(self, tokens: Tensor, count: Tensor) -> Tensor:
        return self._take(tokens, torch.zeros_like(self.total), torch.zeros_like(count), count)

    def extend(self, tokens: Tensor, start: Tensor, count: Tensor) -> Tensor:
        self._take(tokens, self.total, start, count)
        return start + count

    def finish(self, tokens: Tensor, start: Tensor, count: Tensor) -> Tensor:
        return self._take(tokens, self.total, start, count)

    def decode(self, token: Tensor, position: Tensor) -> Tensor:
        return self._take(token, self.total, position, torch.ones_like(position))

    def _take(self, tokens: Tensor, before: Tensor, start: Tensor, count: Tensor) -> Tensor:
        sums = self._sums(tokens, before, count)
        logits = self._logits(sums, start).index_select(1, count - 1)
        self.total.copy_(sums[:, -1:])
        return logits

    def _sums(self, tokens: Tensor, before: Tensor, count: Tensor) -> Tensor:
        size = tokens.shape[1]
        real = (torch.arange(size) < count).to(before.dtype)[:, None]
        return before + torch.ones(size, size).tril() @ (self.table(tokens) * real)

    def _logits(self, sums: Tensor, start: Tensor) -> Tensor:
        place = (start + torch.arange(sums.shape[1])).to(sums.dtype)[:, None]
        return self.head(torch.tanh(sums) + torch.sin(place * torch.arange(1, 1 + WIDTH)))


def sums() -> Sums:
    torch.manual_seed(3)
    return Sums().eval()


@functools.cache
def program(chunked: bool = True, carries: bool = True) -> Program:
    """The model captured; ``carries`` its tokenizer."""
    tokens, chunk, one = (
        torch.ones(1, PROMPT, dtype=torch.int64),
        torch.ones(1, CHUNK, dtype=torch.int64),
        torch.tensor([1]),
    )
    calls = {
        "prefill": Call((tokens, one), function="prefill"),
        "decode": Call((tokens[:, :1], one), function="decode"),
    }
    if chunked:
        calls |= {name: Call((chunk, one, one), function=name) for name in ("extend", "finish")}
    captured = capture(sums(), methods=calls, name="sums")
    captured.tokenizer = tokenizer().to_str().encode() if carries else None
    return captured


def greedy(prompt: list[int], count: int) -> list[int]:
    """The likeliest tokens by the model as a whole, each from the whole text before it."""
    model, tokens = sums(), list(prompt)
    with torch.no_grad():
        for _ in range(count):
            tokens.append(int(model(torch.tensor([tokens]))[0, -1].argmax()))
    return tokens[len(prompt) :]
