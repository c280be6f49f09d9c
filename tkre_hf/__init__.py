"""Few-shot relation extraction for the Hugging Face ecosystem.

Importing this package makes transformers' Auto classes and pipelines know TKRE and PF-HIN, and imports neither
transformers nor torch: a public name's module is imported when the name is first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tkre_hf.lazy import lazy_exports
from tkre_hf.registry import register as _register

if TYPE_CHECKING:
    from tkre_hf.data.episodes import EpisodeDataset
    from tkre_hf.data.fewrel import FewRel
    from tkre_hf.data.hin import HINTables, read_hin
    from tkre_hf.data.jsonl import OpenNREJsonl
    from tkre_hf.data.kshot import KShotManifest, draw_kshot
    from tkre_hf.data.load import load_records
    from tkre_hf.data.semeval import SemEval2010Task8
    from tkre_hf.data.tacred import Tacred
    from tkre_hf.evaluation.metrics import SemEvalMacroF1, TacredMicroF1
    from tkre_hf.hub.model_card import write_card
    from tkre_hf.hub.pipelines import RelationExtractionPipeline
    from tkre_hf.hub.publish import PushArguments, publish
    from tkre_hf.hub.trainers import MSLMTrainer, PFHINTrainer, RelationTrainer, SCLTrainer
    from tkre_hf.pfhin.configuration_pfhin import PFHINConfig
    from tkre_hf.pfhin.embedding import EmbeddingTable
    from tkre_hf.pfhin.graph import HeteroGraph
    from tkre_hf.pfhin.modeling_pfhin import (
        PFHINForLinkPrediction,
        PFHINForNodeClassification,
        PFHINForNodeEmbedding,
        PFHINForPreTraining,
        PFHINModel,
    )
    from tkre_hf.pfhin.training_args import PFHINTrainingArguments
    from tkre_hf.tkre.configuration_tkre import TKREConfig
    from tkre_hf.tkre.modeling_classification import TKREForRelationClassification
    from tkre_hf.tkre.modeling_tkre import (
        TKREForFewShotClassification,
        TKREForMaskedSpanLM,
        TKREForPreTraining,
        TKREModel,
    )
    from tkre_hf.tkre.processing_tkre import TKREProcessor
    from tkre_hf.tkre.training_args import MSLMTrainingArguments, RelationTrainingArguments, SCLTrainingArguments

__all__ = [
    "EmbeddingTable",
    "EpisodeDataset",
    "FewRel",
    "HINTables",
    "HeteroGraph",
    "KShotManifest",
    "MSLMTrainer",
    "MSLMTrainingArguments",
    "OpenNREJsonl",
    "PFHINConfig",
    "PFHINForLinkPrediction",
    "PFHINForNodeClassification",
    "PFHINForNodeEmbedding",
    "PFHINForPreTraining",
    "PFHINModel",
    "PFHINTrainer",
    "PFHINTrainingArguments",
    "PushArguments",
    "RelationExtractionPipeline",
    "RelationTrainer",
    "RelationTrainingArguments",
    "SCLTrainer",
    "SCLTrainingArguments",
    "SemEval2010Task8",
    "SemEvalMacroF1",
    "TKREConfig",
    "TKREForFewShotClassification",
    "TKREForMaskedSpanLM",
    "TKREForPreTraining",
    "TKREForRelationClassification",
    "TKREModel",
    "TKREProcessor",
    "Tacred",
    "TacredMicroF1",
    "draw_kshot",
    "load_records",
    "publish",
    "read_hin",
    "write_card",
]

# Where each public name lives: a name is imported when it is first asked for.
_MODULES = {
    "data.episodes": ("EpisodeDataset",),
    "data.fewrel": ("FewRel",),
    "data.hin": ("HINTables", "read_hin"),
    "data.jsonl": ("OpenNREJsonl",),
    "data.kshot": ("KShotManifest", "draw_kshot"),
    "data.load": ("load_records",),
    "data.semeval": ("SemEval2010Task8",),
    "data.tacred": ("Tacred",),
    "evaluation.metrics": ("SemEvalMacroF1", "TacredMicroF1"),
    "hub.model_card": ("write_card",),
    "hub.pipelines": ("RelationExtractionPipeline",),
    "hub.publish": ("PushArguments", "publish"),
    "hub.trainers": ("MSLMTrainer", "PFHINTrainer", "RelationTrainer", "SCLTrainer"),
    "pfhin.configuration_pfhin": ("PFHINConfig",),
    "pfhin.embedding": ("EmbeddingTable",),
    "pfhin.graph": ("HeteroGraph",),
    "pfhin.modeling_pfhin": (
        "PFHINForLinkPrediction",
        "PFHINForNodeClassification",
        "PFHINForNodeEmbedding",
        "PFHINForPreTraining",
        "PFHINModel",
    ),
    "pfhin.training_args": ("PFHINTrainingArguments",),
    "tkre.configuration_tkre": ("TKREConfig",),
    "tkre.modeling_classification": ("TKREForRelationClassification",),
    "tkre.modeling_tkre": ("TKREForFewShotClassification", "TKREForMaskedSpanLM", "TKREForPreTraining", "TKREModel"),
    "tkre.processing_tkre": ("TKREProcessor",),
    "tkre.training_args": ("MSLMTrainingArguments", "RelationTrainingArguments", "SCLTrainingArguments"),
}
_get, _names = lazy_exports(__name__, _MODULES)


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("tkre-hf")
    return _get(name)


def __dir__() -> list[str]:
    return [*_names(), "__version__"]


_register()
