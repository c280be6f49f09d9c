"""The card of a trained model, ``README.md`` beside it: written from the run, and never over what a person wrote."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult, ModelCard, ModelCardData
from yaml import YAMLError

from tkre_hf.evaluation.report import Row, markdown, table
from tkre_hf.hub.benchmarks import benchmark_of, setting_in_words
from tkre_hf.hub.facts import CardFacts, keep_rows, read_facts
from tkre_hf.hub.marks import marked, unmarked, write_text
from tkre_hf.hub.sources import APACHE, MINILM_ID, common, source_of
from tkre_hf.hub.usage import usage
from tkre_hf.places import published_command, published_text

_TEMPLATE = Path(__file__).with_name("model_card_template.md")

_KINDS = {
    "TKREForMaskedSpanLM": "an encoder for relation extraction after TKRE's stage 1, masked span language modeling",
    "TKREForPreTraining": "a few-shot relation extractor, trained by TKRE's two-stage knowledge-guided pre-training",
    "TKREForFewShotClassification": "a few-shot relation extractor, made by TKRE's two-stage knowledge-guided "
    "pre-training",
    "TKREForRelationClassification": "a classifier of relations between two marked entities of a sentence",
    "PFHINForPreTraining": "a transformer that was pre-trained on a typed network and embeds its nodes",
    "PFHINForNodeClassification": "a classifier of a typed network's nodes",
    "PFHINForLinkPrediction": "a model that tells which links a typed network has",
}
_STAGES = {
    "TKREForMaskedSpanLM": "stage 1",
    "TKREForPreTraining": "stage 2",
    "TKREForRelationClassification": "fine-tuning",
    "PFHINForPreTraining": "pre-training",
    "PFHINForNodeClassification": "fine-tuning",
    "PFHINForLinkPrediction": "fine-tuning",
}
# Models that compare sentences with relations that a user brings, and the settings that their configuration keeps.
_FEW_SHOT = ("TKREForPreTraining", "TKREForFewShotClassification")
_KEPT = "marker projection_dim tau lambda_mslm lambda_scl span_weight anchor_weight anchor_doubt".split()

_NETWORK_TAGS, _TEXT_TAGS = ("tkre_hf", "pfhin", "graph"), ("tkre_hf", "tkre", "relation-extraction")
_FEW_SHOT_TAG = "few-shot"

# What stands beneath a heading.
_SECTION = r"(?s)(?<=\n## {}\n).*?(?=\n## |\Z)"

_PAPER = "https://doi.org/10.24963/ijcai.2025/897"
_CITATIONS = {
    False: """```bibtex
@inproceedings{guo2025tkre,
  title     = {Bridging Generative and Discriminative Learning: Few-Shot Relation Extraction via Two-Stage Knowledge-Guided Pre-training},
  author    = {Guo, Quanjiang and Zhang, Jinchuan and Wang, Sijie and Tian, Ling and Kang, Zhao and Yan, Bin and Xiao, Weidong},
  booktitle = {Proceedings of the Thirty-Fourth International Joint Conference on Artificial Intelligence, {IJCAI-25}},
  pages     = {8068--8076},
  year      = {2025},
  doi       = {10.24963/ijcai.2025/897}
}
```""",  # noqa: E501
    True: """Fang et al., "Pre-Trained Models for Heterogeneous Information Networks". The model is tkre_hf's reading
of that paper's abstract.""",
}


def render(facts: CardFacts) -> str:
    """A card's text, metadata first and the mark of what wrote it last."""
    card = ModelCard.from_template(
        metadata(facts),
        template_path=str(_TEMPLATE),
        title=facts.name.rpartition("/")[2],
        summary=_summary(facts),
        origin=_origin(facts),
        usage=usage(facts),
        results=_results(facts),
        data=_data(facts),
        settings=_settings(facts),
        emissions=_grams(facts.emissions.grams) if facts.emissions is not None else "",
        limits=_limits(facts),
        licence=_licence(facts),
        citation=_CITATIONS[facts.is_network],
    )
    return marked(re.sub(r"\n{3,}", "\n\n", str(card)))


def metadata(facts: CardFacts) -> ModelCardData:
    """What the Hub reads of a card: tags, licence, data sets, results."""
    sources = [source_of(name) for name in facts.sources]
    datasets = [*facts.datasets, *filter(None, (source.hub_id for source in sources))]
    tags = [*(_NETWORK_TAGS if facts.is_network else _TEXT_TAGS)]
    if facts.model_class in _FEW_SHOT:
        tags.append(_FEW_SHOT_TAG)
    results = [_eval_result(row, facts) for row in facts.rows]
    more: dict[str, Any] = {}
    if facts.emissions is not None:
        more["co2_eq_emissions"] = {
            "emissions": round(facts.emissions.grams, 4),
            "source": "codecarbon",
            "training_type": _STAGES.get(facts.model_class, "training"),
            **({"hardware_used": facts.emissions.hardware} if facts.emissions.hardware else {}),
        }
    return ModelCardData(
        language=facts.language or common(source.language for source in sources),
        license=facts.licence or _licence_of(facts),
        library_name="transformers",
        pipeline_tag="graph-ml"
        if facts.is_network
        else "fill-mask"
        if facts.model_class == "TKREForMaskedSpanLM"
        else "text-classification",
        base_model=facts.base_model,
        datasets=list(dict.fromkeys(datasets)) or None,
        tags=list(dict.fromkeys([*tags, *facts.tags])),
        metrics=list(dict.fromkeys(row.metric for row in facts.rows)) or None,
        model_name=facts.name.rpartition("/")[2] if results else None,
        eval_results=results or None,
        **more,
    )


def with_name(text: str, facts: CardFacts) -> str:
    """A card that was written here, under another name, such as the one that its model has on the Hub."""
    card: Any = ModelCard(text)
    title = facts.name.rpartition("/")[2]
    body = unmarked(card.text)
    body = re.sub(r"^# .*$", lambda _: f"# {title}", body, count=1, flags=re.M)
    body = _with_section(body, "Use", usage(facts))
    if facts.licence != card.data.license:
        card.data.license = facts.licence
        body = _with_section(body, "Licence", _licence(facts))
    card.text = body
    if card.data.eval_results:
        card.data.model_name = title
    return marked(str(card))


def told_by(text: str) -> dict[str, Any]:
    """The licence and the further tags of a card, as :func:`write_card` takes them; none where they can't be read."""
    try:
        data: Any = ModelCard(text).data
    except (ValueError, YAMLError):  # a person's
        return {}
    own = {*_NETWORK_TAGS, *_TEXT_TAGS, _FEW_SHOT_TAG}
    return {"licence": data.license, "tags": [tag for tag in data.tags or [] if tag not in own]}


def tells_other_figures(text: str, facts: CardFacts) -> bool:
    """Whether a folder tells figures that its card, which nobody edited, doesn't have."""
    return bool(facts.rows) and _section(ModelCard(text).text, "Results") != _results(facts).strip()


def _section(body: str, title: str) -> str:
    found = re.search(_SECTION.format(title), body)
    return found[0].strip() if found else ""


def _with_section(body: str, title: str, text: str) -> str:
    return re.sub(_SECTION.format(title), lambda _: f"\n{text}\n", body, count=1)


def write_card(folder: str | Path, results: str | Path | None = None, system: str | None = None, **given: Any) -> Path:
    """Writes the card of a folder's model, or beside it where a person edited the one that is there.

    Args:
        folder: Holds the model.
        results: File of result rows; by default those beside the model. The model's own, and what others published,
            are kept beside it for the next card.
        system: Which of the file's systems is the model, where there are several.
        **given: As :func:`~tkre_hf.hub.facts.read_facts` takes: ``name``, ``licence``, ``tags`` …

    Returns:
        ``README.md``, or ``README.generated.md`` beside it.

    Raises:
        TkreError: There is no model, or a file beside it is wrong.
    """
    folder = Path(folder)
    if results is not None:
        results = keep_rows(folder, Path(results), system)
    return write_text(folder, render(read_facts(folder, results=results, system=system, **given)))


def _summary(facts: CardFacts) -> str:
    kind = _KINDS.get(facts.model_class, f"a {facts.model_class}")
    paper = "" if facts.is_network else f" ([Guo et al., IJCAI 2025]({_PAPER}))"
    made = "made with tkre_hf, a Hugging Face ecosystem extension for few-shot relation extraction"
    return f"This is {kind}{paper}, {made}."


def _origin(facts: CardFacts) -> str:
    size = f"{facts.parameters:,} parameters" if facts.parameters is not None else ""
    if facts.is_network:
        kinds = [len(facts.config.get(name, ())) for name in ("node_types", "edge_types")]
        types = f"{kinds[0]} types of nodes and {kinds[1]} of edges" if all(kinds) else ""
        told = ", ".join(filter(None, [size, types]))
        return f"{told}." if told else ""
    backbone: Mapping[str, Any] = facts.config.get("backbone_config") or {}
    encoder = f"a {backbone.get('model_type', '?')} encoder"
    start = facts.base_model or (facts.stages[0].get("backbone") if facts.stages else "") or ""
    if facts.base_model:
        encoder += f" that started from [{start}](https://huggingface.co/{start})"
    elif start:
        encoder += f" that started from `{Path(str(start)).name}`"
    marker = f"entities marked by `{facts.config.get('marker')}`"
    told = ", ".join(filter(None, [size, encoder, marker]))
    return f"{told[0].upper()}{told[1:]}."


def _eval_result(row: Row, facts: CardFacts) -> EvalResult:
    name, hub_id, split = benchmark_of(row, facts)
    # A setting may say the metric again.
    setting = setting_in_words(row.setting.removesuffix(row.metric).strip())
    return EvalResult(
        task_type="graph-ml" if facts.is_network else "text-classification",
        task_name="typed networks" if facts.is_network else "relation extraction",
        dataset_type=hub_id or row.benchmark,
        dataset_name=name,
        dataset_split=split,
        metric_type=row.metric,
        metric_value=row.value,
        metric_name=f"{row.metric}, {setting}" if setting else row.metric,
    )


def _results(facts: CardFacts) -> str:
    if not facts.rows:
        return facts.results_note or (
            "Not measured yet. `tkre evaluate --model FOLDER --output FOLDER/results.json` measures it, and "
            "`tkre card FOLDER` enters the figures here."
            if not facts.is_network
            else "Not measured yet. `tkre hin evaluate --model FOLDER --network NETWORK` measures it, and "
            "`tkre card FOLDER` enters the figures here."
        )
    parts, hows = [], []
    for benchmark in dict.fromkeys(row.benchmark for row in facts.rows):
        own = [row for row in facts.rows if row.benchmark == benchmark]
        rest = [row for row in facts.others if row.benchmark == benchmark]
        name = benchmark_of(own[0], facts)[0]
        parts += [f"{name[0].upper()}{name[1:]}:", table([*own, *rest])]
        published = dict.fromkeys(f"{row.system} ({published_text(row.source)})" for row in rest if row.published)
        if published:
            parts.append(f"Published: {'; '.join(published)}.")
        hows.append(_how(own[0]))
    if facts.others:
        parts.append(f"This model: {facts.rows[0].system}.")
    return "\n\n".join([*parts, *dict.fromkeys(hows)])


def _how(row: Row) -> str:
    """How figures were measured, in a few sentences."""
    few_shot = re.match(r"\d+w\d+s", row.setting)
    drawn = re.match(r"(k|few)(\d+)\b", row.setting)
    parts = []
    if few_shot:
        parts.append("Accuracy in percent; 5w1s is 5-way 1-shot, and 0 shots are names and descriptions alone.")
    if drawn:
        what = "rows of each relation" if drawn[1] == "k" else "nodes of each class"
        parts.append(f"In percent; {drawn[0]} is {drawn[2]} labelled {what} to train on.")
    if row.n:
        unit = "episodes" if few_shot else "nodes" if drawn and drawn[1] == "few" else "rows"
        parts.append(f"{row.n:,} {unit} for each figure.")
    if len(row.seeds) > 1:
        seeds = ", ".join(map(str, row.seeds))
        what = "the draws of these rows by seeds" if drawn and drawn[1] == "k" else "training seeds"
        parts.append(f"Mean of {what} {seeds}, with its 95% interval; a checkpoint is one of them.")
    elif row.ci95 is not None:
        parts.append("± is half the 95% interval.")
    if row.minutes:
        parts.append(f"{row.minutes:g} minutes of training.")
    if row.machine:
        parts.append(f"Measured on {row.machine}.")
    if row.command:
        parts.append(f"Command: `{published_command(row.command)}`.")
    return " ".join(parts)


def _data(facts: CardFacts) -> str:
    if not facts.stages:
        return "Nothing beside the model tells what it was trained on."
    units = ("nodes", "edges") if facts.is_network else ("sentences", "relations")
    cells = [["stage", "trained on", *units, "seed", "minutes"], ["---", "---", "---:", "---:", "---:", "---:"]]
    for stage in facts.stages:
        sources = ", ".join(source_of(name).name for name in [*stage["sources"], *stage["add_sources"]])
        counts = [f"{stage[unit]:,}" if stage.get(unit) is not None else "" for unit in units]
        minutes = f"{stage['minutes']:g}" if stage.get("minutes") is not None else ""
        cells.append([_stage(stage), sources or "not told", *counts, _seeds(stage), minutes])
    told = [i for i in range(len(cells[0])) if any(row[i] for row in cells[2:])]
    parts = [markdown([[row[i] for i in told] for row in cells])]
    held_out = [stage for stage in facts.stages if stage.get("held_out_relations")]
    if held_out:
        parts.append(f"{len(held_out[-1]['held_out_relations'])} relations were kept out of training.")
    if any(stage["add_sources"] for stage in facts.stages):
        parts.append("Samples that a language model wrote of relations to be recognised were trained on.")
    return "\n\n".join(parts)


def _seeds(stage: Mapping[str, Any]) -> str:
    """Its seed; of the mean of several trainings theirs, one after the other."""
    first, count = stage.get("seed"), (stage.get("settings") or {}).get("averaged", 1)
    return ", ".join(str(first + i) for i in range(count)) if first is not None else ""


def _stage(stage: Mapping[str, Any]) -> str:
    return _STAGES.get(stage["stage"], stage["stage"])


def _settings(facts: CardFacts) -> str:
    columns = []
    for stage in facts.stages:
        settings = dict(stage.get("settings") or {})
        if stage is facts.stages[-1]:
            kept = {name: facts.config[name] for name in _KEPT if name in facts.config and stage["stage"] in _FEW_SHOT}
            settings = {**kept, **settings}
        columns.append(settings)
    names = list(dict.fromkeys(name for settings in columns for name in settings if name != "seed"))
    if not names:
        return ""
    cells = [["setting", *map(_stage, facts.stages)], ["---", *["---"] * len(columns)]]
    cells += [[f"`{name}`", *[_value(settings.get(name)) for settings in columns]] for name in names]
    return markdown(cells)


def _value(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(_value, value))
    return "" if value is None else f"{value:g}" if isinstance(value, float) else str(value)


def _limits(facts: CardFacts) -> str:
    if facts.is_network:
        lines = [
            "It knows the nodes of the network it was trained on, and what holds there; with `ids: false` it reads "
            "other networks of the same types.",
            "An edge that tells the label makes figures of node classification meaningless: leave such types out.",
        ]
    else:
        lines = [
            "It reads one sentence with two marked entities, and doesn't find entities itself.",
            "Relations worded unlike those it was trained on, other kinds of text and other languages do worse.",
        ]
        if facts.model_class == "TKREForRelationClassification":
            lines.append("It knows the labels of its training rows, and gives every sentence one of them.")
        else:
            lines.append("One or two examples of a relation stand for all its wordings: look at what it confuses.")
    if any(name.startswith("sample:") for name in facts.sources):
        lines.append(
            "The bundled corpus is a language model's writing: its facts are unchecked, and the biases of such a "
            "model are in it."
        )
    lines.append("It states what a text says or a network implies, not what is true; don't decide about people by it.")
    return "\n".join(f"- {line}" for line in lines)


def _licence_of(facts: CardFacts) -> str | None:
    """The model's licence, where everything that it comes from has one and the same."""
    if not facts.sources or (not facts.is_network and facts.base_model != MINILM_ID):
        return None
    found = common(source_of(name).licence for name in facts.sources)
    return found if found == APACHE else None


def _licence(facts: CardFacts) -> str:
    lines = []
    for name in facts.sources:
        source = source_of(name)
        lines.append(f"- {source.name}: {source.terms or 'its licence is not known to this card'}.")
    if facts.base_model == MINILM_ID:
        lines.append(f"- {MINILM_ID}, the encoder it started from: Apache-2.0.")
    found = facts.licence or _licence_of(facts)
    model = f"The model: {found}." if found else "No licence has been given to the model itself."
    return "\n\n".join(
        filter(None, [f"{model} The data that it was trained on:" if lines else model, "\n".join(lines)])
    )


def _grams(grams: float) -> str:
    return f"{grams / 1000:.3g} kg" if grams >= 1000 else f"{grams:.3g} g"
