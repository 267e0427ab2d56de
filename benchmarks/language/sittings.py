"""What is timed beside what: each sitting is one process that holds all its contenders."""

from __future__ import annotations

from typing import NamedTuple

from benchmarks.language.builds import Build, Mode, Reader, Runtime, Strict, Weights
from benchmarks.language.rounds import Plan

# Tokens that may be decoded behind a prompt in one sitting, and in the check of a build.
_ROOM = 128
assert Plan().most_executions <= _ROOM


class Entry(Strict):
    """A contender by the name it has in this comparison."""

    contender: str
    build: Build


class Sitting(Strict):
    """One comparison, mode, context and number of threads; the first entry is the one the others are held against.

    ``context`` counts the tokens of the prompt, or those before the token that is decoded.
    """

    comparison: str
    mode: Mode
    context: int
    threads: int
    entries: tuple[Entry, ...]

    @property
    def reference(self) -> Entry:
        return self.entries[0]

    @property
    def reference_name(self) -> str:
        """The first entry's contender; its model where all contenders are of one name."""
        first = self.entries[0]
        alike = all(entry.contender == first.contender for entry in self.entries)
        return first.build.label if alike and len(self.entries) > 1 else first.contender

    @property
    def title(self) -> str:
        """For one line of progress."""
        model = self.reference.build.label
        return f"{self.comparison}: {model} {self.mode} {self.context} x{self.threads}"


class Shape(NamedTuple):
    """A model of transformers, all of it or its first layers."""

    model: str
    layers: int | None = None


class Scale(NamedTuple):
    """How large the models are, and how long the contexts."""

    shapes: tuple[Shape, ...]
    sambay: str
    samba: str
    transformer: str
    prompt: int
    cuts: tuple[tuple[str, int], ...]
    memory: int
    contexts: tuple[int, ...]


FULL = Scale(
    shapes=(Shape("causal-lm/falcon-h1-0.5b", 6), Shape("causal-lm/mamba2-130m", 8)),
    sambay="language/sambay-40m",
    samba="language/samba-40m",
    transformer="language/transformer-40m",
    prompt=512,
    cuts=(
        *(("language/sambay-40m", tokens) for tokens in (512, 2048, 8192)),
        ("language/phi-4-mini-flash-fifth", 2048),
    ),
    memory=2048,
    contexts=(512, 2048, 8192, 32768),
)
QUICK = Scale(
    shapes=(Shape("causal-lm/falcon-h1-tiny"), Shape("causal-lm/mamba2-tiny", 2)),
    sambay="language/sambay-tiny",
    samba="language/samba-tiny",
    transformer="language/transformer-tiny",
    prompt=16,
    cuts=(("language/sambay-tiny", 16), ("language/sambay-tiny", 32)),
    memory=32,
    contexts=(32, 64),
)
_CONTENDERS: dict[Weights, str] = {"fp32": "fp32", "int4": "8da4w", "int8": "8da8w"}
COMPARISONS = ("peers", "peers-4-bit", "memory", "cut", "context", "4-bit")


def sittings(scale: Scale, threads: tuple[int, ...]) -> list[Sitting]:
    """All of them, comparison by comparison."""
    return [
        sitting
        for found in (_peers(scale), _memory(scale), _cut(scale), _context(scale), _four_bits(scale))
        for one in found
        for sitting in (one.model_copy(update={"threads": count}) for count in threads)
    ]


def _peers(scale: Scale) -> list[Sitting]:
    """llama.cpp is what the others are held against, on its own ground."""
    both: tuple[Mode, ...] = ("prefill", "decode")
    found = list[Sitting]()
    for shape in scale.shapes:

        def entry(contender: str, runtime: Runtime, int4: bool = False, shape: Shape = shape) -> Entry:
            build = Build(
                model=shape.model,
                runtime=runtime,
                modes=both,
                prompt=scale.prompt,
                context=scale.prompt + _ROOM,
                weights="int4" if int4 else "fp32",
                layers=shape.layers,
            )
            return Entry(contender=contender, build=build)

        exact = (
            entry("llama.cpp", "llama.cpp"),
            entry("hycompile-executorch", "executorch"),
            entry("hycompile-onnx", "onnx"),
            entry("onnxruntime", "onnxruntime"),
        )
        small = (entry("llama.cpp Q4_0", "llama.cpp", True), entry("hycompile-executorch 8da4w", "executorch", True))
        for mode in both:
            found.append(_sitting("peers", mode, scale.prompt, exact))
            found.append(_sitting("peers-4-bit", mode, scale.prompt, small))
    return sorted(found, key=lambda sitting: COMPARISONS.index(sitting.comparison))


def _memory(scale: Scale) -> list[Sitting]:
    readers: tuple[Reader, ...] = ("gmu", "recompute", "mamba1", "diff-cross")
    entries = tuple(
        Entry(contender=reader, build=_decode(scale.sambay, scale.memory).model_copy(update={"reader": reader}))
        for reader in readers
    )
    return [_sitting("memory", "decode", scale.memory, entries)]


def _cut(scale: Scale) -> list[Sitting]:
    def entry(contender: str, model: str, tokens: int, cut: bool) -> Entry:
        build = Build(model=model, runtime="executorch", modes=("prefill",), prompt=tokens, context=tokens, cut=cut)
        return Entry(contender=contender, build=build)

    return [
        _sitting("cut", "prefill", tokens, (entry("whole", model, tokens, False), entry("cut", model, tokens, True)))
        for model, tokens in scale.cuts
    ]


def _context(scale: Scale) -> list[Sitting]:
    models = (scale.transformer, scale.samba, scale.sambay)
    return [
        _sitting(
            "context",
            "decode",
            context,
            tuple(Entry(contender="hycompile-executorch", build=_decode(model, context)) for model in models),
        )
        for context in scale.contexts
    ]


def _four_bits(scale: Scale) -> list[Sitting]:
    """Prefill with both methods in one file; decoding in files of its own, which are sooner built."""
    wide = Build(
        model=scale.sambay,
        runtime="executorch",
        modes=("prefill", "decode"),
        prompt=scale.prompt,
        context=scale.prompt + _ROOM,
    )
    one = _decode(scale.sambay, scale.contexts[0])
    return [
        _sitting("4-bit", "prefill", scale.prompt, (_rounded(wide, "fp32"), _rounded(wide, "int4"))),
        _sitting("4-bit", "decode", scale.contexts[0], tuple(_rounded(one, weights) for weights in _CONTENDERS)),
    ]


def _rounded(build: Build, weights: Weights) -> Entry:
    return Entry(contender=_CONTENDERS[weights], build=build.model_copy(update={"weights": weights}))


def _decode(model: str, context: int) -> Build:
    return Build(model=model, runtime="executorch", modes=("decode",), prompt=16, context=context)


def _sitting(comparison: str, mode: Mode, context: int, entries: tuple[Entry, ...]) -> Sitting:
    return Sitting(comparison=comparison, mode=mode, context=context, threads=1, entries=entries)
