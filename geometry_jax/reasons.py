"""Why a question has no answer: an enumeration that lives in arrays, each member with words for
people.
"""

import enum


class Reason(enum.IntEnum):
    """OK, or the first check that failed. The values are stored in data sets: append only."""

    OK = 0
    # Found while reading the question.
    EMPTY_QUESTION = 1
    WRONG_TASK = 2
    MISSING_ROLE = 3
    ABSENT_LABEL = 4
    AMBIGUOUS_LABEL = 5
    SAME_LABEL = 6
    SAME_IMAGE = 7
    WRONG_IMAGES = 8
    # Found in the scene.
    NOT_UNIQUE = 9
    NOT_VISIBLE = 10
    NOT_UNIQUE_IN_IMAGE = 11
    TOO_FEW = 12
    MISSING_FRAME = 13
    MISSING_AREA = 14
    # Found by geometry.
    TOO_CLOSE = 15
    SAME_PLACE = 16
    SAME_LEVEL = 17
    LOOKING_VERTICAL = 18
    NO_MOTION = 19
    OVERLAP = 20
    SAME_SIZE = 21
    UNCLEAR = 22
    # Found while reading the question.
    NOT_AN_OBJECT = 23
    # Found in the scene.
    MISSING_POSE = 24
    # Found while reading the question.
    TOO_MANY = 25
    CONTRADICTION = 26

    @property
    def sentence(self) -> str:
        """One sentence for people."""
        return _WORDS[self][1]

    @property
    def phrase(self) -> str:
        """Two to four words: the class of the reason, which an explanation may name."""
        return _WORDS[self][0]


_WORDS: dict[Reason, tuple[str, str]] = {
    Reason.OK: ("valid", "The question has an answer."),
    Reason.EMPTY_QUESTION: ("no question", "There is no readable question."),
    Reason.WRONG_TASK: ("wrong task", "The sentence does not ask what the task is about."),
    Reason.MISSING_ROLE: (
        "missing object",
        "The sentence does not name everything that the task needs.",
    ),
    Reason.ABSENT_LABEL: (
        "not in the scene",
        "The sentence names something that the scene does not have.",
    ),
    Reason.AMBIGUOUS_LABEL: (
        "not unique",
        "A name in the sentence fits several labels of the scene.",
    ),
    Reason.SAME_LABEL: ("same object", "The sentence names the same object in two roles."),
    Reason.SAME_IMAGE: ("same image", "The sentence names the same image in both roles."),
    Reason.WRONG_IMAGES: (
        "wrong images",
        "The request does not show the images that the task needs.",
    ),
    Reason.NOT_UNIQUE: ("not unique", "The scene has more than one object of that label."),
    Reason.NOT_VISIBLE: ("not visible", "The object cannot be seen well enough in the image."),
    Reason.NOT_UNIQUE_IN_IMAGE: (
        "not unique",
        "The image shows more than one object of that label.",
    ),
    Reason.TOO_FEW: ("too few", "The scene has fewer than two objects of that label to count."),
    Reason.MISSING_FRAME: ("wrong images", "The scene has no such frame."),
    Reason.MISSING_AREA: ("no area", "The scene has no floor area."),
    Reason.TOO_CLOSE: ("too close", "The two best candidates are about equally near."),
    Reason.SAME_PLACE: (
        "same place",
        "Two of the places are too close together to give a direction.",
    ),
    Reason.SAME_LEVEL: ("same level", "The two cameras stand at the same height."),
    Reason.LOOKING_VERTICAL: (
        "no heading",
        "The camera looks straight up or down and has no heading.",
    ),
    Reason.NO_MOTION: ("no motion", "The camera hardly moves between the two images."),
    Reason.OVERLAP: ("same place", "The two objects are at the same place."),
    Reason.SAME_SIZE: ("same size", "The two objects are about equally large."),
    Reason.UNCLEAR: ("too close", "The answer lies too near a decision edge to be clear."),
    Reason.NOT_AN_OBJECT: (
        "not an object",
        "Walls, floors and leftovers are not objects to ask about.",
    ),
    Reason.MISSING_POSE: ("no pose", "The scene has no usable camera pose for that frame."),
    Reason.CONTRADICTION: (
        "wrong task",
        "The fields of the request and its sentence ask for different things.",
    ),
    Reason.TOO_MANY: ("too many", "The sentence names more candidates than are compared at once."),
}
