"""What a prompt asks for, as far as a renderer without a model can tell: by its words, else by its hash."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from shared.adapters.generators.local_renderer.brush import chance
from shared.adapters.generators.local_renderer.creatures import CREATURES

COMPOSITIONS: Final = {
    "peaks": "mountain peak summit alps alpine himalaya lake cliff valley canyon volcano rock glacier",
    "sea": "sea ocean beach coast water wave harbour harbor island river sail ship boat whale surf pier",
    "forest": "forest wood woods tree pine jungle woodland taiga grove redwood",
    "city": "city skyline street tokyo paris london berlin york urban town building skyscraper cyberpunk",
    "dunes": "desert dune sand sahara oasis camel mars martian arid",
    "meadow": "flower garden rose bloom blossom tulip poppy meadow daisy lavender bouquet spring butterfly",
    "space": "space galaxy planet nebula cosmos cosmic star universe astronaut rocket orbit saturn alien",
    "flow": "abstract flow music dream silk smoke pattern wallpaper texture energy logo jazz symphony",
    "hills": "hill field countryside farm landscape pasture",
}
# The hour and the weather come before what a place usually looks like.
HOURS: Final = {
    "night violet": "night midnight nocturnal moon moonlight moonlit starry",
    "sunset ember": "sunset evening fire flame autumn fall warm volcano lava",
    "dawn rose": "sunrise dawn morning pink romantic pastel",
    "day spring": "noon day daylight sunny blue summer bright",
    "dusk teal": "dusk twilight fog mist misty foggy calm",
    "storm": "storm stormy rain rainy thunder grey gray gloomy cloudy",
    "frost": "snow snowy winter ice icy arctic frozen frost cold glacier christmas",
    "polar": "aurora borealis northern",
    "golden desert": "gold golden vintage",
    "neon violet": "neon cyberpunk synthwave futuristic disco techno",
}
PLACES: Final = {
    "golden desert": "desert dune sand sahara mars",
    "spring rose": "spring blossom bloom garden flower meadow",
    "jade teal": "green jade emerald jungle tropical tea",
    "cosmos violet": "space galaxy planet nebula cosmos cosmic universe purple magic magical",
}
USUAL_PALETTES: Final = {
    "peaks": "dawn sunset dusk teal night golden rose",
    "sea": "sunset dusk ember teal rose golden",
    "forest": "jade teal dawn dusk golden night",
    "city": "dusk violet neon sunset night rose",
    "dunes": "desert golden ember dusk",
    "meadow": "spring rose golden day dawn",
    "space": "cosmos violet polar neon",
    "flow": "neon teal rose ember cosmos jade dusk",
    "hills": "dusk sunset golden dawn teal night ember",
}
SUBJECTS: Final = {
    **{name: name for name in CREATURES},
    "cat": "cat kitten kitty",
    "dog": "dog puppy corgi retriever hound",
    "wolf": "wolf husky coyote wolve",
    "rabbit": "rabbit bunny hare",
    "bear": "bear grizzly cub",
    "boat": "boat ship sail sailboat yacht sailing",
    "balloon": "balloon",
    "lighthouse": "lighthouse",
    "cabin": "cabin house cottage hut home",
    "whale": "whale orca dolphin",
}
SIGHTS: Final = {
    "snow": "snow snowy winter blizzard christmas",
    "rain": "rain rainy storm",
    "aurora": "aurora borealis northern",
    "birds": "bird gull eagle crow swallow goose geese flock dove raven",
    "fireflies": "firefly magic magical fairy enchanted lantern glowing",
    "petals": "blossom cherry sakura petal romantic",
    "moon": "moon moonlight moonlit night midnight",
    "sun": "sun sunset sunrise sunny",
    "clouds": "cloud cloudy",
}


@dataclass(frozen=True, slots=True)
class Reading:
    composition: str
    palettes: tuple[str, ...]
    """Each fits; the seed picks one."""
    subject: str | None
    sights: frozenset[str]


def words_of(text: str) -> frozenset[str]:
    """Its words in lower case, each also without a plural s."""
    words = re.findall(r"[^\W\d_]+", text.lower())
    return frozenset(words) | frozenset(
        word[:-2] if word.endswith("xes") else word[:-1] for word in words if word.endswith("s")
    )


def read(prompt: str, unwanted: str = "") -> Reading:
    """Choose what to draw; what the negative prompt names stays out, as far as the prompt leaves a choice."""
    without = words_of(unwanted)
    words = words_of(prompt) - without
    random_ = chance("reading", prompt)

    subject = next(iter(_named(SUBJECTS, words)), None)
    composition = next(iter(_named(COMPOSITIONS, words)), None)
    if subject in {"boat", "whale"} or (subject == "lighthouse" and composition is None):
        composition = "sea"
    if composition is None:
        allowed = [name for name, cues in COMPOSITIONS.items() if not without & set(cues.split())]
        # An animal without a place sits on a hill before the sun or the moon.
        composition = "hills" if subject else random_.choice(allowed or ["flow"])

    asked = _named(HOURS, words) or _named(PLACES, words)
    names = " ".join(asked) or USUAL_PALETTES[composition]
    refused = " ".join(_named(HOURS, without) + _named(PLACES, without)).split()
    palettes = [name for name in names.split() if name not in refused]
    sights = frozenset(_named(SIGHTS, words)) - frozenset(_named(SIGHTS, without))
    return Reading(composition, tuple(palettes or USUAL_PALETTES["flow"].split()), subject, sights)


def _named(cues: Mapping[str, str], words: Iterable[str]) -> list[str]:
    """The entries that one of the words stands for, those with more such words first."""
    said = set(words)
    hits = {name: len(said & set(listed.split())) for name, listed in cues.items()}
    return sorted((name for name, count in hits.items() if count), key=lambda name: -hits[name])
