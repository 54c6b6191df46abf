"""Answers that have been damaged: one part of a JSON document replaced, doubled, moved or left out."""

import copy
import json
import random
from collections.abc import Iterator
from typing import Any, Final

ODD: Final[tuple[Any, ...]] = (
    None, True, 0, -1, 2**70, 1e308, "", "x", "\x00", "\ud800", "=" * 9, "A" * 10_000, [], {}, [[]],
    {"": ""}, [None], {"data": None}, {"code": {}}, "projects/p", "gs://", "https://user@host/", "NaN",
)  # fmt: skip


def damaged(document: Any, *, seeds: range) -> Iterator[bytes]:
    """The document, damaged in as many ways; the same in every run."""
    for seed in seeds:
        chance = random.Random(seed)  # noqa: S311
        body = copy.deepcopy({"document": document})
        for _ in range(chance.choice((1, 1, 1, 2, 3))):
            _damage(body, chance)
        text = json.dumps(body["document"]).encode()
        if chance.random() < 0.1:
            cut = chance.randrange(len(text) + 1)
            text = text[:cut] + chance.choice((b"", b"\xff", b"}", b"null"))
        yield text


def _damage(whole: dict[str, Any], chance: random.Random) -> None:
    places = list(_places(whole))
    holder, name = chance.choice(places)
    match chance.randrange(4):
        case 0:
            holder[name] = copy.deepcopy(chance.choice(ODD))
        case 1 if isinstance(holder, dict) and holder is not whole:
            del holder[name]
        case 2:
            other, its_name = chance.choice(places)
            holder[name] = copy.deepcopy(other[its_name])
        case _:
            holder[name] = [copy.deepcopy(holder[name])] * chance.choice((0, 1, 2))


def _places(holder: Any) -> Iterator[tuple[Any, Any]]:
    names: Any = list(holder) if isinstance(holder, dict) else range(len(holder))
    for name in names:
        yield holder, name
        if isinstance(holder[name], dict | list):
            yield from _places(holder[name])
