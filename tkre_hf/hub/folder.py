"""Which of a folder's files go out into the world, and which never do."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import get_token

from tkre_hf.errors import TkreError
from tkre_hf.hub.facts import EMISSIONS, read_header
from tkre_hf.hub.marks import CARD_BESIDE
from tkre_hf.hub.pickles import PICKLE, pickle_in

# Left at home, for they are no part of a model: where training can be gone on from, logs, what was predicted, and what
# tells where and on which machine it was trained (codecarbon's table has the place).
_FOLDERS_AT_HOME = re.compile(r"checkpoint-\d+|logs?|mlruns|runs|wandb|__pycache__|\..*")
FILES_AT_HOME = re.compile(
    rf"(?!\.env)\..*|.*-predictions\.jsonl|.*\.part|.*\.log|.*\.out|trainer_state\.json|{re.escape(EMISSIONS)}|{re.escape(CARD_BESIDE)}"
)
# Refused: code that runs when it is loaded, what only training needs, and secrets.
_PICKLES = (".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt", ".joblib")
# Where the Hub's cache keeps the files that its snapshots link to.
_HUB_CACHE = re.compile(r".*/(models|datasets|spaces)--[^/]+/blobs/[^/]+")
_TRAINING = re.compile(r"(optimizer|scheduler|scaler|rng_state).*")
_SECRETS = re.compile(r"\.env(\..*)?|\.netrc|.*\.pem|id_rsa.*|stored_tokens")
# Access tokens of the Hub, by their form.
TOKEN = re.compile(rb"hf_[A-Za-z0-9]{20,}")
_CHUNK, _OVERLAP = 2**24, 256


@dataclass(frozen=True)
class Listing:
    """A folder's files.

    Args:
        files: Those that go out, by their path within the folder.
        at_home: Those that stay, and folders, by their path within the folder.
    """

    files: dict[str, Path]
    at_home: list[str]

    @property
    def size(self) -> int:
        """Bytes that go out."""
        return sum(path.stat().st_size for path in self.files.values())


def list_files(folder: Path, only: set[str] | None = None) -> Listing:
    """Lists what of a folder is published.

    Args:
        folder: The folder.
        only: Paths within it: nothing else goes out, whatever it is.

    Raises:
        TkreError: A file that would go out must not: a pickle, what only training needs, or one with a secret in it.
    """
    files: dict[str, Path] = {}
    at_home: list[str] = []
    _walk(folder, folder, files, at_home, (folder.resolve(),))
    if only is not None:
        at_home += sorted(files.keys() - only)
        files = {name: path for name, path in files.items() if name in only}
    for name, path in files.items():
        _refuse_link(name, path, folder.resolve())
        _refuse(name, path)
    return Listing(files, at_home)


def _walk(root: Path, folder: Path, files: dict[str, Path], at_home: list[str], above: tuple[Path, ...]) -> None:
    for path in sorted(folder.iterdir()):
        name = path.relative_to(root).as_posix()
        if path.is_dir():
            if _FOLDERS_AT_HOME.fullmatch(path.name):
                at_home.append(f"{name}/")
            else:
                target = path.resolve()
                if target in above:
                    raise TkreError(f"{name} is a link to a folder that it lies in itself: remove the link")
                _refuse_link(name, path, above[0])
                _walk(root, path, files, at_home, (*above, target))
        elif FILES_AT_HOME.fullmatch(path.name) and not _SECRETS.fullmatch(path.name):
            at_home.append(name)
        else:
            files[name] = path


def _refuse_link(name: str, path: Path, root: Path) -> None:
    """What lies elsewhere doesn't go out by a link to it, but for a file of the Hub's cache.

    Args:
        name: Its path within the folder.
        path: A file or folder.
        root: The folder that is published, itself no link.

    Raises:
        TkreError: It leads out of the folder, or nowhere.
    """
    try:
        target = path.resolve(strict=True)
    except (OSError, RuntimeError):
        raise TkreError(f"{name} is a link that leads nowhere: remove it, or put the file in its place") from None
    if not target.is_relative_to(root) and not _HUB_CACHE.fullmatch(target.as_posix()):
        raise TkreError(f"{name} is a link out of the folder: put a copy in its place if it is to be published")
    if not target.is_dir() and not target.is_file():
        raise TkreError(f"{name} is neither a file nor a folder: move it out of the folder")


def _refuse(name: str, path: Path) -> None:
    if _SECRETS.fullmatch(path.name):
        raise TkreError(f"{name} is a file of secrets: move it out of the folder, and nothing of it is published")
    if path.suffix.lower() in _PICKLES:
        raise TkreError(
            f"{name} may be a pickle, which runs code when it is loaded: move it out of the folder (weights are saved "
            "as safetensors)"
        )
    if _TRAINING.fullmatch(path.name):
        raise TkreError(f"{name} is a state of training, which no user of the model needs: move it out of the folder")
    if path.suffix == ".safetensors":
        read_header(path)
    elif found := pickle_in(path):
        raise TkreError(f"{name} {found}: move it out of the folder")
    own = (get_token() or "").encode()
    with path.open("rb") as stream:
        tail = b""
        first = True
        while chunk := stream.read(_CHUNK):
            if first and PICKLE.match(chunk) and path.suffix != ".safetensors":
                raise TkreError(f"{name} is a pickle, whatever its name says: move it out of the folder")
            first = False
            text = tail + chunk
            if TOKEN.search(text) or (own and own in text):
                raise TkreError(
                    f"{name} holds what looks like an access token of the Hub: take it out, and revoke it if anybody "
                    "may have seen it"
                )
            tail = text[-_OVERLAP:]
