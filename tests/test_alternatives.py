"""Other ways to a prototype: they are what they say, and one command lays them beside the model's own."""

from __future__ import annotations

import json
import runpy
from pathlib import Path
from typing import Any

import pytest
import torch

from tkre_hf.alternatives import by_distance, learned_head, supports_alone, trusting, trusting_each, ways
from tkre_hf.errors import TkreError
from tkre_hf.evaluation.report import read_rows
from tkre_hf.tkre.modeling_parts import unit
from tkre_hf.tkre.modeling_tkre import TKREForPreTraining
from tkre_hf.tkre.processing_tkre import TKREProcessor

from .evaluation.test_few_shot import trained_on

RECIPE = Path(__file__).parents[1] / "recipes" / "compare_prototypes.py"


def episode(noise: float, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    centre = unit(torch.randn(4, 5, 1, 16, generator=generator))
    support = unit(centre + 0.3 * torch.randn(4, 5, 3, 16, generator=generator))
    samples = unit(centre + 0.3 * torch.randn(4, 5, 7, 16, generator=generator))
    return support, unit(centre[:, :, 0] + noise * torch.randn(4, 5, 16, generator=generator)), samples


@pytest.mark.parametrize("samples", [True, False])
def test_every_way_gives_unit_prototypes_that_the_order_of_relations_does_not_change(samples: bool) -> None:
    support, anchors, written = episode(0.3)
    given = written if samples else None
    order = torch.tensor([3, 1, 4, 0, 2])
    for name, way in ways(0.1, 0.5, samples).items():
        found = way(support, anchors, given)
        torch.testing.assert_close(found.norm(dim=-1), torch.ones(4, 5), msg=name)
        turned = way(support[:, order], anchors[:, order], given[:, order] if given is not None else None)
        torch.testing.assert_close(turned, found[:, order], atol=1e-5, rtol=1e-4, msg=name)


def test_an_anchor_that_lies_far_off_counts_for_less() -> None:
    support, near, _ = episode(0.1)
    far = unit(torch.randn(near.shape, generator=torch.Generator().manual_seed(9)))
    for way in (trusting(3.0, 1.0, 0.1), trusting_each(3.0, 0.1), by_distance(3.0, 0.5)):
        alone = supports_alone(support, near, None)
        kept = (way(support, far, None) * alone).sum(-1).mean()
        fixed = (trusting(3.0, 0.0, 0.1)(support, far, None) * alone).sum(-1).mean()
        assert kept > fixed


def test_a_learned_head_fits_the_supports_better() -> None:
    support, anchors, samples = episode(1.5)
    start = trusting(3.0, 0.0, 0.1)

    def loss(prototypes: torch.Tensor, rows: torch.Tensor) -> float:
        logits = 20 * rows.flatten(1, 2) @ prototypes.transpose(-1, -2)
        labels = torch.arange(5).repeat_interleave(rows.shape[2]).expand(4, -1)
        return float(torch.nn.functional.cross_entropy(logits.flatten(0, 1), labels.flatten()))

    before = start(support, anchors, samples)
    assert loss(learned_head(start, False)(support, anchors, samples), support) < loss(before, support)
    assert loss(learned_head(start, True)(support, anchors, samples), samples) < loss(before, samples)


def test_the_recipe_measures_every_way(
    tmp_path: Path, corpus_files: tuple[Path, Path], checkpoint_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sources, _ = corpus_files
    relations = sorted({json.loads(line)["relation"] for line in sources.read_text().splitlines()})[:4]
    options: list[Any] = ["--model", checkpoint_folder, "--data", sources, "--split", "null", "--num_episodes", 20]
    options += ["--settings", "3w2s", "--relations", *relations, "--samples", sources]
    main = runpy.run_path(str(RECIPE))["main"]
    main([*map(str, options), "--output", str(tmp_path / "rows.json")])
    rows = read_rows(tmp_path / "rows.json")
    assert [row.system for row in rows] == list(ways(0.05, 1.0, True))
    assert all(row.knowledge == "synthetic" and 0 <= row.value <= 100 and row.n == 20 for row in rows)
    assert "supports alone" in capsys.readouterr().out

    known = trained_on(tmp_path / "known", checkpoint_folder, relations[:1], [])
    with pytest.raises(TkreError, match=f"was trained on {relations[0]}: settings are chosen on relations held out"):
        main([*map(str, options[: options.index("--samples")]), "--model", known])


@pytest.fixture
def checkpoint_folder(tmp_path: Path, backbone: Path) -> Path:
    """A checkpoint of the tiny model."""
    processor = TKREProcessor.from_backbone(str(backbone), max_length=64)
    model = TKREForPreTraining.from_backbone(
        str(backbone), vocab_size=len(processor.tokenizer), new_tokens=processor.new_tokens, projection_dim=16
    )
    model.save_pretrained(tmp_path / "model")
    processor.save_pretrained(tmp_path / "model")
    return tmp_path / "model"
