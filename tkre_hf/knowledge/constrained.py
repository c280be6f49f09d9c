"""Decoding that can only write JSON of a given schema, and always finishes it."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import LogitsProcessor, PreTrainedTokenizerBase

from tkre_hf.errors import TkreError

_BYTE_TOKEN = re.compile(r"<0x([0-9A-F]{2})>")


@dataclass(frozen=True)
class _State:
    """The tokens that may follow, the state each leads to, and how many more tokens that one needs at least."""

    tokens: NDArray[np.int64]
    targets: NDArray[np.int64]
    distances: NDArray[np.int64]


class JsonConstraint:
    """The finite automaton of a JSON schema over a tokenizer's vocabulary, built by ``outlines-core``.

    A grammar alone doesn't make an answer end: inside a string anything may follow for ever, and what is cut off at
    ``max_new_tokens`` is no JSON. So each state also knows how many tokens are missing to the end at least, and only
    those tokens are allowed from which it can still be reached.

    Args:
        json_schema: The schema. Upper limits of lists are left out: each would multiply the automaton.
        tokenizer: Whose tokens are constrained.

    Raises:
        TkreError: The extra ``[constrained]`` is missing, or the tokenizer can't write exact text.
    """

    def __init__(self, json_schema: dict[str, Any], tokenizer: PreTrainedTokenizerBase) -> None:
        try:
            from outlines_core import Index, Vocabulary
            from outlines_core.json_schema import build_regex_from_schema
        except ImportError:
            raise TkreError("the backend 'transformers' needs: pip install 'tkre-hf[constrained]'") from None
        eos = tokenizer.eos_token_id
        if eos is None:
            raise TkreError("the model's tokenizer has no end-of-sequence token, so an answer could never end")
        regex = build_regex_from_schema(json.dumps(_without_limits(json_schema)))
        index = Index(regex, Vocabulary(eos, dict(_vocabulary(tokenizer))))
        transitions = index.get_transitions()
        final = set(index.get_final_states())
        self.initial: int = index.get_initial_state()
        self.eos: int = eos
        distance = _distances(transitions, final, eos)
        self.shortest: int = distance.get(self.initial, 0)
        self.states: dict[int, _State] = {}
        for state in {*transitions, *final}:
            moves = {token: target for token, target in transitions.get(state, {}).items() if token != eos}
            moves = {token: target for token, target in moves.items() if target in distance}
            if state in final:
                moves[eos] = state
            targets = list(moves.values())
            self.states[state] = _State(
                np.fromiter(moves, np.int64, len(moves)),
                np.array(targets, np.int64),
                np.array([distance[target] for target in targets], np.int64),
            )

    def allowed(self, state: int, remaining: int) -> NDArray[np.int64]:
        """The tokens after which the answer can still be finished within ``remaining`` tokens, this one included."""
        node = self.states[state]
        return node.tokens[node.distances < remaining]

    def next_state(self, state: int, token: int) -> int:
        """The state after a token; a token that isn't allowed leaves the state as it is (padding after the end)."""
        node = self.states[state]
        found = np.flatnonzero(node.tokens == token)
        return int(node.targets[found[0]]) if len(found) else state


def _without_limits(schema: Any) -> Any:
    if isinstance(schema, dict):
        return {key: _without_limits(value) for key, value in schema.items() if key != "maxItems"}
    return [_without_limits(item) for item in schema] if isinstance(schema, list) else schema


def _distances(transitions: dict[int, dict[int, int]], final: set[int], eos: int) -> dict[int, int]:
    """For each state that the end can be reached from, the least number of tokens to it (breadth first, backwards)."""
    sources: dict[int, set[int]] = {}
    for state, moves in transitions.items():
        for target in {target for token, target in moves.items() if token != eos}:
            sources.setdefault(target, set()).add(state)
    distance = dict.fromkeys(final, 0)
    frontier = list(final)
    while frontier:
        reached = {source for state in frontier for source in sources.get(state, ()) if source not in distance}
        step = distance[frontier[0]] + 1
        distance.update(dict.fromkeys(reached, step))
        frontier = list(reached)
    return distance


@lru_cache(maxsize=2)
def _vocabulary(tokenizer: PreTrainedTokenizerBase) -> tuple[tuple[bytes, list[int]], ...]:
    """The bytes that each of a tokenizer's tokens writes."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    decoder = json.dumps(json.loads(backend.to_str())["decoder"]) if backend is not None else ""
    if "WordPiece" in decoder:
        raise TkreError(
            "this tokenizer's text can't be constrained: its decoder (WordPiece) puts in spaces of its own"
        )
    byte_level = "ByteLevel" in decoder
    letters = _byte_letters() if byte_level else {}
    special = set(tokenizer.all_special_ids)
    words: dict[bytes, list[int]] = {}
    for token, number in tokenizer.get_vocab().items():
        if number in special or not token:
            continue
        if byte_level:
            # Tokens added by hand are plain text in the midst of byte-level ones.
            written = bytes(letters[c] for c in token) if all(c in letters for c in token) else token.encode()
        elif match := _BYTE_TOKEN.fullmatch(token):
            written = bytes([int(match[1], 16)])
        else:
            written = token.replace("▁", " ").encode()
        words.setdefault(written, []).append(number)
    return tuple(words.items())


def _byte_letters() -> dict[str, int]:
    """GPT-2's printable stand-ins for the 256 bytes (Radford et al., 2019)."""
    shown = [*range(33, 127), *range(161, 173), *range(174, 256)]
    hidden = [byte for byte in range(256) if byte not in shown]
    return {chr(byte): byte for byte in shown} | {chr(256 + i): byte for i, byte in enumerate(hidden)}


class ConstrainedSampling(LogitsProcessor):
    """Draws each row's next token under its constraint, for use with greedy search.

    Adding Gumbel noise to log-probabilities and taking the largest draws from them (Gumbel, 1954), so each row can
    have a random generator of its own: an answer depends on its request's seed and not on the batch it shares.

    Args:
        constraints: One for each row of the batch.
        seeds: One for each row.
        max_new_tokens: The length at which generation ends.
        temperature: 0 for the likeliest token.
        top_p: The probability mass drawn from.
    """

    def __init__(
        self,
        constraints: Sequence[JsonConstraint],
        seeds: Sequence[int],
        max_new_tokens: int,
        temperature: float,
        top_p: float,
    ) -> None:
        self.constraints = constraints
        self.generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        self.states = [constraint.initial for constraint in constraints]
        self.remaining = max_new_tokens
        self._started = False
        self.temperature, self.top_p = temperature, top_p

    def __call__(self, input_ids: torch.LongTensor, scores: torch.FloatTensor) -> torch.FloatTensor:
        """Turns scores ``(batch, vocabulary)`` into -inf for what may not follow and noisy log-probabilities else."""
        if self._started:
            self.remaining -= 1
            for row, token in enumerate(input_ids[:, -1].tolist()):
                self.states[row] = self.constraints[row].next_state(self.states[row], token)
        self._started = True
        result = torch.full_like(scores, float("-inf"))
        for row, constraint in enumerate(self.constraints):
            tokens = torch.from_numpy(constraint.allowed(self.states[row], self.remaining)).to(scores.device)
            result[row, tokens] = self._noisy(scores[row, tokens].float(), row).to(scores.dtype)
        return result  # type: ignore[return-value]

    def _noisy(self, logits: torch.Tensor, row: int) -> torch.Tensor:
        if self.temperature == 0:
            return logits
        logits = torch.log_softmax(logits / self.temperature, dim=-1)
        if self.top_p < 1:
            ordered, order = logits.sort(descending=True)
            before = ordered.exp().cumsum(-1) - ordered.exp()
            logits[order[before >= self.top_p]] = float("-inf")
        uniform = torch.rand(logits.shape, generator=self.generators[row]).clamp_(min=1e-20)
        return logits - torch.log(-torch.log(uniform)).to(logits.device)
