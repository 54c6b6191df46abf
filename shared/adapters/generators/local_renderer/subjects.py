"""Who or what a picture is about, and the ground right before us that it stands on."""

from PIL import Image, ImageDraw

from shared.adapters.generators.local_renderer import land
from shared.adapters.generators.local_renderer.brush import glow, shape, tint
from shared.adapters.generators.local_renderer.creatures import CREATURES, creature
from shared.adapters.generators.local_renderer.palette import WHITE, mix
from shared.adapters.generators.local_renderer.props import prop
from shared.adapters.generators.local_renderer.scene import Element, Stage, layer


def subject(stage: Stage, name: str, *, snowy: bool) -> list[Element]:
    """Who or what the picture is about, with the ground it stands on."""
    random_ = stage.random
    if name in CREATURES:
        image, middle = creature(name, round(stage.unit * random_.uniform(44, 54)), stage.palette)
        if random_.random() < 0.5:
            image, middle = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT), image.width - middle
        top = stage.height * 0.93 - image.height
        shadow = tint(
            glow(64, 0.8, 1.2).resize((round(image.width * 0.9), max(2, image.height // 16))),
            stage.palette.near,
        )
        left = stage.focus * stage.width - middle
        return [
            knoll(stage, 0.9, snowy=snowy),
            layer(
                stage,
                shadow,
                left=left - image.width * 0.05,
                top=stage.height * 0.93 - shadow.height * 0.6,
                near=0.9,
            ),
            layer(stage, image, left=left, top=top, near=0.9),
            _tufts(stage),
        ]
    if name in {"boat", "whale"}:
        image = prop(name, round(stage.unit * random_.uniform(24, 30)), stage.palette)
        x = random_.choice((0.28, 0.4, 0.66))
        bottom = stage.height * 0.74
        return [
            *_mirrored(stage, image, x * stage.width, bottom),
            layer(
                stage,
                image,
                left=x * stage.width,
                top=bottom - image.height,
                near=0.5,
                drift=(stage.width * 0.008, 0),
                sway=(0, stage.unit * 0.4),
            ),
        ]
    if name == "balloon":
        balloons: list[Element] = []
        for share, x, y in ((9, 0.2, 0.3), (14, 0.78, 0.2), (27, random_.uniform(0.4, 0.55), 0.16)):
            image = prop(name, round(stage.unit * share), stage.palette)
            balloons.append(
                layer(
                    stage,
                    image,
                    left=x * stage.width,
                    top=y * stage.height,
                    near=share / 40,
                    drift=(0, -stage.height * 0.006),
                    sway=(stage.unit, 0),
                    turn=random_.random(),
                )
            )
        return balloons
    image = prop(name, round(stage.unit * (52 if name == "lighthouse" else 32)), stage.palette)
    x = random_.choice((0.2, 0.62))
    halo = tint(glow(image.height * 2, 0.5, 2.4), (255, 214, 140))
    place = (x * stage.width, stage.height * 0.92 - image.height)
    lamp = 0.17 if name == "lighthouse" else 0.72
    return [
        layer(
            stage,
            halo,
            left=place[0] + image.width / 2 - halo.width / 2,
            top=place[1] + image.height * lamp - halo.height / 2,
            near=0.9,
        ),
        layer(stage, image, left=place[0], top=place[1], near=0.9),
        knoll(stage, 0.88, snowy=snowy),
        _tufts(stage),
    ]


def _mirrored(stage: Stage, image: Image.Image, left: float, bottom: float) -> list[Element]:
    """What a thing on the water shows below itself, with gaps where the waves are."""
    mirror = image.transpose(Image.Transpose.FLIP_TOP_BOTTOM)
    mirror = mirror.resize((image.width, max(2, image.height // 2)))
    alpha = mirror.getchannel("A").point(lambda level: level * 0.4)
    pen = ImageDraw.Draw(alpha)
    step = max(2, round(stage.unit * 0.9))
    for y in range(step, alpha.height, step):
        pen.line((0, y, alpha.width, y), fill=0, width=max(1, round(step * (0.2 + 0.5 * y / alpha.height))))
    mirror.putalpha(alpha)
    return [
        layer(
            stage,
            mirror,
            left=left,
            top=bottom - stage.unit * 0.5,
            near=0.5,
            drift=(stage.width * 0.008, 0),
            sway=(stage.unit * 0.3, 0),
            pace=0.4,
        )
    ]


def knoll(stage: Stage, top: float, *, snowy: bool = False) -> Element:
    near = mix(stage.palette.near, WHITE, 0.82 if snowy else 0)
    ridge = land.rolling(stage.random, 0.6)
    return land.ground(
        stage, ridge, top=top, rise=0.045, near=0.9, colours=(mix(near, stage.palette.far, 0.16), near, near)
    )


def _tufts(stage: Stage) -> Element:
    """Grass in front of whoever stands on the knoll."""
    random_ = stage.random
    tall = stage.unit * 5
    size = (stage.wide, max(4, round(tall + stage.height * 0.06)))

    def draw(pen: ImageDraw.ImageDraw, across: float, down: float) -> None:
        for _ in range(round(stage.wide / stage.unit * 2.4)):
            x, high = random_.random() * size[0], tall * random_.uniform(0.25, 1) ** 1.6
            lean, half, foot = random_.uniform(-0.5, 0.5) * high, stage.unit * 0.16, size[1] + 2.0
            foot -= random_.random() * stage.height * 0.045
            blade = [
                (x - half, foot),
                (x + lean * 0.35, foot - high * 0.6),
                (x + lean, foot - high),
                (x + lean * 0.35 + half, foot - high * 0.55),
                (x + half, foot),
            ]
            pen.polygon([(a * across, b * down) for a, b in blade], fill=255)

    image = tint(shape(size, draw, (3, 3)), mix(stage.palette.near, (0, 0, 0), 0.15))
    return layer(stage, image, top=stage.height - size[1] + 1, near=1, sway=(0, 0))


def lone_tree(stage: Stage, x: float) -> Element:
    """A lone broad tree: clumps of leaves on a forked trunk."""
    random_ = stage.random
    size = max(16, round(stage.unit * 34))
    clumps = [
        (random_.gauss(0.5, 0.14), random_.gauss(0.32, 0.1), random_.uniform(0.07, 0.15)) for _ in range(26)
    ]

    def draw(pen: ImageDraw.ImageDraw, across: float, down: float) -> None:
        trunk = [
            (0.47, 1.0),
            (0.485, 0.6),
            (0.36, 0.38),
            (0.375, 0.37),
            (0.5, 0.54),
            (0.6, 0.36),
            (0.615, 0.37),
            (0.515, 0.62),
            (0.53, 1.0),
        ]
        pen.polygon([(a * size * across, b * size * down) for a, b in trunk], fill=255)
        for cx, cy, radius in clumps:
            pen.ellipse(
                (
                    (cx - radius) * size * across,
                    (cy - radius * 0.72) * size * down,
                    (cx + radius) * size * across,
                    (cy + radius * 0.72) * size * down,
                ),
                fill=255,
            )

    image = tint(shape((size, size), draw, (3, 3)), stage.palette.depth(0.92))
    return layer(stage, image, left=x * stage.width - size / 2, top=stage.height * 0.925 - size, near=0.88)
