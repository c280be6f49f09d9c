"""The benchmarks run, and both sides of each do the same thing. How fast is not a test's business."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

from tkre_hf.data import load_sample
from tkre_hf.evaluation.episodes import embed_records, evaluate_episodes
from tkre_hf.evaluation.report import read_rows
from tkre_hf.tkre.losses import IRRELEVANT, POSITIVE, relation_contrastive_loss, span_contrastive_loss
from tkre_hf.tkre.modeling_parts import unit
from tkre_hf.tkre.processing_tkre import CUE, ENTITY, OTHER, TKREProcessor
from tkre_hf.tkre.sampling import EncodedRecords

FOLDER = Path(__file__).parents[2] / "benchmarks"
TINY = {
    "training_step": ["--repetitions", "2", "--steps", "2", "--warmup_steps", "1", "--sentences", "4"]
    + ["--relations", "3", "--per_relation", "2"],
    "episodes": ["--repetitions", "2", "--num_episodes", "20", "--plain_episodes", "1", "--setting", "3w2s"],
    "pipeline_throughput": ["--repetitions", "2", "--sentences", "6", "--batch_size", "4", "--relations", "3"],
}
PLAIN = {"pipeline_throughput": "encoder alone"}


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Imports a benchmark as its script does: ``load("episodes")``."""
    monkeypatch.syspath_prepend(FOLDER)

    def load(name: str) -> ModuleType:
        for script in FOLDER.glob("*.py"):
            monkeypatch.delitem(sys.modules, script.stem, raising=False)
        return __import__(name)

    return load


@pytest.mark.parametrize("name", TINY)
def test_a_benchmark_writes_its_rows(
    name: str,
    load: Any,
    real_text_backbone: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    output = tmp_path / "benchmarks.json"
    options = ["--backbone", str(real_text_backbone), "--output", str(output), *TINY[name]]
    monkeypatch.setattr(sys, "argv", [str(FOLDER / f"{name}.py"), *options])
    load(name).main()
    rows = read_rows(output)
    settings = list(dict.fromkeys(row.setting for row in rows))
    assert len(settings) == (2 if name == "training_step" else 1) and len(rows) == 9 * len(settings)
    assert all(row.value > 0 and row.n == 2 and row.benchmark == name and "threads" in row.machine for row in rows)
    for setting in settings:
        found = {row.system: row.value for row in rows if row.setting == setting}
        assert all(
            found[f"{way}, min"] <= found[f"{way}, median"] <= found[f"{way}, max"]
            for way in ("tkre_hf", PLAIN.get(name, "straightforward"), "ratio")
        )
    assert "| ratio, median" in capsys.readouterr().out
    assert (tmp_path / "benchmarks.md").exists()


def test_the_pipelines_batches_are_its_encoders(
    load: Any, real_text_backbone: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = load("pipeline_throughput")
    args = module.BenchmarkArguments(backbone=str(real_text_backbone), sentences=10, batch_size=4, relations=3)
    benchmark = module.PipelineBenchmark(args)
    seen: list[torch.Tensor] = []
    encoder = benchmark.pipe.model.tkre.encoder
    encoder.register_forward_pre_hook(lambda _, args, kwargs: seen.append(kwargs["input_ids"]), with_kwargs=True)
    for run in (benchmark.pipeline, benchmark.encoder):
        assert run() > 0
    assert len(seen) == 6 and all(map(torch.equal, seen[:3], seen[3:]))


def test_walks_write_their_rows(load: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    output = tmp_path / "benchmarks.json"
    options = ["--num_edges", "2000", "--batches", "2", "--batch_size", "8", "--repetitions", "2"]
    monkeypatch.setattr(sys, "argv", [str(FOLDER / "walks.py"), *options, "--output", str(output)])
    module = load("walks")
    module.main()
    rows = read_rows(output)
    assert len(rows) == 9 and all(row.value > 0 and row.benchmark == "walks" for row in rows)
    # Both step along the same edges with the same preference.
    benchmark = module.WalksBenchmark(module.BenchmarkArguments(num_edges=50, batch_size=1))
    star = int(benchmark.graph.degree.argmax())
    rng = np.random.default_rng(0)
    plain = [benchmark.plain_walk(star, rng)[1] for _ in range(4000)]
    nodes = np.concatenate([benchmark.walker.walk(np.array([star]), i)[0][0, :, 1] for i in range(500)])
    size = benchmark.graph.num_nodes
    found = [np.bincount(part, minlength=size) / len(part) for part in (plain, nodes)]
    np.testing.assert_allclose(*found, atol=0.04)


def test_the_straightforward_losses_are_ours(load: Any) -> None:
    straightforward = load("straightforward")
    torch.manual_seed(0)
    labels = torch.tensor([0, 0, 1, 1, 2, 3])
    relation, anchors = unit(torch.randn(6, 8)), unit(torch.randn(4, 8))
    numbers = torch.arange(4)
    spans, span_labels = unit(torch.randn(18, 8)), labels.repeat_interleave(3)
    kinds = torch.tensor([POSITIVE, POSITIVE, IRRELEVANT] * 6)
    plain = straightforward.relation_loss(relation, labels.tolist(), anchors, numbers.tolist(), 0.1)
    assert torch.allclose(plain, relation_contrastive_loss(relation, labels, anchors, numbers, 0.1))
    plain = straightforward.span_loss(
        list(spans), span_labels.tolist(), kinds.tolist(), anchors, numbers.tolist(), 0.1
    )
    assert torch.allclose(plain, span_contrastive_loss(spans, span_labels, kinds, anchors, numbers, 0.1))


def test_the_straightforward_masks_have_our_rates(load: Any, real_text_backbone: Path) -> None:
    straightforward = load("straightforward")
    processor = TKREProcessor.from_backbone(str(real_text_backbone))
    records = list(load_sample())[:400]
    sentences = straightforward._Sentences(records, processor)
    masked: dict[int, list[bool]] = {}
    for record, item in zip(records, sentences, strict=False):
        features = processor.encode([record])[0]
        assert len(item["input_ids"]) == processor.max_length == len(item["labels"])
        units = dict(
            zip(features["units"], zip(features["roles"], item["labels"].tolist(), strict=False), strict=False)
        )
        for role, label in units.values():
            masked.setdefault(role, []).append(label != -100)
    rates = {role: sum(hidden) / len(hidden) for role, hidden in masked.items()}
    assert rates.pop(0) == 0
    assert rates == pytest.approx({CUE: 0.8, ENTITY: 0.5, OTHER: 0.2}, abs=0.06)


def test_the_straightforward_evaluation_finds_what_ours_does(load: Any, real_text_backbone: Path) -> None:
    module = load("episodes")
    args = module.BenchmarkArguments(backbone=str(real_text_backbone), setting="4w3s", num_episodes=6)
    benchmark = module.EpisodesBenchmark(args)
    vectors = embed_records(
        benchmark.model, benchmark.processor, EncodedRecords(benchmark.records, benchmark.processor)
    )
    ours = evaluate_episodes(vectors, benchmark.episodes)
    right = [
        found == label
        for i, episode in enumerate(benchmark.episodes)
        for found, label in zip(benchmark.predict(i), episode.query_label, strict=True)
    ]
    assert 100 * sum(right) / len(right) == pytest.approx(ours.accuracy)
