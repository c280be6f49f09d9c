"""The benchmarks run, and both sides of each do the same thing. How fast is not a test's business."""

from __future__ import annotations

import functools
import json
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from tkre_hf.data import load_sample
from tkre_hf.evaluation.episodes import evaluate_episodes
from tkre_hf.evaluation.report import read_rows
from tkre_hf.kshot import KShotArguments
from tkre_hf.tkre.embedding import embed_records
from tkre_hf.tkre.losses import IRRELEVANT, POSITIVE, relation_contrastive_loss, span_contrastive_loss
from tkre_hf.tkre.modeling_parts import unit
from tkre_hf.tkre.modeling_tkre import TKREForFewShotClassification
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


def test_a_gpus_rows_can_be_tried_out_on_the_processor(
    load: Any, real_text_backbone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / "gpu.json"
    options = ["--use_cpu", "true", "--encoders", "minilm", "BERT-base", "--per_relation", "3", "--steps", "2"]
    monkeypatch.setattr(sys, "argv", ["gpu_training.py", *options, "--warmup_steps", "1", "--output", str(output)])
    module = load("gpu_training")
    monkeypatch.setattr(module, "resolve_backbone", lambda name: str(real_text_backbone))
    monkeypatch.setitem(module.SHAPES, "BERT-base", (32, 2, 2))
    module.main()
    rows = read_rows(output)
    found = {(row.benchmark, row.system, row.setting): row.value for row in rows}
    assert len(found) == len(rows) == 1 + 2 * 2 * 5 and all(value > 0 for value in found.values())
    key = ("minilm", "stage 1, 64 sentences")
    assert found["gpu_training", *key] == pytest.approx(64_000 / found["gpu_step", *key], rel=2e-3)


def test_operations_are_counted_back_and_forth(load: Any, tmp_path: Path, real_text_backbone: Path) -> None:
    module = load("gpu_training")
    args = module.BenchmarkArguments(steps=2, warmup_steps=1, use_cpu=True)
    row = module.Row("", "", "", "", 0.0)
    benchmark = module.GpuBenchmark(args, "tiny", str(real_text_backbone), 1.0, row)
    counted = benchmark.operations("stage 2", str(tmp_path))
    model = benchmark.trainer("stage 2", str(tmp_path)).model
    layers = sum(p.numel() for name, p in model.named_parameters() if ".layer." in name and p.ndim == 2)
    # 48 sentences and 16 descriptions, each of 5 tokens at least and the window's at most, forwards and twice back.
    tokens = 2 * (48 + 16)
    longest = model.config.backbone_config.max_position_embeddings
    assert 6 * layers * 5 * tokens < counted < 3 * 6 * layers * longest * tokens


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


def test_scale_tells_each_size_and_draws_it(load: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("matplotlib")
    output = tmp_path / "scale.json"
    options = ["--edges", "500", "4000", "--steps", "2", "--batch_size", "8", "--hidden_size", "16"]
    monkeypatch.setattr(
        sys, "argv", [str(FOLDER / "pfhin_scale.py"), *options, "--rank", "degree", "--output", str(output)]
    )
    load("pfhin_scale").main()
    rows = {(row.system, row.setting): row for row in read_rows(output)}
    assert {system for system, _ in rows} == {"500 edges, 50 nodes", "4,000 edges, 400 nodes"}
    memory = rows["500 edges, 50 nodes", "peak memory, MiB"]
    assert len(rows) == 12 and all(row.value > 0 for row in rows.values()) and 50 < memory.value < 20_000
    step = rows["4,000 edges, 400 nodes", "training step, ms"]
    assert step.n == 2
    assert output.with_suffix(".png").read_bytes()[:4] == b"\x89PNG"


def test_ranks_from_few_nodes_are_laid_beside_those_from_many(
    load: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("networkit")
    output = tmp_path / "scale.json"
    module = load("pfhin_scale")
    # A graph as small as this would be ranked exactly.
    monkeypatch.setattr(module, "ranks", functools.partial(module.ranks, sampled_above=0))
    options = ["--edges", "600", "--pivots", "2", "60", "--output", str(output)]
    monkeypatch.setattr(sys, "argv", [str(FOLDER / "pfhin_scale.py"), *options])
    module.main()
    few, many = (row.value for row in read_rows(output))
    assert 0 < few < many <= 100


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


# Answers as setfit_peer.py does, with the label of the first training row that has a word of the text.
STANDS_IN = """
import json, sys
from pathlib import Path
job = json.load(sys.stdin)
rows = list(zip(job["train"]["text"], job["train"]["label"]))
words = [text.split()[3] for text in job["test"]["text"]]
predicted = [next((label for text, label in rows if word in text.split()), "Other") for word in words]
asked = {"texts": job["train"]["text"], **{name: job[name] for name in ("settings", "most_steps", "threads")}}
Path(FILE).write_text(json.dumps(asked))
answer = {"predicted": predicted, "minutes": 0.5, "versions": {"setfit": "0"}}
answer |= {"steps": job["most_steps"], "all_steps": 4896}
Path(job["output"]).write_text(json.dumps(answer))
"""


def test_a_peer_reads_the_same_rows_and_is_scored_alike(
    load: Any, backbone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    verbs = {"Cause-Effect(e1,e2)": "causes", "Entity-Origin(e1,e2)": "leaves", "Other": "sees"}
    semeval = tmp_path / "semeval2010"
    for name, numbers in (("kshot/8-1/train.txt", range(2)), ("test.txt", range(2, 4))):
        rows = [
            {
                "token": [f"Ada{i}", verb, "the", "port", "."],
                "h": {"name": f"Ada{i}", "pos": [0, 1]},
                "t": {"name": "the port", "pos": [2, 4]},
                "relation": label,
            }
            for i in numbers
            for label, verb in verbs.items()
        ]
        (semeval / name).parent.mkdir(parents=True, exist_ok=True)
        (semeval / name).write_text("".join(json.dumps(row) + "\n" for row in rows))
    peer, asked, output = tmp_path / "peer.py", tmp_path / "asked.json", tmp_path / "kshot.json"
    peer.write_text(STANDS_IN.replace("FILE", repr(str(asked))))
    options = ["--data_dir", str(tmp_path), "--backbone", str(backbone), "--setfit_python", sys.executable]
    options += ["--k", "8", "--settings", "20 iterations", "--max_steps", "3", "--work_dir", str(tmp_path / "work")]
    options += ["--save_steps", "2"]
    monkeypatch.setattr(sys, "argv", ["kshot_vs_setfit.py", *options, "--output", str(output)])
    module = load("kshot_vs_setfit")
    monkeypatch.setattr(module, "PEER", peer)
    original = module.chain_arguments

    def tiny(*args: Any) -> KShotArguments:
        chain = original(*args)
        tiny = {"max_steps": 1, "max_length": 64, "use_cpu": True, "bf16": False}
        return replace(chain, finetune={**chain.finetune, **tiny})

    monkeypatch.setattr(module, "chain_arguments", tiny)
    module.main()
    job = json.loads(asked.read_text())
    assert job["texts"][0] == "[E1] Ada0 [/E1] causes [E2] the port [/E2] ."
    assert job["settings"] == {"seed": 1, "num_iterations": 20} and job["most_steps"] == 3 and job["threads"] == 1
    rows = {(row.benchmark, row.system): row for row in read_rows(output)}
    found = rows["kshot_vs_setfit", "SetFit, 20 iterations, cut to 3 steps of 4,896"]
    assert found.value == 100 and found.minutes == 0.5 and found.n == 6 and found.versions == {"setfit": "0"}
    ours = rows["kshot_vs_setfit", "tkre_hf, plain fine-tuning"]
    assert 0 <= ours.value <= 100 and ours.knowledge == "none"
    assert rows["kshot_vs_setfit_minutes", "tkre_hf, plain fine-tuning"].value >= 0
    # What was asked once is not asked again, and another question is another folder's.
    asked.unlink()
    module.main()
    assert not asked.exists()
    monkeypatch.setattr(sys, "argv", [*sys.argv, "--max_steps", "2"])
    module.main()
    assert json.loads(asked.read_text())["most_steps"] == 2 and len(list((tmp_path / "work").glob("setfit-*"))) == 2


def test_the_peers_minutes_are_those_before_it_was_broken_off_too(load: Any, tmp_path: Path) -> None:
    peer = load("setfit_peer")
    assert peer.last_checkpoint(tmp_path) is None
    for step, is_whole in ((8, True), (16, True), (24, False)):
        (tmp_path / f"checkpoint-{step}").mkdir()
        if is_whole:
            (tmp_path / f"checkpoint-{step}" / "trainer_state.json").touch()
    last = peer.last_checkpoint(tmp_path)
    assert last.name == "checkpoint-16" and peer.step_of(last) == 16
    (tmp_path / peer.MINUTES).write_text(json.dumps({"0": 0.0, "8": 5.0, "16": 7.0, "24": 9.0}))
    watch = peer.Stopwatch(tmp_path, 16)
    assert 7 <= watch.minutes < 8
    for step, should_save in ((17, False), (18, True)):
        state, control = SimpleNamespace(global_step=step), SimpleNamespace(should_save=should_save)
        watch.on_step_end(None, state, control)
    known = json.loads((tmp_path / peer.MINUTES).read_text())
    assert known.keys() == {"0", "8", "16", "24", "18"} and 7 <= known["18"] < 8


def test_runtimes_write_their_rows(
    load: Any, real_text_backbone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    processor = TKREProcessor.from_backbone(str(real_text_backbone))
    model = TKREForFewShotClassification.from_backbone(
        str(real_text_backbone), vocab_size=len(processor.tokenizer), new_tokens=processor.new_tokens
    )
    model.save_pretrained(tmp_path / "model")
    processor.save_pretrained(tmp_path / "model")
    output = tmp_path / "benchmarks.json"
    options = ["--model", str(tmp_path / "model"), "--repetitions", "2", "--sentences", "256", "--output", str(output)]
    options += ["--num_episodes", "50", "--settings", "5w1s", "--runtimes", "torch", "torch int8"]
    monkeypatch.setattr(sys, "argv", [str(FOLDER / "export_runtime.py"), *options])
    module = load("export_runtime")
    module.main()
    rows = {(row.system, row.metric): row for row in read_rows(output)}
    assert len(rows) == 6 and all(row.value > 0 for row in rows.values())
    assert rows["torch", "ratio"].value == 1 and rows["torch", "accuracy"].n == 50
    # Both are the same model, but for its digits.
    benchmark = module.ExportBenchmark(module.BenchmarkArguments(model=str(tmp_path / "model")), tmp_path)
    exact, rounded = (benchmark.vectors(benchmark.runtime(name)) for name in ("torch", "torch int8"))
    expected = embed_records(
        model.tkre, processor, EncodedRecords(list(load_sample("validation").shuffle(seed=0)), processor)
    )
    np.testing.assert_allclose(exact, expected, atol=1e-5)
    assert 0 < (exact - rounded).abs().max() < 0.1
