"""The how-to page on few-shot use: every block of it runs as shown, in order, with a tiny checkpoint."""

from __future__ import annotations

import json
import re
import shlex
import sys
from pathlib import Path

import pytest

from tkre_hf.cli import main
from tkre_hf.tkre.modeling_tkre import TKREForPreTraining
from tkre_hf.tkre.processing_tkre import TKREProcessor

PAGE = Path(__file__).parent.parent / "docs" / "how-to" / "few-shot.md"


def test_the_page_runs_as_shown(
    backbone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    processor = TKREProcessor.from_backbone(str(backbone), max_length=64)
    model = TKREForPreTraining.from_backbone(str(backbone), len(processor.tokenizer), processor.new_tokens)
    model.save_pretrained("tkre-bert")
    processor.save_pretrained("tkre-bert")
    blocks = re.findall(r"((?:(?!^```).)*)^```(\w+)\n(.*?)^```$", PAGE.read_text(), re.S | re.M)
    assert {language for _, language, _ in blocks} == {"python", "json", "yaml", "bash"}
    for before, language, code in blocks:
        if language == "python":
            exec(compile(code, str(PAGE), "exec"), {})
        elif language == "bash":
            for line in code.splitlines():
                command, _, source = line.partition(" < ")
                if source:
                    monkeypatch.setattr(sys, "stdin", open(source, encoding="utf-8"))  # noqa: SIM115
                program, *argv = shlex.split(command)
                assert program == "tkre" and main(argv) == 0
        else:
            names = re.findall(r"`([\w-]+\.(?:jsonl|yaml))`", before)
            Path(names[-1]).write_text(code, encoding="utf-8")
    out = capsys.readouterr().out
    assert "['capital of', 'spouse', 'author']" in out
    assert "5 sentences, 6 pairs" in out
    found = [json.loads(line) for line in Path("found.jsonl").read_text().splitlines()]
    assert [row["id"] for row in found] == ["sentences-1", "sentences-2", "n-7", "sentences-4", "sentences-5"]
    assert [len(row["relations"]) for row in found] == [2, 2, 2, 4, 2]
    known = json.loads(Path("my-relations", "relations.json").read_text())["relations"]
    assert [(row["relation"], row["supports"]) for row in known] == [("author", 2), ("capital of", 2), ("spouse", 2)]
    assert known[0]["description"] == "the tail is the person who wrote the head"
