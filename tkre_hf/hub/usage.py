"""Code that uses a model, for its card: each of these runs as it stands, given the model."""

from __future__ import annotations

from tkre_hf.evaluation.report import markdown
from tkre_hf.hub.facts import CardFacts

_SENTENCE = '"Oslo is the capital of Norway.", head=(0, 4), tail=(23, 29)'

_FEW_SHOT = """\
import tkre_hf
from transformers import AutoProcessor

processor = AutoProcessor.from_pretrained("{name}")
model = tkre_hf.TKREForFewShotClassification.from_pretrained("{name}")

relations = {{"capital of": "city that is the seat of a government", "spouse": "person that somebody is married to"}}
anchors = processor.pad(processor.encode_anchors(list(relations), list(relations.values())))
query = processor({sentence})
scores = model(**query, anchor_input_ids=anchors["input_ids"], anchor_attention_mask=anchors["attention_mask"]).logits
print(list(relations)[scores.argmax()])
"""

_TAUGHT = """\
import tkre_hf
from transformers import pipeline

extract = pipeline("relation-extraction", model="{name}")
print(extract("[E1]Oslo[/E1] is the capital of [E2]Norway[/E2]."))
"""

_MASKED = """\
import tkre_hf
from transformers import AutoModelForMaskedLM, AutoProcessor

processor = AutoProcessor.from_pretrained("{name}")
model = AutoModelForMaskedLM.from_pretrained("{name}")

text = f"Oslo is the {{processor.tokenizer.mask_token}} of Norway."
inputs = processor(text, head=(0, 4), tail=(text.index("Norway"), len(text) - 1))
masked = inputs["input_ids"] == processor.tokenizer.mask_token_id
logits = model(inputs["input_ids"], inputs["attention_mask"]).logits
print(processor.tokenizer.decode(logits[masked].argmax(-1)))
"""

_CLASSIFIER = """\
import tkre_hf
from transformers import AutoModelForSequenceClassification, AutoProcessor

processor = AutoProcessor.from_pretrained("{name}")
model = AutoModelForSequenceClassification.from_pretrained("{name}")

inputs = processor({sentence})
logits = model(inputs["input_ids"], inputs["attention_mask"], inputs["entity_spans"]).logits
print(model.config.id2label[int(logits.argmax())])
"""

_REMOTE = """\
from transformers import AutoModel, AutoProcessor

processor = AutoProcessor.from_pretrained("{name}", trust_remote_code=True)
model = AutoModel.from_pretrained("{name}", trust_remote_code=True)
inputs = processor({sentence})
vector = model(inputs["input_ids"], inputs["attention_mask"], inputs["entity_spans"]).relation_embeds
"""

_NETWORK = """\
from tkre_hf.hin_training import load_model, neighborhoods_of
from tkre_hf.pfhin.embedding import embed_nodes

name = "{name}"  # the network's graph lies beside the model
model = load_model(name)
vectors = embed_nodes(model, neighborhoods_of(name, model))
"""

_NETWORK_TASK = """\
import numpy as np
from tkre_hf import {model_class}
from tkre_hf.hin_training import load_model, neighborhoods_of
from tkre_hf.pfhin.finetuning import {predict}

name = "{name}"  # the network's graph lies beside the model
model = load_model(name, {model_class})
neighborhoods = neighborhoods_of(name, model)
{call}
"""

_CALLS = {
    "PFHINForNodeClassification": (
        "predict_nodes",
        "probabilities = predict_nodes(model, neighborhoods, np.arange(10))  # of the first ten nodes\n"
        "print([model.config.id2label[int(i)] for i in probabilities.argmax(-1)])",
    ),
    "PFHINForLinkPrediction": (
        "predict_links",
        "print(predict_links(model, neighborhoods, np.array([[0, 0, 1]])))  # source, type of edge, target",
    ),
}


def usage(facts: CardFacts) -> str:
    """How to load and call a model: Markdown with code."""
    if facts.is_network:
        return _network(facts)
    code = {"TKREForMaskedSpanLM": _MASKED, "TKREForRelationClassification": _CLASSIFIER}.get(
        facts.model_class, _TAUGHT if facts.taught else _FEW_SHOT
    )
    parts = [_block(code, facts)]
    if code is _TAUGHT:
        parts.append("The marks stand around head and tail. These are the relations that it was taught:")
        parts.append(_relations(facts))
    else:
        parts.append("Spans are the entities' characters, and end before their `end`.")
    if code is _FEW_SHOT:
        parts.append(
            "`support_input_ids` and the like add labelled examples of each relation; without any, as here, names and "
            "descriptions alone decide."
        )
    parts.append("Where tkre_hf isn't installed, transformers loads the encoder with the code beside it:")
    parts.append(_block(_REMOTE, facts))
    return "\n\n".join(parts)


def _block(code: str, facts: CardFacts, **more: str) -> str:
    return f"```python\n{code.format(name=facts.name, sentence=_SENTENCE, **more)}```"


def _relations(facts: CardFacts) -> str:
    cells = [["relation", "name", "description"], ["---", "---", "---"]]
    for row in facts.taught:
        told = [row["relation"], row["name"], row["description"]]
        # A line's end or a bar would end the cell.
        cells.append([" ".join(text.split()).replace("|", "\\|") for text in told])
    return markdown(cells)


def _network(facts: CardFacts) -> str:
    if facts.model_class in _CALLS:
        predict, call = _CALLS[facts.model_class]
        return _block(_NETWORK_TASK, facts, model_class=facts.model_class, predict=predict, call=call)
    # Nothing is written on the Hub.
    place, output = ("embeddings", " --output_dir embeddings") if "/" in facts.name else (facts.name, "")
    return "\n\n".join(
        [
            _block(_NETWORK, facts),
            f"`tkre hin embed --model {facts.name}{output}` writes the nodes' embeddings, `tkre hin similar --model "
            f"{place} --node NODE` lists those that are most alike.",
        ]
    )
