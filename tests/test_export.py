"""Exported graphs say what the checkpoint says, on any number of sentences of any length."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from tkre_hf.cli import main as tkre
from tkre_hf.errors import TkreError
from tkre_hf.tkre.loading import load_pipeline
from tkre_hf.tkre.modeling_classification import TKREForRelationClassification
from tkre_hf.tkre.modeling_tkre import TKREForFewShotClassification
from tkre_hf.tkre.onnx_export import OnnxModel
from tkre_hf.tkre.processing_tkre import TKREProcessor

ATOL = 1e-4


@pytest.fixture(scope="module")
def checkpoints(backbone: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A few-shot model that knows two relations, and a classifier of three."""
    processor = TKREProcessor.from_backbone(str(backbone), max_length=64)
    settings = {"vocab_size": len(processor.tokenizer), "new_tokens": processor.new_tokens}
    folders = {}
    torch.manual_seed(0)
    for name, model in (
        ("few_shot", TKREForFewShotClassification.from_backbone(str(backbone), projection_dim=16, **settings)),
        ("classifier", TKREForRelationClassification.from_backbone(str(backbone), num_labels=3, **settings)),
    ):
        folders[name] = tmp_path_factory.mktemp(name)
        model.save_pretrained(folders[name])
        processor.save_pretrained(folders[name])
    pipe = load_pipeline(str(folders["few_shot"]), device="cpu")
    pipe.fit(descriptions={"capital": "city that rules a country", "author": "who wrote a book"})
    pipe.save_relations(folders["few_shot"])
    return folders


def batches() -> list[dict[str, torch.Tensor]]:
    """Sentences in several shapes: one and many, short, as long as the window, padded and not."""
    generator = torch.Generator().manual_seed(0)
    found = []
    for batch, length in ((1, 6), (1, 64), (2, 9), (5, 31)):
        ids = torch.randint(5, 90, (batch, length), generator=generator)
        mask = torch.ones_like(ids)
        for row in range(1, batch):
            mask[row, 6 + row :] = 0
        spans = torch.tensor([[[1, 2], [3 + row % 2, 5]] for row in range(batch)])
        found.append({"input_ids": ids * mask, "attention_mask": mask, "entity_spans": spans})
    return found


def arrays(inputs: dict[str, torch.Tensor]) -> dict[str, np.ndarray]:
    return {name: value.numpy() for name, value in inputs.items()}


@torch.no_grad()
def test_a_few_shot_model_is_the_same_model(checkpoints: dict[str, Path], tmp_path: Path) -> None:
    pytest.importorskip("onnxscript"), pytest.importorskip("onnxruntime")
    out = tmp_path / "out"
    assert tkre(["export", str(checkpoints["few_shot"]), "-o", str(out)]) == 0
    model = TKREForFewShotClassification.from_pretrained(checkpoints["few_shot"]).eval()
    exported = OnnxModel(out, threads=1)
    embeds = []
    for inputs in batches():
        expected = model.tkre(**inputs).relation_embeds
        np.testing.assert_allclose(exported(**arrays(inputs))["relation_embeds"], expected, atol=ATOL)
        text = {name: inputs[name] for name in ("input_ids", "attention_mask")}
        anchors = model.tkre(**text).anchor_embeds
        np.testing.assert_allclose(exported(**arrays(text))["anchor_embeds"], anchors, atol=ATOL)
        embeds.append(expected)
    queries = embeds[3]
    for n_way in (1, 2, 4):
        prototypes = torch.nn.functional.normalize(torch.randn(n_way, 16), dim=-1)
        for threshold in (0.4, None):
            model.config.na_threshold = threshold
            logits = model(**batches()[3], prototypes=prototypes).logits
            got = exported.logits(queries.numpy(), prototypes.numpy(), threshold)
            assert got.shape == (5, n_way + 1)
            # A logit is a cosine over τ.
            np.testing.assert_allclose(got[:, : logits.shape[1]], logits, atol=ATOL / model.config.tau)
            assert threshold is not None or np.isneginf(got[:, -1]).all()
    # What the checkpoint was taught goes with it, and so does all that turns text into numbers.
    relations = [(checkpoints["few_shot"] / "relations.json").read_text(), (out / "relations.json").read_text()]
    assert relations[0] == relations[1]
    assert TKREProcessor.from_pretrained(out).max_length == 64
    assert not [path for path in out.iterdir() if path.name.startswith(".")]


@torch.no_grad()
def test_a_classifier_is_the_same_classifier(checkpoints: dict[str, Path], tmp_path: Path) -> None:
    pytest.importorskip("onnxscript"), pytest.importorskip("onnxruntime")
    full, small = tmp_path / "full", tmp_path / "int8"
    assert tkre(["export", str(checkpoints["classifier"]), "-o", str(full)]) == 0
    assert tkre(["export", str(checkpoints["classifier"]), "-o", str(small), "--int8"]) == 0
    assert (small / "model.onnx").stat().st_size < (full / "model.onnx").stat().st_size
    model = TKREForRelationClassification.from_pretrained(checkpoints["classifier"]).eval()
    for inputs in batches():
        expected = model(**inputs).logits
        np.testing.assert_allclose(OnnxModel(full, 1)(**arrays(inputs))["logits"], expected, atol=ATOL)
        # 8 bits tell three digits apart at best.
        np.testing.assert_allclose(OnnxModel(small, 1)(**arrays(inputs))["logits"], expected, atol=0.05)
    with pytest.raises(TkreError, match="holds no few_shot.onnx: it is no few-shot model's"):
        OnnxModel(full).logits(np.zeros((1, 3)), np.zeros((1, 3)))


def test_nothing_of_another_model_stays(checkpoints: dict[str, Path], tmp_path: Path) -> None:
    pytest.importorskip("onnxscript"), pytest.importorskip("onnxruntime")
    out = tmp_path / "out"
    assert tkre(["export", str(checkpoints["few_shot"]), "-o", str(out)]) == 0
    left = {"few_shot.onnx", "prototypes.safetensors", "relations.json"}
    assert left <= {path.name for path in out.iterdir()}
    assert tkre(["export", str(checkpoints["classifier"]), "-o", str(out)]) == 0
    assert not left & {path.name for path in out.iterdir()}
    with pytest.raises(TkreError, match="it is no few-shot model's"):
        OnnxModel(out).logits(np.zeros((1, 3)), np.zeros((1, 3)))


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["nowhere"], "the checkpoint nowhere can't be loaded"),
        (["a", "b"], "unexpected argument 'b'"),
        (["a", "--format", "pickle"], "--format"),
    ],
)
def test_what_is_wrong_is_said_in_one_sentence(
    argv: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert tkre(["export", *argv]) == 2
    (error,) = capsys.readouterr().err.splitlines()
    assert error.startswith("tkre export: ") and message in error


def test_a_missing_package_is_named(
    checkpoints: dict[str, Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for package in ("onnx", "onnxruntime"):
        monkeypatch.setitem(__import__("sys").modules, package, None)
    assert tkre(["export", str(checkpoints["classifier"]), "-o", str(tmp_path / "out")]) == 2
    assert "pip install 'tkre-hf[onnx]'" in capsys.readouterr().err
    with pytest.raises(TkreError, match="holds no model.onnx: write it with 'tkre export'"):
        OnnxModel(tmp_path)
    (tmp_path / "model.onnx").touch()
    with pytest.raises(TkreError, match="onnxruntime: pip install"):
        OnnxModel(tmp_path)
