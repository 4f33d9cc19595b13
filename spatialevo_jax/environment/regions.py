"""Regions of a room, such as "the sleeping area": which furniture stands for them.

A region has no outline in the scene; the first label of its list that an image shows is its anchor.
Phrases are matched whole, never by a part of them: `area` is no kitchen.
"""

import re
from collections.abc import Collection, Mapping, Sequence

from geometry_jax.reasons import Reason
from spatialevo_jax.environment.labels import bare, look_up

# Region -> labels that stand for it, the most telling first.
ANCHORS: dict[str, tuple[str, ...]] = {
    "sleep": (
        *("bed", "bed frame", "bed cover", "bed sheet", "bedsheet", "pillow", "blanket"),
        *("night stand", "nightstand", "bedside table", "bedside cabinet", "bedside shelf"),
        "bedside lamp",
    ),
    "bedroom": (
        *("bed", "bed frame", "bed cover", "bed sheet", "bedsheet", "pillow", "blanket"),
        *("night stand", "nightstand", "dresser", "bedside table", "bedside cabinet"),
        *("bedside shelf", "bedside lamp"),
    ),
    "bath": (
        *("toilet", "sink", "bathroom sink", "mirror", "bathtub", "bath tub", "shower curtain"),
        *("towel", "bath mat", "toilet paper", "toilet paper dispenser", "bathroom cabinet"),
        *("bathroom counter", "bathroom shelf"),
    ),
    "toilet": (
        *("toilet", "sink", "bathroom sink", "mirror", "shower curtain", "toilet paper"),
        *("toilet paper dispenser", "bathroom cabinet"),
    ),
    "kitchen": (
        *("refridgerator", "refrigerator", "microwave", "sink", "counter", "dishwasher", "kettle"),
        *("oven", "stove", "air fryer", "blender"),
    ),
    "cooking": (
        *("microwave", "oven", "stove", "counter", "kettle", "dishwasher", "air fryer", "blender"),
    ),
    "living": (
        *("sofa", "couch", "armchair", "tv", "tv monitor", "table", "coffee table", "floor mat"),
        *("fireplace", "speakers"),
    ),
    "dining": ("table", "chair", "counter", "stool", "barstool", "bench", "bench stool"),
    "study": (
        *("table", "chair", "whiteboard", "blackboard", "books", "bookshelf", "monitor"),
        *("keyboard", "laptop", "shelf"),
    ),
    "office": (
        *("table", "chair", "monitor", "keyboard", "computer tower", "printer", "laptop", "clock"),
        "shelf",
    ),
    "work": (
        *("table", "chair", "monitor", "keyboard", "computer tower", "printer", "laptop", "shelf"),
    ),
    "print": ("printer", "table", "monitor", "computer tower", "binding machine"),
    "entry": ("door", "shoe rack", "shoes", "floor mat", "coat rack"),
    "storage": (
        *("cabinet", "shelf", "shelves", "box", "closet", "basket", "crate", "bucket", "suitcase"),
    ),
    "laundry": ("washer", "washing machine", "towel", "basket", "bucket"),
    "media": (
        *("tv", "tv monitor", "monitor", "speaker", "speakers", "headphones", "guitar", "piano"),
    ),
}

# Region -> other names of it; the region itself is a name too.
ALIASES: dict[str, tuple[str, ...]] = {
    "sleep": (
        *("sleeping area", "sleep area", "bed area", "rest area", "resting area"),
        *("sleeping zone", "sleeping region"),
    ),
    "bedroom": ("bedroom area", "bed room", "bed room area", "sleeping room"),
    "bath": (
        *("bathroom", "bathroom area", "bath area", "bathroom zone", "bathroom region"),
        *("washroom", "wash room", "restroom", "shower area", "shower room"),
    ),
    "toilet": ("toilet area", "toilet zone", "wc", "lavatory"),
    "kitchen": (
        *("kitchen area", "kitchen zone", "cooking area", "cooking room", "food prep area"),
        "food preparation area",
    ),
    "cooking": ("cook area", "cooking zone", "stove area", "prep area", "preparation area"),
    "living": (
        *("living area", "living room", "lounge area", "sitting area", "seating area"),
        "sofa area",
    ),
    "dining": ("dining area", "dining room", "eating area", "meal area"),
    "study": ("study area", "reading area", "reading corner", "desk area"),
    "office": ("office area", "office corner", "workspace", "workstation", "work station"),
    "work": ("work area", "working area", "work zone"),
    "print": ("printing area", "printer area", "copy area", "copy corner"),
    "entry": (
        *("entryway", "entry area", "entrance area", "entrance zone", "entrance", "foyer"),
        "doorway area",
    ),
    "storage": ("storage area", "storage room", "storage zone", "closet area", "utility area"),
    "laundry": ("laundry area", "laundry room", "washer area", "washing machine area"),
    "media": (
        *("tv area", "television area", "media area", "entertainment area", "audio area"),
        "music area",
    ),
}

REGION_OF = {
    alias: region for region in ANCHORS for alias in (region, *ALIASES[region])
}  # phrase -> region
LABEL_REGION = re.compile(r"(.+) (?:area|zone|region|corner)")  # the surroundings of one object


def anchors(phrase: str, names: Mapping[str, str | Reason]) -> tuple[str, ...] | Reason:
    """The scene's labels that may stand for a phrase, the best first.

    A label itself, then "the LABEL area", then the listed regions. `names` is the scene's
    `vocabulary`. A phrase that means nothing in this scene has a reason.
    """
    text = bare(phrase)
    own = look_up(text, names)
    if own is not Reason.ABSENT_LABEL:
        return own if isinstance(own, Reason) else (own,)
    found: list[str] = []
    surroundings = LABEL_REGION.fullmatch(text)
    if surroundings is not None:
        own = look_up(surroundings[1], names)
        if isinstance(own, str):
            found.append(own)
        elif own is not Reason.ABSENT_LABEL:
            return own
    for label in ANCHORS.get(REGION_OF.get(text, ""), ()):
        known = look_up(label, names)
        if isinstance(known, str) and known not in found:
            found.append(known)
    return tuple(found) or Reason.ABSENT_LABEL


def anchor(choices: Sequence[str], visible: Collection[str]) -> str:
    """The first choice that the image shows; where it shows none, the first, which is then refused
    as not visible.
    """
    return next((label for label in choices if label in visible), choices[0])
