"""TKRE models: over any encoder, saved and loaded by any class, and started from what was pre-trained."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import functional as F
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForMaskedLM,
    AutoModelForPreTraining,
    AutoProcessor,
    BertConfig,
    DebertaV2Config,
    DistilBertConfig,
    ElectraConfig,
    ModernBertConfig,
    PretrainedConfig,
    RobertaConfig,
)

import tkre_hf  # noqa: F401  (registers the Auto classes)
from tkre_hf.tkre.configuration_tkre import TKREConfig
from tkre_hf.tkre.modeling_parts import AnchorTrust, mean_pool, pool_spans, relation_prototypes, unit
from tkre_hf.tkre.modeling_tkre import TKREForFewShotClassification, TKREForMaskedSpanLM, TKREForPreTraining, TKREModel
from tkre_hf.tkre.processing_tkre import TKREProcessor

from ..conftest import byte_level_tokenizer, tiny_bert, word_piece_tokenizer

VOCAB = 120
SIZES: dict[str, Any] = {"vocab_size": VOCAB, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
BACKBONES: dict[str, PretrainedConfig] = {
    "bert": BertConfig(**SIZES, intermediate_size=48, max_position_embeddings=64),
    "roberta": RobertaConfig(**SIZES, intermediate_size=48, max_position_embeddings=64),
    "deberta-v2": DebertaV2Config(
        **SIZES, intermediate_size=48, max_position_embeddings=64, relative_attention=True, pos_att_type=["p2c", "c2p"]
    ),
    "modernbert": ModernBertConfig(
        **SIZES, intermediate_size=48, max_position_embeddings=64, pad_token_id=0, cls_token_id=2, sep_token_id=3
    ),
    "distilbert": DistilBertConfig(vocab_size=VOCAB, dim=32, n_layers=2, n_heads=2, hidden_dim=48),
    "electra": ElectraConfig(**SIZES, embedding_size=16, intermediate_size=48, max_position_embeddings=64),
}


def inputs() -> dict[str, torch.Tensor]:
    """Two sentences, the second one shorter."""
    generator = torch.Generator().manual_seed(0)
    input_ids = torch.randint(5, VOCAB, (2, 12), generator=generator)
    attention_mask = torch.ones_like(input_ids)
    attention_mask[1, 9:] = 0
    entity_spans = torch.tensor([[[1, 4], [6, 9]], [[5, 8], [2, 4]]])
    return {"input_ids": input_ids, "attention_mask": attention_mask, "entity_spans": entity_spans}


def pretraining_inputs() -> dict[str, torch.Tensor]:
    labels = torch.full((2, 12), -100)
    labels[:, 3] = 7
    spans = torch.tensor([[[1, 4], [6, 9], [4, 6]], [[5, 8], [2, 4], [0, 0]]])
    return {
        **inputs(),
        "spans": spans,
        "anchor_input_ids": torch.tensor([[5, 6, 7], [8, 9, 0]]),
        "anchor_attention_mask": torch.tensor([[1, 1, 1], [1, 1, 0]]),
        "anchor_ids": torch.tensor([2, 0]),
        "mslm_input_ids": inputs()["input_ids"],
        "mslm_labels": labels,
    }


@pytest.mark.parametrize("backbone_config", BACKBONES.values(), ids=BACKBONES)
def test_any_encoder(backbone_config: PretrainedConfig) -> None:
    torch.manual_seed(0)
    model = TKREForPreTraining(TKREConfig(backbone_config, projection_dim=16))
    outputs = model(**pretraining_inputs())
    assert outputs.relation_embeds.shape == (2, 16)
    assert outputs.span_embeds.shape == (2, 3, 16)
    assert outputs.anchor_embeds.shape == (2, 16)
    ones = torch.ones(2)
    torch.testing.assert_close(outputs.relation_embeds.norm(dim=-1), ones)
    torch.testing.assert_close(outputs.anchor_embeds.norm(dim=-1), ones)
    assert (outputs.span_embeds[1, 2] == 0).all()  # an empty span
    weights = torch.randn(16)  # so that the loss depends on each embedding's direction
    (outputs.loss + sum((embeds @ weights).sum() for embeds in outputs.to_tuple()[1:])).backward()
    idle = [name for name, parameter in model.named_parameters() if parameter.grad is None or not parameter.grad.any()]
    assert not [name for name in idle if "position" not in name and "rel_embeddings" not in name], idle


@pytest.mark.parametrize("backbone_config", BACKBONES.values(), ids=BACKBONES)
def test_padding_changes_nothing(backbone_config: PretrainedConfig) -> None:
    torch.manual_seed(0)
    model = TKREModel(TKREConfig(backbone_config, projection_dim=16)).eval()
    batch = inputs()
    alone = {name: tensor[1:] for name, tensor in batch.items()}
    alone |= {name: alone[name][:, :9] for name in ("input_ids", "attention_mask")}
    with torch.no_grad():
        together, single = model(**batch).relation_embeds[1:], model(**alone).relation_embeds
        anchors = model(batch["input_ids"], batch["attention_mask"]).anchor_embeds[1:]
        anchor = model(alone["input_ids"]).anchor_embeds
    torch.testing.assert_close(together, single, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(anchors, anchor, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("name", ["bert", "roberta", "modernbert", "distilbert", "electra"])
def test_a_pretrained_masked_language_model_is_taken_over(name: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    original = AutoModelForMaskedLM.from_config(BACKBONES[name]).eval()
    with torch.no_grad():  # biases and norms are all alike in a new model
        for parameter in original.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.05)
    original.save_pretrained(tmp_path)
    model = TKREForMaskedSpanLM.from_backbone(str(tmp_path)).eval()
    batch = inputs()
    del batch["entity_spans"]
    with torch.no_grad():
        expected = original(**batch).logits
        found = model(**batch).logits
    kept = batch["attention_mask"].bool()
    torch.testing.assert_close(found[kept], expected[kept], atol=1e-4, rtol=1e-4)


def test_an_encoder_without_a_language_model_gets_a_new_head(tmp_path: Path) -> None:
    AutoModel.from_config(BACKBONES["bert"]).save_pretrained(tmp_path)
    model = TKREForMaskedSpanLM.from_backbone(str(tmp_path))
    assert model.lm_head.dense.weight.std().item() == pytest.approx(0.02, rel=0.3)


def test_markers_start_from_punctuation(backbone: Path, model: TKREForPreTraining, processor: TKREProcessor) -> None:
    weight = model.get_input_embeddings().weight
    assert (
        len(weight) == len(processor.tokenizer) == model.config.vocab_size == model.config.backbone_config.vocab_size
    )
    assert len(model.lm_head.bias) == len(weight)
    ids = processor.tokenizer.convert_tokens_to_ids
    assert processor.new_tokens == {ids(f"[{end}E{n}]"): [ids("@#"[n - 1])] for n in (1, 2) for end in ("", "/")}
    for token, (source,) in processor.new_tokens.items():
        assert torch.equal(weight[token], weight[source])
    original = AutoModel.from_pretrained(backbone).get_input_embeddings().weight
    assert torch.equal(weight[: len(original)], original)


HEADS = [TKREForMaskedSpanLM, TKREForPreTraining, TKREForFewShotClassification, TKREModel]


def test_a_checkpoint_passes_from_class_to_class(
    model: TKREForPreTraining, processor: TKREProcessor, tmp_path: Path
) -> None:
    """Stage 1, stage 2, few-shot use, and the model alone: what is saved by one is loaded by the next."""
    batch = processor(words=["Ada", "works", "for", "Kiel"], head=(0, 1), tail=(3, 4))
    del batch["truncated"]
    with torch.no_grad():
        expected = model.tkre(**batch).relation_embeds
        logits = model(**batch, mslm_input_ids=batch["input_ids"], mslm_labels=batch["input_ids"]).loss
    last: Any = model
    for i, cls in enumerate(HEADS):
        last.save_pretrained(tmp_path / str(i))
        last = cls.from_pretrained(tmp_path / str(i)).eval()
        with torch.no_grad():
            torch.testing.assert_close(last.base(**batch).relation_embeds, expected, atol=1e-6, rtol=1e-5)
    stage2 = TKREForPreTraining.from_pretrained(tmp_path / "1").eval()
    with torch.no_grad():
        again = stage2(**batch, mslm_input_ids=batch["input_ids"], mslm_labels=batch["input_ids"]).loss
    torch.testing.assert_close(again, logits)
    for name, parameter in last.state_dict().items():
        assert torch.equal(parameter, model.tkre.state_dict()[name])


def test_auto_classes(model: TKREForPreTraining, processor: TKREProcessor, tmp_path: Path) -> None:
    model.save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    assert isinstance(AutoConfig.from_pretrained(tmp_path), TKREConfig)
    assert isinstance(AutoProcessor.from_pretrained(tmp_path), TKREProcessor)
    for auto, cls in (
        (AutoModel, TKREModel),
        (AutoModelForMaskedLM, TKREForMaskedSpanLM),
        (AutoModelForPreTraining, TKREForPreTraining),
    ):
        loaded = auto.from_pretrained(tmp_path)
        assert type(loaded) is cls
        state = model.state_dict() if cls is not TKREModel else model.tkre.state_dict()
        assert all(torch.equal(parameter, state[name]) for name, parameter in loaded.state_dict().items())


def test_config_round_trip(tmp_path: Path) -> None:
    config = TKREConfig(
        BACKBONES["deberta-v2"], "entity_mask", 12, tau=0.2, lambda_mslm=0.5, num_learned_anchors=3, na_threshold=0.4
    )
    config.save_pretrained(tmp_path)
    loaded = TKREConfig.from_pretrained(tmp_path)
    assert isinstance(loaded.backbone_config, DebertaV2Config)
    for name in (
        "marker",
        "projection_dim",
        "tau",
        "lambda_mslm",
        "lambda_scl",
        "num_learned_anchors",
        "na_threshold",
    ):
        assert getattr(loaded, name) == getattr(config, name)
    assert loaded.hidden_size == 32 and loaded.vocab_size == VOCAB
    assert TKREConfig().backbone_config.model_type == "bert"
    with pytest.raises(ValueError, match="tau must be positive, found 0"):
        TKREConfig(tau=0)


def test_the_backbone_alone_loads_where_tkre_hf_is_not_imported(
    model: TKREForPreTraining, processor: TKREProcessor, tmp_path: Path
) -> None:
    model.save_backbone(str(tmp_path))
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["model_type"] == "bert" and "auto_map" not in config
    batch = processor(words=["Ada", "Kiel"], head=(0, 1), tail=(1, 2))
    ids = batch["input_ids"].tolist()
    code = (
        "import sys, torch; from transformers import AutoModel\n"
        f"model = AutoModel.from_pretrained({str(tmp_path)!r}, add_pooling_layer=False).eval()\n"
        "assert not any(name.startswith('tkre_hf') for name in sys.modules)\n"
        f"print(model(torch.tensor({ids})).last_hidden_state.sum().item())"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    with torch.no_grad():
        expected = model.tkre.encode(batch["input_ids"], batch["attention_mask"]).sum().item()
    assert float(done.stdout.split()[-1]) == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("sparse", [True, False])
def test_masked_span_loss(sparse: bool) -> None:
    torch.manual_seed(0)
    model = TKREForMaskedSpanLM(TKREConfig(BACKBONES["bert"], sparse_prediction=sparse)).eval()
    batch = inputs()
    del batch["entity_spans"]
    labels = torch.full((2, 12), -100)
    labels[0, 2], labels[1, 5], labels[1, 6] = 11, 12, 13
    all_logits = model(**batch).logits
    assert all_logits.shape == (2, 12, VOCAB)
    outputs = model(**batch, labels=labels)
    expected = F.cross_entropy(all_logits.flatten(0, 1), labels.flatten())
    torch.testing.assert_close(outputs.loss, expected)
    torch.testing.assert_close(model(**batch, labels=labels, num_items_in_batch=6).loss, expected / 2)
    shape = (3, VOCAB) if sparse else (2, 12, VOCAB)
    assert outputs.logits.shape == shape

    nothing = model(**batch, labels=torch.full((2, 12), -100)).loss
    assert nothing.item() == 0
    nothing.backward()
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)


def test_learned_anchors() -> None:
    torch.manual_seed(0)
    model = TKREForPreTraining(TKREConfig(BACKBONES["bert"], projection_dim=16, num_learned_anchors=4))
    outputs = model(**pretraining_inputs())
    table = model.tkre.learned_anchors.weight
    torch.testing.assert_close(outputs.anchor_embeds, F.normalize(table[[2, 0]], dim=-1))
    outputs.anchor_embeds[:, 0].sum().backward()
    moved = model.tkre.learned_anchors.weight.grad.abs().sum(1) > 0
    assert moved.tolist() == [True, False, True, False]


def test_pooling() -> None:
    hidden = torch.arange(24.0).reshape(1, 4, 6)
    mask = torch.tensor([[1, 1, 0, 0]])
    torch.testing.assert_close(mean_pool(hidden, mask), hidden[:, :2].mean(1))
    pooled = pool_spans(hidden, torch.tensor([[[0, 1], [1, 4], [2, 2]]]))
    torch.testing.assert_close(pooled[0, 0], hidden[0, 0])
    torch.testing.assert_close(pooled[0, 1], hidden[0, 1:4].mean(0))
    assert (pooled[0, 2] == 0).all()


def test_prototypes() -> None:
    torch.manual_seed(0)
    support, anchors = unit(torch.randn(3, 2, 8)), unit(torch.randn(3, 8))
    torch.testing.assert_close(relation_prototypes(support), unit(support.mean(1)))
    both = relation_prototypes(support, anchors, AnchorTrust(2.0, doubt=0.0))
    torch.testing.assert_close(both, unit(support.sum(1) + 2 * anchors))
    torch.testing.assert_close(relation_prototypes(support, anchors, AnchorTrust(0.0)), unit(support.mean(1)))


def test_anchors_that_the_supports_contradict_count_for_less() -> None:
    support = torch.eye(4)[:3, None].expand(3, 2, 4)
    right, wrong = torch.eye(4)[:3], torch.eye(4)[[1, 2, 0]]
    torch.testing.assert_close(relation_prototypes(support, wrong), torch.eye(4)[:3])
    # Half of each: as reliable as its mean probability says, and the less the more is doubted.
    mixed = unit(right + 0.5 * wrong)
    own = (mixed @ support[:, 0].T / 0.5).softmax(0).diagonal().mean()
    reliability = (own - 1 / 3) / (2 / 3)
    for doubt in (0.0, 1.0, 2.0):
        found = relation_prototypes(support, mixed, AnchorTrust(3.0, doubt, tau=0.5))
        torch.testing.assert_close(found, unit(support.sum(1) + 3 * reliability**doubt * mixed))
    batch = torch.stack([right, wrong])[:, None].expand(2, 5, 3, 4)
    found = relation_prototypes(support.expand(2, 5, 3, 2, 4), batch)
    torch.testing.assert_close(found, torch.eye(4)[:3].expand(2, 5, 3, 4), atol=1e-6, rtol=0)
    alone = relation_prototypes(support[:1], mixed[:1])
    torch.testing.assert_close(alone, unit(support[:1].sum(1) + 3 * mixed[:1]))


def test_the_model_and_the_episodes_make_the_same_prototypes(few_shot: TKREForFewShotClassification) -> None:
    torch.manual_seed(0)
    anchors = unit(torch.randn(5, 16))
    support = unit(anchors[:, None] + 0.5 * torch.randn(5, 3, 16))
    few_shot.config.tau = 0.5
    found = few_shot.prototypes(support.flatten(0, 1), torch.arange(5).repeat_interleave(3), anchors)
    torch.testing.assert_close(found, relation_prototypes(support, anchors, AnchorTrust(tau=0.5)))
    # A relation with a description alone has that, however little the others' are worth.
    found = few_shot.prototypes(support[:4].flatten(0, 1), torch.arange(4).repeat_interleave(3), -anchors)
    torch.testing.assert_close(found[4], -anchors[4])


@pytest.fixture
def few_shot() -> TKREForFewShotClassification:
    torch.manual_seed(0)
    return TKREForFewShotClassification(TKREConfig(BACKBONES["bert"], projection_dim=16)).eval()


def test_few_shot_classification(few_shot: TKREForFewShotClassification) -> None:
    batch = inputs()
    support = {f"support_{name}": tensor for name, tensor in batch.items()}
    outputs = few_shot(**batch, **support, support_labels=torch.tensor([1, 0]), labels=torch.tensor([1, 0]))
    assert outputs.logits.argmax(1).tolist() == [1, 0]  # each query is its own support
    torch.testing.assert_close(outputs.loss, F.cross_entropy(outputs.logits, torch.tensor([1, 0])))
    torch.testing.assert_close(outputs.logits, outputs.relation_embeds @ outputs.prototypes.T / few_shot.config.tau)
    again = few_shot(**batch, prototypes=outputs.prototypes)
    torch.testing.assert_close(again.logits, outputs.logits)

    anchors = {"anchor_input_ids": torch.tensor([[5, 6], [7, 8], [9, 5]])}
    zero_shot = few_shot(**batch, **anchors)
    assert zero_shot.logits.shape == (2, 3)
    with_both = few_shot(**batch, **anchors, **support, support_labels=torch.tensor([1, 0]))
    assert with_both.logits.shape == (2, 3)  # the third relation has its description alone
    torch.testing.assert_close(with_both.prototypes[2], zero_shot.prototypes[2])


def test_none_of_the_above_is_one_more_answer(few_shot: TKREForFewShotClassification) -> None:
    few_shot.config.na_threshold = 0.9999
    batch = inputs()
    outputs = few_shot(**batch, prototypes=unit(torch.randn(2, 16)), labels=torch.tensor([2, 2]))
    assert outputs.logits.shape == (2, 3)
    assert outputs.logits.argmax(1).tolist() == [2, 2]


def test_a_few_shot_call_that_lacks_something_is_refused(few_shot: TKREForFewShotClassification) -> None:
    batch = inputs()
    with pytest.raises(ValueError, match="entity_spans are needed"):
        few_shot(batch["input_ids"])
    with pytest.raises(ValueError, match="found neither"):
        few_shot(**batch)
    support = {f"support_{name}": tensor for name, tensor in batch.items()}
    with pytest.raises(ValueError, match="relation 1 has neither a support nor a description"):
        few_shot(**batch, **support, support_labels=torch.tensor([0, 2]))


def test_the_model_takes_ids_or_embeddings() -> None:
    model = TKREModel(TKREConfig(BACKBONES["bert"], projection_dim=16)).eval()
    batch = inputs()
    embeds = model.get_input_embeddings()(batch["input_ids"])
    by_ids = model(**batch).relation_embeds
    by_embeds = model(
        inputs_embeds=embeds, attention_mask=batch["attention_mask"], entity_spans=batch["entity_spans"]
    ).relation_embeds
    torch.testing.assert_close(by_ids, by_embeds)
    with pytest.raises(ValueError, match="either input_ids or inputs_embeds"):
        model(batch["input_ids"], inputs_embeds=embeds)


def test_gradient_checkpointing_changes_nothing() -> None:
    torch.manual_seed(0)
    config = tiny_bert(VOCAB, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
    model = TKREForPreTraining(TKREConfig(config, projection_dim=16)).train()
    gradients = []
    for _ in range(2):
        model.zero_grad()
        model(**pretraining_inputs()).relation_embeds[:, 0].sum().backward()
        gradients.append(model.tkre.encoder.get_input_embeddings().weight.grad.clone())
        model.gradient_checkpointing_enable()
    assert model.is_gradient_checkpointing
    torch.testing.assert_close(*gradients)


@pytest.mark.parametrize("make", [word_piece_tokenizer, byte_level_tokenizer])
def test_tokenizer_and_backbone_make_a_model(make: Any, tmp_path: Path) -> None:
    """From a folder with an encoder and its tokenizer to an embedding, as the README does it."""
    tokenizer = make()
    tokenizer.save_pretrained(tmp_path)
    AutoModelForMaskedLM.from_config(
        RobertaConfig(**{**SIZES, "vocab_size": len(tokenizer)}, max_position_embeddings=70)
    ).save_pretrained(tmp_path)
    processor = TKREProcessor.from_backbone(str(tmp_path), max_length=64)
    model = TKREModel.from_backbone(str(tmp_path), len(processor.tokenizer), processor.new_tokens).eval()
    batch = processor("Ada works for Kiel.", head=(0, 3), tail=(14, 18))
    del batch["truncated"]
    assert model(**batch).relation_embeds.shape == (1, 384)
