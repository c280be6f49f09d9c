"""What is nobody's business: where files lie on this machine, and secrets; kept out of all that is published."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from pathlib import Path

# Options whose values are secrets.
_NAME = r"(hub[_-]token|hf[_-]token|api[_-]?key|password|secret)"
_SECRET = re.compile(rf"--(.*[._-])?{_NAME}|--(.*\.)?token", re.I)
# Such a setting within a word: `{"hub_token": "…"}`, `{hub_token: …}` or `hub_token=…`. What isn't marked so is prose.
_SETTING = re.compile(
    rf"(?P<name>[\"']{_NAME}[\"']\s*[:=]\s*|(?<![\w-]){_NAME}\s*=\s*|(?<=\{{){_NAME}:\s*)"
    r"(?:(?P<quote>[\"'])[^\"']*(?P=quote)|[^\s,{}\[]+)",
    re.I,
)
# A folder's place within a word, such as in `{"path": "/home/me/rows"}`; an address such as https://… is none.
_INNER = re.compile(r"(?<=[\s=,:;\"'(\[{])/(?=[^\s/])[^\s=,:;\"')\]}]*")
_LOGIN = re.compile(r"(?<=://)[^/@\s]+@")
_TOKEN = re.compile(r"\bhf_[A-Za-z0-9]{20,}")


def without_folders(name: str) -> str:
    """A checkpoint goes out into the world, and where its files lay on this machine is nobody's business."""
    path = Path(name)
    # "." and ".." say nothing of what lies there.
    nameless = name != "" and path.name in ("", "..")
    return path.resolve().name if nameless or path.is_absolute() else name


def without_login(address: str) -> str:
    """An address without the user's name and password in it."""
    return _LOGIN.sub("", address)


def published_words(words: Sequence[str]) -> list[str]:
    """A command's words as they may be shown: an absolute path is its name, a relative one stays.

    Options that hold secrets are left out.

    Args:
        words: The arguments; ``--option VALUE`` and ``--option=VALUE`` are understood.
    """
    found = []
    is_secret = False
    for word in words:
        option, equals, value = word.partition("=")
        if is_secret and not word.startswith("--"):
            continue
        is_secret = _SECRET.fullmatch(option) is not None
        if is_secret:
            is_secret = not equals
        elif equals and option.startswith("-"):
            found.append(f"{option}={_published(value)}")
        else:
            found.append(_published(word))
    return found


def published_command(command: str) -> str:
    """A command line that was recorded, as it may be shown; see :func:`published_words`."""
    try:
        words = shlex.split(command)
    except ValueError:
        return published_text(command)
    shown = published_words(words)
    return command if shown == words else shlex.join(shown)


def without_secrets(text: str) -> str:
    """A text in which neither a login nor a token of the Hub stands, nor the value of a setting that is a secret."""
    return _SETTING.sub(r"\g<name>\g<quote>…\g<quote>", _TOKEN.sub("hf_…", without_login(text)))


def published_text(text: str) -> str:
    """A text in which absolute paths are their names, and no secret stands."""
    return without_secrets(_INNER.sub(lambda found: Path(found[0]).name, f" {text}")[1:])


def _published(word: str) -> str:
    return published_text(without_folders(word))
