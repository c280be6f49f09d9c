"""``tkre push``: a trained model, or generated knowledge, to the Hub."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi, get_token
from huggingface_hub.errors import (
    EntryNotFoundError,
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    LocalTokenNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.hf_api import RepoFile
from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]
from transformers import TrainingArguments

from tkre_hf.errors import TkreError
from tkre_hf.hub.dataset_card import published_report, read_knowledge, render_dataset
from tkre_hf.hub.facts import OF_WEIGHTS, read_config, read_facts, weight_digests
from tkre_hf.hub.folder import TOKEN, list_files
from tkre_hf.hub.marks import CARD, card_text, is_edited
from tkre_hf.hub.model_card import render, tells_other_figures, told_by, with_name

logger = logging.getLogger(__name__)


@dataclass
class PushArguments:
    """What is published, and where."""

    folder: str = field(metadata={"help": "Folder of the model, or of generated knowledge.", "metavar": "DIR"})
    repo: str = field(metadata={"help": "Name on the Hub: NAMESPACE/NAME, or NAME in your own namespace."})
    repo_type: Literal["model", "dataset"] = field(
        default="model", metadata={"help": "A model, or as dataset what `tkre generate` left."}
    )
    private: bool = field(
        default=False, metadata={"help": "Make the repository private; one that is public is refused."}
    )
    revision: str | None = field(default=None, metadata={"help": "Branch to commit to; made if it isn't there."})
    create_pr: bool = field(
        default=False, metadata={"help": "Open a pull request instead of committing to the branch."}
    )
    message: str = field(default="Upload with tkre_hf", metadata={"help": "The commit's message."})
    license: str | None = field(default=None, metadata={"help": "Licence for the card, as the Hub spells it."})
    results: str | None = field(default=None, metadata={"help": "File of result rows for the card."})
    system: str | None = field(default=None, metadata={"help": "Which of that file's systems the model is."})
    with_gold: bool = field(
        default=False,
        metadata={"help": "Of generated knowledge publish train.jsonl too, with your labelled rows in it."},
    )
    overwrite_card: bool = field(
        default=False, metadata={"help": "Replace the repository's card even where a person edited it there."}
    )
    dry_run: bool = field(default=False, metadata={"help": "List the files and their sizes; send and write nothing."})


@dataclass(frozen=True)
class Upload:
    """What goes to the Hub.

    Args:
        files: Contents by path in the repository: a file's path, or the card's text.
        at_home: What of the folder stays.
        edited: Whether the card is a person's, and goes out as it is.
    """

    files: dict[str, Path | bytes]
    at_home: list[str]
    edited: bool

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(map(size_of, self.files.values()))


def size_of(content: Path | bytes) -> int:
    """Bytes of a file, or of a text."""
    return len(content) if isinstance(content, bytes) else content.stat().st_size


def collect(args: PushArguments) -> Upload:
    """Gathers what goes out: the folder's files, and a card that names the repository; a person's card as it is.

    Raises:
        TkreError: The folder holds no model or no knowledge, or a file that must not be published.
    """
    folder = Path(args.folder)
    if not folder.is_dir():
        raise TkreError(f"there is no folder {folder}")
    with hub_errors(args.repo, ""):
        validate_repo_id(args.repo)
    told = dict[str, str]()
    if args.repo_type == "dataset":
        knowledge = read_knowledge(folder, args.with_gold)
        listing = list_files(folder, {CARD, *knowledge.files.values(), *knowledge.about})
        told = {name: json.dumps(run, indent=2, ensure_ascii=False) + "\n" for name, run in knowledge.runs.items()}
        told |= {name: published_report(folder / name) for name in knowledge.about if name not in told}
    else:
        read_config(folder)
        listing = list_files(folder)
    card = _card(args)
    files: dict[str, Path | bytes] = {**listing.files, **{name: text.encode() for name, text in told.items()}}
    if card is not None:
        files[CARD] = card.encode()
    return Upload(dict(sorted(files.items())), listing.at_home, edited=card is None)


def _card(args: PushArguments) -> str | None:
    """The card under the repository's name; ``None`` where the one in the folder is a person's, and goes out as it is.

    A model's card that is there stays what it is but for that name, for `tkre card` may have been told more than the
    folder tells; it is written anew where settings ask for it, or where the folder tells other figures.
    """
    folder = Path(args.folder)
    there = card_text(folder)
    if there is not None and is_edited(there):
        return None
    told = told_by(there) if there is not None else {}
    licence = args.license or told.get("licence")
    if args.repo_type == "dataset":
        return render_dataset(args.repo, read_knowledge(folder, args.with_gold), licence)
    facts = read_facts(folder, args.repo, args.results, args.system, licence=licence, tags=told.get("tags", []))
    asked = args.results is not None or args.system is not None
    if there is None or asked or tells_other_figures(there, facts):
        return render(facts)
    return with_name(there, facts)


def publish(args: PushArguments, api: HfApi | None = None) -> str:
    """Publishes a folder in one commit; a card that a person edited on the Hub stays, with a warning.

    Args:
        args: What, and where.
        api: Talks to the Hub; with the token of ``hf auth login`` or ``HF_TOKEN`` by default.

    Returns:
        The commit's address, or the pull request's.

    Raises:
        TkreError: A file must not be published, nobody is logged in, the Hub refuses, or it can't be reached.
    """
    upload = collect(args)
    api = api if api is not None else HfApi()
    with hub_errors(args.repo, api.endpoint):
        api.whoami()
        url = api.create_repo(args.repo, repo_type=args.repo_type, private=args.private or None, exist_ok=True)
        repo = url.repo_id
        if repo != args.repo and not upload.edited:
            # Only now is the namespace known, without which nobody loads it.
            card = _card(replace(args, repo=repo)) or ""
            upload = replace(upload, files={**upload.files, CARD: card.encode()})
        if args.private and not api.repo_info(repo, repo_type=args.repo_type).private:
            raise TkreError(
                f"{repo} is there already, and public: make it private on the Hub first, or leave --private out"
            )
        if args.revision is not None and not args.create_pr:
            api.create_branch(repo, branch=args.revision, repo_type=args.repo_type, exist_ok=True)
        if not args.overwrite_card and _is_kept(_remote_card(api, repo, args), upload.files[CARD]):
            logger.warning(
                "%s of %s was edited by a person and stays as it is; --overwrite_card of `tkre push` replaces it",
                CARD,
                repo,
            )
            upload = replace(upload, files={name: entry for name, entry in upload.files.items() if name != CARD})
        stale = _stale(api, repo, args, upload.files)
        if stale:
            logger.warning("%s of %s were of other weights, and go with them", ", ".join(stale), repo)
        commit = api.create_commit(
            repo,
            [
                *(CommitOperationAdd(name, content) for name, content in upload.files.items()),
                *map(CommitOperationDelete, stale),
            ],
            commit_message=args.message,
            repo_type=args.repo_type,
            revision=args.revision,
            create_pr=args.create_pr,
        )
    return str(commit.pr_url or commit.commit_url)


def _stale(api: HfApi, repo: str, args: PushArguments, files: Iterable[str]) -> list[str]:
    """What a repository tells of weights whose place others take: relations taught to them, and their figures."""
    if args.repo_type != "model":
        return []
    tree = api.list_repo_tree(repo, revision=args.revision)
    there = {entry.path: entry.lfs.sha256 if entry.lfs else None for entry in tree if isinstance(entry, RepoFile)}
    ours = weight_digests(Path(args.folder))
    if all(there[name] == ours[name] for name in ours.keys() & there):
        return []
    return sorted(set(OF_WEIGHTS).intersection(there).difference(files))


def _remote_card(api: HfApi, repo: str, args: PushArguments) -> str | None:
    """The card that stands in the repository and revision that is committed to; ``None`` where there is none."""
    with TemporaryDirectory() as folder:
        try:
            path = api.hf_hub_download(repo, CARD, repo_type=args.repo_type, revision=args.revision, local_dir=folder)
        except LocalEntryNotFoundError as error:
            # Not that there is none: it couldn't be asked for.
            raise (error.__cause__ or error) from None
        except EntryNotFoundError:
            return None
        # What is no UTF-8 was not written here.
        return Path(path).read_text("utf-8", errors="replace")


def _is_kept(there: str | None, new: Path | bytes) -> bool:
    """Whether a repository's card is a person's, and another one than what would take its place."""
    if there is None or not is_edited(there):
        return False
    text = new.decode() if isinstance(new, bytes) else new.read_text("utf-8")
    return text.splitlines() != there.splitlines()


def push_arguments(training_args: TrainingArguments, folder: Path, **given: Any) -> PushArguments:
    """How a training's settings have its model published.

    Args:
        training_args: The settings.
        folder: Holds the model.
        **given: Further fields; ``None`` is none.
    """
    asked = {
        "repo": training_args.hub_model_id or folder.resolve().name,
        "private": bool(training_args.hub_private_repo),
        "revision": training_args.hub_revision,
    }
    return PushArguments(str(folder), **{**asked, **{name: v for name, v in given.items() if v is not None}})


def push_trained(training_args: TrainingArguments, folder: Path) -> None:
    """Publishes what a stage has trained, where its settings ask for it (``push_to_hub``).

    Raises:
        TkreError: As :func:`publish`; the model is saved all the same.
    """
    if not training_args.push_to_hub:
        return
    args = push_arguments(training_args, folder)
    logger.info("published: %s", publish(args, HfApi(token=training_args.hub_token)))


@contextmanager
def hub_errors(repo: str, endpoint: str) -> Iterator[None]:
    """Turns what the Hub and the way to it may raise into one sentence, without the token.

    Raises:
        TkreError: What it is, and what to do.
    """
    try:
        yield
    except TkreError:
        raise
    except LocalTokenNotFoundError:
        raise TkreError("nobody is logged in to the Hub: run `hf auth login`, or set HF_TOKEN") from None
    except HFValidationError as error:
        raise TkreError(f"the Hub takes no repository of the name {repo!r}: {_sentence(error)}") from None
    except OfflineModeIsEnabled:
        raise TkreError("the Hub can't be asked in offline mode: unset HF_HUB_OFFLINE") from None
    except HfHubHTTPError as error:
        raise TkreError(_refusal(error, repo)) from None
    except (ValueError, RuntimeError) as error:
        cause = error.__cause__
        if isinstance(cause, HfHubHTTPError):
            raise TkreError(_refusal(cause, repo)) from None
        if isinstance(error, RuntimeError) and not _is_of_the_way(cause):
            raise
        raise TkreError(f"the Hub refused the upload to {repo}: {_sentence(error)}") from None
    except Exception as error:
        if getattr(error, "response", None) is not None:
            # Up to hub 0.x asking who somebody is fails by an error of requests itself.
            raise TkreError(_refusal(error, repo)) from None
        if not _is_of_the_way(error):
            raise
        raise TkreError(
            f"the Hub at {endpoint} can't be reached ({type(error).__name__}): look to the network, or to HF_ENDPOINT"
        ) from None


def _is_of_the_way(error: BaseException | None) -> bool:
    """Whether the connection failed; hub has requests up to 0.x and httpx from 1.0 on, so they go by their names."""
    names = {f"{kind.__module__.partition('.')[0]}.{kind.__name__}" for kind in type(error).__mro__}
    ours = {f"{library}.{name}" for library in ("httpx", "httpx2") for name in ("TransportError", "InvalidURL")}
    return isinstance(error, ConnectionError | TimeoutError) or bool(names & {*ours, "requests.RequestException"})


def _refusal(error: Exception, repo: str) -> str:
    status = int(getattr(getattr(error, "response", None), "status_code", 0))
    said = _sentence(error)
    if isinstance(error, RevisionNotFoundError):
        return f"{repo} has no such revision: make the branch first, or leave --revision out"
    if status == 401 and not isinstance(error, RepositoryNotFoundError):
        return "the Hub doesn't know the token: run `hf auth login` again, or set HF_TOKEN to one that holds"
    if status == 403:
        return f"your token may not write to {repo}: use one with write access to it, or --create_pr ({said})"
    if status in (401, 404):
        return f"there is no {repo} on the Hub, or you may not see it: look at the name and at your token's rights"
    if status == 429:
        return "the Hub asks for fewer requests: wait some minutes, and push again"
    if status >= 500:
        return f"the Hub failed ({status}): push again later"
    return f"the Hub refused the upload to {repo} ({status}): {said}"


def _sentence(error: BaseException) -> str:
    """What an error says, in one line and without a token."""
    text = str(getattr(error, "server_message", None) or error)
    token = get_token()
    if token:
        text = text.replace(token, "hf_…")
    text = re.sub(TOKEN.pattern.decode(), "hf_…", text)
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return " ".join(lines[:2])[:300].rstrip(".") or type(error).__name__


def run(args: PushArguments, api: HfApi | None = None) -> int:
    """Publishes, or lists what would be; prints what is done.

    Raises:
        TkreError: As :func:`publish`.
    """
    upload = collect(args)
    for name, content in upload.files.items():
        print(f"{size_of(content):>13,}  {name}")
    for name in upload.at_home:
        print(f"{'stays here':>13}  {name}")
    kind = "the card is the one that a person edited" if upload.edited else "the card is written for it"
    print(f"{len(upload.files)} files, {upload.size:,} bytes, for {args.repo}; {kind}")
    if args.dry_run:
        if "/" not in args.repo:
            print(
                f"the namespace is still to be filled in: when it is published, the card says NAMESPACE/{args.repo}, "
                "with yours"
            )
        return 0
    print(f"published: {publish(args, api)}")
    return 0


def main(argv: Sequence[str], prog: str = "tkre push") -> int:
    """``tkre push DIR REPO``.

    Raises:
        TkreError: A setting is wrong, or as :func:`publish`.
    """
    from tkre_hf.arguments import parse_arguments

    description = (
        f"Publishes a trained model, or generated knowledge, on the Hub.\n\n{prog} my_model me/my-model --private\n"
        f"{prog} my_knowledge me/my-knowledge --repo_type dataset --dry_run"
    )
    (args,) = parse_arguments(PushArguments, argv, description, prog, ("folder", "repo"))
    return run(args)
