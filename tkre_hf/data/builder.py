"""What every records builder shares: local files by split, a cache that follows their contents, skipped rows."""

from __future__ import annotations

import hashlib
import logging
from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import datasets
from datasets.data_files import DataFilesDict, DataFilesList
from datasets.exceptions import DatasetGenerationError
from datasets.fingerprint import Hasher

from tkre_hf.data.reading import SkippedRows, UniqueIds, checked, file_sha256
from tkre_hf.data.schema import RECORD_FEATURES, Record
from tkre_hf.errors import InvalidRowError, TkreError
from tkre_hf.tkre import words

logger = logging.getLogger(__name__)

SKIPPED_ROWS_FILE = "skipped_rows.json"


@dataclass
class RecordsConfig(datasets.BuilderConfig):
    """The settings of a records builder.

    Args:
        skip_invalid: Leave wrong rows out, counting and listing them, where otherwise the first one ends the reading.
    """

    skip_invalid: bool = False

    def source_files(self) -> dict[str, list[Path]]:
        """The local files of each split; empty if they are yet to be downloaded."""
        return {split: [Path(file) for file in files] for split, files in (self.data_files or {}).items()}

    def side_files(self) -> list[Path]:
        """Other local files that the records depend on, such as a patch of their labels."""
        return []

    def create_config_id(self, config_kwargs: dict[str, Any], custom_features: datasets.Features | None = None) -> str:
        """Names the cache folder after the settings, the files' contents and this package's readers.

        So a changed file is read anew, even if its time and size are the old ones, and so is every file after a change
        of the readers; a file that was only touched is not.
        """
        settings = {key: value for key, value in config_kwargs.items() if key not in ("data_files", "data_dir")}
        files = {**self.source_files(), "": self.side_files()}
        contents = {split: [(str(path), file_sha256(path)) for path in paths] for split, paths in files.items()}
        return super().create_config_id({**settings, "contents": Hasher.hash([contents, _readers()])}, custom_features)


@dataclass
class PublishedConfig(RecordsConfig):
    """The settings of a builder whose files have the names that their publisher gave them.

    Args:
        split_files: The publisher's file of each split, with its folder in the publisher's archive if it has one;
            ``data_files`` takes its place with files of your own.
        data_dir: The unpacked archive, or a folder with its files alone; a split whose file isn't there is left out.
        publisher: What the data are, where they come from and where they go, for the error; empty if the builder
            downloads what it isn't given.
    """

    split_files: dict[str, str] = field(default_factory=dict)
    publisher: str = ""

    def source_files(self) -> dict[str, list[Path]]:
        if self.data_files or (self.data_dir is None and not self.publisher):
            return super().source_files()
        where = f": {self.publisher}" if self.publisher else ""
        if self.data_dir is None:
            raise TkreError(f"{self.name} needs a data_dir{where}")
        found: dict[str, list[Path]] = {}
        for split, name in self.split_files.items():
            places = (Path(self.data_dir, name), Path(self.data_dir, Path(name).name))
            if file := next((place for place in places if place.is_file()), None):
                found[split] = [file]
        if not found:
            names = ", ".join(Path(name).name for name in self.split_files.values())
            raise TkreError(f"{self.data_dir} holds none of {names}{where}")
        return found


class RecordsBuilder(datasets.GeneratorBasedBuilder):
    """A builder of records (``RECORD_FEATURES``) from local files; a subclass says how a file is read.

    A wrong row ends the preparing with its own :class:`~tkre_hf.errors.InvalidRowError`, and nothing is kept; with
    ``skip_invalid`` it is left out, and :attr:`skipped_rows` has it, also when the data set comes from the cache.
    """

    BUILDER_CONFIG_CLASS = RecordsConfig
    config: RecordsConfig

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._skipped: dict[str, SkippedRows] = {}
        super().__init__(*args, **kwargs)

    @abstractmethod
    def read(self, path: Path, ids: UniqueIds) -> Iterator[Record | InvalidRowError]:
        """Yields for each row of a file its record, or the error that stands in its place.

        Args:
            path: One of the files of a split.
            ids: Has seen the ids of the split's earlier rows.
        """

    @property
    def skipped_rows(self) -> SkippedRows:
        """The rows that ``skip_invalid`` left out of all splits, once they are prepared or have been streamed."""
        file = Path(self._output_dir, SKIPPED_ROWS_FILE)
        if not self._skipped and file.exists():
            return SkippedRows.from_json(file.read_text(encoding="utf-8"))
        return SkippedRows([error for skipped in self._skipped.values() for error in skipped])

    def source_files(self, dl_manager: Any) -> Mapping[str, Sequence[Path]]:
        """The files of each split, downloaded if need be."""
        files = self.config.source_files()
        if not files:
            raise TkreError(f"{type(self).__name__} needs data_files, the path of a file or of one for each split")
        return files

    def download_and_prepare(self, *args: Any, **kwargs: Any) -> None:
        """As in datasets; but an error of the user's data comes as itself, not wrapped in a DatasetGenerationError."""
        try:
            super().download_and_prepare(*args, **kwargs)
        except DatasetGenerationError as error:
            cause: BaseException | None = error
            while cause is not None and not isinstance(cause, TkreError):
                cause = cause.__cause__
            if cause is None:
                raise
            raise cause from None
        if not self._skipped and self.skipped_rows:
            logger.warning("%s", self.skipped_rows.summary())

    def _info(self) -> datasets.DatasetInfo:
        return datasets.DatasetInfo(features=RECORD_FEATURES)

    def _split_generators(self, dl_manager: Any) -> list[datasets.SplitGenerator]:
        # A tuple, not a list: datasets would hand out a list's files to processes that can't see each other's ids.
        return [
            datasets.SplitGenerator(name=split, gen_kwargs={"files": tuple(files), "split": split})
            for split, files in self.source_files(dl_manager).items()
        ]

    def _generate_examples(self, files: Sequence[Path], split: str) -> Iterator[tuple[int, dict[str, Any]]]:
        yield from enumerate(self._records(files, split))

    def _records(self, files: Sequence[Path], split: str) -> Iterator[Record]:
        skipped, ids = SkippedRows(), UniqueIds()
        for path in files:
            yield from checked(self.read(path, ids), skipped if self.config.skip_invalid else None)
        self._skipped[split] = skipped
        if skipped:
            logger.warning("%s: %s", split, skipped.summary())

    def _download_and_prepare(self, *args: Any, **kwargs: Any) -> None:
        super()._download_and_prepare(*args, **kwargs)
        Path(self._output_dir, SKIPPED_ROWS_FILE).write_text(self.skipped_rows.to_json(), encoding="utf-8")


def local_data_files(files: Mapping[str, str | Path]) -> DataFilesDict:
    """One local file for each split as ``data_files``; its path is taken as it is, ``[`` and ``*`` in it too."""
    return DataFilesDict({split: DataFilesList([str(path)], [()]) for split, path in files.items()})


@cache
def _readers() -> str:
    """A digest of the code that turns files into records."""
    code = [*sorted(Path(__file__).parent.glob("*.py")), Path(words.__file__)]
    return hashlib.sha256(b"".join(path.read_bytes() for path in code)).hexdigest()
