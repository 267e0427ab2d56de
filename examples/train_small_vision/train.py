"""Trains small vision networks side by side, each in its own CUDA stream as one graph; on a CPU one after the other.

Writes ``<network>-<data>-seed<seed>.safetensors`` (parameters in float16) and ``curves.json``. The weights kept are
those of the last step: the test images choose nothing. Training computes in bfloat16 where there is a GPU,
evaluation in float32.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from augment import CHANGES, augment
from torch import nn
from torch.nn import functional as F

from hycompile.models.small_vision.family import CLASSES, NETWORKS, SEEDS, Trained, load, save, untrained
from hycompile.models.vision_data.dataset import Split, network_input
from hycompile.models.vision_data.dataset import load as load_data

EPOCHS = {"fashion-mnist": 20, "quickdraw-345": 45}
EVALUATIONS = 10
# Steps before a CUDA graph is captured, in which libraries choose their kernels.
WARM_UP = 3


@dataclass
class Options:
    """What the command line says; ``curves.json`` repeats it."""

    networks: list[str]
    data: list[str]
    seeds: list[int]
    epochs: float | None
    batch: int
    rate: float
    decay: float
    smoothing: float
    out: Path


class Images:
    """A split on the device: images [N, 1, 32, 32] in float32 and labels [N]."""

    def __init__(self, split: Split, device: torch.device) -> None:
        self.images = network_input(split.images).to(device)
        self.labels = torch.from_numpy(split.labels).to(device)


class Run:
    """One training under way."""

    def __init__(self, training: Trained, options: Options, train: Images, test: Images) -> None:
        self.training, self.options, self.train, self.test = training, options, train, test
        device = train.images.device
        torch.manual_seed(training.seed)
        self.module = untrained(training.network, training.data).to(device).train()
        self.generator = torch.Generator(device).manual_seed(training.seed)
        self.stream = torch.cuda.Stream() if device.type == "cuda" else None
        self.graph: torch.cuda.CUDAGraph | None = None
        epochs = options.epochs or EPOCHS[training.data]
        self.per_epoch = len(train.labels) // options.batch
        self.steps, self.step = max(1, round(epochs * self.per_epoch)), 0
        self.optimiser = optimiser(self.module, options, device)
        self.schedule = torch.optim.lr_scheduler.OneCycleLR(
            self.optimiser, options.rate, self.steps + 1, pct_start=0.2, cycle_momentum=False
        )
        self.batch = torch.empty(options.batch, *train.images.shape[1:], device=device)
        self.labels = torch.zeros(options.batch, dtype=torch.int64, device=device)
        self.loss = torch.zeros((), device=device)
        self.order = torch.empty(0, dtype=torch.int64, device=device)
        self.curve: list[dict[str, float]] = []

    def advance(self) -> None:
        """One step; every tenth of the way a row of the curve."""
        with torch.cuda.stream(self.stream):
            self._draw()
            if self.stream is not None and self.step == WARM_UP:
                self._capture()
            if self.graph is None:
                self._train()
            else:
                self.graph.replay()
            self.schedule.step()
            self.step += 1
            if self.step * EVALUATIONS // self.steps > (self.step - 1) * EVALUATIONS // self.steps:
                done = self.step / self.per_epoch
                self.curve.append(
                    {"epoch": round(done, 2), "loss": round(self.loss.item(), 4), "top1": self.evaluate()}
                )

    def evaluate(self) -> float:
        """Top-1 on the test split in percent."""
        self.module.eval()
        with torch.no_grad():
            right = sum(
                (self.module(images).argmax(1) == labels).sum()
                for images, labels in zip(self.test.images.split(1000), self.test.labels.split(1000), strict=True)
            )
        self.module.train()
        return round(100 * float(right) / len(self.test.labels), 2)

    def _draw(self) -> None:
        """The next images of a random order of all, changed at random."""
        place = self.step % self.per_epoch
        if place == 0:
            self.order = torch.randperm(len(self.train.labels), generator=self.generator, device=self.batch.device)
        chosen = self.order[place * self.options.batch :][: self.options.batch]
        self.batch.copy_(augment(self.train.images[chosen], CHANGES[self.training.data], self.generator))
        self.labels.copy_(self.train.labels[chosen])

    def _train(self) -> None:
        self.optimiser.zero_grad(set_to_none=True)
        with torch.autocast("cuda", torch.bfloat16, enabled=self.stream is not None, cache_enabled=False):
            logits = self.module(self.batch)
        loss = F.cross_entropy(logits.float(), self.labels, label_smoothing=self.options.smoothing)
        loss.backward()
        nn.utils.clip_grad_norm_(self.module.parameters(), 1.0)
        self.optimiser.step()
        self.loss.copy_(loss.detach())

    def _capture(self) -> None:
        torch.cuda.synchronize()
        self.optimiser.zero_grad(set_to_none=True)
        self.graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self.graph, stream=self.stream):
            self._train()


def optimiser(module: nn.Module, options: Options, device: torch.device) -> torch.optim.Optimizer:
    """AdamW; weight decay for matrices and kernels only."""
    parameters = list(module.parameters())
    groups: list[dict[str, Any]] = [
        {"params": [value for value in parameters if value.ndim > 1], "weight_decay": options.decay},
        {"params": [value for value in parameters if value.ndim <= 1], "weight_decay": 0.0},
    ]
    if device.type == "cpu":
        return torch.optim.AdamW(groups, lr=options.rate)
    # A graph reads the rate where it lies.
    return torch.optim.AdamW(groups, lr=torch.tensor(options.rate, device=device), fused=True, capturable=True)


def main() -> None:
    """Command line."""
    options = parse()
    torch.backends.cudnn.allow_tf32 = False
    options.out.mkdir(parents=True, exist_ok=True)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    started = time.perf_counter()
    under_way = list(runs(options, device))
    while active := [run for run in under_way if run.step < run.steps]:
        for run in active:
            run.advance()
            if run.step == run.steps:
                finish(run)
    rows = [row(run) for run in under_way]
    facts: dict[str, Any] = {
        "options": {key: value for key, value in vars(options).items() if key != "out"},
        "device": "cpu" if device.type == "cpu" else torch.cuda.get_device_name(),
        "torch": str(torch.__version__),
        "seconds": round(time.perf_counter() - started, 1),
        "runs": rows,
    }
    (options.out / "curves.json").write_text(json.dumps(facts, indent=1) + "\n")
    print(f"{len(rows)} trainings in {facts['seconds']} s", flush=True)


def runs(options: Options, device: torch.device) -> Iterator[Run]:
    for data in options.data:
        found = load_data(data)
        train, test = Images(found.train, device), Images(found.test, device)
        for network in options.networks:
            for seed in options.seeds:
                yield Run(Trained(network, data, seed), options, train, test)


def finish(run: Run) -> None:
    """Write the weights, and evaluate what was written."""
    path = run.options.out / run.training.weights.name
    save(run.module, path)
    with torch.cuda.stream(run.stream):
        load(run.module, path)
        run.curve[-1]["top1"] = run.evaluate()
    print(f"{path.stem}: {run.curve[-1]}", flush=True)


def row(run: Run) -> dict[str, Any]:
    parameters = sum(parameter.numel() for parameter in run.module.parameters())
    top1 = run.curve[-1]["top1"]
    return {**run.training._asdict(), "parameters": parameters, "steps": run.steps, "top1": top1, "curve": run.curve}


def parse() -> Options:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--networks", nargs="+", choices=list(NETWORKS), default=list(NETWORKS), metavar="NETWORK")
    parser.add_argument("--data", nargs="+", choices=list(CLASSES), default=list(CLASSES), metavar="DATA")
    parser.add_argument("--seeds", nargs="+", type=int, default=list(SEEDS))
    parser.add_argument("--epochs", type=float, help=f"may be a fraction; by default {EPOCHS}")
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--rate", type=float, default=3e-3, help="highest learning rate")
    parser.add_argument("--decay", type=float, default=0.05, help="weight decay")
    parser.add_argument("--smoothing", type=float, default=0.1, help="of labels")
    parser.add_argument("--out", type=Path, default=Path("build/train_small_vision/run"))
    return Options(**vars(parser.parse_args()))


if __name__ == "__main__":
    main()
