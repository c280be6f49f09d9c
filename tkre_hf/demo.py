"""``tkre demo``: both stages on a small corpus, what each of them adds, and a checkpoint to go on with."""

from __future__ import annotations

import argparse
import io
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import redirect_stdout
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from tkre_hf.errors import TkreError
from tkre_hf.parsing import CommandParser

if TYPE_CHECKING:
    from tkre_hf.evaluation.episodes import EpisodeReport

# Relations that training never sees: 16 of the bundled corpus, or FewRel's validation relations.
_SETTINGS = ["5w0s", "5w1s", "5w5s", "10w1s", "10w5s"]
_REPORT, _PICTURE = "demo.json", "confusion.png"


def main(argv: Sequence[str], prog: str) -> int:
    """Runs the demo.

    Args:
        argv: The arguments after ``tkre demo``.
        prog: What the help calls the program.

    Raises:
        TkreError: The output folder holds something else, or data, backbone or the package for the picture are
            missing.
    """
    parser = CommandParser(
        prog=prog,
        description="Trains TKRE's two stages, measures few-shot accuracy on relations that training never saw\n"
        "before and after each stage, and writes a checkpoint. Takes minutes on two cores; nothing need be given.\n\n"
        f"{prog} --output-dir tkre-bert",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.accept_debug()
    parser.add_argument("--output-dir", type=Path, default=Path("tkre-bert"), help="where the checkpoint goes")
    parser.add_argument(
        "--data-dir", type=Path, help="folder with FewRel's files: train on FewRel, not the bundled corpus"
    )
    parser.add_argument("--backbone", default="minilm", help="'minilm' (the embedded encoder), a folder or a Hub id")
    positive = _at_least(1)
    parser.add_argument(
        "--stage1-steps", type=positive, default=80, help="training steps of stage 1, 64 sentences each (%(default)s)"
    )
    parser.add_argument(
        "--stage2-steps", type=positive, default=160, help="training steps of stage 2, 48 sentences each (%(default)s)"
    )
    parser.add_argument("--seed", type=_at_least(0), default=0, help="of everything random")
    args = parser.parse_args(argv)
    _refuse_foreign(args.output_dir)
    if find_spec("matplotlib") is None:
        raise TkreError("the confusion picture needs matplotlib: pip install 'tkre-hf[demo]'")

    # Here, so that `tkre demo --help` need not wait for torch.
    from tkre_hf.console import quiet_libraries

    with quiet_libraries():
        return _run(args)


def _run(args: argparse.Namespace) -> int:
    from tkre_hf.data import load_relation_info
    from tkre_hf.evaluation.few_shot import FewShotArguments, FewShotEvaluator, load_checkpoint
    from tkre_hf.evaluation.report import Row, command, machine, table, versions, write_rows
    from tkre_hf.hub.marks import CARD
    from tkre_hf.hub.model_card import write_card
    from tkre_hf.tkre.modeling_tkre import TKREForMaskedSpanLM, TKREModel
    from tkre_hf.tkre.processing_tkre import TKREProcessor
    from tkre_hf.training import (
        MSLMStageArguments,
        MSLMTrainingArguments,
        SCLStageArguments,
        SCLTrainingArguments,
        build,
        train_mslm,
        train_scl,
    )
    from tkre_hf.training_data import load_training_records, training_summary

    start = time.perf_counter()
    if args.data_dir is None:
        source, held_out = "sample:train", "sample:validation"
        print("Corpus: the bundled one, 641 relations to train on and 16 others to measure on.")
    else:
        source, held_out = "fewrel:wiki", "fewrel:wiki"
        print(f"Corpus: FewRel from {args.data_dir}, its 64 training relations and 16 validation relations.")
    data_dir = str(args.data_dir) if args.data_dir else None
    measure = FewShotArguments(
        model=[],
        data=held_out,
        split=None if args.data_dir is None else "validation",
        data_dir=data_dir,
        settings=_SETTINGS,
        num_episodes=2_000,
        seed=args.seed,
    )
    rows: list[Row] = []

    def report(
        system: str, model: TKREModel, processor: TKREProcessor, folder: Path | None = None
    ) -> dict[str, EpisodeReport]:
        summary = training_summary(folder) if folder is not None else None
        evaluator = FewShotEvaluator(model, processor, measure)
        reports = {setting: evaluator.evaluate(setting) for setting in _SETTINGS}
        for setting, found in reports.items():
            rows.append(
                Row(
                    benchmark="demo",
                    system=system,
                    setting=setting,
                    metric="accuracy",
                    value=round(found.accuracy, 2),
                    ci95=round(found.ci95, 2),
                    n=found.episodes,
                    seeds=[args.seed],
                    knowledge="descriptions",
                    minutes=summary.minutes if summary is not None else None,
                    command=command(),
                    versions=versions(),
                    machine=machine(),
                    source=summary.data if summary is not None else "",
                )
            )
        shown = ", ".join(f"{setting} {reports[setting].accuracy:.1f}%" for setting in ("5w0s", "5w1s", "10w5s"))
        print(f"  {system}: {shown}", flush=True)
        return reports

    with tempfile.TemporaryDirectory(prefix="tkre-demo-") as scratch:
        stage1, stage2 = Path(scratch, "stage1"), Path(scratch, "stage2")
        common = {
            "seed": args.seed,
            "save_strategy": "no",
            "logging_strategy": "no",
            "disable_tqdm": not sys.stderr.isatty(),
        }
        first = MSLMStageArguments(sources=[source], data_dir=data_dir, backbone=args.backbone)
        first_args = MSLMTrainingArguments(output_dir=str(stage1), max_steps=args.stage1_steps, **common)
        processor, untrained = build(TKREForMaskedSpanLM, first, first_args, load_training_records(first).records)
        report("backbone as it is", untrained.tkre, processor)
        print(f"\nStage 1, masked span language modeling: {args.stage1_steps} steps", flush=True)
        _train(lambda: train_mslm(first, first_args))
        report("stage 1", *load_checkpoint(str(stage1)), stage1)
        print(f"\nStage 2, span-level contrastive learning: {args.stage2_steps} steps", flush=True)
        second = SCLStageArguments(sources=[source], data_dir=data_dir, checkpoint=str(stage1))
        second_args = SCLTrainingArguments(output_dir=str(stage2), max_steps=args.stage2_steps, **common)
        _train(lambda: train_scl(second, second_args))
        reports = report("stage 1 + 2", *load_checkpoint(str(stage2)), stage2)
        write_rows(stage2 / _REPORT, rows)
        info = load_relation_info(held_out, reports["10w1s"].relations, data_dir=data_dir)
        _draw_confusion(reports["10w1s"], {label: entry.name for label, entry in info.items()}, stage2 / _PICTURE)
        # A person may have edited the card of an earlier demo.
        (stage2 / CARD).unlink()
        _deliver(stage2, args.output_dir)
        write_card(args.output_dir)

    print("\nAccuracy in percent on relations never trained on: 5w1s is 5-way 1-shot, 5w0s by description alone.\n")
    print(table(rows))
    print(
        f"""
Done in {(time.perf_counter() - start) / 60:.1f} minutes. The checkpoint is in {args.output_dir}, \
its confusion matrix at 10-way 1-shot in {args.output_dir / _PICTURE}.
What next:

  python -c "import tkre_hf; from transformers import AutoModel as M; print(M.from_pretrained('{args.output_dir}'))"
  tkre evaluate --model {args.output_dir} --confusion 5
  accelerate launch recipes/stage1_mslm.py --config recipes/configs/stage1_fewrel.yaml"""
    )
    return 0


def _at_least(least: int) -> Callable[[str], int]:
    def number(word: str) -> int:
        if not word.isdecimal() or int(word) < least:
            raise argparse.ArgumentTypeError(f"expected a whole number, at least {least}, found {word!r}")
        return int(word)

    return number


def _train(stage: Callable[[], object]) -> None:
    # The Trainer writes its figures there as bare dictionaries; its bar goes to the error stream.
    with redirect_stdout(io.StringIO()):
        stage()


def _deliver(source: Path, folder: Path) -> None:
    """Copies the files, each in the place of an earlier demo's; what else lies in the folder stays, if it may."""
    from tkre_hf.hub.facts import new_weights

    folder.mkdir(parents=True, exist_ok=True)
    with new_weights(folder):
        # The report first: by it the next demo knows the folder for its own, should this one be interrupted.
        for file in sorted(source.iterdir(), key=lambda file: file.name != _REPORT):
            partial = folder / f"{file.name}.part"
            shutil.copyfile(file, partial)
            partial.replace(folder / file.name)


def _refuse_foreign(folder: Path) -> None:
    """Refuses to write into a folder that isn't an earlier demo's."""
    if (
        folder.exists()
        and not (folder.is_dir() and (folder / _REPORT).exists())
        and (folder.is_file() or any(folder.iterdir()))
    ):
        raise TkreError(
            f"{folder} exists and is not an earlier demo's checkpoint: move it, or give another --output-dir"
        )


def _draw_confusion(report: EpisodeReport, names: Mapping[str, str], path: Path) -> None:
    """Draws which relations are taken for which; each row sums to 100%."""
    from matplotlib.figure import Figure  # no pyplot: nothing here opens a window

    count = len(report.relations)
    share = report.confusion[:count, :count]
    share = 100 * share / share.sum(1, keepdims=True).clip(min=1)
    labels = [names[relation] for relation in report.relations]
    figure = Figure(figsize=(9, 8), layout="constrained")
    axes = figure.subplots()
    picture = axes.imshow(share, cmap="Blues", vmin=0, vmax=100)
    axes.set_xticks(range(count), labels, rotation=45, ha="right", rotation_mode="anchor")
    axes.set_yticks(range(count), labels)
    axes.set(xlabel="predicted relation", ylabel="relation")
    axes.set_title(f"10-way 1-shot, {report.episodes} episodes: {report.accuracy:.1f}% right")
    for row in range(count):
        for column in range(count):
            if share[row, column] >= 1:
                color = "white" if share[row, column] > 50 else "black"
                axes.text(column, row, f"{share[row, column]:.0f}", ha="center", va="center", color=color, fontsize=8)
    figure.colorbar(picture, label="% of the relation's queries", shrink=0.8)
    figure.savefig(path, dpi=120)
