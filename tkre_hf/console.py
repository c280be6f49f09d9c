"""What a command shows of its libraries' work: nothing but what the command says itself."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import datasets
from transformers.utils import logging


@contextmanager
def quiet_libraries() -> Iterator[None]:
    """Keeps transformers' notes, and both libraries' bars for each file they read or write, off the console."""
    level, transformers_bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    datasets_bars = datasets.are_progress_bars_disabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    datasets.disable_progress_bars()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if transformers_bars:
            logging.enable_progress_bar()
        if not datasets_bars:
            datasets.enable_progress_bars()
