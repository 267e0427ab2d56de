"""What is compared: each method is the text of the passes that quantise, with its bits left open."""

from __future__ import annotations

from string import Template

from hycompile.errors import PassError

# Before any method: exact, and what the targets' own pipelines begin with.
BEFORE = "normalise,reparameterise,fuse-conv-attention"

# What a plan costs is measured here, so nothing is refused.
_BITS = "bits=$w,activation_bits=$a,min_sqnr=-300.0"
_MSE = "observer=mse,weight_observer=mse"
# $w: bits of weights; $a: bits of the values between layers.
METHODS = {
    "minmax-tensor": f"quantise{{{_BITS},weights=tensor}}",
    "minmax": f"quantise{{{_BITS}}}",
    "percentile": f"quantise{{{_BITS},observer=percentile}}",
    "mse": f"quantise{{{_BITS},{_MSE}}}",
    "easyquant": f"quantise{{{_BITS},method=easyquant}}",
    "ptq4vit": f"quantise{{{_BITS},method=ptq4vit}}",
    "fq-vit": f"equalise-norms{{factors=powers}},quantise{{{_BITS}}}",
    "repq-vit": f"equalise-norms,quantise{{{_BITS},observer=percentile}}",
    "equalise-layers": f"equalise-layers,quantise{{{_BITS},{_MSE}}}",
    "gptq": f"quantise{{{_BITS},{_MSE},rounding=gptq}}",
    "q-hyvit": f"quantise{{{_BITS},method=q-hyvit}}",
    "q-hyvit-gptq": f"quantise{{{_BITS},method=q-hyvit,rounding=gptq}}",
}
# Of language models, whose linears find the ranges of their inputs at run time, in 8 bits.
DYNAMIC = {
    "rows": "quantise{bits=$w,activations=dynamic,min_sqnr=-300.0}",
    "rows-128": "quantise{bits=$w,group=128,activations=dynamic,min_sqnr=-300.0}",
    "rows-64": "quantise{bits=$w,group=64,activations=dynamic,min_sqnr=-300.0}",
    "rows-32": "quantise{bits=$w,group=32,activations=dynamic,min_sqnr=-300.0}",
    "rows-32-mse": "quantise{bits=$w,group=32,weight_observer=mse,activations=dynamic,min_sqnr=-300.0}",
    "rows-32-gptq": "quantise{bits=$w,group=32,rounding=gptq,activations=dynamic,min_sqnr=-300.0}",
    "rows-32-mse-gptq": (
        "quantise{bits=$w,group=32,weight_observer=mse,rounding=gptq,activations=dynamic,min_sqnr=-300.0}"
    ),
    "rows-32-state": "quantise{bits=$w,group=32,state=true,activations=dynamic,min_sqnr=-300.0}",
}
# What the goals are about; a method whose name begins otherwise is a baseline.
OURS = "q-hyvit"
# What each part of it gives: one more a line, up to the method itself. Only measured when asked for by name.
PARTS = {
    "q-hyvit-scale": f"quantise{{{_BITS},method=q-hyvit,weights=tensor,without=scheme+bridges+biases}}",
    "q-hyvit-granularity": f"quantise{{{_BITS},method=q-hyvit,without=scheme+bridges+biases}}",
    "q-hyvit-scheme": f"quantise{{{_BITS},method=q-hyvit,without=bridges+biases}}",
    "q-hyvit-bridges": f"quantise{{{_BITS},method=q-hyvit,without=biases}}",
}
EVERY = METHODS | PARTS | DYNAMIC
# Bits of weights and of values.
SETTINGS = {"W8A8": (8, 8), "W6A6": (6, 6), "W4A8": (4, 8), "W4A4": (4, 4)}
DEFAULT_SETTINGS = ("W8A8", "W6A6", "W4A8")


def setting(weight_bits: int, activation_bits: int) -> str:
    """The name of a pair of bits."""
    return f"W{weight_bits}A{activation_bits}"


def methods_for(bed: str, activation_bits: int, extra: list[str]) -> dict[str, str]:
    """The methods that a test bed is measured with at so many bits of values, and those given as ``NAME=TEXT``."""
    every, language = named(extra), bed == "king-james"
    others = EVERY if language else DYNAMIC
    own = {name: text for name, text in every.items() if name not in others}
    return (DYNAMIC if language and activation_bits == 8 else {}) | own


def pipeline(method: str, weight_bits: int, activation_bits: int) -> str:
    """The passes of a method, exact ones first.

    Args:
        method: its text, as in ``EVERY``.
        weight_bits: put in the place of ``$w``.
        activation_bits: put in the place of ``$a``.
    """
    return f"{BEFORE},{Template(method).substitute(w=weight_bits, a=activation_bits)}"


def named(extra: list[str]) -> dict[str, str]:
    """``EVERY`` method, and those given as ``NAME=TEXT``.

    Raises:
        PassError: text without a name.
    """
    found = dict(EVERY)
    for text in extra:
        name, equals, passes = text.partition("=")
        if not (name and equals and passes) or "{" in name:
            raise PassError(f"method {text!r}", "has no name", "write NAME=TEXT, as in trial=quantise{bits=$w}")
        found[name] = passes
    return found
