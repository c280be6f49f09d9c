"""One function that loads records from wherever they are; the recipes and the command line use nothing else."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from datasets import Dataset

from tkre_hf.data.builder import PublishedConfig, RecordsBuilder, local_data_files
from tkre_hf.data.fewrel import RELATION_NAMES, FewRel
from tkre_hf.data.jsonl import OpenNREJsonl
from tkre_hf.data.reading import SkippedRows
from tkre_hf.data.relations import RelationInfo, complete_relation_info, read_relation_info
from tkre_hf.data.sample import SAMPLE_RELATIONS, SAMPLE_SPLITS
from tkre_hf.data.semeval import SemEval2010Task8
from tkre_hf.data.tacred import Tacred
from tkre_hf.errors import TkreError

# What stands before the colon of a published source; a builder's configuration stands after it.
_FAMILIES: dict[str, type[RecordsBuilder]] = {"fewrel": FewRel, "tacred": Tacred, "semeval": SemEval2010Task8}
_PUBLISHED: dict[str, PublishedConfig] = {
    f"{family}:{config.name}": config
    for family, builder in _FAMILIES.items()
    for config in builder.BUILDER_CONFIGS
    if config.split_files
}
_JSON_LINES = (".jsonl", ".txt")
_EXPECTED = (
    "expected a file (.json: FewRel's format; .jsonl or .txt: JSON lines), "
    + ", ".join(_PUBLISHED)
    + ", or "
    + ", ".join(f"sample:{split}" for split in SAMPLE_SPLITS)
)


def load_records(
    source: str | Path,
    *,
    split: str | None = None,
    data_dir: str | Path | None = None,
    skip_invalid: bool = False,
    skipped: SkippedRows | None = None,
    cache_dir: str | Path | None = None,
) -> Dataset:
    """Loads records (``RECORD_FEATURES``).

    They are kept as Arrow in the cache of datasets, never beside the source, and read anew when the file changes.

    Args:
        source: A file, ``.json`` in FewRel's format or ``.jsonl`` or ``.txt`` with JSON lines (also ``.gz`` of these);
            or a published data set, ``fewrel:wiki``, ``fewrel:pubmed``, ``tacred:tacred``, ``tacred:tacrev``,
            ``tacred:retacred``, ``semeval:opennre``, ``semeval:raw``; or ``sample:train``, ``sample:validation``, the
            bundled corpus.
        split: Which split, or a slice such as ``train[:100]``; only a source of several splits needs it.
        data_dir: The folder of a published data set's files; FewRel's are downloaded without it.
        skip_invalid: Leave wrong rows out, with a warning that lists them, where otherwise the first one is an error.
        skipped: Takes the rows left out.
        cache_dir: In place of the cache of datasets.

    Raises:
        InvalidRowError: A row is wrong; names file, row and field.
        TkreError: There is no such source or split, or no row in it.
    """
    builder = records_builder(source, data_dir=data_dir, skip_invalid=skip_invalid, cache_dir=cache_dir)
    builder.download_and_prepare()
    known = builder.info.splits or {}
    splits = list(known)
    if split is None and len(splits) > 1:
        raise TkreError(f"{source} has the splits {', '.join(splits)}: say which one")
    if (chosen := split or splits[0]) in known and not known[chosen].num_examples:
        left = ", but wrong rows, which were left out" if builder.skipped_rows else ""
        raise TkreError(f"{source} holds no labelled sentence{left}")
    try:
        dataset = builder.as_dataset(chosen)
    except ValueError as error:
        raise TkreError(f"{source} has no split {split!r}, but {', '.join(splits)}: {error}") from error
    if skipped is not None:
        skipped.errors.extend(builder.skipped_rows)
    return dataset


def records_builder(
    source: str | Path,
    *,
    data_dir: str | Path | None = None,
    skip_invalid: bool = False,
    cache_dir: str | Path | None = None,
) -> RecordsBuilder:
    """The builder behind :func:`load_records`, for those who want its ``as_streaming_dataset`` or all its splits.

    Raises:
        TkreError: There is no such source.
    """
    common = {"skip_invalid": skip_invalid, "cache_dir": None if cache_dir is None else str(cache_dir)}
    family, _, name = str(source).partition(":")
    if published_splits(source):
        folder = None if data_dir is None else str(data_dir)
        return _FAMILIES[family](config_name=name, data_dir=folder, **common)
    if data_dir is not None:
        raise TkreError(f"{source} takes no data_dir; it is for {', '.join(_PUBLISHED)}")
    if family == "sample" and name in SAMPLE_SPLITS:
        return OpenNREJsonl(data_files=local_data_files({name: SAMPLE_SPLITS[name]}), **common)
    path = Path(source)
    kind = (path.with_suffix("") if path.suffix == ".gz" else path).suffix
    if kind in _JSON_LINES:
        return OpenNREJsonl(data_files=local_data_files({"train": path}), **common)
    if kind == ".json":
        return FewRel(config_name="file", data_files=local_data_files({"train": path}), **common)
    raise TkreError(f"{source} is no source of records: {_EXPECTED}")


def published_splits(source: str | Path) -> tuple[str, ...]:
    """The splits of a published data set such as ``fewrel:wiki``, which takes a ``data_dir``; of all else, none."""
    config = _PUBLISHED.get(str(source))
    return tuple(config.split_files) if config else ()


def load_split(
    source: str | Path, split: str, *, data_dir: str | Path | None = None, skip_invalid: bool = False
) -> Dataset:
    """Loads a split of a source that has several, such as ``fewrel:wiki``, and all of one that has none.

    Args:
        source: As of :func:`load_records`.
        split: Which one.
        data_dir: Of the sources that take one; nothing to the others.
        skip_invalid: As of :func:`load_records`.

    Raises:
        TkreError: As :func:`load_records`.
    """
    splits = published_splits(source)
    return load_records(
        source,
        split=split if split in splits else None,
        data_dir=data_dir if splits else None,
        skip_invalid=skip_invalid,
    )


def load_sample(split: str = "train") -> Dataset:
    """Loads the bundled corpus: ``train`` (641 relations x 6 samples) or ``validation`` (16 other relations x 16).

    Written by a large language model, its facts unchecked; see ``tkre_hf/data/sample/README.md``.
    """
    return load_records(f"sample:{split}")


def load_relation_info(
    source: str | Path, relations: Iterable[str] | None = None, *, data_dir: str | Path | None = None
) -> dict[str, RelationInfo]:
    """Loads relation names and descriptions.

    Args:
        source: ``fewrel:wiki`` or ``fewrel:pubmed`` (``pid2name.json`` in ``data_dir``, or downloaded); ``sample``, or
            ``sample:`` and a split; or a file for :func:`~tkre_hf.data.relations.read_relation_info`.
        relations: The labels wanted; one without an entry gets its own words as its name. Without it: every entry.

    Raises:
        TkreError: There is no such source, or an entry is wrong.
    """
    family, _, name = str(source).partition(":")
    if family == "sample":
        source = SAMPLE_RELATIONS
    elif family == "fewrel" and published_splits(source):
        if data_dir is None:
            info = FewRel(config_name=name).relation_info
            return info if relations is None else complete_relation_info(relations, info)
        source = Path(data_dir, RELATION_NAMES)
    return read_relation_info(source, relations)
