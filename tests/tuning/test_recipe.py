"""Recipes: written, read back, applied, and explained where they are wrong."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from hycompile.device import load_target
from hycompile.errors import DeviceError
from hycompile.tuning.recipe import Evidence, Measured, Recipe, Trial, load_recipe

MEASURED = Measured(ratio=0.8, interval=(0.75, 0.85))
RECIPE = Recipe(
    model="mobilevit_s",
    device="host",
    runtime="executorch",
    precision="fp16",
    pipeline="normalise,layout{target=xnnpack}",
    options={"convolutions": "whole"},
    evidence=Evidence(threads=1, cpu="a processor", taken_at="2026-01-01T00:00:00Z", tools={"torch": "2"}),
    trials=(
        Trial(choice="executorch.convolutions", value="whole", instead_of="rows", outcome="taken", measured=MEASURED),
        Trial(choice="layout.target", value="coreml", instead_of="generic", outcome="failed", reason='it "broke"'),
    ),
)


def test_written_and_read_back(tmp_path: Path) -> None:
    path = tmp_path / "recipe.toml"
    for recipe in (RECIPE, RECIPE.model_copy(update={"options": {}, "trials": ()})):
        recipe.save(path)
        assert load_recipe(path) == recipe
    assert path.read_text().startswith(
        "# Replay with: hycompile build mobilevit_s --device host --recipe recipe.toml\n"
    )


def test_applied_it_changes_what_it_says_and_nothing_else() -> None:
    host = load_target("host")
    target = RECIPE.apply(host)
    assert (target.precision, target.pipeline) == ("fp16", RECIPE.pipeline)
    assert target.executorch == host.executorch.model_copy(update={"convolutions": "whole"})
    changed = {"precision", "pipeline", "executorch"}
    assert target.model_dump(exclude=changed) == host.model_dump(exclude=changed)


def test_a_runtime_without_a_table_in_device_files_takes_passes_only() -> None:
    recipe = RECIPE.model_copy(update={"runtime": "of-a-plugin", "options": {}})
    assert recipe.apply(load_target("host")).pipeline == RECIPE.pipeline


def test_another_device_is_refused() -> None:
    with pytest.raises(DeviceError, match="recipe for device 'host': cannot build for 'pixel-9'; give --device host"):
        RECIPE.apply(load_target("pixel-9"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"convolutons": "rows"}, "key 'executorch.convolutons': no such key; did you mean 'convolutions'?"),
        ({"convolutions": "columns"}, "key 'executorch.convolutions' = 'columns'"),
    ],
)
def test_a_wrong_option_is_explained(options: dict[str, str | int | bool], message: str) -> None:
    with pytest.raises(DeviceError, match=re.escape(message)):
        RECIPE.model_copy(update={"options": options}).apply(load_target("host"))


@pytest.mark.parametrize(
    ("found", "instead", "message"),
    [
        ('runtime = "executorch"', 'runtme = "executorch"', "key 'runtme': no such key; did you mean 'runtime'?"),
        ("format = 1", "format = 2", "key 'format' = 2"),
        ('device = "host"\n', "", "key 'device': missing; add it; `hycompile tune` writes one"),
        ("threads = 1", "threads = 0", "key 'evidence.threads' = 0"),
        ('outcome = "taken"', 'outcome = "won"', "key 'trials.0.outcome' = 'won'"),
        ("[options]", "[options", "cannot be read"),
    ],
)
def test_a_wrong_file_is_explained(tmp_path: Path, found: str, instead: str, message: str) -> None:
    path = tmp_path / "recipe.toml"
    RECIPE.save(path)
    text = path.read_text()
    assert found in text
    path.write_text(text.replace(found, instead, 1))
    with pytest.raises(DeviceError, match=f"recipe {re.escape(str(path))}.*{re.escape(message)}"):
        load_recipe(path)


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(DeviceError, match="no such file; `hycompile tune` writes one"):
        load_recipe(tmp_path / "nowhere.toml")
