"""From a phrase of the question to a label of the scene: exact names, plurals and listed synonyms.
Nothing fuzzy.

All names of a scene are compiled once into one dictionary; looking a phrase up costs one hash.
"""

import functools
import re
import unicodedata
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from geometry_jax.reasons import Reason

# Surfaces and leftovers that no question may be about.
NOT_OBJECTS = frozenset({"wall", "floor", "ceiling", "otherprop", "otherfurniture"})
# The published oracle refuses these only.
PUBLISHED_NOT_OBJECTS = frozenset({"wall", "ceiling", "otherprop", "otherfurniture"})
ARTICLES = ("the ", "a ", "an ", "this ", "that ")
# Words for the same thing, each group in both directions. A label of the scene always wins over a
# synonym of it.
SYNONYMS = (
    frozenset({"sofa", "couch"}),
    frozenset({"refrigerator", "fridge", "refridgerator"}),  # the last is ScanNet's spelling
    frozenset({"washer", "washing machine"}),
    frozenset({"telephone", "phone"}),
    frozenset({"doorframe", "door frame"}),
    frozenset({"tv", "television"}),
    frozenset({"bookshelf", "bookcase"}),
    frozenset({"bin", "trash can", "trash bin", "garbage can", "trashcan"}),
    frozenset({"stool", "footstool"}),
    frozenset({"plant", "potted plant"}),
    frozenset({"cabinet", "cupboard"}),
    frozenset({"nightstand", "night stand", "bedside table"}),
)

# Words that sentences are built of: with one of them inside a label, a sentence has two readings.
CONNECTIVES = frozenset(
    {"a", "an", "and", "from", "in", "is", "or", "relative", "that", "the", "this", "to", "when"}
)
ROLE = {"first": "1", "second": "2", "one": "1", "two": "2", "1st": "1", "2nd": "2"}
ROLE_WORD = "|".join(ROLE)
IMAGE_WORD = "(?:image|picture|photo|photograph|view)"
# A frame has a number of its own: only its place in the order says which image it is.
IMAGE_NAME = re.compile(
    rf"\b(?:the )?(?:({ROLE_WORD}) (?:{IMAGE_WORD}|frame)|"
    rf"{IMAGE_WORD} ?(?:#|no\.? ?|number )?({ROLE_WORD}|[12]))\b(?:'s(?= camera\b))?"
)
IMAGE_WORDS = ("image", "picture", "photo", "view", "frame")
# One noun for two images: "the first and the second image", "images 1 and 2".
JOINTLY = ("first", "1st", "s 1 ", "s one ")  # looking for these is faster
JOINED_IMAGES = re.compile(
    rf"\b(?:(?:the )?(?:first|1st) (and|or|to)(?: in)? (?:the )?(?:second|2nd) "
    rf"(?:{IMAGE_WORD}|frame)|{IMAGE_WORD}s (?:1|one) (and|or|to) (?:2|two))\b"
)
# The last noun left out: "from image 1 to the second".
LAST_WORDS = ("first", "second", "one", " 1", " 2")
LAST_IMAGE = re.compile(r"\b(and|or|to|than|of|in|took) (?:the )?(first|second|[12])(?: one)?$")
TAKEN_IMAGE = re.compile(r"\b(when|while) image ([12]) was (?:being )?taken\b")
# Words that ask for an answer, whatever is asked.
COURTESY = re.compile(
    r"(?:please,? |(?:(?:can|could) you (?:please )?)?(?:tell|give) me,? |"
    r"(?:can|could) you (?:please )?(?=count |estimate |measure ))+"
)
# Contractions and spellings, each as it is read; longer ones first.
RESPELLED = (
    ("metres", "meters"),
    ("metre", "meter"),
    ("i'm ", "i am "),
    ("you're ", "you are "),
    ("what's ", "what is "),
    ("where's ", "where is "),
)
# Plurals of words that labels end in.
IRREGULAR = {
    "shelf": "shelves",
    "knife": "knives",
    "scarf": "scarves",
    "leaf": "leaves",
    "mouse": "mice",
    "person": "people",
    "child": "children",
}
LETTERS = "a-z0-9\u0080-\U0010fffd"  # and digits, of any script: a range is faster than \w
SPEAKABLE = re.compile(rf"[{LETTERS}][{LETTERS} '&\-/]{{0,39}}")  # what a sentence's blank may hold
# At the end of a name these belong to the sentence: "the lamp?" is the lamp.
ENDS = ' *`"\u201c\u201d?.!,;:'
FIRST_SIGN = 0xF0000  # of the characters for private use, which no readable question holds


def spoken(label: str) -> str:
    """A label as sentences write it: lower case, single blanks, no underscores."""
    text = " ".join(label.lower().replace("_", " ").split())
    return text if text.isascii() else unicodedata.normalize("NFC", text)


def heard(text: str) -> str:
    """Words as they are compared: `spoken`, and alike in whatever case, Unicode form and kind of
    apostrophe they are written.
    """
    text = spoken(text)
    if text.isascii():
        return text
    text = unicodedata.normalize("NFD", text).casefold().replace("\u2019", "'")
    return unicodedata.normalize("NFC", text)


EMPHASIS = re.compile(r"[*`\"\u201c\u201d]")  # marks that language models put around things


def normalise(question: str, odd: "OddNames | None" = None) -> str:
    """Lower case, single blanks, no marks around words, images by number, no courtesy, nothing
    after the question mark; signs in place of the scene's `odd` names.
    """
    text = heard(question)
    if odd is not None:
        text = odd.pattern.sub(lambda name: odd.sign[name[0]], text)
    if EMPHASIS.search(text):
        text = " ".join(EMPHASIS.sub("", text).split())
    for spelling, plain in RESPELLED:
        if spelling in text:
            text = text.replace(spelling, plain)
    text = text.rstrip("?.! ")
    if any(word in text for word in IMAGE_WORDS):
        text = _with_numbers(text)
    if text.endswith(" please"):
        text = text.removesuffix(" please").rstrip(",")
    start = COURTESY.match(text)
    return text[start.end() :] if start else text


def _with_numbers(text: str) -> str:
    """A text with its images by number."""
    if any(word in text for word in JOINTLY):
        text = JOINED_IMAGES.sub(lambda two: f"image 1 {two[1] or two[2]} image 2", text)
    text = IMAGE_NAME.sub(_image, text)
    if text.endswith(LAST_WORDS) and ("image 1" in text or "image 2" in text):
        text = LAST_IMAGE.sub(lambda last: f"{last[1]} image {ROLE.get(last[2], last[2])}", text)
    if " taken" in text:
        text = TAKEN_IMAGE.sub(r"\1 taking image \2", text)
    return text


def _image(match: re.Match[str]) -> str:
    number = match[1] or match[2]
    return f"image {ROLE.get(number, number)}"


@functools.lru_cache(maxsize=4096)
def askable(labels: tuple[str, ...]) -> frozenset[str]:
    """Those of a scene's distinct labels that a sentence can name without doubt, as object."""
    return frozenset(
        label
        for label in labels
        if SPEAKABLE.fullmatch(spoken(label))
        and _is_kept(spoken(label))
        and CONNECTIVES.isdisjoint(spoken(label).split())
        and resolve(spoken(label), labels) == label
        and resolve(plural(spoken(label)), labels) == label
    )


def _is_kept(name: str) -> bool:
    """Whether reading a sentence leaves the name as it is: `picture 2` would become an image."""
    return all(normalise(one) == heard(one) for one in (name, plural(name)))


def plural(label: str) -> str:
    """The English plural, good enough for `resolve` to read back; `clothes` stays."""
    if label.endswith("s") and not label.endswith(("as", "is", "ss", "us")):
        return label
    if label.endswith(("s", "x", "z", "ch", "sh")):
        return f"{label}es"
    if label.endswith("y") and label[-2:-1] not in "aeiou":
        return f"{label[:-1]}ies"
    for one, many in IRREGULAR.items():
        if label.endswith(one):
            return label.removesuffix(one) + many
    return f"{label}s"


@functools.lru_cache(maxsize=4096)
def vocabulary(labels: tuple[str, ...], published: bool = False) -> Mapping[str, str | Reason]:
    """Every name of a scene's distinct labels -> the label, or why it names none.

    An exact label first, then its plural, then a listed synonym; a name that fits several labels
    (`Chair` and `chair` are two) is ambiguous. A scene's own label always wins over a synonym of
    another. A label without a letter or digit has no name.

    `published`: as the published oracle means it. No synonyms, fewer surfaces, and a label in lower
    case wins over the same in capitals.
    """
    surfaces = _surfaces(published)
    labels = tuple(one for one in labels if _names(spoken(one)))
    if published:
        labels = tuple(one for one in labels if one == spoken(one) or spoken(one) not in labels)
    names: dict[str, str | Reason] = {}
    for surface in sorted(surfaces):
        names[surface] = names[plural(surface)] = Reason.NOT_AN_OBJECT
    # The lowest rank is written first, so that a higher one overrules it.
    for rank in (_plurals, _exact) if published else (_synonyms, _plurals, _exact):
        found: dict[str, str | Reason] = {}
        for label in labels:
            for name in set().union(*map(_names, rank(spoken(label)))):
                found[name] = Reason.AMBIGUOUS_LABEL if name in found else label
        names |= {name: _allowed(label, surfaces) for name, label in found.items()}
    return names


def _names(name: str) -> set[str]:
    """A name as it stands in a sentence once that is normalised; none where nothing is left."""
    bare_name = heard(name).strip(ENDS)
    if not any(map(str.isalnum, bare_name)):
        return set()
    return {bare_name, normalise(bare_name)} if SPEAKABLE.fullmatch(bare_name) else {bare_name}


class OddNames(NamedTuple):
    """Names of a scene that no blank of a sentence can hold, such as "tv (wall)": each is one
    character where the sentence is matched.
    """

    pattern: re.Pattern[str]
    sign: Mapping[str, str]  # name -> its character
    name: Mapping[str, str]  # and back
    names: Mapping[str, str | Reason]  # the scene's `vocabulary` and the characters

    def in_words(self, text: str) -> str:
        """A part of a sentence with the names in place of their characters."""
        return "".join(self.name.get(character, character) for character in text)


@functools.lru_cache(maxsize=4096)
def odd_names(labels: tuple[str, ...], published: bool = False) -> OddNames | None:
    """The names of a scene's `vocabulary` that a blank can't hold; None where it can hold all.

    Not one that is a list of others, such as "tv, lamp" beside a tv and a lamp.
    """
    names = vocabulary(labels, published)
    odd = [
        name
        for name in names
        if not SPEAKABLE.fullmatch(name)
        and ("," not in name or not all(part.strip() in names for part in name.split(",")))
    ]
    if not odd:
        return None
    odd.sort(key=lambda name: (-len(name), name))  # the longest name is taken
    sign = {name: chr(FIRST_SIGN + index) for index, name in enumerate(odd)}
    return OddNames(
        pattern=re.compile(rf"(?<!\w)(?:{'|'.join(map(re.escape, odd))})(?!\w)"),
        sign=sign,
        name={character: name for name, character in sign.items()},
        names={**names, **{character: names[name] for name, character in sign.items()}},
    )


def _surfaces(published: bool) -> frozenset[str]:
    return PUBLISHED_NOT_OBJECTS if published else NOT_OBJECTS


def _exact(name: str) -> set[str]:
    return {name}


def _plurals(name: str) -> set[str]:
    return {plural(name), f"{name}s"}  # the second as programs write it: boxs


def _synonyms(name: str) -> set[str]:
    words = {word for group in SYNONYMS if name in group for word in group} - {name}
    return words | {plural(word) for word in words}


def _allowed(label: str | Reason, surfaces: frozenset[str]) -> str | Reason:
    if isinstance(label, str) and spoken(label) in surfaces:
        return Reason.NOT_AN_OBJECT
    return label


def look_up(phrase: str, names: Mapping[str, str | Reason]) -> str | Reason:
    """The label that a phrase names, article or not; `names` is the scene's `vocabulary`."""
    first, _, rest = phrase.partition(" ")
    found = names.get(rest if f"{first} " in ARTICLES else phrase)
    if found is None:
        found = names.get(bare(phrase), Reason.ABSENT_LABEL)
    return found


def bare(phrase: str) -> str:
    """A phrase as `heard`, without its article."""
    text = heard(phrase).strip(ENDS)
    for article in ARTICLES:
        text = text.removeprefix(article)
    return text


def resolve(phrase: str, labels: Sequence[str]) -> str | Reason:
    """The scene's label that a phrase names; see `vocabulary`."""
    return look_up(phrase, vocabulary(tuple(labels)))


def given_label(name: str, labels: Sequence[str], published: bool = False) -> str | Reason:
    """The label that a field of a request names: itself, in any case; a field is not a sentence,
    so neither plurals nor synonyms count. `published` as in `vocabulary`.
    """
    wanted, surfaces = heard(name), _surfaces(published)
    found = [label for label in labels if heard(label) == wanted]
    if published and wanted in found:
        found = [wanted]
    if not found or not wanted:
        return Reason.NOT_AN_OBJECT if wanted in surfaces else Reason.ABSENT_LABEL
    return _allowed(found[0], surfaces) if len(found) == 1 else Reason.AMBIGUOUS_LABEL
