"""What fake models draw."""

import io
from functools import cache
from typing import Final

from PIL import Image

SIZE: Final = (64, 48)


@cache
def a_png() -> bytes:
    file = io.BytesIO()
    Image.new("RGB", SIZE, "teal").save(file, "PNG")
    return file.getvalue()


def is_refused(prompt: str) -> bool:
    return "nsfw" in prompt
