"""Decoders prefill their last layers for the last token alone; linears are counted by hand."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from hycompile.capture import Call, capture
from hycompile.pipeline import Pipeline
from hycompile.text import graph_text
from tests.passes.sink.models import Decoder, Scan
from tests.passes.sink.sinking import linear_macs, same_for, sunk
from tests.support import count

BATCH, TOKENS, WIDTH, WORDS = 2, 6, 8, 11
SQUARE = WIDTH * WIDTH
LAYER = {"kv": 2 * SQUARE, "rest": 2 * SQUARE + 6 * SQUARE}
HEAD = WIDTH * WORDS


def _inputs() -> tuple[Tensor, Tensor]:
    return torch.randint(0, WORDS, (BATCH, TOKENS)), torch.tensor([4])


def _cut(own: int, cross: int) -> tuple[int, int]:
    """Linear multiply-accumulates before and after: what only the last token needs, it alone computes."""
    shared = LAYER["kv"] if cross else 0
    before = TOKENS * (own * (LAYER["kv"] + LAYER["rest"]) + shared + cross * LAYER["rest"] + HEAD)
    whole = own * (LAYER["kv"] + LAYER["rest"]) + shared if cross else own * LAYER["kv"] + (own - 1) * LAYER["rest"]
    once = cross * LAYER["rest"] + HEAD if cross else LAYER["rest"] + HEAD
    return BATCH * before, BATCH * (TOKENS * whole + once)


@pytest.mark.parametrize(
    ("pick", "mask"),
    [
        ("slice", "bool"),
        ("select", "plain"),
        ("index_select", "causal"),
        ("index", "causal"),
        ("index_select", "plain"),
    ],
)
def test_plain_decoder_loses_rows_of_its_last_layer(pick: str, mask: str) -> None:
    program = capture(Decoder(1, pick=pick, mask=mask).eval(), _inputs())
    rewritten, report = sunk(program)
    before, after = _cut(1, 0)
    assert report.facts == {"forward_linear_macs_before": before, "forward_linear_macs_after": after}
    assert linear_macs(rewritten) == after
    for other in (1, 6):
        assert same_for(rewritten, program, torch.randint(0, WORDS, (BATCH, TOKENS)), torch.tensor([other]))


def test_yoco_decoder_computes_its_second_half_once() -> None:
    program = capture(Decoder(1, 2).eval(), _inputs())
    rewritten, report = sunk(program)
    before, after = _cut(1, 2)
    assert report.facts == {"forward_linear_macs_before": before, "forward_linear_macs_after": after}
    assert same_for(rewritten, program, program.methods["forward"].args[0], torch.tensor([2]))
    assert [refusal.reason.partition(" ")[2] for refusal in report.refusals] == ["needs all its rows"]
    again, second = sunk(rewritten)
    assert second.hits == 0
    assert again.text() == rewritten.text()


def test_convolution_and_scan_stop_the_slice() -> None:
    program = capture(Scan().eval(), (torch.randn(BATCH, TOKENS, WIDTH), torch.tensor([4])))
    rewritten, report = sunk(program)
    scan_side = TOKENS * (2 * SQUARE + SQUARE + 2 * 2 * WIDTH)
    assert linear_macs(rewritten) == BATCH * (scan_side + 3 * SQUARE + 5 * WIDTH)
    assert "hycompile.selective_scan is a recurrence: a row depends on other rows" in {
        refusal.reason for refusal in report.refusals
    }
    assert same_for(rewritten, program, torch.randn(BATCH, TOKENS, WIDTH), torch.tensor([6]))


def test_dynamic_number_of_tokens() -> None:
    tokens = torch.export.Dim("tokens", min=2, max=64)
    program = capture(Decoder(1, 1, pick="slice").eval(), _inputs(), dynamic_shapes=({1: tokens}, None))
    rewritten, report = sunk(program)
    assert report.facts["forward_linear_macs_after"] == _cut(1, 1)[1]
    assert same_for(rewritten, program, torch.randint(0, WORDS, (BATCH, 9)), torch.tensor([9]))


def test_weights_on_meta() -> None:
    with torch.device("meta"):
        program = capture(Decoder(1, 1, mask="causal").eval(), _inputs())
    rewritten, report = Pipeline.parse("sink-slices")(program)
    assert linear_macs(rewritten) == _cut(1, 1)[1]
    assert report.error_fp32 is None


class Cached(nn.Module):
    """Attention whose keys and values stay in a cache for the steps after."""

    cache: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.key, self.query, self.head = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WORDS)
        self.register_buffer("cache", torch.zeros(1, TOKENS, WIDTH))

    def _attend(self, x: Tensor) -> Tensor:
        weights = (self.query(x) @ self.cache.mT).softmax(-1)
        return self.head(x + weights @ self.cache)

    def prefill(self, x: Tensor, count: Tensor) -> tuple[Tensor, Tensor]:
        self.cache.copy_(self.key(x))
        logits = self._attend(x)
        return logits.index_select(1, count - 1), logits.index_select(1, count - 1).softmax(-1)

    def decode(self, x: Tensor, position: Tensor) -> Tensor:
        slot = torch.arange(TOKENS)[:, None] == position
        self.cache.copy_(torch.where(slot, self.key(x), self.cache))
        return self._attend(x)[:, -1:]


def test_methods_with_state_and_several_outputs() -> None:
    """The cache keeps every token, both outputs take one row, and decode has nothing to cut."""
    calls = {
        "prefill": Call((torch.randn(1, TOKENS, WIDTH), torch.tensor([4])), function="prefill"),
        "decode": Call((torch.randn(1, 1, WIDTH), torch.tensor([4])), function="decode"),
    }
    program = capture(Cached().eval(), methods=calls)
    rewritten, report = sunk(program)
    before, after = TOKENS * (2 * SQUARE + HEAD), TOKENS * SQUARE + SQUARE + HEAD
    assert report.facts == {"prefill_linear_macs_before": before, "prefill_linear_macs_after": after}
    assert count(rewritten, "aten.index_select") == 1
    decode = rewritten.methods["decode"].graph
    assert graph_text(decode) == graph_text(program.methods["decode"].graph)


class Vision(nn.Module):
    """Convolutions, attention from one projection, and a head over the mean: what slices there are select channels."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.qkv, self.head = nn.Conv2d(3, 8, 4, 4), nn.Linear(8, 24), nn.Linear(8, 5)

    def forward(self, image: Tensor) -> Tensor:
        x = self.stem(image)
        x = torch.cat([x[:, :4].relu(), x[:, 4:]], 1).flatten(2).mT
        q, k, v = self.qkv(x).reshape(1, 16, 3, 2, 4).permute(2, 0, 3, 1, 4)
        x = x + nn.functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(1, 16, 8)
        return self.head(x.mean(1))


def test_nothing_to_do_in_a_vision_model() -> None:
    program = capture(Vision().eval(), (torch.randn(1, 3, 16, 16),))
    rewritten, report = sunk(program)
    assert (report.hits, report.refusals, report.facts) == (0, [], {})
    assert rewritten.text() == program.text()


@pytest.mark.parametrize(
    ("case", "make"),
    [("decoder", lambda: Decoder(1, mask="causal", pick="select")), ("yoco", lambda: Decoder(1, 1)), ("scan", Scan)],
    ids=["decoder", "yoco", "scan"],
)
def test_golden(case: str, make: Callable[[], nn.Module], golden: Callable[[str, str, str], None]) -> None:
    model = make()
    inputs = _inputs() if isinstance(model, Decoder) else (torch.randn(1, TOKENS, WIDTH), torch.tensor([4]))
    program = capture(model.eval(), inputs)
    rewritten, report = sunk(program)
    assert report.hits > 0
    golden(f"sink_slices/{case}", *(graph_text(found.methods["forward"].graph) for found in (program, rewritten)))


def test_llama_of_transformers() -> None:
    from hycompile.models.torchvision_schemas import declare_missing_operators

    declared = declare_missing_operators()  # for as long as this name lives
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=64, hidden_size=16, intermediate_size=40, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=64,
    )  # fmt: skip
    program = capture(LastLogits(LlamaForCausalLM(config)).eval(), (torch.randint(0, 64, (1, 8)),))
    del declared
    kv, rest, head = 2 * 16 * 8, 2 * 16 * 16 + 3 * 16 * 40, 16 * 64
    _, report = sunk(program)
    before, after = 8 * (2 * (kv + rest) + head), 8 * (2 * kv + rest) + rest + head
    assert report.facts == {"forward_linear_macs_before": before, "forward_linear_macs_after": after}


class LastLogits(nn.Module):
    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, tokens: Tensor) -> Tensor:
        return self.model(input_ids=tokens, use_cache=False).logits[:, -1:]
