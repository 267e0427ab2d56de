"""The prose of the page, which no result changes."""

from __future__ import annotations

HEAD = """# Latency

Twenty hybrid networks in float32 on this machine's CPU: hycompile's artifacts beside what users would pick instead.
Weights are random and sane, except PP-OCRv6's, which are real; batch size is 1.

| contender | what it is |
|---|---|
| hycompile-executorch, -onnx, -tvm | captured, through the passes of the device, lowered by that backend |
| executorch | `to_edge_transform_and_lower` with the XNNPACK partitioner |
| onnxruntime | `torch.onnx.export(dynamo=True)`, all graph optimisations; every ratio is to this one |
| openvino | converted from `torch.export`; float32 inference precision, one stream, latency hint |
| litert | `litert-torch`, run by `ai-edge-litert` with XNNPACK |
| torch-compile | Inductor with frozen weights |
| eager | PyTorch as it stands |

Every contender but ours is given the module after timm's own `reparameterize_model`. All have the same threads and
take the same input from torch tensors to torch tensors. Before anything is timed, outputs are held against the eager
model as its author wrote it, on the timed input and on another; beyond a relative error of 1e-4 a contender has failed.

To make it again, in the repository's root, on a machine that does nothing else (hours; it continues where it stopped):

    .venv/bin/python -m pip install -c constraints.txt -e '.[peers]'
    python3.11 -m venv .venv-litert
    .venv-litert/bin/python -m pip install -r benchmarks/latency/litert-requirements.txt
    .venv/bin/python -m benchmarks.latency.run

litert-torch needs older packages than ours, so it converts in an environment of its own; what is not installed is
recorded as missing. Everything is in [results.json](results.json), samples included; `--render` makes this page from
it, and `--pipeline` times other passes than the device's.
"""

READING = """## How to read it

- A sitting is one model on one number of threads: one process holds all contenders, since the runtimes' thread pools
  are one per process. In every round each contender runs a small batch, in an order drawn anew: one execution that is
  not timed, then at least two that are, until about 60 ms have passed. Before a batch the process waits until it is
  idle, so that a pool that spins after its work is not charged to whoever comes next.
- A sample is the time per execution of a batch. A ratio is the median over rounds of a contender's sample over ONNX
  Runtime's of the same round, in brackets its 95 % interval from order statistics. Below 1 is faster than ONNX Runtime.
- Sittings are days apart, on virtual machines of one kind. What a second thread gains differs between them (ONNX
  Runtime's takes 1.1 to 1.8 times less, other contenders' as unevenly): ratios of one thread compare across sittings,
  those of two threads within one. When a cell was timed is in its conditions.
- CPU time is of the whole process. Threads that wait by spinning are charged for it, between the executions of a batch
  too: with more than one thread it says what a contender costs, not how long it takes. Wall time does.
- The rivals are ONNX Runtime, OpenVINO, LiteRT and torch.compile.
- A ratio to anything but ONNX Runtime is the quotient of two such ratios. Numbers in brackets after a geomean count
  the models it is over: those where both sides were timed.
- Roofline: GFLOP/s achieved, and its share of the GEMM peak, the best of eight float32 products of 2048 x 2048 in torch
  on the same threads just before. Operations are those of convolutions and matrix products in the model as its author
  wrote it, so whoever saves operations seems to do more of them in a second.
- Building runs from the captured program to the file on disk, each contender in a fresh process with its tools
  imported (what they import only while they work is in it), on as many threads as the largest sitting. In brackets
  CPU seconds, compilers and linkers called included.
  Ours includes the passes with the float32 check after each rule, and leaves out what `hycompile build` does beyond
  lowering (the float64 proof, the survey, the proof of the artifact). ONNX, LiteRT and torch.compile capture the model
  themselves: there it is included. torch.compile is built by its first execution.
- *outside* counts compute operators that no ExecuTorch delegate took.
- A crash or a hang costs one contender its place, with the reason; the others go on in a new process.
"""
