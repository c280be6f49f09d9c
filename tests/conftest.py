"""What all tests share: a tiny encoder and a small corpus, both built here, so that no test needs a network."""

from __future__ import annotations

import json
import os
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import pytest
import torch
import transformers
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import BertConfig, BertForMaskedLM, BertForTokenClassification, PreTrainedTokenizerFast

from tkre_hf.data import load_sample, make_record

from .programs import Programs

SPECIAL_TOKENS = {"pad": "[PAD]", "unk": "[UNK]", "cls": "[CLS]", "sep": "[SEP]", "mask": "[MASK]"}

# Relation label -> name, description, and sentences with {h} and {t}.
RELATIONS = {
    "crosses": ("crosses", "what a bridge leads over", ["The {h} leads over the {t} .", "{h} spans the wide {t} ."]),
    "capital": (
        "capital of",
        "city that rules a country",
        ["{h} is the capital of {t} .", "{t} is ruled from {h} ."],
    ),
    "author": ("author", "who wrote a book", ["{h} was written by {t} .", "In 1901 {t} wrote {h} ."]),
    "mother": ("mother", "a person's mother", ["{h} is a daughter of {t} .", "{t} gave birth to {h} ."]),
    "employer": ("employer", "whom a person works for", ["{h} works for {t} .", "{t} has hired {h} again ."]),
    "part_of": ("part of", "the whole of a part", ["{h} belongs to {t} .", "{t} consists of {h} and others ."]),
}
NAMES = ["Ada", "Bruno", "Carla", "Dover", "Elba", "Fulda", "Genoa", "Hull", "Ilmen", "Jena", "Kiel", "Lima"]


@pytest.fixture(autouse=True)
def _own_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    """transformers 4 leaves the last run's precision in the environment, for the next test to find."""
    monkeypatch.delenv("ACCELERATE_MIXED_PRECISION", raising=False)


@pytest.fixture(autouse=True)
def _own_verbosity() -> Iterator[None]:
    """Recipes quiet transformers for the whole process, which here goes on to the next test."""
    before = transformers.logging.get_verbosity()
    yield
    transformers.logging.set_verbosity(before)


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    """Sums over threads differ in their last bit from one machine to the next."""
    torch.set_num_threads(1)


def word_piece_tokenizer() -> PreTrainedTokenizerFast:
    """A WordPiece tokenizer that knows the corpus' words and spells all others."""
    characters = [chr(code) for code in range(33, 127)]
    sentences = " ".join(template for *_, templates in RELATIONS.values() for template in templates)
    words = sorted({*sentences.replace("{h}", "").replace("{t}", "").split(), *NAMES} - set(characters))
    vocabulary = [*SPECIAL_TOKENS.values(), *characters, *(f"##{char}" for char in characters), *words]
    tokenizer = Tokenizer(models.WordPiece({token: i for i, token in enumerate(vocabulary)}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=False)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        model_max_length=64,
        **{f"{name}_token": token for name, token in SPECIAL_TOKENS.items()},
    )


def byte_level_tokenizer() -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer with RoBERTa's special tokens, which reads a word only with a space before it."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    vocabulary = {token: i for i, token in enumerate([*special, *alphabet, "Ġt", "Ġth", "Ġthe"])}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[("Ġ", "t"), ("Ġt", "h"), ("Ġth", "e")]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0), add_prefix_space=True)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<s>",
        cls_token="<s>",
        pad_token="<pad>",
        eos_token="</s>",
        sep_token="</s>",
        unk_token="<unk>",
        mask_token="<mask>",
        add_prefix_space=True,
        model_max_length=64,
    )


def tiny_bert(vocab_size: int, **settings: Any) -> BertConfig:
    """A BERT small enough to train in a test."""
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    return BertConfig(vocab_size=vocab_size, max_position_embeddings=64, **{**sizes, **settings})


@pytest.fixture(scope="session")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Programs]:
    """Programs that start at once."""
    folder = tmp_path_factory.mktemp("programs")
    with Programs(folder, {"HF_HOME": str(folder / "huggingface")}) as programs:
        yield programs


@pytest.fixture(scope="session")
def make_backbone(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Writes a tiny BERT with its masked language modeling head and tokenizer: ``make_backbone(dropout=0.1)``."""
    made: dict[float, Path] = {}

    def make(dropout: float = 0.0) -> Path:
        if dropout not in made:
            folder = tmp_path_factory.mktemp("backbone")
            tokenizer = word_piece_tokenizer()
            torch.manual_seed(0)
            config = tiny_bert(
                len(tokenizer), hidden_dropout_prob=dropout, attention_probs_dropout_prob=dropout, pad_token_id=0
            )
            BertForMaskedLM(config).save_pretrained(folder)
            tokenizer.save_pretrained(folder)
            made[dropout] = folder
        return made[dropout]

    return make


@pytest.fixture(scope="session")
def backbone(make_backbone: Callable[..., Path]) -> Path:
    """A tiny encoder without dropout."""
    return make_backbone()


@pytest.fixture(scope="session")
def make_classifier(backbone: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Writes a classifier that gives every pair one of its labels, which are ``none``, that of no relation, and
    ``capital``: ``make_classifier("none")``.
    """
    from tkre_hf.tkre.modeling_classification import TKREForRelationClassification
    from tkre_hf.tkre.processing_tkre import TKREProcessor

    def make(answer: str) -> Path:
        folder = tmp_path_factory.mktemp("classifier")
        labels = {"none": 0, "capital": 1}
        processor = TKREProcessor.from_backbone(str(backbone), max_length=64)
        model = TKREForRelationClassification.from_backbone(
            str(backbone), vocab_size=len(processor.tokenizer), new_tokens=processor.new_tokens,
            id2label={number: label for label, number in labels.items()}, label2id=labels, na_label="none",
        )  # fmt: skip
        with torch.no_grad():
            model.classifier.weight.zero_()
            model.classifier.bias.zero_()
            model.classifier.bias[labels[answer]] = 3
        model.save_pretrained(folder)
        processor.save_pretrained(folder)
        return folder

    return make


@pytest.fixture
def ner(tmp_path: Path) -> Path:
    """A tagger that takes the corpus' names for things, and no other word."""
    tokenizer = word_piece_tokenizer()
    config = tiny_bert(
        len(tokenizer), num_hidden_layers=0, id2label={0: "O", 1: "THING"}, label2id={"O": 0, "THING": 1}
    )
    model = BertForTokenClassification(config)
    with torch.no_grad():
        for parameter in model.bert.embeddings.parameters():
            parameter.zero_()
        model.bert.embeddings.LayerNorm.weight.fill_(1)
        words = model.bert.embeddings.word_embeddings.weight
        words[:, 0] = -1
        words[tokenizer.convert_tokens_to_ids(NAMES), 0] = 1
        model.classifier.weight.zero_()
        model.classifier.weight[1, 0] = 1
        model.classifier.bias.zero_()
    model.save_pretrained(tmp_path / "ner")
    tokenizer.save_pretrained(tmp_path / "ner")
    return tmp_path / "ner"


def corpus(sentences_per_relation: int = 8, cues: bool = True) -> list[dict[str, Any]]:
    """Records of six relations; every third of them quotes its cue."""
    rng = random.Random(0)
    records = []
    for relation, (*_, templates) in RELATIONS.items():
        for i in range(sentences_per_relation):
            head, tail = rng.sample(NAMES, 2)
            names = {"{h}": [head, "II"] if i % 4 == 0 else [head], "{t}": [tail]}
            tokens: list[str] = []
            spans = {}
            for word in templates[i % len(templates)].split():
                start = len(tokens)
                tokens += names.get(word, [word])
                if word in names:
                    spans[word] = (start, len(tokens))
            first, second = sorted(spans.values())
            quoted = [(first[1], second[0])] if cues and i % 3 == 0 and first[1] < second[0] else []
            records.append(
                make_record(
                    id=f"{relation}-{i}",
                    tokens=tokens,
                    head=spans["{h}"],
                    tail=spans["{t}"],
                    relation=relation,
                    cues=quoted,
                    head_type="THING",
                    tail_type="PERSON" if relation == "author" else "THING",
                )
            )
    return records


@pytest.fixture(scope="session")
def records() -> list[dict[str, Any]]:
    """48 records of six relations."""
    return corpus()


@pytest.fixture(scope="session")
def corpus_files(tmp_path_factory: pytest.TempPathFactory, records: list[dict[str, Any]]) -> tuple[Path, Path]:
    """The same records as JSON lines, and their relations' names and descriptions."""
    folder = tmp_path_factory.mktemp("corpus")
    rows, info = folder / "train.jsonl", folder / "relations.jsonl"
    rows.write_text("".join(json.dumps(record) + "\n" for record in records))
    entries = [{"relation": label, "name": name, "description": text} for label, (name, text, _) in RELATIONS.items()]
    info.write_text("".join(json.dumps(entry) + "\n" for entry in entries))
    return rows, info


@pytest.fixture(scope="session")
def real_text_backbone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny encoder for real sentences, of up to 128 tokens: its vocabulary is learned from the bundled corpus."""
    tokenizer = word_piece_tokenizer()
    special = list(SPECIAL_TOKENS.values())
    trainer = trainers.WordPieceTrainer(vocab_size=4000, special_tokens=special, show_progress=False)
    tokenizer.backend_tokenizer.train_from_iterator((" ".join(row["tokens"]) for row in load_sample()), trainer)
    tokenizer.model_max_length = 128
    folder = tmp_path_factory.mktemp("real-text-backbone")
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    config = tiny_bert(len(tokenizer), pad_token_id=0)
    config.max_position_embeddings = 128
    BertForMaskedLM(config).save_pretrained(folder)
    return folder
