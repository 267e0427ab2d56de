"""Trains a language model on the tokens that ``prepare.py`` wrote; keeps the weights of the lowest validation loss.

Writes ``weights.safetensors`` (float16, by parameter name, tied ones once) and ``curve.json``. The model is any module
with ``forward(tokens [batch, length]) -> logits [batch, length, vocabulary]`` that has gradients.

Everything computes in float32, TF32 off: the chunked forms of recurrences sum logarithms of decays by matrix products,
and ten bits of mantissa are too few for an exponent. At this size speed is not bound by them.
"""

from __future__ import annotations

import argparse
import importlib
import json
import math
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F

from hycompile import registry


@dataclass
class Options:
    """What the command line says; ``curve.json`` repeats it."""

    model: str
    data: Path
    out: Path
    minutes: float
    steps: int
    batch: int
    length: int
    rate: float
    decay: float
    dropout: float
    evaluate_every: int
    seed: int
    compile: bool


@dataclass
class Run:
    """A training run under way: one row of ``curve`` an evaluation, ``best`` the row whose weights are kept."""

    options: Options
    module: nn.Module
    call: Any
    train: Tensor
    valid: Tensor
    valid_bytes: int
    started: float = field(default_factory=time.perf_counter)
    curve: list[dict[str, float]] = field(default_factory=list[dict[str, float]])
    best: dict[str, float] = field(default_factory=dict[str, float])

    @property
    def seconds(self) -> float:
        return time.perf_counter() - self.started


def main() -> None:
    """Command line."""
    options = parse()
    torch.manual_seed(options.seed)
    torch.set_float32_matmul_precision("highest")
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    module = load_module(options.model, options.seed).to(device).train().requires_grad_(True)
    add_dropout(module, options.dropout)
    # Masks and positions that forward makes belong beside the tokens.
    torch.set_default_device(device)
    train, valid = (load_tokens(options, name, device) for name in ("train", "valid"))
    facts = json.loads((options.data / "corpus.json").read_text())
    run = Run(options, module, torch.compile(module) if options.compile else module, train, valid, bytes_of(facts))
    count = sum(parameter.numel() for parameter in module.parameters())
    print(f"{options.model}: {count} parameters, {len(train)} tokens, {device}", flush=True)
    options.out.mkdir(parents=True, exist_ok=True)
    fit(run)
    finish(run, count, str(device) if device.type == "cpu" else torch.cuda.get_device_name())


def fit(run: Run) -> None:
    """AdamW with warm-up and cosine, until the steps or the minutes are over."""
    options, module = run.options, run.module
    optimiser = torch.optim.AdamW(groups(module, options.decay), lr=0.0, betas=(0.9, 0.95))
    recent: list[Tensor] = []
    step, progress, warm_up = 0, 0.0, max(1, min(100, options.steps // 10))
    while progress < 1:
        cosine = 0.05 + 0.95 * (1 + math.cos(math.pi * progress)) / 2
        rate = options.rate * min(1.0, (step + 1) / warm_up) * cosine
        for group in optimiser.param_groups:
            group["lr"] = rate
        loss = loss_of(run.call, draw(run.train, options))
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(module.parameters(), 1.0)
        optimiser.step()
        recent.append(loss.detach())
        step += 1
        # What is over first ends the cosine: a slow machine trains less, not with another schedule.
        progress = min(1.0, max(step / options.steps, run.seconds / (60 * options.minutes)))
        if step % options.evaluate_every == 0 or progress == 1:
            row = {"step": step, "rate": rate, "train": torch.stack(recent).mean().item(), "valid": evaluate(run)}
            recent.clear()
            record(run, row)


def record(run: Run, row: dict[str, float]) -> None:
    """Print and keep a row, and the weights if they are the best so far."""
    if not math.isfinite(row["train"]) or not math.isfinite(row["valid"]):
        raise SystemExit(f"the loss is no number at step {row['step']:.0f}: lower --rate")
    row["seconds"] = round(run.seconds, 1)
    run.curve.append(row)
    if not run.best or row["valid"] < run.best["valid"]:
        run.best = row
        tensors = {name: value.detach().half().cpu().contiguous() for name, value in run.module.named_parameters()}
        save_file(tensors, run.options.out / "weights.safetensors")
    (run.options.out / "curve.json").write_text(json.dumps({"curve": run.curve, "best": run.best}, indent=1) + "\n")
    shown = "  ".join(f"{name} {value:.4g}" for name, value in row.items())
    print(shown + ("  *" if run.best is row else ""), flush=True)


def finish(run: Run, parameters: int, device: str) -> None:
    """Evaluate the weights as they were written, in float16, and complete ``curve.json``."""
    from safetensors.torch import load_file

    path = run.options.out / "weights.safetensors"
    saved = load_file(path)
    with torch.no_grad():
        for name, parameter in run.module.named_parameters():
            parameter.copy_(saved[name])
    loss = evaluate(run)
    summary = {
        "options": {
            name: str(value) if isinstance(value, Path) else value for name, value in asdict(run.options).items()
        },
        "device": device,
        "torch": str(torch.__version__),
        "parameters": parameters,
        "weights_bytes": path.stat().st_size,
        "seconds": round(run.seconds, 1),
        "best": run.best,
        "valid_loss_of_saved_weights": loss,
        "valid_bits_per_byte": loss / math.log(2) * (len(run.valid) - 1) / run.valid_bytes,
    }
    (run.options.out / "curve.json").write_text(json.dumps({**summary, "curve": run.curve}, indent=1) + "\n")
    print(json.dumps(summary), flush=True)


def evaluate(run: Run) -> float:
    """Mean loss in nats a token over all of the validation text, in windows; each sees its own tokens only.

    Gradients stay on, although none is computed: without them recurrences run token by token (hycompile.recurrence).
    """
    length, total = run.options.length, 0.0
    run.module.eval()
    for start in range(0, len(run.valid) - 1, length * run.options.batch):
        part = run.valid[start : start + length * run.options.batch + 1]
        whole = (len(part) - 1) // length * length
        pieces = [part[: whole + 1].unfold(0, length + 1, length)] if whole else []
        rest = part[whole:]
        for tokens in [*pieces, *([rest[None]] if len(rest) > 1 else [])]:
            total += loss_of(run.module, tokens).item() * tokens[:, 1:].numel()
    run.module.train()
    return total / (len(run.valid) - 1)


def loss_of(call: Any, tokens: Tensor) -> Tensor:
    """Cross entropy of each token given those before, tokens [batch, length + 1]."""
    logits = call(tokens[:, :-1])
    return F.cross_entropy(logits.float().flatten(0, 1), tokens[:, 1:].flatten())


def draw(tokens: Tensor, options: Options) -> Tensor:
    """Windows at random places, [batch, length + 1]."""
    starts = torch.randint(len(tokens) - options.length, (options.batch, 1))
    return tokens[starts + torch.arange(options.length + 1)]


def groups(module: nn.Module, decay: float) -> list[dict[str, Any]]:
    """Weight decay for the matrices of linears; none for embeddings, norms, biases and what recurrences decay by."""
    tables = {id(layer.weight) for layer in module.modules() if isinstance(layer, nn.Embedding)}
    matrices = {id(layer.weight) for layer in module.modules() if isinstance(layer, nn.Linear)} - tables
    parameters = list(module.parameters())
    return [
        {"params": [value for value in parameters if id(value) in matrices], "weight_decay": decay},
        {"params": [value for value in parameters if id(value) not in matrices], "weight_decay": 0.0},
    ]


def add_dropout(module: nn.Module, share: float) -> None:
    """Dropout on embeddings and on linears as wide as they are: what is added to the residual stream."""
    tables = [layer for layer in module.modules() if isinstance(layer, nn.Embedding)]
    widths = {table.embedding_dim for table in tables}

    def drop(layer: nn.Module, _: Any, output: Tensor) -> Tensor:
        return F.dropout(output, share, layer.training)

    for layer in module.modules():
        if isinstance(layer, nn.Embedding) or (isinstance(layer, nn.Linear) and layer.out_features in widths):
            layer.register_forward_hook(drop)


def load_module(name: str, seed: int) -> nn.Module:
    """A registered model, or what ``package.module:function`` returns for a seed."""
    found = registry.find_model(name)
    if found is not None:
        family, model = found
        return family.build(model, seed=seed).module
    path, _, function = name.partition(":")
    return getattr(importlib.import_module(path), function)(seed)


def load_tokens(options: Options, name: str, device: torch.device) -> Tensor:
    return torch.from_numpy(np.load(options.data / f"{name}.npy").astype(np.int64)).to(device)


def bytes_of(facts: dict[str, Any]) -> int:
    """Bytes of the validation text, each chapter's end counted as one."""
    return facts["valid"]["bytes"] + facts["valid"]["chapters"]


def parse() -> Options:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--model", required=True, help="registered model, or package.module:function of a seed")
    parser.add_argument("--data", type=Path, default=Path("build/train_sambay"))
    parser.add_argument("--out", type=Path, default=Path("build/train_sambay/run"))
    parser.add_argument("--minutes", type=float, default=8.0, help="time limit; the schedule ends with it")
    parser.add_argument("--steps", type=int, default=4000)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--length", type=int, default=512, help="tokens of a window")
    parser.add_argument("--rate", type=float, default=1e-3, help="learning rate after warm-up")
    parser.add_argument("--decay", type=float, default=0.1, help="weight decay")
    parser.add_argument("--dropout", type=float, default=0.1)
    parser.add_argument("--evaluate-every", type=int, default=100, help="steps")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--compile", action="store_true", help="torch.compile the model")
    return Options(**vars(parser.parse_args()))


if __name__ == "__main__":
    main()
