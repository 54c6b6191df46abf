"""What an image model is told, for models that take nothing but words."""

from shared.domain.requests import ImageRequest


def full_prompt(request: ImageRequest) -> str:
    """The prompt, then the style's words, then what must not be there; each a paragraph of its own."""
    paragraphs = [request.prompt]
    if request.style_prompt:
        paragraphs.append(f"Style: {request.style_prompt}")
    if request.negative_prompt:
        paragraphs.append(f"Do not show: {request.negative_prompt}")
    return "\n\n".join(paragraphs)
