"""The systems of docs/results/kshot.md: what each is made of and measured on (``recipes/reproduce_kshot.py``)."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from safetensors import safe_open

from tkre_hf.arguments import parse_arguments
from tkre_hf.console import quiet_libraries
from tkre_hf.data import load_records
from tkre_hf.errors import TkreError
from tkre_hf.evaluation.page import write_page
from tkre_hf.evaluation.report import Row, command, machine, mean_ci95, read_rows, table, versions, write_rows
from tkre_hf.finetuning import ADAPTER
from tkre_hf.knowledge.overlap import find_overlap
from tkre_hf.kshot import KShotArguments, KShotResult, run_chain

BENCHMARK, SAMPLES, ADAPTERS, OVERLAP = (
    "semeval2010",
    "semeval2010_samples",
    "semeval2010_adapters",
    "semeval2010_overlap",
)
METRICS = ("micro_f1", "official_macro_f1")
# The test file is in the order of its labels, and none of its first rows is Other: a figure of these alone, as quick
# trials have it, says nothing of how many rows without a relation are taken for one.
FIRST_ROWS = 1000

# KnowPrompt: Chen et al., WWW 2022, table 3; both are RoBERTa-large, which has 16 times as many parameters.
PUBLISHED = {"KnowPrompt": (74.3, 82.9, 84.8), "fine-tuning of RoBERTa-large": (41.3, 65.2, 80.1)}
SOURCE = "Chen et al., WWW 2022: RoBERTa-large, 355M parameters, the same splits"

# How many synthetic samples of each relation, in the curve.
COUNTS = (0, 1, 2, 4, 8, 12)


@dataclass(frozen=True)
class KShotSystem:
    """One line of the table.

    Args:
        fewrel: Whether it starts from stage 2's checkpoint on FewRel; from the plain encoder otherwise.
        samples: Whether an LLM's samples of each relation are trained on; ``explanations`` likewise, in the stages.
        more: Files of ``recipes/knowledge`` that fine-tuning gets too: samples written with no row shown.
        more_in_stages: Whether stages 1 and 2 get these as well.
        stage1: Whether there is a stage 1 on the rows; ``stage2`` likewise.
        count: The most samples of a relation.
        consistency: Whether the samples that the checkpoint finds least like their relation are left out.
        drop_worst: Which share of them that is.
        stages: Settings of stages 1 and 2 beyond the recipe's, by the stage's name.
        finetune: Fine-tuning's settings beyond the recipe's.
        averaged: Fine-tunings whose weights are averaged.
        ks: The Ks; with samples there is 8 alone.
        splits: Seeds of the splits.
        benchmark: What its rows are called.
        setting: Of its rows, where it isn't K.
    """

    fewrel: bool = True
    samples: bool = False
    explanations: bool = False
    more: tuple[str, ...] = ()
    more_in_stages: bool = False
    stage1: bool = False
    stage2: bool = False
    count: int = 12
    consistency: bool = False
    drop_worst: float = 0.25
    stages: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    finetune: Mapping[str, Any] = field(default_factory=dict)
    averaged: int = 1
    ks: tuple[int, ...] = (8,)
    splits: tuple[int, ...] = (1, 2, 3)
    benchmark: str = BENCHMARK
    setting: str = ""

    @property
    def knowledge(self) -> str:
        """What is known of the relations besides labelled rows, as result rows call it."""
        if self.samples or self.explanations or self.more:
            return "synthetic"
        return "descriptions" if self.fewrel and self.finetune.get("classifier_init") != "random" else "none"


_ALL = (1, 2, 3, 4, 5)
_PLAIN = {"classifier_init": "random"}
_TWO_HUNDRED = ("semeval.jsonl",)
_FOUR_HUNDRED = (*_TWO_HUNDRED, "semeval_more.jsonl")
# With 4,000 samples more four passes are as many steps as fifty over the rows and 12 samples alone.
_MANY = {"num_train_epochs": 4}
# Of half as many samples again three passes are as many steps.
_MORE = {"num_train_epochs": 3}
# Adapters learn from rates at which a whole encoder forgets; chosen on validation rows of split 1.
_LORA = {"adapter": "lora", "learning_rate": 1e-3, "head_learning_rate": 5e-3}
_IA3 = {"adapter": "ia3", "learning_rate": 1e-2, "head_learning_rate": 5e-3}
_EVERYTHING = KShotSystem(samples=True, explanations=True, stage1=True, stage2=True)

SYSTEMS: dict[str, KShotSystem] = {
    "plain fine-tuning": KShotSystem(fewrel=False, finetune=_PLAIN, ks=(8, 16, 32), splits=_ALL),
    "+ FewRel": KShotSystem(ks=(8, 16, 32), splits=_ALL),
    "+ FewRel, stage 2 on the rows": KShotSystem(stage2=True, ks=(8, 16, 32), splits=_ALL),
    "+ FewRel, stage 2 on the rows, mean of 3": KShotSystem(stage2=True, ks=(8, 16, 32), splits=_ALL, averaged=3),
    "+ FewRel, SCDG in fine-tuning": KShotSystem(samples=True),
    "+ FewRel, SCDG and 200 more samples": KShotSystem(samples=True, more=_TWO_HUNDRED, finetune=_MANY),
    "+ FewRel, SCDG and 400 more samples": KShotSystem(samples=True, more=_FOUR_HUNDRED, finetune=_MORE),
    "+ FewRel, SCDG and 400 more, mean of 3": KShotSystem(
        samples=True, more=_FOUR_HUNDRED, finetune=_MORE, averaged=3
    ),
    "+ FewRel, SCDG and 400 more, without anchors": KShotSystem(
        samples=True, more=_FOUR_HUNDRED, finetune={**_MORE, **_PLAIN}
    ),
    "+ FewRel, SCDG, 200 more and near-misses": KShotSystem(
        samples=True, more=(*_TWO_HUNDRED, "semeval_near_misses.jsonl"), finetune=_MORE
    ),
    "+ FewRel, 200 samples alone": KShotSystem(more=_TWO_HUNDRED, finetune=_MANY, ks=(16, 32)),
    "+ FewRel, SCDG but the worst of each 12": KShotSystem(samples=True, consistency=True, drop_worst=0.1),
    "+ FewRel, SCDG, moved marks": KShotSystem(samples=True, finetune={"moved_marks": 150}),
    "+ FewRel, SCDG and EDKG in stage 1": KShotSystem(samples=True, explanations=True, stage1=True),
    "everything": _EVERYTHING,
    # Two passes of each stage.
    "everything, 400 more in all steps": replace(
        _EVERYTHING,
        more=_FOUR_HUNDRED,
        more_in_stages=True,
        stages={"stage1": {"num_train_epochs": 2}, "stage2": {"max_steps": 400}},
        finetune=_MORE,
    ),
    "everything but FewRel": replace(_EVERYTHING, fewrel=False),
    "everything but SCDG": replace(_EVERYTHING, samples=False),
    "everything but EDKG": replace(_EVERYTHING, explanations=False),
    "everything but stage 1": replace(_EVERYTHING, stage1=False),
    "everything but anchors": replace(_EVERYTHING, finetune=_PLAIN),
    "plain fine-tuning, SCDG": KShotSystem(fewrel=False, samples=True, finetune=_PLAIN),
    "everything, best epoch": replace(_EVERYTHING, finetune={"validation": "val.txt"}),
    "LoRA": KShotSystem(finetune=_LORA, ks=(32,), splits=_ALL, benchmark=ADAPTERS),
    "IA3": KShotSystem(finetune=_IA3, ks=(32,), splits=_ALL, benchmark=ADAPTERS),
    **{
        f"{'consistent' if consistency else 'all'} samples": KShotSystem(
            samples=True, consistency=consistency, benchmark=SAMPLES
        )
        for consistency in (False, True)
    },
}


@dataclass
class ReproduceKShotArguments:
    """What to train and measure."""

    data_dir: str = field(metadata={"help": "Folder with semeval2010."})
    checkpoint: str = field(metadata={"help": "Stage 2's checkpoint on FewRel, such as reproduce_fewrel.py leaves."})
    systems: list[str] = field(default_factory=lambda: list(SYSTEMS), metadata={"help": f"Of: {', '.join(SYSTEMS)}."})
    ks: list[int] = field(default_factory=list, metadata={"help": "At most these Ks."})
    splits: list[int] = field(
        default_factory=lambda: list(_ALL), metadata={"help": "At most the splits of these seeds."}
    )
    counts: list[int] = field(
        default_factory=lambda: list(COUNTS), metadata={"help": "Samples of each relation, in the curve."}
    )
    seed: int = field(default=0, metadata={"help": "Of all training."})
    work_dir: str = field(default="outputs/kshot", metadata={"help": "Where checkpoints go."})
    output: str = field(default="docs/results/kshot.json", metadata={"help": "Where the rows go."})
    measure: bool = field(default=True, metadata={"help": "Write rows; no: train and predict alone."})
    threads: int | None = field(default=None, metadata={"help": "Threads of this process."})
    recipes: str | None = field(default=None, metadata={"help": "Folder of the recipes; the recipe's own by default."})
    max_steps: int | None = field(default=None, metadata={"help": "Steps of each stage, to try the whole thing out."})


def cases(system: KShotSystem, args: ReproduceKShotArguments) -> list[tuple[str, KShotSystem, int]]:
    """A system's settings: their names, and the system and K of each."""
    if system.benchmark != SAMPLES:
        return [(f"k{k}", system, k) for k in system.ks if not args.ks or k in args.ks]
    found = []
    for count in args.counts:
        if count:
            found.append((f"{count} samples", replace(system, count=count), 8))
        elif not system.consistency:
            found.append(("0 samples", replace(system, samples=False), 8))
    return found


def chain_arguments(system: KShotSystem, k: int, split: int, args: ReproduceKShotArguments) -> KShotArguments:
    """The chain that a system is, on one split."""
    semeval, recipes = Path(args.data_dir) / "semeval2010", Path(args.recipes or "recipes")
    (chain,) = parse_arguments((KShotArguments,), ["--config", str(recipes / "configs" / "kshot_semeval.yaml")])
    assert isinstance(chain, KShotArguments)
    steps = {"max_steps": args.max_steps} if args.max_steps else {}
    common = {"save_strategy": "no", "disable_tqdm": True, **steps}
    kinds = ["gold", *(["edkg"] if system.explanations else []), *(["scdg"] if system.samples else [])]
    finetune = {**(chain.finetune or {}), **common, **system.finetune}
    if "validation" in finetune:
        finetune["validation"] = str(semeval / str(finetune["validation"]))
        del finetune["save_strategy"]
    stage0 = None
    if system.samples or system.explanations:
        recorded = str(semeval / "knowledge" / f"{k}-{split}")
        stage0 = {**(chain.stage0 or {}), "recorded": recorded, "add_k": system.count}
        if system.consistency:
            stage0 |= {"consistency": args.checkpoint, "drop_worst": system.drop_worst}
        finetune["record_sources"] = [kind for kind in kinds if kind != "edkg"]
    if system.more:
        finetune["add_sources"] = [str(recipes / "knowledge" / name) for name in system.more]
        finetune["record_sources"] = ["gold", "scdg"]
    added = {"add_sources": finetune["add_sources"]} if system.more_in_stages else {}
    stages = {
        name: {
            **(getattr(chain, name) or {}),
            **system.stages.get(name, {}),
            **common,
            **added,
            "record_sources": kinds,
        }
        for name in ("stage1", "stage2")
    }
    return replace(
        chain,
        train=str(semeval / "kshot" / f"{k}-{split}" / "train.txt"),
        test=str(semeval / "test.txt"),
        relation_info=str(recipes / "configs" / "semeval_relations.yaml"),
        checkpoint=args.checkpoint if system.fewrel else None,
        stage0=stage0,
        stage1=stages["stage1"] if system.stage1 else None,
        stage2=stages["stage2"] if system.stage2 else None,
        finetune=finetune,
        averaged=system.averaged,
        seed=args.seed,
        output_dir=args.work_dir,
    )


def measure(name: str, args: ReproduceKShotArguments) -> list[Row]:
    """Trains and tests a system in all its settings, and gives its rows."""
    system = SYSTEMS[name]
    rows: list[Row] = []
    for setting, variant, k in cases(system, args):
        splits = [split for split in system.splits if split in args.splits]
        results = []
        for split in splits:
            with quiet_libraries():
                results.append(run_chain(chain_arguments(variant, k, split, args)))
            print(f"{name}, {setting}, split {split}: {_scores(results[-1])}", flush=True)
        rows += _rows(name, setting, variant, splits, results)
    return rows


def _scores(result: KShotResult, first: int | None = None) -> dict[str, float]:
    """Figures of all test rows, or of the first ones."""
    assert result.predictions is not None
    predictions = result.predictions.first(first)
    return {metric: round(value, 2) for metric, value in predictions.scores().items()}


def _measured(system: KShotSystem) -> list[tuple[str, str, int | None]]:
    """What is measured of a system: the rows' benchmark, the metric, and how many of the first test rows."""
    found: list[tuple[str, str, int | None]] = [(system.benchmark, METRICS[0], None)]
    if system.benchmark == BENCHMARK:
        found += [
            (f"{BENCHMARK}_official", METRICS[1], None),
            (f"{BENCHMARK}_first{FIRST_ROWS}", METRICS[0], FIRST_ROWS),
        ]
    return found


def _rows(
    name: str, setting: str, system: KShotSystem, splits: Sequence[int], results: Sequence[KShotResult]
) -> list[Row]:
    common = Row(
        benchmark=system.benchmark,
        system=name,
        setting=setting,
        metric="",
        value=0.0,
        n=len(results[0].predictions.gold) if results[0].predictions else None,
        seeds=list(splits),
        knowledge=system.knowledge,
        minutes=round(statistics.fmean(result.minutes for result in results), 1),
        command=command(),
        versions=versions(),
        machine=machine(),
        source="; ".join(dict.fromkeys(result.summary.stages[-1]["stage"] for result in results)),
    )
    rows = []
    for benchmark, metric, count in _measured(system):
        values = [_scores(result, count)[metric] for result in results]
        value, ci95 = mean_ci95(values, float("nan"))
        several = len(values) > 1
        rows.append(
            replace(
                common,
                benchmark=benchmark,
                metric=metric,
                value=round(value, 2),
                ci95=round(ci95, 2) if several else None,
                sd=round(statistics.stdev(values), 2) if several else None,
                n=common.n if count is None or common.n is None else min(count, common.n),
            )
        )
    if system.benchmark == ADAPTERS:
        share = statistics.fmean(adapter_share(result.classifier) for result in results)
        rows.append(replace(common, setting="% of parameters trained", metric="percent", value=round(share, 2)))
    return rows


def adapter_share(classifier: Path) -> float:
    """Parameters of a saved adapter, in percent of those of the classifier beside it."""
    adapter, whole = classifier / ADAPTER / "adapter_model.safetensors", classifier / "model.safetensors"
    return 100 * _parameters(adapter) / _parameters(whole)


def _parameters(file: Path) -> int:
    with safe_open(file, "pt") as tensors:
        total = 0
        for name in tensors.keys():  # noqa: SIM118  (it is no dictionary)
            size = 1
            for length in tensors.get_slice(name).get_shape():
                size *= length
            total += size
    return total


def published_rows() -> list[Row]:
    """What others published on the same splits."""
    rows = []
    for system, values in PUBLISHED.items():
        for k, value in zip((8, 16, 32), values, strict=True):
            rows.append(Row(BENCHMARK, system, f"k{k}", METRICS[0], value, published=True, source=SOURCE))
    return rows


def overlap_rows(args: ReproduceKShotArguments) -> list[Row]:
    """How many synthetic rows repeat the test set; and, to compare with, how many labelled rows do."""
    system = SYSTEMS["everything"]
    rows = []
    for split in (split for split in system.splits if split in args.splits):
        chain = chain_arguments(system, 8, split, args)
        with quiet_libraries():
            trained = load_records(str(run_chain(chain).train_file))
        test = list(load_records(str(chain.test)))
        for source, name in (("scdg", "synthetic rows"), ("gold", "labelled rows")):
            overlap = find_overlap([row for row in trained if row["source"] == source], test)
            counts = {
                "all": overlap.rows,
                "copies": overlap.copies,
                "near-duplicates": overlap.near_duplicates,
                "8 words in a row alike": overlap.phrases,
            }
            common = Row(OVERLAP, "", f"8-{split}", "rows", 0, seeds=[split], knowledge="synthetic")
            common = replace(common, command=command(), versions=versions(), machine=machine())
            rows += [replace(common, system=f"{name}: {what}", value=count) for what, count in counts.items()]
    return rows


def report(rows: Iterable[Row], args: ReproduceKShotArguments) -> None:
    """Writes rows and the page of all of them."""
    found = list(rows)
    print(table([row for row in found if row.metric == METRICS[0]] or found), flush=True)
    write_rows(args.output, found)
    write_page(args.output, "K-shot")


def draw_samples_plot(args: ReproduceKShotArguments) -> Path | None:
    """Draws micro-F1 over the number of synthetic samples, beside the rows; ``None`` where none are measured.

    Raises:
        TkreError: matplotlib isn't installed.
    """
    rows = [row for row in read_rows(args.output) if row.benchmark == SAMPLES]
    if not rows:
        return None
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise TkreError("the plot needs matplotlib: pip install 'tkre-hf[demo]'") from error
    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.add_subplot()
    zero = [row for row in rows if row.setting == "0 samples"]
    for name in dict.fromkeys(row.system for row in rows):
        own = [*zero, *(row for row in rows if row.system == name and row not in zero)]
        counts = [int(row.setting.split()[0]) for row in own]
        order = sorted(range(len(own)), key=counts.__getitem__)
        axes.errorbar(
            [counts[i] for i in order],
            [own[i].value for i in order],
            yerr=[own[i].sd or 0.0 for i in order],
            marker="o",
            capsize=3,
            label=name,
        )
    axes.set_xlabel("synthetic samples of each relation")
    axes.set_ylabel("micro-F1 without Other (%), mean and sd of splits")
    axes.set_title("SemEval-2010 Task 8, K = 8")
    axes.grid(alpha=0.3)
    axes.legend()
    path = Path(args.output).with_name(f"{Path(args.output).stem}_samples.png")
    figure.savefig(path, dpi=110)
    return path
