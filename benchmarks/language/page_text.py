"""What each comparison is, in words that no result changes."""

from __future__ import annotations

ABOUT = {
    "peers": (
        "Beside llama.cpp and ONNX Runtime, float32",
        "Transformers' own models with one set of random weights, in the widths their makers publish and with "
        "some of their layers: 6 of 36 of Falcon-H1 0.5B, and 8 of 24 of Mamba-2 130M. A prompt of 512 tokens, "
        "then token by token. Ratios are to llama.cpp; `onnxruntime` runs transformers' stock export. llama.cpp "
        "keeps keys and values in float16, as it does by default.",
    ),
    "peers-4-bit": (
        "Beside llama.cpp, weights of 4 bits",
        "The same models: llama.cpp's `Q4_0` and our 8da4w through XNNPACK. Both quantise all matrices in "
        "groups of 32 and activations to 8 bits as they come; ours leaves the embedding in float32. Nothing "
        "is calibrated, and on random weights the error says how much is rounded, not what that costs a "
        "trained model.",
    ),
    "memory": (
        "What the gated memory is worth",
        "One token of SambaY behind 2048 others, with other layers in the place of its gated memory units, of "
        "which there are two among twelve mixers. `recompute` is the same function with the readout m "
        "computed anew for each unit: projection, convolution and scan. `mamba1` is a state space for each, "
        "`diff-cross` cross attention to the shared cache: other models of the same plan.",
    ),
    "cut": (
        "Prefill with and without the cut",
        "SambaY's prefill with `sink-slices` in the pipeline (`cut`) and without (`whole`), everything else the same: "
        "12 blocks of which 7 come before the cut, and Phi-4-mini-flash's 32 at a fifth of their width, 18 before it.",
    ),
    "context": (
        "Decoding against context length",
        "One token behind others, the cache full: a transformer, Samba and SambaY of 40 million parameters "
        "each. Ratios are to the transformer of the same context. The caches hold what the length asks for; "
        "their content is zeros and the last tokens.",
    ),
    "4-bit": (
        "SambaY, weights of 4 and 8 bits",
        "8da4w (groups of 32) and 8da8w through XNNPACK beside float32, behind a prompt of 512 tokens. Nothing is "
        "calibrated; what it costs a trained model is in [benchmarks/accuracy](../accuracy/README.md).",
    ),
}
