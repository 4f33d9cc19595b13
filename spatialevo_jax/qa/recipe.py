"""What decides the bytes of a question-answer set, beside the scenes themselves."""

import dataclasses
import json
import math
from pathlib import Path
from typing import Any, Literal

from geometry_jax.tasks import TASK_IDS, TASKS
from spatialevo_jax.environment.conventions import CONVENTIONS, ConventionName

VERSION = 4  # of the recipe: a change of anything below that changes rows
FILE = "recipe.json"
MODALITIES = ("scene", "single_image", "image_pair")
FORMATS = ("jsonl", "parquet")
# Whose pixels the scenes are made of. Those of others are never copied into a set.
Source = Literal["rooms", "own", "scannet", "scannetpp", "arkitscenes"]
SOURCES: tuple[Source, ...] = ("rooms", "own", "scannet", "scannetpp", "arkitscenes")
OWN_PIXELS = frozenset({"rooms", "own"})


@dataclasses.dataclass(frozen=True)
class Recipe:
    """The settings of a set. Shares lie in [0, 1]."""

    count: int  # rows, invalid ones included
    source: Source
    seed: int = 0
    convention: ConventionName = "corrected"
    tasks: tuple[str, ...] = tuple(TASK_IDS)
    # (task or modality, weight) of those that should not have the same number of rows as others
    weights: tuple[tuple[str, float], ...] = ()
    least_margin: float = 1.0  # 1: just clear of the nearest decision edge
    invalid_share: float = 0.0  # of rows that have no answer but a reason
    choice_share: float = 0.0  # of rows with options, where the task allows them
    wordings: int = 0  # sentence forms of each task, 0: all
    rationales: bool = False
    scene_images: int = 8  # most images of a question about the whole room
    validation_share: float = 0.0  # of the rooms in train/ that are held out too
    formats: tuple[str, ...] = FORMATS
    embed_images: bool = False
    questions: str = ""  # digest of the file of questions that are asked instead of our own
    lists: str = ""  # digest of the file of image lists that alone are asked about
    version: int = VERSION

    def __post_init__(self) -> None:
        def require(good: bool, message: str) -> None:
            if not good:
                raise ValueError(message)

        require(self.count > 0, f"count: expected at least 1, got {self.count}.")
        require(
            self.convention in CONVENTIONS,
            f"convention: expected one of {', '.join(CONVENTIONS)}, got {self.convention!r}.",
        )
        require(
            self.source in SOURCES,
            f"source: expected one of {', '.join(SOURCES)}, got {self.source!r}.",
        )
        unknown = [task for task in self.tasks if task not in TASK_IDS]
        require(
            bool(self.tasks) and not unknown and len(set(self.tasks)) == len(self.tasks),
            f"tasks: expected some of {', '.join(TASK_IDS)}, each once; got {list(self.tasks)}.",
        )
        for name, weight in self.weights:
            require(
                (name in self.tasks or name in MODALITIES) and 0 < weight < math.inf,
                f"weights: expected a task or one of {', '.join(MODALITIES)} and a number above "
                f"0, got {name}={weight}.",
            )
        names = [name for name, _ in self.weights]
        twice = sorted({name for name in names if names.count(name) > 1})
        require(not twice, f"weights: expected one of each, got two of {', '.join(twice)}.")
        for name in ("invalid_share", "choice_share", "validation_share"):
            value = getattr(self, name)
            require(
                0.0 <= value < 1.0 or (name == "choice_share" and value == 1.0),
                f"{name}: expected a share in [0, 1), got {value}.",
            )
        require(
            1.0 <= self.least_margin < math.inf or self.convention == "reference",
            f"least_margin: expected 1 or more, got {self.least_margin}.",
        )
        require(
            self.convention == "corrected" or not self.rationales,
            "rationales: they explain answers of the corrected convention, not of the reference.",
        )
        require(
            self.scene_images > 2,
            f"scene_images: expected more than 2, got {self.scene_images}.",
        )
        require(
            bool(self.formats) and set(self.formats) <= set(FORMATS),
            f"formats: expected some of {', '.join(FORMATS)}, got {list(self.formats)}.",
        )
        if self.embed_images:
            require(
                self.source in OWN_PIXELS,
                f"embed_images: the pictures of {self.source} may not be passed on; only those of "
                f"{' and '.join(sorted(OWN_PIXELS))} scenes can be embedded.",
            )
            require(
                "parquet" in self.formats, "embed_images: pictures go into parquet; add the format."
            )

    @property
    def strict(self) -> bool:
        """Whether answers near an edge are refused: the published oracle has no such margin."""
        return self.convention == "corrected"

    def weight(self, task: str) -> float:
        """How many rows a task should have beside the others: its own weight times that of its
        modality.
        """
        weights = dict(self.weights)
        return weights.get(task, 1.0) * weights.get(TASKS[TASK_IDS[task]].modality, 1.0)

    def to_json(self) -> dict[str, Any]:
        return json.loads(json.dumps(dataclasses.asdict(self)))


def read_recipe(folder: Path) -> Recipe:
    """The recipe of a set.

    Raises:
        FileNotFoundError: the folder holds no set. ValueError: it is one of another version.
    """
    path = folder / FILE
    if not path.is_file():
        raise FileNotFoundError(f"{path}: expected the recipe of a set, found none.")
    try:
        fields = json.loads(path.read_text(encoding="utf-8"))
        version = fields["version"]
        if version == VERSION:  # another one may have other fields
            fields["weights"] = tuple((name, weight) for name, weight in fields["weights"])
            fields |= {name: tuple(fields[name]) for name in ("tasks", "formats")}
            return Recipe(**fields)
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path}: expected the recipe of a set ({error}).") from error
    raise ValueError(
        f"{path}: expected recipe version {VERSION}, got {version}, which chooses other rows; use "
        "the release that made the set, or make it anew in another folder."
    )
