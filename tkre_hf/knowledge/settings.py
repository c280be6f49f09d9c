"""The settings of ``tkre generate``, and what they open: backends, data, prompts."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from tkre_hf.data import load_records, load_relation_info
from tkre_hf.data.schema import Record
from tkre_hf.knowledge.backends import PLAIN_PROMPT, Backend, Sampling
from tkre_hf.knowledge.budget import Limits
from tkre_hf.knowledge.duplicates import LEAST_THRESHOLD
from tkre_hf.knowledge.prompts import sentence_of
from tkre_hf.knowledge.recorded import RecordedBackend
from tkre_hf.knowledge.schema import RelationSchema, complete_schemas

BACKENDS = ("inference", "tgi", "transformers", "recorded")


def _setting(help: str, **options: Any) -> Any:
    return field(metadata={"help": help}, **options)


@dataclass
class GenerateArguments:
    """What explanations and samples have in common. API tokens come from TKRE_API_KEY or the Hub's login."""

    train: str = _setting("Labelled rows: a file, or a source such as sample:train.", default="")
    output: str = _setting("Folder of the run; a run that is in it goes on.", default="")
    relations: str | None = _setting(
        "Relation schemas: YAML, JSON lines or pid2name.json; what is missing is derived from the data.", default=None
    )
    exclude: list[str] = _setting("Evaluation files of which no row may come back.", default_factory=list)
    na_label: str | None = _setting("The label that means no relation; its rows are left out.", default=None)
    prompt: str | None = _setting("A prompt template of your own.", default=None)
    backend: str = _setting("Who answers.", default="inference")
    model: str | None = _setting("The model's name; may be left out where a server knows it.", default=None)
    base_url: str | None = _setting("The server of the backends tgi and inference.", default=None)
    provider: str | None = _setting("A provider hosted behind the Hub, for the backend inference.", default=None)
    recorded: str | None = _setting("The file, or folder of files, that the backend recorded replays.", default=None)
    stream: bool = _setting("Stream answers, for gateways that cut long silences.", default=False)
    prompt_format: str = _setting("What a prompt looks like to the backend tgi.", default=PLAIN_PROMPT)
    trust_remote_code: bool = _setting("Let checkpoints run code of their own.", default=False)
    max_new_tokens: int = _setting("The most tokens of an answer.", default=1024)
    temperature: float = _setting("0 for the likeliest answer.", default=0.8)
    top_p: float = _setting("The probability mass that is drawn from.", default=0.95)
    seed: int = _setting("Of the choice of demonstrations, and of the server's where it takes one.", default=0)
    concurrency: int = _setting("Requests under way at once; for a local model, the batch.", default=8)
    max_tries: int = _setting("Rounds in which what is missing is asked for again.", default=4)
    retries: int = _setting("Repetitions of a request after a timeout, 429 or 5xx.", default=6)
    timeout: float = _setting("Seconds a request may take.", default=300.0)
    max_requests: int | None = _setting("The most requests of this run, repetitions included.", default=None)
    max_tokens: int | None = _setting("The most tokens of this run, prompts and answers.", default=None)
    dry_run: bool = _setting("Print one prompt for each relation and an estimate; ask nothing.", default=False)

    def __post_init__(self) -> None:
        if not self.train and self.needs_train:
            raise ValueError("--train is missing")
        if not self.output and not self.dry_run:
            raise ValueError("--output is missing")
        if self.backend not in BACKENDS:
            raise ValueError(f"--backend {self.backend!r}: expected one of {', '.join(BACKENDS)}")
        if self.backend == "recorded" and not self.recorded:
            raise ValueError("--backend recorded needs the file to replay: --recorded FILE")
        if self.backend == "tgi" and not self.base_url:
            raise ValueError("--backend tgi needs the server: --base_url http://…")
        if self.backend == "transformers" and not self.model:
            raise ValueError("--backend transformers needs a checkpoint: --model NAME_OR_FOLDER")
        if self.base_url and "@" in self.base_url.partition("://")[2].partition("/")[0]:
            # It would stand in shell histories and configuration files.
            raise ValueError("--base_url holds a user or password: give a token in the variable TKRE_API_KEY instead")
        for name in ("concurrency", "max_tries", "max_new_tokens"):
            if getattr(self, name) < 1:
                raise ValueError(f"--{name} must be at least 1, found {getattr(self, name)}")
        _check_seed(self.seed)
        if self.retries < 0 or self.temperature < 0 or not 0 < self.top_p <= 1:
            raise ValueError("--retries and --temperature must not be negative, and --top_p must be in (0, 1]")

    @property
    def needs_train(self) -> bool:
        """Whether nothing can be done without labelled rows."""
        return True

    @property
    def sampling(self) -> Sampling:
        """How answers are drawn."""
        return Sampling(self.max_new_tokens, self.temperature, self.top_p, self.seed)

    @property
    def limits(self) -> Limits:
        """How hard the run tries."""
        # A local model's requests wait for each other, and a file's for nobody.
        timeout = None if self.backend in ("transformers", "recorded") else self.timeout
        return Limits(
            concurrency=self.concurrency,
            max_tries=self.max_tries,
            retries=self.retries,
            timeout=timeout,
            max_requests=self.max_requests,
            max_tokens=self.max_tokens,
        )

    async def open_backend(self) -> Backend:
        """Makes the backend.

        Raises:
            TkreError: It can't be made, such as for want of an extra or of a server.
        """
        connection = {"timeout": self.timeout, "concurrency": self.concurrency, "stream": self.stream}
        if self.backend == "recorded":
            return RecordedBackend(self.recorded or "", self.model or "recorded")
        if self.backend == "transformers":
            from tkre_hf.knowledge.local import TransformersBackend

            return TransformersBackend(
                self.model, batch_size=self.concurrency, trust_remote_code=self.trust_remote_code
            )
        if self.backend == "tgi":
            from tkre_hf.knowledge.tgi import TgiBackend

            return await TgiBackend.connect(
                self.model, self.base_url or "", prompt_format=self.prompt_format, **connection
            )
        from tkre_hf.knowledge.inference import InferenceBackend

        return await InferenceBackend.connect(self.model, self.base_url, provider=self.provider, **connection)

    def read_data(self) -> tuple[list[Record], dict[str, RelationSchema], list[str], list[Record]]:
        """The labelled rows, the schemas of their relations, what was derived, and the rows to be kept out.

        Raises:
            TkreError: A file is missing or wrong.
        """
        rows = load_records(self.train) if self.train else []
        # With the row's number as it stands in the file, rows without a relation counted: recorded answers name it.
        records = [{**row, "row": number} for number, row in enumerate(rows) if row["relation"] != self.na_label]
        info = dict(load_relation_info(self.relations)) if self.relations else {}
        used = self.wanted({row["relation"] for row in records}, info)
        schemas, notes = complete_schemas({label: known for label, known in info.items() if label in used}, records)
        excluded = [row for source in self.exclude for row in load_records(source)]
        return records, schemas, notes, excluded

    def wanted(self, labelled: set[str], described: Iterable[str]) -> set[str]:
        """Of the relations that have rows, and those that are described, the ones that the run is about."""
        # A file of all of Wikidata's properties is no wish for samples of all of them.
        return labelled


@dataclass
class SampleArguments(GenerateArguments):
    """What samples have besides."""

    per_relation: int = _setting("Samples wanted of each relation.", default=16)
    per_request: int = _setting("Samples asked for at once.", default=8)
    shots: int = _setting("Labelled rows shown in a prompt.", default=3)
    all_relations: bool = _setting(
        "Samples of every relation of --relations, those without labelled rows too; --train may be left out then.",
        default=False,
    )
    near_duplicate: float = _setting("Similarity from which on two samples are the same, in [0.1, 1].", default=0.7)
    retriever: str | None = _setting(
        "A TKRE checkpoint by which demonstrations are chosen that are like each other; at random without.",
        default=None,
    )
    consistency: str | None = _setting(
        "A TKRE checkpoint that scores whether a sample expresses its relation.", default=None
    )
    drop_worst: float = _setting("The share of each relation's samples it drops.", default=0.1)

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("per_relation", "per_request"):
            if getattr(self, name) < 1:
                raise ValueError(f"--{name} must be at least 1, found {getattr(self, name)}")
        if self.shots < 0 or not 0 <= self.drop_worst < 1:
            raise ValueError("--shots must not be negative, and --drop_worst must be in [0, 1)")
        if not LEAST_THRESHOLD <= self.near_duplicate <= 1:
            raise ValueError(
                f"--near_duplicate must be in [{LEAST_THRESHOLD}, 1], found {self.near_duplicate}: "
                "sentences that have nothing in common are less alike than that"
            )
        if self.all_relations and not self.relations:
            raise ValueError("--all_relations needs the file that names them: --relations FILE")

    @property
    def needs_train(self) -> bool:
        return not self.all_relations

    def wanted(self, labelled: set[str], described: Iterable[str]) -> set[str]:
        return labelled.union(described) - {self.na_label} if self.all_relations else labelled


@dataclass
class Stage0Arguments(SampleArguments):
    """Explanations, samples and their merging in one go; ``output`` is the folder of all three."""

    explanation_prompt: str | None = _setting(
        "A template of your own for explanations; --prompt is for samples.", default=None
    )
    add_k: int | None = _setting("The most samples added to a relation of the training set.", default=None)

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_add_k(self.add_k)

    @property
    def needs_train(self) -> bool:
        return True


@dataclass
class MergeArguments:
    """The settings of ``tkre generate merge``."""

    train: str = _setting("The labelled rows.", default="")
    output: str = _setting("The file to write, .jsonl.", default="")
    explanations: list[str] = _setting("Folders or records.jsonl of EDKG runs.", default_factory=list)
    samples: list[str] = _setting("Folders or files of SCDG runs.", default_factory=list)
    add_k: int | None = _setting("The most samples added to a relation.", default=None)
    seed: int = _setting("Of their choice.", default=0)

    def __post_init__(self) -> None:
        for name in ("train", "output"):
            if not getattr(self, name):
                raise ValueError(f"--{name} is missing")
        _check_seed(self.seed)
        _check_add_k(self.add_k)


def _check_seed(seed: int) -> None:
    if seed < 0:
        raise ValueError(f"--seed must not be negative, found {seed}")


def _check_add_k(add_k: int | None) -> None:
    if add_k is not None and add_k < 0:
        raise ValueError(f"--add_k must not be negative, found {add_k}")


def fingerprint(rows: Iterable[Mapping[str, Any]]) -> str:
    """A hash of rows, to know the same data again."""
    digest = hashlib.sha256()
    for row in rows:
        digest.update(json.dumps(row, sort_keys=True, ensure_ascii=True).encode())
    return digest.hexdigest()[:16]


def run_settings(
    args: GenerateArguments,
    kind: str,
    model: str,
    prompt_sha256: str,
    records: Iterable[Record],
    excluded: Iterable[Record] = (),
    **schemas: Any,
) -> dict[str, Any]:
    """What the answers and their verdicts depend on, so that a folder is only gone on with under the same."""
    sentences = sorted({sentence_of(record) for record in excluded})
    settings: dict[str, Any] = {
        "kind": kind,
        "model": model,
        "prompt_sha256": prompt_sha256,
        "train": fingerprint({name: value for name, value in row.items() if name != "row"} for row in records),
        **{name: fingerprint([asdict(schema) for schema in value.values()]) for name, value in schemas.items()},
        "sampling": asdict(args.sampling),
        # What stands in the files and not where they lie.
        "exclude": [fingerprint({"sentence": sentence} for sentence in sentences)] if sentences else [],
    }
    if args.prompt_format != PLAIN_PROMPT:
        settings["prompt_format"] = args.prompt_format
    if kind == "samples":
        names = ("per_relation", "per_request", "shots", "near_duplicate", "retriever")
        settings |= {name: getattr(args, name) for name in names}
    return settings
