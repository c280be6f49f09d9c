"""The systems of docs/results/kshot.md, on a SemEval of a few made-up sentences."""

from __future__ import annotations

import json
import runpy
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from tkre_hf.data.semeval import LABELS
from tkre_hf.errors import TkreError
from tkre_hf.evaluation.report import read_rows
from tkre_hf.kshot_reproduction import COUNTS, SYSTEMS, ReproduceKShotArguments, cases, chain_arguments, overlap_rows
from tkre_hf.training import SCLStageArguments, SCLTrainingArguments, train_scl

RECIPES = Path(__file__).parents[1] / "recipes"
SEEN = LABELS[:4]
NAMES = ["Ada", "Bruno", "Carla", "Dover", "Elba", "Fulda", "Genoa", "Hull", "Ilmen", "Jena"]
STEP = {"max_steps": 1, "use_cpu": True, "bf16": False, "max_length": 64}


def row(i: int, label: str, verb: str) -> dict[str, Any]:
    head, tail = NAMES[i % 10], NAMES[(i * 3 + 1) % 10] + "s"
    tokens = [head, verb, "the", str(i), tail, "."]
    spans = {"h": {"name": head, "pos": [0, 1]}, "t": {"name": tail, "pos": [4, 5]}}
    return {"token": tokens, **spans, "relation": label}


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A folder of SemEval's files: K = 8 of three splits and of the others two rows each, with recorded knowledge."""
    semeval = tmp_path / "data" / "semeval2010"
    for split in (1, 2, 3):
        for k in (8, 16, 32):
            folder = semeval / "kshot" / f"{k}-{split}"
            folder.mkdir(parents=True)
            rows = [row(split * 31 + i * 7 + j, label, "works") for i in range(2) for j, label in enumerate(SEEN)]
            (folder / "train.txt").write_text("".join(json.dumps(each) + "\n" for each in rows))
            if k == 8:
                knowledge = semeval / "knowledge" / f"8-{split}"
                knowledge.mkdir(parents=True)
                explanations, samples = [], []
                for i, each in enumerate(rows):
                    text = (
                        f"Here {each['h']['name']} and {each['t']['name']} belong together for reason {i} and so on."
                    )
                    explanations.append({"row": i, "relation": each["relation"], "explanation": text})
                for j, label in enumerate(SEEN):
                    for name in ("Oona", "Quirin"):
                        filler = f"{'abcd'[j] * 7} {split} things over to the Tilda {name[::-1]} house"
                        context = f"At last {name} brought {filler}."
                        kinds = {"head_type": "X", "tail_type": "Y"}
                        samples.append(
                            {
                                "relation": label,
                                "context": context,
                                "head_entity": name,
                                "tail_entity": "Tilda",
                                **kinds,
                            }
                        )
                for file, lines in (("explanations", explanations), ("synthetic", samples)):
                    (knowledge / f"{file}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    for name in ("test", "val"):
        rows = [row(900 + i, label, "hired") for i, label in enumerate([*LABELS[:5], *LABELS[:5]])]
        (semeval / f"{name}.txt").write_text("".join(json.dumps(each) + "\n" for each in rows))
    return tmp_path / "data"


@pytest.fixture
def arguments(data: Path, backbone: Path, tmp_path: Path) -> ReproduceKShotArguments:
    """The recipe's own settings, but for a tiny encoder, one step each, and a checkpoint of the same encoder."""
    recipes = tmp_path / "recipes" / "configs"
    recipes.mkdir(parents=True)
    settings = yaml.safe_load((RECIPES / "configs" / "kshot_semeval.yaml").read_text())
    settings["backbone"] = str(backbone)
    for step in ("stage1", "stage2", "finetune"):
        settings[step] |= STEP
    settings["stage2"]["relations_per_batch"] = len(SEEN)
    (recipes / "kshot_semeval.yaml").write_text(yaml.safe_dump(settings))
    (recipes / "semeval_relations.yaml").write_text((RECIPES / "configs" / "semeval_relations.yaml").read_text())
    checkpoint = tmp_path / "stage2"
    stage = SCLStageArguments(
        sources=[str(data / "semeval2010" / "kshot" / "16-1" / "train.txt")], backbone=str(backbone), max_length=64
    )
    training = SCLTrainingArguments(
        output_dir=str(checkpoint), relations_per_batch=4, max_steps=1, use_cpu=True, bf16=False, disable_tqdm=True
    )
    train_scl(stage, training)
    return ReproduceKShotArguments(
        str(data), str(checkpoint), work_dir=str(tmp_path / "work"), output=str(tmp_path / "kshot.json")
    )


def test_what_a_system_is_made_of(arguments: ReproduceKShotArguments) -> None:
    args = replace(arguments, recipes=str(RECIPES))
    everything = chain_arguments(SYSTEMS["everything"], 8, 2, args)
    assert everything.train.endswith("8-2/train.txt") and everything.test is not None
    assert everything.stage1 is not None and everything.stage2 is not None and everything.stage0 is not None
    assert everything.stage1["record_sources"] == everything.stage2["record_sources"] == ["gold", "edkg", "scdg"]
    assert everything.finetune["record_sources"] == ["gold", "scdg"]
    without = chain_arguments(SYSTEMS["everything but SCDG"], 8, 2, args)
    assert without.stage1 is not None and without.stage1["record_sources"] == ["gold", "edkg"]
    assert without.finetune["record_sources"] == ["gold"]
    assert chain_arguments(SYSTEMS["everything but FewRel"], 8, 1, args).checkpoint is None
    plain = chain_arguments(SYSTEMS["plain fine-tuning"], 32, 5, args)
    assert plain.stage0 is None and plain.stage1 is None and plain.stage2 is None and plain.checkpoint is None
    assert plain.finetune["classifier_init"] == "random" and SYSTEMS["plain fine-tuning"].knowledge == "none"
    chosen = chain_arguments(SYSTEMS["everything, best epoch"], 8, 1, args)
    assert chosen.finetune["validation"].endswith("val.txt") and "save_strategy" not in chosen.finetune
    more = chain_arguments(SYSTEMS["+ FewRel, SCDG and 200 more samples"], 8, 1, args)
    assert [Path(file).is_file() for file in more.finetune["add_sources"]] == [True]
    assert more.stage1 is None and more.finetune["record_sources"] == ["gold", "scdg"]
    curve = cases(SYSTEMS["consistent samples"], args)
    assert [name for name, *_ in curve] == [f"{count} samples" for count in COUNTS if count]
    filtered = chain_arguments(curve[1][1], 8, 1, args)
    assert filtered.stage0 is not None and filtered.stage0["add_k"] == 2
    assert filtered.stage0["consistency"] == args.checkpoint
    assert [name for name, *_ in cases(SYSTEMS["all samples"], args)] == [f"{count} samples" for count in COUNTS]


def test_from_training_to_the_page(
    arguments: ReproduceKShotArguments, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    main: Callable[[list[str]], None] = runpy.run_path(str(RECIPES / "reproduce_kshot.py"))["main"]
    words = ["--data_dir", arguments.data_dir, "--checkpoint", arguments.checkpoint, "--work_dir", arguments.work_dir]
    words += ["--output", arguments.output, "--recipes", str(Path(arguments.output).parent / "recipes")]
    words += ["--splits", "1", "2", "--counts", "0", "2", "--systems"]
    main([*words, "plain fine-tuning", "everything", "LoRA", "all samples"])
    rows = read_rows(arguments.output)
    found = {(each.benchmark, each.system, each.setting): each for each in rows}
    plain = found["semeval2010", "plain fine-tuning", "k16"]
    assert plain.seeds == [1, 2] and plain.n == 10 and plain.sd is not None and plain.knowledge == "none"
    assert {each.setting for each in rows if each.system == "plain fine-tuning"} == {"k8", "k16", "k32"}
    assert found["semeval2010_official", "everything", "k8"].metric == "official_macro_f1"
    assert found["semeval2010_first1000", "everything", "k8"].n == 10
    assert 0 < found["semeval2010_adapters", "LoRA", "% of parameters trained"].value < 60
    assert found["semeval2010", "KnowPrompt", "k8"].published
    assert 0 < found["semeval2010_overlap", "synthetic rows: all", "8-1"].value <= 8  # some are alike, and refused
    assert found["semeval2010_overlap", "labelled rows: all", "8-2"].value == 8
    assert {("semeval2010_samples", "all samples", f"{count} samples") for count in (0, 2)} <= found.keys()
    page = Path(arguments.output).with_suffix(".md").read_text()
    assert "| everything " in page and ", sd " in page
    picture = Path(arguments.output).with_name("kshot_samples.png")
    assert picture.read_bytes().startswith(b"\x89PNG") and str(picture) in capsys.readouterr().out

    with pytest.raises(TkreError, match="unknown systems no such"):
        main([*words, "no such"])


def test_a_copied_test_sentence_is_found(arguments: ReproduceKShotArguments) -> None:
    """The check of repeated test sentences can fail: here one is among the labelled rows."""
    args = replace(arguments, recipes=str(Path(arguments.output).parent / "recipes"), splits=[1])
    semeval = Path(args.data_dir) / "semeval2010"
    file = semeval / "kshot" / "8-1" / "train.txt"
    copied = json.loads((semeval / "test.txt").read_text().splitlines()[0])
    file.write_text(
        json.dumps({**copied, "relation": SEEN[0]}) + "\n" + "".join(file.read_text().splitlines(True)[1:])
    )
    # As if nobody had kept the test set out.
    counts = {each.system: each.value for each in overlap_rows(args)}
    assert counts["labelled rows: copies"] == counts["labelled rows: near-duplicates"] == 1
    assert counts["synthetic rows: copies"] == 0
