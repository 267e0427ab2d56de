"""Every family lists quickly, describes, refuses what it cannot build, and lists what its library has."""

from __future__ import annotations

import subprocess
import sys

import pytest

from hycompile import registry
from hycompile.errors import CaptureError
from hycompile.models.family import Family

COVERAGE = [
    "nextvit_small",
    "efficientformer_l1",
    "efficientformerv2_s0",
    "efficientvit_m2",
    "efficientvit_b1",
    "mobilevit_s",
    "mobilevitv2_100",
    "fastvit_t8",
    "repvit_m1_0",
    "mobileone_s0",
    "mobilenetv4_hybrid_medium",
    "levit_128",
    "edgenext_small",
    "tiny_vit_5m_224",
    "maxvit_tiny_tf_224",
    "coatnet_nano_rw_224",
    "swiftformer_xs",
    "shvit_s1",
    "hiera_tiny_224",
    "PP-OCRv6",
]
FAMILIES = {
    "causal-lm": "causal-lm/lfm2-tiny",
    "language": "language/sambay-tiny",
    "ocr": "ppocrv6_rec_small",
    "small-vision": "small-vision/nextvit-fashion-mnist",
    "timm": "levit_128",
    "transformers": "transformers/mobilevit-xx-small",
}
# Batch and channels, or batch and tokens.
FIRST_AXES = {"causal-lm": (1, 16), "language": (1, 16), "small-vision": (1, 1)}


@pytest.fixture(params=sorted(FAMILIES))
def known(request: pytest.FixtureRequest) -> tuple[Family, str]:
    """A family with one of its models."""
    return registry.family(request.param), FAMILIES[request.param]


def test_every_family_is_covered_here() -> None:
    assert registry.names("models") == sorted(FAMILIES)


@pytest.mark.parametrize("name", COVERAGE)
def test_the_coverage_list_is_found(name: str) -> None:
    found = registry.find_model(name)
    assert found is not None
    assert found[1] in found[0].names()


def test_names_are_sorted_and_unique(known: tuple[Family, str]) -> None:
    names = known[0].names()
    assert names == sorted(set(names))
    assert known[1] in names


def test_aliases_stand_for_names(known: tuple[Family, str]) -> None:
    assert set(known[0].aliases().values()) <= set(known[0].names())


def test_description_says_what_the_model_is(known: tuple[Family, str]) -> None:
    family, name = known
    found = family.describe(name)
    assert (found.name, found.family, found.licence) == (name, family.name, "Apache-2.0")
    assert found.input_shape[:2] == FIRST_AXES.get(family.name, (1, 3))
    assert found.pretrained is (family.name in ("ocr", "small-vision"))


def test_identity_tells_models_apart(known: tuple[Family, str]) -> None:
    family, name = known
    other = next(other for other in family.names() if other != name)
    texts = {family.identity(name), family.identity(other), family.identity(name, resolution=48)}
    assert len(texts) == 3
    assert family.identity(name) == family.identity(name)


def test_seed_is_part_of_the_identity_of_random_weights() -> None:
    family = registry.family("timm")
    assert family.identity("levit_128", seed=1) != family.identity("levit_128")


@pytest.mark.parametrize("ask", ["describe", "identity", "build"])
def test_an_unknown_name_is_refused(known: tuple[Family, str], ask: str) -> None:
    with pytest.raises(CaptureError, match="'no_such_net'"):
        getattr(known[0], ask)("no_such_net")


def test_timm_listing_is_timms_own() -> None:
    from hycompile.models import timm_hybrids
    from hycompile.models.torchvision_schemas import declare_missing_operators

    declare_missing_operators()
    import timm

    chosen = timm_hybrids._HYBRIDS | timm_hybrids._RELATIVES  # pyright: ignore[reportPrivateUsage]
    expected = [
        name for module, prefix in chosen.items() for name in timm.list_models(module=module) if name.startswith(prefix)
    ]
    assert registry.family("timm").names() == sorted(expected)


def test_listing_imports_no_library() -> None:
    script = (
        "import sys; from hycompile import registry\n"
        "count = sum(len(registry.family(kind).names()) for kind in registry.names('models'))\n"
        "print(count, *(name for name in ('torch', 'timm', 'transformers') if name in sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    count, *imported = done.stdout.split()
    assert int(count) > 300
    assert imported == []


def test_identities_import_no_library() -> None:
    """They are what a build asks for before it looks into its cache: a known build answers without importing torch."""
    names = (
        *("efficientformer_l1", "PP-OCRv6", "transformers/mobilevitv2-1.0"),
        *("causal-lm/lfm2-350m", "language/sambay-40m", "small-vision/repvit-quickdraw-345-seed2"),
    )
    script = (
        "import sys; from hycompile import registry\n"
        f"for name in {names}:\n"
        "    family, known = registry.find_model(name)\n"
        "    assert family.identity(known)\n"
        "print(*(name for name in ('torch', 'timm', 'transformers') if name in sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def test_a_resolution_the_model_refuses_is_a_capture_error() -> None:
    with pytest.raises(CaptureError, match=r"resolution 7.*refuses it.*its own is 224"):
        registry.family("timm").build("levit_128s", resolution=7)


def test_a_resolution_the_model_takes_reaches_its_tables() -> None:
    built = registry.family("timm").build("efficientvit_m0", resolution=128)
    assert tuple(built.args[0].shape) == (1, 3, 128, 128)
    assert tuple(built.module(*built.args).shape) == (1, 1000)


def test_a_transformers_classifier_returns_its_logits() -> None:
    built = registry.family("transformers").build("transformers/mobilevit-xx-small", resolution=64)
    assert not built.module.training
    assert tuple(built.module(*built.args).shape) == (1, 1000)


@pytest.mark.slow
@pytest.mark.parametrize("name", registry.family("transformers").names())
def test_every_transformers_variant_builds_and_captures(name: str) -> None:
    from hycompile.capture import capture
    from hycompile.parity import execute, relative_error

    built = registry.family("transformers").build(name)
    program = capture(built.module, built.args)
    assert relative_error(execute(program.methods["forward"]).outputs, [built.module(*built.args)]) < 1e-5
