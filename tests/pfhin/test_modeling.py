"""The models: shapes, what they depend on, sharing, factorization, and that they are saved and loaded."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional as F
from transformers import AutoConfig, AutoModel, AutoModelForPreTraining

import tkre_hf
from tkre_hf.pfhin.centrality import ranks
from tkre_hf.pfhin.configuration_pfhin import PFHINConfig
from tkre_hf.pfhin.data_collator import PreTrainingCollator
from tkre_hf.pfhin.embedding import Neighborhoods
from tkre_hf.pfhin.graph import HeteroGraph
from tkre_hf.pfhin.inputs import NodeReader, config_for, edge_profiles
from tkre_hf.pfhin.modeling_parts import Aggregation, log_bins
from tkre_hf.pfhin.modeling_pfhin import (
    PFHINForLinkPrediction,
    PFHINForNodeClassification,
    PFHINForNodeEmbedding,
    PFHINForPreTraining,
    PFHINModel,
)
from tkre_hf.pfhin.pairs import IGNORED, PairSampler
from tkre_hf.pfhin.walks import Walker

from .test_objectives import WALK, keys

SMALL = {"hidden_size": 16, "embedding_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2}
SMALL |= {"intermediate_size": 24, "walk": WALK, "rank": "degree"}


def small(graph: HeteroGraph, ids: bool = True, **settings: Any) -> PFHINConfig:
    torch.manual_seed(0)
    return config_for(graph, ids, **{**SMALL, **settings})


def batch_of(graph: HeteroGraph, config: PFHINConfig, nodes: Any = range(12), **settings: Any) -> dict[str, Any]:
    rank, parts = ranks(graph, "degree")
    reader = NodeReader(graph, parts, config)
    return PreTrainingCollator(Walker(graph, rank, WALK), reader, PairSampler(graph), **settings)(keys(nodes))


@pytest.mark.parametrize("ids", [True, False])
@pytest.mark.parametrize("aggregation", ["mean", "bilstm", "none"])
def test_pre_training_gives_losses_near_chance(ids: bool, aggregation: str, graph: HeteroGraph) -> None:
    config = small(graph, ids, aggregation=aggregation, label_smoothing=0.0, profile=aggregation == "mean")
    model = PFHINForPreTraining(config).eval()
    batch = batch_of(graph, config)
    outputs = model(**batch)
    assert outputs.node_embeds.shape == (24, 16) and outputs.anp_logits.shape == (12,)
    asked = (batch["anp_labels"] != IGNORED).float().mean().item()
    assert outputs.anp_loss.item() == pytest.approx(asked * math.log(2), rel=0.1)
    if ids:
        types = batch["node_types"][batch["labels"] != IGNORED]
        sizes = torch.tensor(config.nodes_per_type)[types].float().log()
        assert outputs.mnm_loss.item() == pytest.approx(sizes.mean().item(), rel=0.25)
    torch.testing.assert_close(outputs.loss, outputs.mnm_loss + outputs.anp_loss)
    outputs.loss.backward()
    # Every weight has its part in the loss.
    idle = [name for name, weight in model.named_parameters() if weight.grad is None]
    assert not idle, idle


def test_without_structure_a_position_is_its_node_and_type_alone(graph: HeteroGraph) -> None:
    config = small(graph, structure=False)
    model = PFHINForPreTraining(config).eval()
    batch = batch_of(graph, config)
    places = ("edge_types", "hops", "visits", "ranks", "degrees")
    elsewhere = {**batch, **{name: torch.zeros_like(batch[name]) for name in places}}
    with torch.no_grad():
        torch.testing.assert_close(model(**elsewhere).loss, model(**batch).loss, rtol=0, atol=0)
    # With it each of them counts.
    whole = PFHINForPreTraining(small(graph)).eval()
    for name in places:
        with torch.no_grad():
            moved = whole(**{**batch, name: torch.zeros_like(batch[name])})
        assert moved.loss != whole(**batch).loss, name
    gone = {name for name, _ in whole.named_parameters()} - {name for name, _ in model.named_parameters()}
    assert gone == {f"pfhin.embeddings.{name}.weight" for name in ("edge_type", "hops", "rank", "degree", "visits")}
    with pytest.raises(ValueError, match="neither ids nor features nor texts nor profiles"):
        small(graph, ids=False, structure=False)


def test_weights_of_the_objectives(graph: HeteroGraph) -> None:
    config = small(graph, lambda_mnm=0.0, lambda_anp=2.0)
    outputs = PFHINForPreTraining(config).eval()(**batch_of(graph, config))
    assert outputs.mnm_loss is None
    torch.testing.assert_close(outputs.loss, 2 * outputs.anp_loss)
    config = small(graph, lambda_mnm=0.5, lambda_anp=0.0)
    outputs = PFHINForPreTraining(config).eval()(**batch_of(graph, config))
    assert outputs.anp_loss is None
    torch.testing.assert_close(outputs.loss, 0.5 * outputs.mnm_loss)


def test_a_batchs_loss_is_the_mean_of_its_parts(graph: HeteroGraph) -> None:
    config = small(graph)
    model = PFHINForPreTraining(config).eval()
    whole, first, second = (model(**batch_of(graph, config, n)) for n in (range(12), range(6), range(6, 12)))
    for name in ("loss", "mnm_loss", "anp_loss"):
        torch.testing.assert_close(whole[name], (first[name] + second[name]) / 2)


def test_padding_changes_nothing(graph: HeteroGraph) -> None:
    for aggregation in ("mean", "bilstm"):
        config = small(graph, aggregation=aggregation)
        model = PFHINModel(config).eval()
        inputs = Neighborhoods(PFHINForNodeEmbedding(config), graph).inputs(np.arange(10))
        plain = model(**inputs)
        width = inputs["node_types"].shape[1]
        padded = {name: F.pad(value, (0, 0, 0, 3) if value.ndim == 3 else (0, 3)) for name, value in inputs.items()}
        more = model(**padded)
        torch.testing.assert_close(more.node_embeds, plain.node_embeds)
        valid = inputs["attention_mask"].bool()
        torch.testing.assert_close(more.last_hidden_state[:, :width][valid], plain.last_hidden_state[valid])


def test_in_bfloat16_a_cpu_attends_in_float32(graph: HeteroGraph, monkeypatch: pytest.MonkeyPatch) -> None:
    model = PFHINModel(small(graph)).eval()
    inputs = Neighborhoods(model, graph).inputs(np.arange(6))
    plain, attend = model(**inputs).last_hidden_state, F.scaled_dot_product_attention
    seen = []

    def recorded(*given: torch.Tensor, **settings: Any) -> torch.Tensor:
        result = attend(*given, **settings)
        seen.append((given[0].dtype, result.dtype))
        return result

    monkeypatch.setattr(F, "scaled_dot_product_attention", recorded)
    with torch.autocast("cpu", torch.bfloat16):
        found = model(**inputs).last_hidden_state
    assert seen == [(torch.float32, torch.float32)] * 2
    torch.testing.assert_close(found.float(), plain, atol=0.06, rtol=0)
    assert not torch.equal(found.float(), plain)


@pytest.mark.parametrize("ids", [True, False])
def test_what_is_hidden_has_no_part(ids: bool, graph: HeteroGraph) -> None:
    config = small(graph, ids, profile=True)
    model = PFHINModel(config).eval()
    inputs = Neighborhoods(PFHINForNodeEmbedding(config), graph).inputs(np.arange(6))
    hidden = torch.zeros_like(inputs["node_types"], dtype=torch.bool)
    hidden[:, [0, 2]] = True
    other = {**inputs, "ranks": inputs["ranks"].clone(), "degrees": inputs["degrees"].clone()}
    other["ranks"][:, 2], other["degrees"][:, 2] = 0.01, 1000
    other["profiles"] = inputs["profiles"].clone()
    other["profiles"][:, 2] = 3.0
    if ids:
        other["node_ids"] = inputs["node_ids"].clone()
        other["node_ids"][:, 2] = 0
    one, two = (model(**given, node_mask=hidden).last_hidden_state for given in (inputs, other))
    torch.testing.assert_close(one, two)
    assert not torch.allclose(model(**other).last_hidden_state, model(**inputs).last_hidden_state)


def test_numbering_changes_nothing(graph: HeteroGraph) -> None:
    order = np.random.default_rng(0).permutation(graph.num_nodes)
    for ids in (False, True):
        model = PFHINForNodeEmbedding(small(graph, ids, rank="centrality", profile=True)).eval()
        inputs = Neighborhoods(model, graph).inputs(order)
        theirs = Neighborhoods(model, graph.permuted(order)).inputs(np.arange(len(order)))
        assert inputs.keys() == theirs.keys()
        for name, value in inputs.items():
            assert torch.equal(theirs[name], value), name
        torch.testing.assert_close(model(**theirs).node_embeds, model(**inputs).node_embeds)


def test_profiles_count_edges_of_each_type_both_ways_and_none_that_are_held_out(graph: HeteroGraph) -> None:
    src, dst, kind = graph.edges()
    expected = np.zeros((graph.num_nodes, 6))
    for head, tail, type in zip(src, dst, kind, strict=True):
        expected[head, type] += 1
        expected[tail, type + 3] += 1
    np.testing.assert_allclose(edge_profiles(graph), np.log1p(expected), atol=1e-6)
    # A model's columns are its own edge types', whichever the graph has.
    config = small(graph, ids=False, profile=True)
    config.edge_types = ["other", *graph.edge_types]
    reader = NodeReader(graph, ranks(graph, "degree")[1], config)
    assert reader.profiles is not None
    np.testing.assert_allclose(reader.profiles[:, [1, 2, 3, 5, 6, 7]], np.log1p(expected), atol=1e-6)
    assert not reader.profiles[:, [0, 4]].any()
    rest = graph.without_edges(src[:1], dst[:1], kind[:1])
    lost = np.expm1(edge_profiles(graph)) - np.expm1(edge_profiles(rest))
    assert lost.sum() == pytest.approx(2, abs=1e-5)
    assert lost[src[0], kind[0]] == pytest.approx(1, abs=1e-5) == lost[dst[0], kind[0] + 3]


def test_layers_share_and_embeddings_are_factorized(graph: HeteroGraph) -> None:
    def count(**settings: Any) -> int:
        model = PFHINModel(small(graph, **{"num_hidden_layers": 4, **settings}))
        return sum(weight.numel() for weight in model.parameters())

    shared, paired, apart = (count(num_hidden_groups=n) for n in (1, 2, 4))
    assert apart - paired == 2 * (paired - shared) > 0
    # V x E + E x H against V x H.
    assert count(embedding_size=None) - shared == graph.num_nodes * 16 - (graph.num_nodes * 8 + 8 * 16)
    config = small(graph, num_hidden_layers=4, num_hidden_groups=2)
    used: list[int] = []
    model = PFHINModel(config).eval()
    for i, layer in enumerate(model.groups):
        layer.register_forward_hook(lambda *_, i=i: used.append(i))
    model(**Neighborhoods(PFHINForNodeEmbedding(config), graph).inputs(np.arange(2)))
    assert used == [0, 0, 1, 1]


def test_a_bilstm_reads_each_type_by_itself() -> None:
    torch.manual_seed(0)
    config = PFHINConfig(node_types=["a", "b"], aggregation="bilstm", hidden_size=8, num_attention_heads=2)
    aggregate = Aggregation(config)
    states, types = torch.randn(2, 5, 8), torch.tensor([[0, 0, 0, 1, 1], [1, 0, 1, 0, 0]])
    valid = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]])
    read = aggregate(states, types, valid)
    for row, part in ((0, slice(0, 1)), (0, slice(1, 3)), (0, slice(3, 5)), (1, slice(1, 2)), (1, slice(2, 3))):
        torch.testing.assert_close(read[row, part], aggregate.lstm(states[row, part][None])[0][0])
    assert not read[1, 3:].any()


def test_sampled_softmax_is_the_whole_one_in_expectation(graph: HeteroGraph) -> None:
    config = small(graph, label_smoothing=0.0)
    model = PFHINForPreTraining(config).eval()
    torch.nn.init.normal_(model.pfhin.embeddings.ids.weight, std=0.3)
    torch.nn.init.normal_(model.mnm_head.bias, std=0.5)
    with torch.no_grad():
        whole = model(**batch_of(graph, config)).mnm_loss
        sampled = model(**batch_of(graph, config, sampled_softmax_above=10, num_sampled=20_000)).mnm_loss
        few = model(**batch_of(graph, config, sampled_softmax_above=10, num_sampled=3)).mnm_loss
    torch.testing.assert_close(sampled, whole, atol=0.02, rtol=0)
    assert not torch.allclose(few, whole, atol=0.02)


def test_heads(graph: HeteroGraph) -> None:
    config = small(graph, num_labels=3)
    inputs = Neighborhoods(PFHINForNodeEmbedding(config), graph).inputs(np.arange(8))
    outputs = PFHINForNodeClassification(config).eval()(**inputs, labels=torch.arange(8) % 3)
    assert outputs.logits.shape == (8, 3) and outputs.loss.item() == pytest.approx(math.log(3), rel=0.1)
    kinds = torch.tensor([0, 1, 2, 0])
    links = PFHINForLinkPrediction(config).eval()
    outputs = links(kinds, labels=torch.tensor([0, 1, 1, 0]), **inputs)
    assert outputs.logits.shape == (4,) and outputs.loss.item() == pytest.approx(math.log(2), rel=0.1)
    # A link has a direction, and a type.
    turned = {name: value.flip(0) for name, value in inputs.items()}
    assert not torch.allclose(links(kinds, **turned).logits.flip(0), outputs.logits)
    assert not torch.allclose(links(kinds.roll(1), **inputs).logits, outputs.logits)
    embeds = PFHINForNodeEmbedding(config).eval()(**inputs).node_embeds
    torch.testing.assert_close(embeds.norm(dim=1), torch.ones(8))


def test_saved_and_loaded_by_auto_classes(graph: HeteroGraph, tmp_path: Path) -> None:
    config = small(graph, num_labels=3)
    model = PFHINForPreTraining(config).eval()
    model.save_pretrained(tmp_path)
    assert (tmp_path / "model.safetensors").exists() and not list(tmp_path.glob("*.bin"))
    again = AutoModelForPreTraining.from_pretrained(tmp_path).eval()
    assert type(again) is PFHINForPreTraining is tkre_hf.PFHINForPreTraining
    batch = batch_of(graph, config)
    torch.testing.assert_close(again(**batch).loss, model(**batch).loss)
    base = AutoModel.from_pretrained(tmp_path).eval()
    inputs = Neighborhoods(model, graph).inputs(np.arange(4))
    torch.testing.assert_close(base(**inputs).node_embeds, model.pfhin(**inputs).node_embeds)
    assert AutoConfig.from_pretrained(tmp_path).walk == config.walk == {**vars(WALK), "rank": "degree"}
    head = PFHINForNodeClassification.from_pretrained(tmp_path, num_labels=5)
    torch.testing.assert_close(head.pfhin.pooler.weight, model.pfhin.pooler.weight)
    assert head.classifier.out_features == 5


def test_what_is_missing_is_said(graph: HeteroGraph) -> None:
    config = small(graph)
    model = PFHINModel(config)
    inputs = Neighborhoods(PFHINForNodeEmbedding(config), graph).inputs(np.arange(2))
    del inputs["node_ids"]
    with pytest.raises(ValueError, match="node_ids are needed"):
        model(**inputs)
    reading = PFHINModel(small(graph, ids=False, text_size=4))
    with pytest.raises(ValueError, match="text_embeds are needed"):
        reading(**inputs)
    counting = PFHINModel(small(graph, ids=False, profile=True))
    with pytest.raises(ValueError, match="profiles are needed"):
        counting(**inputs)
    # A node without text is known by the rest.
    texts = torch.full((*inputs["node_types"].shape, 4), float("nan"))
    assert reading(**inputs, text_embeds=texts).node_embeds.isfinite().all()
    for wrong, message in (
        ({"aggregation": "max"}, "expected bilstm, mean or none"),
        ({"num_hidden_groups": 4}, "num_hidden_groups must lie from 1 to 3"),
        ({"hidden_size": 30}, "no multiple of 4"),
        ({"nodes_per_type": [1, 2]}, "2 nodes_per_type for 1 node_types"),
    ):
        with pytest.raises(ValueError, match=message):
            PFHINConfig(**wrong)


def test_log_bins() -> None:
    assert log_bins(torch.tensor([0, 1, 2, 3, 4, 7, 8, 1000]), 6).tolist() == [0, 1, 2, 2, 3, 3, 4, 5]
