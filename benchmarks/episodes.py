"""Episodes per second of few-shot evaluation, ours beside a straightforward implementation.

python benchmarks/episodes.py
python benchmarks/episodes.py --data fewrel:wiki --data_dir DIR

Ours is timed whole, from the records to the accuracy of all episodes: every sentence is encoded once, beside others of
its length, in bfloat16 where the processor has it, and an episode is index arithmetic on the vectors. Straightforward
encodes each episode's supports and queries anew, padded to the longest that there may be, in float32. Its episodes are
all alike, so a few of them are timed, and stand for the rest.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

import torch
from straightforward import padded, stacked

from tkre_hf.arguments import parse_arguments, run
from tkre_hf.console import quiet_libraries
from tkre_hf.data import EpisodeDataset, load_records
from tkre_hf.evaluation.episodes import evaluate_episodes
from tkre_hf.evaluation.few_shot import parse_setting
from tkre_hf.evaluation.page import save_rows
from tkre_hf.evaluation.report import Row, command, machine, table, versions
from tkre_hf.evaluation.timing import compare
from tkre_hf.tkre.embedding import embed_records
from tkre_hf.tkre.modeling_tkre import TKREModel
from tkre_hf.tkre.processing_tkre import TKREProcessor
from tkre_hf.tkre.sampling import EncodedRecords
from tkre_hf.tkre.training_args import bf16_supported
from tkre_hf.training import resolve_backbone


@dataclass
class BenchmarkArguments:
    """What is timed."""

    data: str = field(default="sample:validation", metadata={"help": "Sentences, as for tkre evaluate."})
    data_dir: str | None = field(default=None, metadata={"help": "Folder with the publisher's files."})
    backbone: str = field(default="minilm", metadata={"help": "The embedded encoder, a folder or a Hub id."})
    setting: str = field(default="10w5s", metadata={"help": "N-way K-shot."})
    num_episodes: int = field(default=2_000, metadata={"help": "Episodes of ours in each repetition."})
    plain_episodes: int = field(default=8, metadata={"help": "Episodes of the straightforward one."})
    repetitions: int = field(default=3, metadata={"help": "How often both are timed, in turn."})
    max_length: int = field(default=128, metadata={"help": "Longest sequence, and what is padded to."})
    output: str | None = field(default=None, metadata={"help": "JSON file that the rows are added to."})


class EpisodesBenchmark:
    """Both implementations, on the same records, model and episodes."""

    def __init__(self, args: BenchmarkArguments) -> None:
        self.args = args
        fewrel = args.data.startswith("fewrel:")
        records = load_records(args.data, split="validation" if fewrel else None, data_dir=args.data_dir)
        self.records: list[dict[str, Any]] = list(records)
        n_way, k_shot = parse_setting(args.setting)
        labels = [record["relation"] for record in self.records]
        self.episodes = EpisodeDataset(labels, n_way, k_shot, 1, num_episodes=args.num_episodes)
        backbone = resolve_backbone(args.backbone)
        self.processor = TKREProcessor.from_backbone(backbone, max_length=args.max_length)
        self.model = TKREModel.from_backbone(
            backbone, vocab_size=len(self.processor.tokenizer), new_tokens=self.processor.new_tokens
        ).eval()

    def ours(self, _: int = 0) -> float:
        """Episodes per second, tokenizing and encoding included."""
        start = time.perf_counter()
        encoded = EncodedRecords(self.records, self.processor)
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16_supported(use_cpu=True)):
            vectors = embed_records(self.model, self.processor, encoded)
        evaluate_episodes(vectors, self.episodes)
        return len(self.episodes) / (time.perf_counter() - start)

    def plain(self, _: int = 0) -> float:
        """Episodes per second of the first few."""
        count = self.args.plain_episodes
        start = time.perf_counter()
        for i in range(count):
            self.predict(i)
        return count / (time.perf_counter() - start)

    @torch.inference_mode()
    def predict(self, index: int) -> list[int]:
        """The place of each query's relation in the episode, as the straightforward implementation finds it."""
        episode = self.episodes[index]
        supports = [self._encode(rows) for rows in episode.support.tolist()]
        found = []
        for query in self._encode(episode.query.tolist()):
            cosines = [torch.cosine_similarity(query, torch.stack(support).mean(0), dim=0) for support in supports]
            found.append(max(range(len(cosines)), key=lambda i: float(cosines[i])))
        return found

    def _encode(self, rows: list[int]) -> list[torch.Tensor]:
        features = [self.processor.encode([self.records[row]])[0] for row in rows]
        inputs = stacked([padded(f["input_ids"], self.processor) for f in features])
        spans = torch.tensor([f["entity_spans"] for f in features])
        return list(self.model(**inputs, entity_spans=spans).relation_embeds)

    def rows(self) -> list[Row]:
        """Times both."""
        for warm_up in (self.ours, self.plain):
            warm_up()
        comparison = compare(self.ours, self.plain, self.args.repetitions)
        return comparison.rows(
            Row(
                benchmark="episodes",
                system="",
                setting=f"{self.args.setting}, {len(self.records):,} sentences",
                metric="episodes/s",
                value=0.0,
                command=command(),
                versions=versions(),
                machine=f"{machine()}, {torch.get_num_threads()} threads",
            )
        )


def main() -> None:
    (args,) = parse_arguments((BenchmarkArguments,), description=__doc__)
    with quiet_libraries():
        rows = EpisodesBenchmark(args).rows()
    print(table(rows))
    save_rows(args.output, rows)


if __name__ == "__main__":
    run(main)
