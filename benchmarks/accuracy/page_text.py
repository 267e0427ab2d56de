"""The prose of the page, which no result changes."""

from __future__ import annotations

HEAD = """# Accuracy of quantised networks

Networks with trained weights, quantised after training and measured on labelled data they were not calibrated on.
Weights and values between layers have the bits a table's title says (W4A8: weights of 4 bits, values of 8).

| Test bed | Networks | Test data | A seed is |
|---|---|---|---|
| A `ocr-clean`, `-noisy`, `-hard` | PP-OCRv6 recogniser, as published | 2,048 rendered lines at most, each | a draw |
| B `fashion-mnist` | six, [models/small_vision](../../models/small_vision) | Fashion-MNIST (MIT), 10,000 | a training |
| B `quickdraw-345` | the same six | Quick, Draw! (CC-BY-4.0), 345 classes, 6,900 | a training |
| D `king-james` | [sambay-kjv](../../models/language/sambay_kjv) | held-out chapters, 218 windows | none |

Test bed A is **rendered text, no published OCR benchmark**: English prose in 38 fonts of 8 families, as drawn, as a
camera sees it, and askew, coarse and badly lit ([models/text_lines](../../models/text_lines)). The lines it is
calibrated on are of other fonts and other documents, of all three difficulties. `cer` counts the characters to insert,
delete or replace for each hundred of the text.

To make it again, in the repository's root (every cell is kept when it is done, and a run continues where it stopped):

    .venv/bin/python -m benchmarks.accuracy.run --jobs 2
    .venv/bin/python -m benchmarks.accuracy.run --only king-james --seeds 0 --settings W8A8 W4A8 --calibration 16

`--prepare --data DIR` fetches the data into a folder, and `--data DIR` reads it there without a network. What runs a
simulation is torch, timm with torchvision, numpy, safetensors and pydantic; no runtime is loaded.
[results.json](results.json) has a row for each network, method and pair of bits; [runs.json](runs.json) each seed by
itself; `--render` makes this page from the latter.
"""

READING = """## How to read it

- Every network is calibrated on 256 training inputs (a draw of its own for each seed) and measured on all test inputs.
- A cell is the mean over seeds with the standard deviation over seeds; what a column loses is its mean below float
  (above, for errors). Seeds of the same network differ in float, too, so spread is mostly that of training.
- Float and quantised networks see the same inputs, so that a loss is much surer than either figure: of 10,000 answers
  that differ in 100 places, the loss is known to about 0.1 points.
- The simulation rounds exactly what the plan says, which [docs/quantisation.md](../../docs/quantisation.md) describes,
  and computes the rest in float: attention, softmax and norms, unless the method's passes say otherwise.
- A language model foretells each token from those before it in a window of 256; the bytes are those of the tokens
  foretold. `rows` finds the range of each token at run time; `-32` and so on are the weights that share a scale (`rows`
  alone: an output channel's), `-mse` ranges of least squared error, `-gptq` rounding layer by layer, `-state` rounds
  the state path of the state spaces too. Of its 16 calibration windows only `-gptq` learns anything.
- The likeliest token is a fine measure: where two are nearly as likely, the order of additions decides. That of an
  artifact is compared with the simulation's on some of the windows (`--runners executorch --images 16`).
- Rows of an artifact's runtime give the share of answers that are those of the simulation of the same plan.
"""

ABLATION = """As in the paper's own table: scales alone (one for each weight), granularity (one for each output
channel), schemes, the objective at the output of bridge blocks; last the method with what it adds to the paper, biases
that keep each channel's mean.
"""
