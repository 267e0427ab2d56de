"""``hycompile generate``: the text with which a language model's artifact continues a prompt."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hycompile.cli.output import JsonFlag, print_json, working

if TYPE_CHECKING:
    from hycompile.generation import Generation

_PROMPT_BYTES = 16 * 2**20


def generate(
    artifact: Annotated[Path, typer.Argument(metavar="ARTIFACT", help="Folder of a language model's artifact.")],
    prompt: Annotated[str, typer.Option(metavar="TEXT", help="The text to continue; - reads it from stdin.")],
    max_tokens: Annotated[int, typer.Option(min=1, help="Generate at most so many.")] = 128,
    temperature: Annotated[float, typer.Option(min=0.0, help="0 takes the likeliest token, without chance.")] = 0.0,
    top_k: Annotated[int | None, typer.Option(min=1, help="Draw from so many of the likeliest only.")] = None,
    top_p: Annotated[
        float | None,
        typer.Option(metavar="P", help="Draw from the likeliest only that together have this probability."),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, max=2**63 - 1, help="Of the draws.")] = 0,
    tokenizer: Annotated[
        Path | None, typer.Option(metavar="FILE", help="A tokenizer.json, instead of the artifact's own.")
    ] = None,
    threads: Annotated[int, typer.Option(min=1, help="Intra-operator threads.")] = 1,
    json: JsonFlag = False,
) -> None:
    """Continue a prompt with a language model's artifact.

    Text goes to stdout as it comes, what it took to stderr.
    """
    if temperature == 0 and (top_k is not None or top_p is not None):
        raise typer.BadParameter("the likeliest token needs no draw; give --temperature", param_hint="--top-k, --top-p")
    if top_p is not None and not 0 < top_p <= 1:
        raise typer.BadParameter(f"{top_p} is not a probability above 0", param_hint="--top-p")
    if temperature == float("inf"):
        raise typer.BadParameter(f"{temperature} is no number to divide by", param_hint="--temperature")
    text = _prompt(prompt)
    from hycompile.artifact import Artifact
    from hycompile.generation import Generator, Sampling

    with working() as say:
        say(f"loading {artifact}")
        found = Artifact.load(artifact)
        generator = Generator.open(found, tokenizer, threads)
    sampling = Sampling(temperature, top_k, top_p, seed)
    generation = generator.generate(text, max_tokens=max_tokens, sampling=sampling)
    pieces: list[str] = []
    for piece in generation:
        pieces.append(piece)
        if not json:
            sys.stdout.write(piece)
            sys.stdout.flush()
    document = _document(generation, found.backend, "".join(pieces), threads)
    if json:
        print_json(document)
    else:
        sys.stdout.write("\n")
        print(_summary(document), file=sys.stderr)


def _prompt(given: str) -> str:
    """The prompt, or stdin without the line break that ends it."""
    if given != "-":
        data = given.encode(errors="surrogateescape")
    else:
        data = sys.stdin.buffer.read(_PROMPT_BYTES + 1)
        if len(data) > _PROMPT_BYTES:
            raise typer.BadParameter(f"stdin holds more than {_PROMPT_BYTES} bytes", param_hint="--prompt")
        data = data.removesuffix(b"\n").removesuffix(b"\r")
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise typer.BadParameter(f"is not UTF-8 at byte {error.start}", param_hint="--prompt") from None


def _document(generation: Generation, backend: str, text: str, threads: int) -> dict[str, Any]:
    """What was generated, and times as measured; None where the host only interprets, whose speed means nothing."""
    from hycompile import registry

    timed = getattr(registry.backend(backend), "measurable", True)
    return {
        "text": text,
        "tokens": generation.tokens,
        "prompt_tokens": list(generation.prompt),
        "ended_by": generation.ended_by,
        "backend": backend,
        "threads": threads,
        "prefill_seconds": generation.prefill_seconds if timed else None,
        "decode_seconds": generation.decode_seconds if timed else None,
        "tokens_per_second": generation.tokens_per_second if timed else None,
    }


def _summary(document: dict[str, Any]) -> str:
    parts = [f"{len(document['prompt_tokens'])} tokens of prompt", f"{len(document['tokens'])} generated"]
    if document["prefill_seconds"] is None:
        parts.append(f"not timed: {document['backend']} artifacts are interpreted here")
    else:
        parts[0] += f" in {document['prefill_seconds']:.3f} s"
        if document["tokens_per_second"] is not None:
            parts[1] += f", {document['tokens_per_second']:.1f} tokens/s"
    return (
        ", ".join(parts) + f" ({document['backend']}, {document['threads']} threads, ended by {document['ended_by']})"
    )
