"""``tkre push``: what goes out and what never does, by a fake that records the calls and by a Hub's own routes."""

from __future__ import annotations

import io
import json
import socket
import zipfile
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from huggingface_hub import CommitOperationAdd, ModelCard
from huggingface_hub.errors import EntryNotFoundError
from huggingface_hub.hf_api import RepoFile
from safetensors.torch import load_file, save_file

from tkre_hf.cli import main
from tkre_hf.errors import TkreError
from tkre_hf.hub.marks import is_edited
from tkre_hf.hub.publish import PushArguments, collect, publish

from .server import TOKEN, USER, Hub, Repo


class FakeApi:
    """Records what the Hub is asked for."""

    endpoint = "fake"

    def __init__(self, private: bool = False, card: str | None = None) -> None:
        self.calls: list[tuple[str, dict[str, Any]]] = []
        self.private = private
        self.card = card

    def whoami(self) -> dict[str, Any]:
        self.calls.append(("whoami", {}))
        return {"name": USER}

    def create_repo(self, repo_id: str, **given: Any) -> SimpleNamespace:
        self.calls.append(("create_repo", {"repo_id": repo_id, **given}))
        return SimpleNamespace(repo_id=repo_id if "/" in repo_id else f"{USER}/{repo_id}")

    def repo_info(self, repo_id: str, **given: Any) -> SimpleNamespace:
        return SimpleNamespace(private=self.private)

    def list_repo_tree(self, repo_id: str, **given: Any) -> list[RepoFile]:
        return []

    def create_branch(self, repo_id: str, **given: Any) -> None:
        self.calls.append(("create_branch", {"repo_id": repo_id, **given}))

    def hf_hub_download(self, repo_id: str, filename: str, local_dir: str, **given: Any) -> str:
        self.calls.append(("hf_hub_download", {"repo_id": repo_id, "filename": filename, **given}))
        if self.card is None:
            raise EntryNotFoundError("404")
        path = Path(local_dir, filename)
        path.write_text(self.card)
        return str(path)

    def create_commit(
        self, repo_id: str, operations: list[CommitOperationAdd], create_pr: bool, **given: Any
    ) -> SimpleNamespace:
        given |= {"repo_id": repo_id, "create_pr": create_pr, "paths": [entry.path_in_repo for entry in operations]}
        self.calls.append(("create_commit", given))
        return SimpleNamespace(pr_url="pull request" if create_pr else None, commit_url="commit")


def test_one_commit_of_what_a_model_needs(checkpoint: Path) -> None:
    (checkpoint / "checkpoint-7").mkdir()
    (checkpoint / "checkpoint-7" / "optimizer.pt").write_bytes(b"")
    at_home = {"trainer_state.json", "emissions.csv.part", "ab-predictions.jsonl", ".DS_Store", "train.log", "a-1.out"}
    for name in at_home:
        (checkpoint / name).write_text("{}")
    for name in ("logs", "mlruns"):
        (checkpoint / name).mkdir()
        (checkpoint / name / "0.txt").write_text("on host h in /home/me")
    api: Any = FakeApi()
    assert publish(PushArguments(str(checkpoint), "my-model"), api) == "commit"
    assert [name for name, _ in api.calls] == ["whoami", "create_repo", "hf_hub_download", "create_commit"]
    assert api.calls[1][1] == {"repo_id": "my-model", "repo_type": "model", "private": None, "exist_ok": True}
    commit = api.calls[-1][1]
    assert (commit["repo_id"], commit["revision"], commit["create_pr"]) == (f"{USER}/my-model", None, False)
    needed = {"README.md", "config.json", "model.safetensors", "tokenizer.json", "training_data.json"}
    code = {"configuration_tkre.py", "modeling_tkre.py", "modeling_parts.py", "processing_tkre.py", "markers.py"}
    assert {*needed, *code} <= {*commit["paths"]}
    assert {*commit["paths"]} <= {path.name for path in checkpoint.iterdir() if path.is_file()} - at_home


def test_a_branch_is_made_and_a_pull_request_needs_none(checkpoint: Path) -> None:
    api: Any = FakeApi(private=True)
    publish(PushArguments(str(checkpoint), "org/m", private=True, revision="v2"), api)
    assert ("create_branch", {"repo_id": "org/m", "branch": "v2", "repo_type": "model", "exist_ok": True}) in api.calls
    assert api.calls[1][1]["private"] is True and api.calls[-1][1]["revision"] == "v2"
    api = FakeApi()
    assert publish(PushArguments(str(checkpoint), "org/m", create_pr=True), api) == "pull request"
    assert api.calls[-1][1]["create_pr"] is True and "create_branch" not in dict(api.calls)


def test_what_is_to_be_private_does_not_go_where_all_can_read(checkpoint: Path) -> None:
    api: Any = FakeApi(private=False)
    with pytest.raises(TkreError, match="is there already, and public"):
        publish(PushArguments(str(checkpoint), "org/m", private=True), api)
    assert "create_commit" not in dict(api.calls)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("pytorch_model.bin", b"", "may be a pickle"),
        ("head.joblib", b"", "may be a pickle"),
        ("training_args.bin", b"", "may be a pickle"),
        ("graph/weights.PT", b"", "may be a pickle"),
        ("optimizer.safetensors", b"", "a state of training"),
        ("harmless.txt", b"\x80\x04\x95abc", "a pickle, whatever its name says"),
        ("more.safetensors", b"\x80\x04\x95 no header at all", "no safetensors file"),
        (".env", b"A=1", "a file of secrets"),
        ("sub/.env.local", b"A=1", "a file of secrets"),
        ("notes.txt", b"token: " + TOKEN.encode(), "looks like an access token"),
        ("far.txt", b"x" * (2**24 - 5) + TOKEN.encode() + b"y" * 99, "looks like an access token"),
    ],
)
def test_what_must_not_go_out_is_refused_before_anything_is_asked(
    name: str, content: bytes, message: str, checkpoint: Path
) -> None:
    (checkpoint / name).parent.mkdir(exist_ok=True)
    (checkpoint / name).write_bytes(content)
    api: Any = FakeApi()
    with pytest.raises(TkreError, match=message) as caught:
        publish(PushArguments(str(checkpoint), "m"), api)
    assert name.rpartition("/")[2] in str(caught.value) and TOKEN not in str(caught.value)
    assert api.calls == []


def array_bytes(array: Any) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array, allow_pickle=True)
    return stream.getvalue()


def zip_bytes(**members: bytes) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return stream.getvalue()


def saved_bytes(value: Any) -> bytes:
    stream = io.BytesIO()
    torch.save(value, stream)
    return stream.getvalue()


OBJECTS = array_bytes(np.array([{}, None], dtype=object))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (saved_bytes({"a": torch.zeros(2)}), r"holds \w+/data.pkl, a pickle, as torch.save writes it"),
        (zip_bytes(weights=b"\x80\x04K\x01."), "holds weights, a pickle"),
        (zip_bytes(b=OBJECTS), "holds b, which is a NumPy array of Python objects"),
        (OBJECTS, "is a NumPy array of Python objects"),
        (array_bytes(np.zeros(2, dtype=[("a", "O")])), "is a NumPy array of Python objects"),
        (OBJECTS[:30], "is a NumPy array whose header can't be read"),
        (b"\x93NUMPY\x02\x00\xff\xff\xff\xff{", "is a NumPy array whose header can't be read"),
        (zip_bytes(a=b"abc" * 50).replace(b"PK\x03\x04", b"PK\x03\x05"), "is an archive that can't be looked into"),
    ],
    ids=[
        "a checkpoint of torch.save",
        "a pickle in an archive",
        "an array of objects in an archive",
        "an array of objects",
        "an array with a field of objects",
        "an array cut off",
        "an array with a header of 4 GiB",
        "an archive that is broken",
    ],
)
def test_a_pickle_under_another_name_is_refused(content: bytes, message: str, checkpoint: Path) -> None:
    (checkpoint / "weights.dat").write_bytes(content)
    with pytest.raises(TkreError, match=rf"^weights\.dat {message}.*: move it out of the folder$"):
        collect(PushArguments(str(checkpoint), "m"))


def test_arrays_and_archives_without_pickles_go_out(checkpoint: Path) -> None:
    files = {
        "a.npy": array_bytes(np.arange(3)),
        "none.npy": array_bytes(np.zeros(0)),
        "named.npy": array_bytes(np.zeros(1, dtype=[("é", "i4")])),
        "b.npz": zip_bytes(**{"x.npy": array_bytes(np.eye(2)), "notes.txt": b"x"}),
    }
    for name, content in files.items():
        (checkpoint / name).write_bytes(content)
    assert set(files) <= set(collect(PushArguments(str(checkpoint), "m")).files)


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("../outside.txt", "link is a link out of the folder: put a copy"),
        ("../outside", "link is a link out of the folder: put a copy"),
        ("../nothing", "link is a link that leads nowhere: remove it"),
        ("link", "link is a link that leads nowhere: remove it"),
        (".", "link is a link to a folder that it lies in itself: remove the link"),
        ("..", "link is a link to a folder that it lies in itself|link is a link out of the folder"),
    ],
)
def test_a_link_that_leads_out_or_nowhere_is_refused(target: str, message: str, checkpoint: Path) -> None:
    (checkpoint.parent / "outside.txt").write_text("a secret of the house")
    (checkpoint.parent / "outside").mkdir()
    (checkpoint.parent / "outside" / "a.txt").write_text("likewise")
    (checkpoint / "link").symlink_to(target)
    with pytest.raises(TkreError, match=message):
        collect(PushArguments(str(checkpoint), "m"))


def test_links_that_stay_and_those_of_the_hub_s_cache_go_out(checkpoint: Path) -> None:
    (checkpoint / "alias.json").symlink_to("config.json")
    cache = checkpoint.parent / "hub" / "models--ada--m"
    (cache / "blobs").mkdir(parents=True)
    (cache / "snapshots" / "abc").mkdir(parents=True)
    for path in [path for path in checkpoint.iterdir() if path.is_file() and not path.is_symlink()]:
        (cache / "blobs" / f"0{path.name}").write_bytes(path.read_bytes())
        (cache / "snapshots" / "abc" / path.name).symlink_to(f"../../blobs/0{path.name}")
    assert "alias.json" in collect(PushArguments(str(checkpoint), "m")).files
    assert "model.safetensors" in collect(PushArguments(str(cache / "snapshots" / "abc"), "m")).files
    # What stays at home may lead anywhere.
    (checkpoint / ".notes").symlink_to("nowhere")
    assert ".notes" in collect(PushArguments(str(checkpoint), "m")).at_home


def test_weights_that_lead_nowhere_are_one_sentence(checkpoint: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (checkpoint / "model.safetensors").unlink()
    (checkpoint / "model.safetensors").symlink_to("nowhere")
    for command in (["card", str(checkpoint)], ["push", str(checkpoint), "m", "--dry_run"]):
        assert main(command) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert "model.safetensors" in line and "link" in line


def test_the_user_s_own_token_is_found_in_any_form(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "unlike-all-others")
    (checkpoint / "notes.txt").write_text("it is unlike-all-others, she said")
    with pytest.raises(TkreError, match=r"notes\.txt holds what looks like an access token"):
        publish(PushArguments(str(checkpoint), "m"), FakeApi())  # type: ignore[arg-type]


BROKEN = [
    ("training_data.json", b"{", "broken JSON"),
    ("training_data.json", b'{"a": 1}', "doesn't tell how a model was trained"),
    ("training_data.json", b'[{"stage": "x", "sources": "y", "add_sources": []}]', "doesn't tell how a model"),
    ("test_results.json", b"[1]", "holds something else than metrics"),
    ("test_results.json", b'{"f1": "high"}', "holds something else than metrics"),
    ("test_results.json", b"\xff", "UTF-8"),
    (
        "results.json",
        b'[{"benchmark": "b", "system": "s", "setting": "5w1s", "metric": "accuracy", "value": "61.5"}]',
        "value is '61.5', not a number",
    ),
    ("relations.json", b'{"relations": [1]}', "doesn't tell a model's relations"),
    ("emissions.csv", b"\xff", "isn't codecarbon's"),
    ("README.md", b"caf\xe9", "is not UTF-8"),
]


@pytest.mark.parametrize(("name", "content", "message"), BROKEN)
def test_a_broken_file_beside_the_model_is_one_sentence(
    name: str, content: bytes, message: str, checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (checkpoint / name).write_bytes(content)
    assert main(["push", str(checkpoint), "ada/m", "--dry_run"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("tkre push: ") and name in line and message in line


@pytest.mark.parametrize("what", ["nothing", "no folder", "weights alone", "another model"])
def test_a_folder_without_a_model_is_refused(what: str, tmp_path: Path, backbone: Path) -> None:
    folder = {"no folder": tmp_path / "none", "another model": backbone}.get(what, tmp_path)
    if what == "weights alone":
        (tmp_path / "model.safetensors").write_bytes(b"")
    with pytest.raises(TkreError, match="there is no folder|holds no model|holds a model of type 'bert'"):
        publish(PushArguments(str(folder), "m"), FakeApi())  # type: ignore[arg-type]


def test_a_dry_run_lists_and_writes_nothing(
    checkpoint: Path, capsys: pytest.CaptureFixture[str], hub: Hub, online: Callable[[str], None]
) -> None:
    online(hub.url)
    before = {path: path.stat().st_mtime_ns for path in checkpoint.rglob("*")}
    assert main(["push", str(checkpoint), "me/my-model", "--dry_run"]) == 0
    out = capsys.readouterr().out
    size = (checkpoint / "model.safetensors").stat().st_size
    assert f"{size:>13,}  model.safetensors" in out and "for me/my-model" in out
    assert {path: path.stat().st_mtime_ns for path in checkpoint.rglob("*")} == before
    assert hub.calls == [] and "namespace" not in out
    assert main(["push", str(checkpoint), "my-model", "--dry_run"]) == 0
    assert "the namespace is still to be filled in" in capsys.readouterr().out
    assert main(["push", str(checkpoint), "bad name", "--dry_run"]) == 2
    assert "the Hub takes no repository of the name 'bad name'" in capsys.readouterr().err


def test_by_the_hub_s_own_routes(
    checkpoint: Path, hub: Hub, online: Callable[[str], None], capsys: pytest.CaptureFixture[str]
) -> None:
    online(hub.url)
    assert main(["push", str(checkpoint), "my-model", "--private", "--license", "mit"]) == 0
    out = capsys.readouterr().out
    assert f"published: {hub.url}/{USER}/my-model/commit/" in out and TOKEN not in out
    repo = hub.repos["models", f"{USER}/my-model"]
    files = repo.branches["main"]
    assert repo.private and repo.messages == ["Upload with tkre_hf"]
    assert files["model.safetensors"] == (checkpoint / "model.safetensors").read_bytes()
    assert "model.safetensors" in repo.lfs and len(hub.verified) == 1
    card = ModelCard(files["README.md"].decode())
    assert card.data.license == "mit" and not is_edited(files["README.md"].decode())
    # The name is the whole one, without which nobody else's from_pretrained finds the model.
    assert 'from_pretrained("ada/my-model")' in card.text and 'from_pretrained("my-model")' not in card.text

    # A second time nothing has changed, and there is no commit.
    assert main(["push", str(checkpoint), "my-model", "--license", "mit"]) == 0
    assert len(hub.verified) == 1

    (checkpoint / "README.md").unlink()
    assert main(["push", str(checkpoint), f"{USER}/my-model", "--revision", "v2", "--message", "second"]) == 0
    assert b'from_pretrained("ada/my-model")' in repo.branches["v2"]["README.md"]
    assert main(["push", str(checkpoint), "my-model", "--create_pr", "--license", "cc0-1.0"]) == 0
    assert "refs/pr/1" in repo.branches and f"{hub.url}/{USER}/my-model/discussions/1" in capsys.readouterr().out
    # Nothing that was sent names this machine's folders.
    for name, content in files.items():
        assert str(checkpoint.parent).encode() not in content, name


def test_what_was_of_the_weights_before_goes_with_them(
    checkpoint: Path,
    corpus_files: tuple[Path, Path],
    hub: Hub,
    online: Callable[[str], None],
    caplog: pytest.LogCaptureFixture,
) -> None:
    online(hub.url)
    assert main(["relations", "fit", "--model", str(checkpoint), "--relation_info", str(corpus_files[1])]) == 0
    assert main(["push", str(checkpoint), "my-model"]) == 0
    taught = {"prototypes.safetensors", "relations.json"}
    files = hub.repos["models", f"{USER}/my-model"].branches
    assert taught <= files["main"].keys()
    for name in taught:
        (checkpoint / name).unlink()
    # The same weights from a folder that knows of no relations.
    assert main(["push", str(checkpoint), "my-model", "--revision", "v2", "--license", "mit"]) == 0
    assert taught <= files["v2"].keys()
    weights = load_file(checkpoint / "model.safetensors")
    save_file({name: value / 2 for name, value in weights.items()}, checkpoint / "model.safetensors", {"format": "pt"})
    with caplog.at_level("WARNING"):
        assert main(["push", str(checkpoint), "my-model", "--revision", "v2"]) == 0
    assert not taught & files["v2"].keys() and "model.safetensors" in files["v2"]
    assert "prototypes.safetensors, relations.json of ada/my-model were of other weights" in caplog.text
    assert taught <= files["main"].keys()


def test_the_card_that_was_told_more_goes_out_under_the_new_name(
    checkpoint: Path, hub: Hub, online: Callable[[str], None], tmp_path: Path
) -> None:
    online(hub.url)
    rows = [{"benchmark": "mine", "system": "s", "setting": "5w1s", "metric": "accuracy", "value": 61.5}]
    (tmp_path / "rows.json").write_text(json.dumps(rows))
    command = ["card", str(checkpoint), "--license", "mit", "--results", str(tmp_path / "rows.json")]
    assert main(command) == 0
    assert main(["push", str(checkpoint), "ada/told"]) == 0
    text = hub.repos["models", "ada/told"].branches["main"]["README.md"].decode()
    card = ModelCard(text)
    assert card.data.license == "mit" and card.data.eval_results[0].metric_value == 61.5
    assert 'from_pretrained("ada/told")' in text and 'from_pretrained("my-model")' not in text and "# told" in text
    assert not is_edited(text)


@pytest.mark.parametrize("settings", [[], ["--license", "mit"], ["--results", "rows.json"], ["--system", "s"]])
def test_what_a_card_was_told_holds_on(
    settings: list[str], checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [{"benchmark": "mine", "system": "s", "setting": "5w1s", "metric": "accuracy", "value": 61.5}]
    for path in (tmp_path / "rows.json", checkpoint / "results.json"):
        path.write_text(json.dumps(rows))
    monkeypatch.chdir(tmp_path)
    assert main(["card", str(checkpoint), "--license", "cc0-1.0", "--tags", "geography"]) == 0
    assert main(["card", str(checkpoint), *settings]) == 0
    for card in (ModelCard.load(checkpoint / "README.md"), pushed_card(checkpoint, *settings)):
        licence = "mit" if "mit" in settings else "cc0-1.0"
        assert card.data.license == licence and f"The model: {licence}." in card.text
        assert "geography" in card.data.tags and len(set(card.data.tags)) == len(card.data.tags)


def test_a_licence_that_is_said_leaves_the_figures_where_they_are(checkpoint: Path, tmp_path: Path) -> None:
    rows = [{"benchmark": "mine", "system": "s", "setting": "5w1s", "metric": "accuracy", "value": 61.5}]
    (tmp_path / "rows.json").write_text(json.dumps(rows))
    assert main(["card", str(checkpoint), "--results", str(tmp_path / "rows.json")]) == 0
    card = pushed_card(checkpoint, "--license", "mit")
    assert card.data.eval_results[0].metric_value == 61.5 and "| s " in card.text
    assert card.data.license == "mit" and "The model: mit." in card.text


def test_figures_that_came_after_the_card_are_in_it(checkpoint: Path) -> None:
    assert main(["card", str(checkpoint), "--license", "cc0-1.0"]) == 0
    rows = [{"benchmark": "mine", "system": "s", "setting": "5w1s", "metric": "accuracy", "value": 61.5}]
    (checkpoint / "results.json").write_text(json.dumps(rows))
    card = pushed_card(checkpoint)
    assert card.data.eval_results[0].metric_value == 61.5 and "Not measured yet" not in card.text
    assert card.data.license == "cc0-1.0"


def pushed_card(folder: Path, *settings: str) -> ModelCard:
    """The card that ``tkre push`` would send."""
    given = {name.removeprefix("--"): value for name, value in zip(settings[::2], settings[1::2], strict=True)}
    upload = collect(PushArguments(str(folder), "ada/m", **given))  # type: ignore[arg-type]
    content = upload.files["README.md"]
    assert isinstance(content, bytes)
    return ModelCard(content.decode())


def test_a_card_that_a_person_wrote_goes_out_as_it_is(
    checkpoint: Path, hub: Hub, online: Callable[[str], None]
) -> None:
    online(hub.url)
    mine = "---\nlicense: mit\n---\n\n# Mine\n"
    (checkpoint / "README.md").write_text(mine)
    assert main(["push", str(checkpoint), "ada/m", "--license", "apache-2.0"]) == 0
    assert hub.repos["models", "ada/m"].branches["main"]["README.md"].decode() == mine


KEPT = "README.md of ada/m was edited by a person and stays as it is; --overwrite_card of `tkre push` replaces it"


@pytest.mark.parametrize("kind", ["model", "dataset"])
def test_a_card_that_a_person_edited_on_the_hub_stays(
    kind: Any, checkpoint: Path, records: list[dict[str, Any]], caplog: pytest.LogCaptureFixture
) -> None:
    folder = checkpoint
    if kind == "dataset":
        folder = checkpoint.parent / "knowledge"
        folder.mkdir()
        (folder / "records.jsonl").write_text(json.dumps(records[0]) + "\n")
    args = PushArguments(str(folder), "ada/m", kind, revision="v2")
    ours = collect(args).files["README.md"]
    assert isinstance(ours, bytes)
    for there, is_sent in (
        (None, True),
        (ours.decode(), True),
        (ours.decode().replace("\n", "\r\n"), True),
        (ours.decode().replace("## Limits\n", "## Limits\n\n- And mine.\n"), False),
        ("---\nlicense: mit\n---\n", False),
    ):
        caplog.clear()
        api: Any = FakeApi(card=there)
        publish(args, api)
        asked = {"repo_id": "ada/m", "filename": "README.md", "repo_type": kind, "revision": "v2"}
        assert ("hf_hub_download", asked) in api.calls
        assert ("README.md" in api.calls[-1][1]["paths"]) is is_sent and len(api.calls[-1][1]["paths"]) >= is_sent
        assert caplog.messages == ([] if is_sent else [KEPT])
    api = FakeApi(card="# Mine\n")
    publish(PushArguments(str(folder), "ada/m", kind, overwrite_card=True), api)
    assert "README.md" in api.calls[-1][1]["paths"] and "hf_hub_download" not in dict(api.calls)


def test_a_card_edited_on_the_hub_stays_by_its_own_routes(
    checkpoint: Path, hub: Hub, online: Callable[[str], None], caplog: pytest.LogCaptureFixture
) -> None:
    online(hub.url)
    command = ["push", str(checkpoint), "ada/m"]
    assert main(command) == 0 and not caplog.messages
    files = hub.repos["models", "ada/m"].branches["main"]
    mine = files["README.md"] + b"\nPS\n"
    files["README.md"] = mine
    (checkpoint / "notes.txt").write_text("new")
    assert main([*command, "--license", "mit"]) == 0
    files = hub.repos["models", "ada/m"].branches["main"]
    assert files["README.md"] == mine and files["notes.txt"] == b"new" and caplog.messages == [KEPT]
    # Another branch has a card of its own; and one's own card goes out once more only where that is said.
    (checkpoint / "README.md").write_text("---\nlicense: mit\n---\n\n# Mine here\n")
    assert main(command) == 0
    assert hub.repos["models", "ada/m"].branches["main"]["README.md"] == mine
    assert main([*command, "--overwrite_card"]) == 0
    assert hub.repos["models", "ada/m"].branches["main"]["README.md"].endswith(b"# Mine here\n")


def test_a_hub_that_does_not_tell_its_card_gets_none(
    checkpoint: Path, hub: Hub, online: Callable[[str], None], capsys: pytest.CaptureFixture[str]
) -> None:
    online(hub.url)
    hub.faults["resolve/main/README.md"] = (501, {"error": "down"})
    assert main(["push", str(checkpoint), "ada/m"]) == 2
    assert "the Hub failed (501): push again later" in capsys.readouterr().err
    assert set(hub.repos["models", "ada/m"].branches["main"]) == {".gitattributes"}


FAULTS = [
    ("whoami-v2", 401, {"error": "no"}, "the Hub doesn't know the token"),
    ("repos/create", 403, {"error": f"Forbidden for {TOKEN}"}, "your token may not write to ada/m"),
    ("commit", 403, {"error": "Forbidden"}, "your token may not write to ada/m"),
    ("preupload", 404, {"code": "RepoNotFound"}, "there is no ada/m on the Hub"),
    ("preupload", 404, {"code": "RevisionNotFound"}, "ada/m has no such revision"),
    ("repos/create", 400, {"error": f"the name is taken by {TOKEN}"}, "the Hub refused the upload to ada/m"),
    ("validate-yaml", 400, {"errors": [{"message": "license is wrong"}]}, "license is wrong"),
    ("objects/batch", 422, {"error": "too large"}, "the Hub refused the upload to ada/m"),
    ("/lfs/", 403, {"error": "quota"}, "your token may not write to ada/m"),
    ("commit", 429, {"error": "slow"}, "asks for fewer requests"),
]


@pytest.mark.parametrize(("route", "status", "body", "message"), FAULTS, ids=[f"{r}-{s}" for r, s, *_ in FAULTS])
def test_what_the_hub_refuses_is_one_sentence_without_the_token(
    route: str,
    status: int,
    body: dict[str, Any],
    message: str,
    checkpoint: Path,
    hub: Hub,
    online: Callable[[str], None],
    capsys: pytest.CaptureFixture[str],
) -> None:
    online(hub.url)
    hub.faults[route] = (status, body)
    assert main(["push", str(checkpoint), "ada/m"]) == 2
    shown = capsys.readouterr()
    # Above it there may be the bar of what was uploaded before.
    line = shown.err.splitlines()[-1]
    assert line.startswith("tkre push: ") and message in line and "Traceback" not in shown.err
    assert TOKEN not in shown.err + shown.out
    files = hub.repos.get(("models", "ada/m"), Repo()).branches["main"]
    assert "config.json" not in files


@pytest.mark.parametrize("repo", ["a/b/c", "with space", "-m", "ada/" + "x" * 100])
def test_a_name_that_the_hub_does_not_take(
    repo: str, checkpoint: Path, hub: Hub, online: Callable[[str], None], capsys: pytest.CaptureFixture[str]
) -> None:
    online(hub.url)
    assert main(["push", "--folder", str(checkpoint), f"--repo={repo}"]) == 2
    assert f"the Hub takes no repository of the name {repo!r}" in capsys.readouterr().err
    assert not hub.repos


def test_nobody_is_logged_in(
    checkpoint: Path,
    hub: Hub,
    online: Callable[[str], None],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    online(hub.url)
    monkeypatch.delenv("HF_TOKEN")
    monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", str(checkpoint / "none"))
    assert main(["push", str(checkpoint), "ada/m"]) == 2
    assert "nobody is logged in to the Hub: run `hf auth login`" in capsys.readouterr().err


def test_the_network_is_down_or_forbidden(
    checkpoint: Path,
    online: Callable[[str], None],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{closed.getsockname()[1]}"
    online(url)
    assert main(["push", str(checkpoint), "ada/m"]) == 2
    assert f"the Hub at {url} can't be reached" in capsys.readouterr().err


def test_offline_mode_says_so(checkpoint: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["push", str(checkpoint), "ada/m"]) == 2
    err = capsys.readouterr().err
    assert "unset HF_HUB_OFFLINE" in err or "nobody is logged in" in err
