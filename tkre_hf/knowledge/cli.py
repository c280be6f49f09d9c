"""``tkre generate``: explanations and samples from a language model, and one training set of them."""

from __future__ import annotations

import asyncio
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tkre_hf.data import load_records
from tkre_hf.data.schema import Record
from tkre_hf.errors import TkreError
from tkre_hf.knowledge.generate import Runner
from tkre_hf.knowledge.jobs import Job
from tkre_hf.knowledge.journal import RunFolder
from tkre_hf.knowledge.merge import count_sources, merge_records, read_rows, write_rows
from tkre_hf.knowledge.prompts import PromptTemplate
from tkre_hf.knowledge.report import RunReport
from tkre_hf.knowledge.settings import (
    GenerateArguments,
    MergeArguments,
    SampleArguments,
    Stage0Arguments,
    run_settings,
)
from tkre_hf.knowledge.tasks import (
    Demonstrations,
    RandomDemonstrations,
    explanation_jobs,
    group_by_relation,
    sample_jobs,
)
from tkre_hf.knowledge.validate import ExplanationValidator, SampleValidator
from tkre_hf.parsing import Main, run_action

if TYPE_CHECKING:
    from tkre_hf.knowledge.encoder import RelationEncoder

# What the consistency filter writes: the samples that passed, and those that did not.
_FILTERED = ("consistent.jsonl", "inconsistent.jsonl")

_DESCRIPTION = """Has a language model write training data for your relations, and merges it with labelled rows.

  explanations  why does each labelled row's head stand in its relation to its tail? (EDKG)
  samples       new samples of each relation, under its schema (SCDG)
  merge         labelled rows, explanations and samples as one training set

tkre generate samples --train train.jsonl --relations relations.yaml --base_url http://127.0.0.1:8080 --output out

'tkre generate ACTION --help' lists the settings of an action; --config FILE.yaml gives them from a file.
API tokens come from the variable TKRE_API_KEY or `hf auth login`, never from an option.
"""


def _explanations(argv: Sequence[str], prog: str) -> int:
    description = f"""Explains labelled rows: why does each one's head stand in its relation to its tail? (EDKG)
It needs the rows (--train), who answers (--base_url, or another --backend) and a folder (--output).

{prog} --train train.jsonl --relations relations.yaml --base_url http://127.0.0.1:8080 --output out/explanations
"""
    (args,) = _parse(GenerateArguments, argv, description, prog)
    return _finish(args, generate_explanations(args))


def _samples(argv: Sequence[str], prog: str) -> int:
    description = f"""Writes new samples of relations, under their schemas (SCDG).
It needs the schemas (--relations) or labelled rows (--train), who answers (--base_url, or another --backend) and a
folder (--output).

{prog} --train train.jsonl --relations relations.yaml --base_url http://127.0.0.1:8080 --output out/samples
"""
    (args,) = _parse(SampleArguments, argv, description, prog)
    return _finish(args, generate_samples(args))


def _merge(argv: Sequence[str], prog: str) -> int:
    description = f"""Merges labelled rows, explanations and samples to one training set.
It needs the rows (--train), what was generated (--explanations, --samples) and a file (--output).

{prog} --train train.jsonl --explanations out/explanations --samples out/samples --output train-all.jsonl
"""
    (args,) = _parse(MergeArguments, argv, description, prog)
    print(merge_files(args))
    return 0


ACTIONS: dict[str, Main] = {"explanations": _explanations, "samples": _samples, "merge": _merge}


def main(argv: Sequence[str], prog: str = "tkre generate") -> int:
    """Does one of the actions.

    Returns:
        0 when every quota was filled; 1 when a budget was used up or some could not be filled.

    Raises:
        TkreError: The settings or the data are wrong, or nobody answers; the exit code is 2 then.
    """
    from tkre_hf.console import quiet_libraries

    with quiet_libraries():
        return run_action(ACTIONS, argv, prog, _DESCRIPTION)


def _parse(kind: type, argv: Sequence[str], description: str, prog: str) -> tuple[Any, ...]:
    from tkre_hf.arguments import parse_arguments

    return parse_arguments(kind, argv, description, prog)


def generate_explanations(args: GenerateArguments) -> RunReport | None:
    """Asks for an explanation of every labelled row; the folder then holds the records and a report.

    Returns:
        The report; None after a dry run, which prints instead.

    Raises:
        TkreError: The settings or the data are wrong, or nobody answers.
    """
    records, schemas, notes, excluded = args.read_data()
    template = PromptTemplate.load("edkg", args.prompt)
    jobs, validator = explanation_jobs(records, schemas, template, args.sampling, excluded)
    if args.dry_run:
        _preview(jobs, notes)
        return None
    return asyncio.run(_run(args, "explanations", jobs, validator, template, records, excluded, schemas, notes))


def generate_samples(args: SampleArguments) -> RunReport | None:
    """Asks for samples of every relation; the folder then holds the records and a report.

    With ``consistency``, the samples that pass it are in ``consistent.jsonl`` beside ``records.jsonl``.

    Returns:
        The report; None after a dry run, which prints instead.

    Raises:
        TkreError: The settings or the data are wrong, or nobody answers.
    """
    records, schemas, notes, excluded = args.read_data()
    template = PromptTemplate.load("scdg", args.prompt)
    demonstrations: Demonstrations = RandomDemonstrations(records, args.seed)
    if args.retriever and args.shots:
        from tkre_hf.knowledge.retrieve import DemonstrationIndex

        demonstrations = DemonstrationIndex(records, _encoder(args, args.retriever)).demonstrations
    jobs, validator = sample_jobs(
        schemas,
        template,
        args.sampling,
        per_relation=args.per_relation,
        per_request=args.per_request,
        demonstrations=demonstrations,
        shots=args.shots,
        labelled=records,
        excluded=excluded,
        near_duplicate=args.near_duplicate,
    )
    if args.dry_run:
        _preview(jobs, notes)
        return None
    # Loaded before anything is asked, so that a wrong path costs nothing.
    encoder = _encoder(args, args.consistency) if args.consistency else None
    if encoder is not None:
        for error in filter(None, map(encoder.error, records)):
            raise TkreError(f"consistency: {args.consistency} can't read a labelled row: {error}")
    report = asyncio.run(_run(args, "samples", jobs, validator, template, records, excluded, schemas, notes))
    if encoder is None:
        return report
    dropped = _drop_inconsistent(Path(args.output), encoder, encoder.anchors(schemas), records, args.drop_worst)
    filtered = FilteredReport(**vars(report), dropped=dropped)
    filtered.write(Path(args.output))
    return filtered


def generate_training_set(args: Stage0Arguments) -> tuple[str, int]:
    """Explanations, then samples, then one training set of both and the labelled rows: ``output/train.jsonl``.

    A budget holds for each of the two runs.

    Returns:
        What is in it and what is short, "" after a dry run, which prints instead; and the exit code: 1 when a budget
        was used up or a quota could not be filled.

    Raises:
        TkreError: The settings or the data are wrong, or nobody answers.
    """
    folders = {kind: str(Path(args.output) / kind) for kind in ("explanations", "samples")}
    first = replace(args, output=folders["explanations"], prompt=args.explanation_prompt)
    reports = [generate_explanations(first), generate_samples(replace(args, output=folders["samples"]))]
    if args.dry_run:
        return "", 0
    merging = MergeArguments(
        train=args.train,
        output=str(Path(args.output) / "train.jsonl"),
        explanations=[folders["explanations"]],
        samples=[folders["samples"]],
        add_k=args.add_k,
        seed=args.seed,
    )
    lines = [merge_files(merging)]
    code = 0
    for kind, report in zip(folders, reports, strict=True):
        if report is not None:
            short = sum(report.unfilled.values())
            lines.append(
                f"{kind}: {_rows(report)}, {short} short of the quota"
                + (report.stopped and f"; stopped: {report.stopped}")
            )
            code = max(code, _exit_code(report))
    return "\n".join(lines), code


def merge_files(args: MergeArguments) -> str:
    """Writes one training set and says what is in it.

    Raises:
        TkreError: A file is missing or wrong, or the explanations are of other rows.
    """
    output = Path(args.output)
    for given in (Path(args.train), *map(_records_file, [*args.explanations, *args.samples])):
        if output.is_file() and given.is_file() and output.samefile(given):
            raise TkreError(f"{output} is both read and written: name another file for the training set")
    explanations = [row for path in args.explanations for row in read_rows(_records_file(path), "edkg")]
    samples = [row for path in args.samples for row in read_rows(_records_file(path), "scdg")]
    try:
        rows = merge_records(load_records(args.train), explanations, samples, add_k=args.add_k, seed=args.seed)
    except ValueError as error:
        raise TkreError(str(error)) from None
    write_rows(args.output, rows)
    counts = count_sources(rows)
    cued = counts.pop("gold with cues")
    parts = ", ".join(f"{count} {source}" for source, count in counts.items())
    return f"{args.output}: {len(rows)} rows ({parts}; {cued} gold rows have cues)"


def _records_file(path: str) -> Path:
    """A run's records: of a folder, those that passed the consistency filter if there was one."""
    folder = Path(path)
    if not folder.is_dir():
        return folder
    filtered = folder / _FILTERED[0]
    return filtered if filtered.exists() else folder / "records.jsonl"


async def _run(
    args: GenerateArguments,
    kind: str,
    jobs: Sequence[Job],
    validator: SampleValidator | ExplanationValidator,
    template: PromptTemplate,
    records: Sequence[Record],
    excluded: Sequence[Record],
    schemas: dict[str, Any],
    notes: Sequence[str],
) -> RunReport:
    backend = await args.open_backend()
    try:
        settings = run_settings(args, kind, backend.model, template.sha256, records, excluded, relations=schemas)
        folder = RunFolder(args.output, settings)
        try:
            # They were chosen from fewer rows than there will be.
            for name in _FILTERED:
                (folder.path / name).unlink(missing_ok=True)
            for record in folder.earlier_records():
                validator.remember(record)
            runner = Runner(jobs, backend, folder, args.limits, progress=sys.stderr.isatty())
            try:
                await runner.run()
            finally:
                quotas: Counter[str] = Counter()
                for job in jobs:
                    quotas[job.relation] += job.quota
                report = RunReport(
                    reasons=folder.reasons,
                    quotas=quotas,
                    failures=list(runner.failures.values()),
                    stopped=runner.stopped,
                    unjudged=runner.unjudged,
                    requests=runner.budget.requests,
                    tokens=runner.budget.tokens,
                    notes=notes,
                )
                report.write(folder.path)
            return report
        finally:
            folder.close()
    finally:
        await backend.close()


@dataclass
class FilteredReport(RunReport):
    """The outcome of a run whose samples were filtered: what the filter dropped was delivered, so no quota lacks it.

    Attributes:
        reasons: As the run left them; ``dropped`` is taken off the accepted ones.
        dropped: How many samples of each (relation, reason): ``low_consistency``, or ``not_encodable``.
    """

    dropped: Counter[tuple[str, str]] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self._delivered = RunReport(self.reasons, self.quotas)
        reasons = Counter(self.reasons) + self.dropped
        for (relation, _), count in self.dropped.items():
            reasons[relation, "accepted"] -= count
        self.reasons = reasons

    @property
    def written(self) -> int:
        """How many rows there are in ``records.jsonl``; ``accepted`` are those in ``consistent.jsonl``."""
        return self._delivered.accepted

    @property
    def unfilled(self) -> dict[str, int]:
        """How many rows each relation was short of its quota before the filter."""
        return self._delivered.unfilled


def _rows(report: RunReport, place: str = "") -> str:
    if isinstance(report, FilteredReport):
        return f"{report.written} rows{place}, {report.accepted} of them in {_FILTERED[0]}"
    return f"{report.accepted} rows{place}"


def _exit_code(report: RunReport) -> int:
    return 1 if report.stopped or report.unfilled else 0


def _finish(args: GenerateArguments, report: RunReport | None) -> int:
    if report is None:
        return 0
    print(report.to_markdown(), end="")
    place = f" in {args.output}/records.jsonl"
    print(f"{_rows(report, place)}, {report.requests} requests, {report.tokens} tokens")
    return _exit_code(report)


def _preview(jobs: Sequence[Job], notes: Sequence[str]) -> None:
    """Prints one prompt for each relation, and what a run takes at least and at most."""
    for note in notes:
        print(f"note: {note}")
    requests, prompt_chars, answer_tokens = 0, 0, 0
    shown: set[str] = set()
    for job in jobs:
        request = job.ask(0, min(job.quota, job.per_request), 0)
        count = -(-job.quota // job.per_request)
        requests += count
        prompt_chars += count * request.prompt_chars()
        answer_tokens += count * request.sampling.max_tokens
        if job.relation not in shown:
            shown.add(job.relation)
            print(f"\n=== {job.relation}")
            for message in request.messages:
                print(f"--- {message['role']}\n{message['content']}")
    print(
        f"\nestimate: {requests} requests, about {prompt_chars // 4} tokens of prompts and at most {answer_tokens} of "
        "answers, if every answer is accepted; what is refused is asked for again"
    )


def _encoder(args: GenerateArguments, path: str) -> RelationEncoder:
    from tkre_hf.knowledge.encoder import RelationEncoder

    return RelationEncoder.from_pretrained(path, trust_remote_code=args.trust_remote_code)


def _drop_inconsistent(
    folder: Path, encoder: RelationEncoder, anchors: dict[str, Any], labelled: Sequence[Record], share: float
) -> Counter[tuple[str, str]]:
    """Writes the samples that express their relation best, and those that do worst with their scores."""
    from tkre_hf.knowledge.consistency import margins, prototypes, worst

    written = read_rows(folder / "records.jsonl", "scdg")
    if not written:
        return Counter()
    # Neither could the checkpoint be trained on a sentence that it can't read.
    unread = {row["id"]: error for row in written if (error := encoder.error(row))}
    lost = [{**row, "reason": "not_encodable", "detail": unread[row["id"]]} for row in written if row["id"] in unread]
    samples = [row for row in written if row["id"] not in unread]
    kept = []
    if samples:
        relations, centres = prototypes(encoder, group_by_relation(labelled), anchors)
        labels = [row["relation"] for row in samples]
        scores = margins(encoder(samples), labels, relations, centres)
        for row, drop, score in zip(samples, worst(labels, scores, share), scores, strict=True):
            if drop:
                lost.append({**row, "reason": "low_consistency", "detail": f"margin {score:.3f}"})
            else:
                kept.append(row)
    write_rows(folder / _FILTERED[0], kept)
    write_rows(folder / _FILTERED[1], lost)
    return Counter((row["relation"], row["reason"]) for row in lost)
