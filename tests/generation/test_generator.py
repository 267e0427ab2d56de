"""Text from a model: prompts of every length, the same tokens by every runtime, and one clear error for the rest."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import pytest
import torch
from torch import Tensor

from hycompile.artifact import TOKENIZER, Artifact, MethodSpec
from hycompile.backend import Lowered
from hycompile.backends.onnx import Onnx
from hycompile.cache import Cache
from hycompile.capture import capture
from hycompile.compile import load_program
from hycompile.device import load_target, open_session
from hycompile.errors import ArtifactError, Unsupported
from hycompile.generation import Generation, Generator, Sampling
from hycompile.generation.eager import EagerSession
from hycompile.generation.language_model import LanguageModel
from hycompile.lowering import lower, lower_cached
from hycompile.pipeline import Pipeline
from hycompile.program import Program
from hycompile.target import Target
from tests.generation.tiny import CHUNK, PROMPT, VOCABULARY, greedy, program, sums, tokenizer

TEXT = "In the beginning God created the heaven"
Built = Callable[[str], Artifact]


@pytest.fixture(scope="module")
def artifacts(tmp_path_factory: pytest.TempPathFactory) -> Built:
    """The model lowered for a runtime of this host, once."""
    kept = Cache(tmp_path_factory.mktemp("cache"))
    return lambda runtime: lower(program(), "host", runtime, cache=kept)


def language_model(program: Program) -> LanguageModel:
    specs = {name: method.spec() for name, method in program.methods.items()}
    return LanguageModel(EagerSession(program), specs, program.name)


def generated(generator: Generator, prompt: str, count: int = 12) -> Generation:
    found = generator.generate(prompt, max_tokens=count, stop=())
    assert "".join(found) == generator.tokenizer.decode(found.tokens)
    return found


@pytest.mark.parametrize("length", [1, PROMPT - 1, PROMPT, PROMPT + 1, PROMPT + CHUNK, PROMPT + CHUNK + 1, 39])
def test_prompts_of_every_length(length: int) -> None:
    generator = Generator.eager(program())
    generated(generator, "what came before leaves no trace")
    found = generated(generator, TEXT[:length])
    assert found.prompt == tuple(generator.tokenizer.encode(TEXT[:length]))
    assert len(found.prompt) == length
    assert found.tokens == greedy(list(found.prompt), 12)
    assert len(set(found.tokens)) > 2
    assert found.ended_by == "length"


@pytest.mark.parametrize("runtime", ["onnx", "executorch"])
def test_artifacts_give_the_same_tokens(runtime: str, artifacts: Built) -> None:
    artifact = artifacts(runtime)
    assert artifact.file(TOKENIZER).read_bytes() == program().tokenizer
    generator = Generator.open(Artifact.load(artifact.folder), threads=1)
    for prompt in (TEXT, "In"):
        found = generated(generator, prompt)
        assert found.tokens == greedy(list(found.prompt), 12)


@pytest.mark.slow
def test_the_trained_model_continues_a_prompt(tmp_path: Path) -> None:
    """As docs/language.md shows it, and with what its artifacts carry."""
    original = load_program("language/sambay-kjv")
    wanted = Generator.eager(original).generate("In the beginning God created", max_tokens=64)
    assert "".join(wanted).startswith(" him. And the LORD said unto Moses")
    passes = Pipeline.parse("normalise,reparameterise,share-memory,lower-scans,sink-slices")
    rewritten, _ = passes(original, prove=False)
    for runtime in ("onnx", "executorch"):
        generator = Generator.open(lower(rewritten, "host", runtime, cache=Cache(tmp_path)))
        assert generated(generator, "In the beginning God created", count=64).tokens == wanted.tokens


@pytest.mark.slow
@pytest.mark.parametrize("model", ["causal-lm/lfm2-tiny", "language/sambay-tiny"])
def test_hybrids_give_the_same_tokens(model: str, tmp_path: Path) -> None:
    whole = load_program(model)
    methods = {name: whole.methods[name] for name in ("prefill", "decode")}
    original = replace(whole, methods=methods, script=())
    passes = Pipeline.parse("normalise,reparameterise,share-memory,lower-scans,sink-slices")
    rewritten, _ = passes(original, prove=False)
    prompt = [5, 1, 9, 2, 6]

    def tokens(session: LanguageModel) -> list[int]:
        found = [int(session.prompt(prompt).argmax())]
        while len(found) < 64:
            found.append(int(session.step(found[-1]).argmax()))
        return found

    wanted = tokens(language_model(original))
    for runtime in ("onnx", "executorch"):
        artifact = lower(rewritten, "host", runtime, cache=Cache(tmp_path))
        assert tokens(LanguageModel(open_session(artifact, 1), artifact.manifest.methods, runtime)) == wanted
    assert len(set(wanted)) > 2


def test_times_are_of_calls() -> None:
    found = generated(Generator.eager(program()), TEXT, count=4)
    assert found.prefill_seconds > 0
    assert len(found.decode_seconds) == 3
    assert found.tokens_per_second == pytest.approx(3 / sum(found.decode_seconds))
    assert generated(Generator.eager(program()), TEXT, count=1).tokens_per_second is None


def test_a_stop_token_ends_the_text() -> None:
    generator = Generator.eager(program())
    wanted = greedy(generator.tokenizer.encode(TEXT), 12)
    end = wanted[5]
    found = generator.generate(TEXT, max_tokens=12, stop=[end])
    assert "".join(found) == generator.tokenizer.decode(found.tokens)
    assert found.tokens == wanted[: wanted.index(end)]
    assert found.ended_by == "stop"


def test_special_tokens_end_the_text_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = Generator.eager(program())

    def certain(token: int) -> Tensor:
        return torch.nn.functional.one_hot(torch.tensor(0 if token == 7 else 7), VOCABULARY).double()

    monkeypatch.setattr(generator.model, "step", certain)
    monkeypatch.setattr(generator.model, "prompt", lambda _: certain(0))
    found = generator.generate(TEXT)
    list(found)
    assert (found.tokens, found.ended_by) == ([7], "stop")


def test_sampled_text_is_the_seed_s() -> None:
    def tokens(seed: int) -> list[int]:
        sampling = Sampling(temperature=1.0, top_k=40, seed=seed)
        found = Generator.eager(program()).generate(TEXT, max_tokens=12, sampling=sampling, stop=())
        list(found)
        return found.tokens

    assert tokens(1) == tokens(1) != tokens(2)


def test_prompts_that_are_refused() -> None:
    short = Generator.eager(program(chunked=False))
    assert short.model.longest_prompt == PROMPT
    assert Generator.eager(program()).model.longest_prompt is None
    with pytest.raises(Unsupported, match=r"a prompt of 9 tokens: sums takes 8, .*; shorten it to 8 tokens"):
        list(short.generate(TEXT[:9]))
    with pytest.raises(Unsupported, match="there is nothing to continue"):
        list(short.generate(""))
    with pytest.raises(ValueError, match="max_tokens 0"):
        short.generate(TEXT, max_tokens=0)


def test_without_extend_a_prompt_has_two_chunks() -> None:
    methods = {name: method for name, method in program().methods.items() if name != "extend"}
    model = language_model(replace(program(), methods=methods))
    assert model.longest_prompt == PROMPT + CHUNK
    tokens = list(range(1, 1 + PROMPT + CHUNK))
    assert int(model.prompt(tokens).argmax()) == greedy(tokens, 1)[0]
    with pytest.raises(Unsupported, match="takes 13"):
        model.prompt([*tokens, 1])


def test_models_that_are_refused() -> None:
    linear = capture(torch.nn.Linear(2, 2).eval(), (torch.ones(1, 2),)).methods["forward"].spec()
    good = {name: method.spec() for name, method in program().methods.items()}
    flat = MethodSpec(inputs=good["decode"].inputs, outputs=linear.outputs)
    cases = (
        ({"forward": linear}, "its methods are forward, not prefill and decode"),
        ({"prefill": good["prefill"]}, "its methods are prefill, not prefill and decode"),
        (good | {"prefill": linear}, r"its method prefill takes \w+ float32\[1, 2\]"),
        (good | {"extend": good["prefill"]}, r"its method extend takes tokens int64\[1, 8\], count int64\[1\]"),
        (good | {"decode": good["prefill"]}, r"its method decode takes tokens int64\[1, 8\]"),
        (good | {"decode": flat}, r"its method decode returns \[1, 2\], not \[1, 1, vocabulary\]"),
    )
    for methods, words in cases:
        with pytest.raises(ArtifactError, match=words):
            LanguageModel(EagerSession(program()), methods, "other")


def test_logits_that_are_no_numbers() -> None:
    class Broken:
        def run(self, inputs: Sequence[Tensor], method: str = "forward") -> tuple[Tensor, ...]:
            return (torch.full((1, 1, VOCABULARY), float("nan")),)

    specs = {name: method.spec() for name, method in program().methods.items()}
    model = LanguageModel(Broken(), specs, "broken")  # pyright: ignore[reportArgumentType]
    with pytest.raises(ArtifactError, match="logits of token 2: broken computed what is no number"):
        model.prompt([1, 2])


def test_tokenizers_that_are_refused(tmp_path: Path, artifacts: Built) -> None:
    artifact = artifacts("onnx")
    files = {role: name for role, name in artifact.manifest.files.items() if role != TOKENIZER}
    bare = Artifact(artifact.folder, artifact.manifest.model_copy(update={"files": files}))
    for refused in (lambda: Generator.open(bare), lambda: Generator.eager(program(carries=False))):
        with pytest.raises(ArtifactError, match="carries no tokenizer; give one: --tokenizer PATH"):
            refused()
    larger = tokenizer()
    larger.add_tokens([f"word{number}" for number in range(4)])
    (tmp_path / "tokenizer.json").write_text(larger.to_str())
    with pytest.raises(ArtifactError, match="a tokenizer of 261 tokens: the model knows 260"):
        Generator.open(bare, tmp_path / "tokenizer.json")
    (tmp_path / "tokenizer.json").write_text(tokenizer().to_str())
    for generator in (
        Generator.open(bare, tmp_path / "tokenizer.json"),
        Generator.eager(program(carries=False), tmp_path / "tokenizer.json"),
    ):
        assert generated(generator, "In").tokens == greedy(generator.tokenizer.encode("In"), 12)


def test_a_program_keeps_its_tokenizer(tmp_path: Path) -> None:
    kept = program().tokenizer
    assert kept is not None
    assert program().copy().tokenizer == program().to(torch.float64).tokenizer == kept
    program().save(tmp_path / "sums.hyc")
    assert capture(tmp_path / "sums.hyc").tokenizer == kept
    program(carries=False).save(tmp_path / "sums.hyc")
    assert capture(tmp_path / "sums.hyc").tokenizer is None


def test_another_tokenizer_is_another_artifact(tmp_path: Path) -> None:
    class Empty(Onnx):
        measurable: ClassVar[bool] = True

        def lower(self, program: Program, target: Target, folder: Path) -> Lowered:
            return Lowered({})

    def folder(content: bytes | None) -> Artifact:
        return lower_cached(replace(program(), tokenizer=content), Empty(), load_target("host"), "", Cache(tmp_path))[0]

    first, second, none = folder(b"{}"), folder(b"[]"), folder(None)
    assert len({first.folder, second.folder, none.folder}) == 3
    assert first.manifest.files == {"tokenizer": "tokenizer.json"}
    assert list(first.manifest.digests) == ["tokenizer.json"]
    assert (first.file(TOKENIZER).read_bytes(), second.file(TOKENIZER).read_bytes()) == (b"{}", b"[]")
    assert none.manifest.files == {}


def test_the_model_s_own_state_is_left_alone() -> None:
    session = EagerSession(program())
    session.run((torch.ones(1, PROMPT, dtype=torch.int64), torch.tensor([2])), "prefill")
    assert (session.state()["total"] != 0).all()
    assert torch.equal(program().tensors()["total"], sums().total)
    with pytest.raises(ArtifactError, match="it has prefill, decode, extend, finish"):
        session.run((), "forward")
