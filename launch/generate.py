r"""Makes question-answer sets from scenes: exact answers with evidence, balanced, verified.

    python -m launch.generate --scenes=data/rooms --out=sets/rooms --count=20000
    python -m launch.generate --scenes=data/rooms --out=sets/mixed --count=5000 \
        --invalid_share=0.1 --choice_share=0.5 --rationales --pictures --weights=scene=2,room_size=1
    python -m launch.generate --scenes=data/scannet --source=scannet --out=sets/scannet \
        --count=160000 --host_index=0 --host_count=8
    python -m launch.generate --scenes=data/rooms --verify=sets/rooms
    python -m launch.generate --scenes=data/rooms --convert=sets/rooms --to=prompts \
        --file=prompts.jsonl
    python -m launch.generate --scenes=data/rooms --convert=prompts.jsonl --to=requests \
        --file=asked.jsonl

A set that was stopped goes on where it was; the same recipe gives the same bytes with any number of
processes and hosts. --questions asks what a file says (requests as launch.ask reads them), and
--questioner=MODEL --config=FILE what a policy says, through the same oracle. --lists asks about the
images of a file alone, such as the published spatialevo_train.jsonl.
"""

import dataclasses
import functools
import hashlib
import json
import shutil
import sys
import time
from collections.abc import Sequence
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

import jax
from absl import flags
from tqdm import tqdm

from geometry_jax import scene_io
from geometry_jax.tasks import TASK_IDS
from launch import workers
from launch.errors import UserError, is_used, run, user_errors
from launch.flags import define_config
from spatialevo_jax.config import TrainConfig
from spatialevo_jax.environment.conventions import CONVENTIONS
from spatialevo_jax.files import whole_file
from spatialevo_jax.qa import card, formats, pipeline, recipe, shards, verify
from spatialevo_jax.qa.blocks import Block, make_blocks, splits_of
from spatialevo_jax.qa.recipe import Recipe
from spatialevo_jax.qa.summary import summarise

ROOMS_FILE = "rooms.json"  # what launch.prepare leaves beside the rooms that it makes
PATIENCE = 12 * 3600.0  # seconds that a host waits for the others
SPARE_QUESTIONS = 8  # that a policy asks for each row: some are invalid, some say the same
POLL = 2.0  # seconds between two looks

# `allow_override`: a process that imports several commands, as tests do, has flags of each.
_SCENES = flags.DEFINE_string(
    "scenes", None, "Folder of scenes: train/, val/, metadata/.", allow_override=True
)
_OUT = flags.DEFINE_string("out", None, "Folder for the set.", allow_override=True)
_COUNT = flags.DEFINE_integer("count", 10_000, "Rows.", lower_bound=1, allow_override=True)
_SOURCE = flags.DEFINE_enum(
    "source",
    None,
    recipe.SOURCES,
    "Whose scenes these are; known by itself for generated rooms.",
    allow_override=True,
)
_SEED = flags.DEFINE_integer(
    "seed", 0, "Seed of all that is drawn.", lower_bound=0, allow_override=True
)
_CONVENTION = flags.DEFINE_enum(
    "convention",
    "corrected",
    tuple(CONVENTIONS),
    "What the words mean, or what was published.",
    allow_override=True,
)
_TASKS = flags.DEFINE_list("tasks", list(TASK_IDS), "What is asked.", allow_override=True)
_WEIGHTS = flags.DEFINE_list(
    "weights", [], "NAME=NUMBER of tasks or modalities that should have more or fewer rows."
)
_MARGIN = flags.DEFINE_float("least_margin", 1.0, "Smallest margin: 1 is just clear of an edge.")
_INVALID = flags.DEFINE_float("invalid_share", 0.0, "Share of questions without an answer.")
_CHOICES = flags.DEFINE_float("choice_share", 0.0, "Share of rows with options.")
_WORDINGS = flags.DEFINE_integer(
    "wordings", 0, "Sentence forms of a task, 0: all.", 0, allow_override=True
)
_RATIONALES = flags.DEFINE_bool("rationales", False, "Add the measurements that lead to answers.")
_IMAGES = flags.DEFINE_integer("scene_images", 8, "Most images of a question about a room.", 3)
_HELD_OUT = flags.DEFINE_float(
    "validation_share",
    0.0,
    "Share of the rooms in train/ held out, beside those in val/: each with this chance.",
)
_FORMATS = flags.DEFINE_list("formats", list(recipe.FORMATS), "jsonl, parquet or both.")
_EMBED = flags.DEFINE_bool("embed_images", False, "Put pictures into parquet: own scenes only.")
_PICTURES = flags.DEFINE_bool("pictures", False, "Draw one row of each task: own scenes only.")
_QUESTIONS = flags.DEFINE_string(
    "questions", None, "File of requests to ask instead of our own.", allow_override=True
)
_LISTS = flags.DEFINE_string(
    "lists", None, 'File of {"images": [...]} lines: ask about these images alone.'
)
_QUESTIONER = flags.DEFINE_string(
    "questioner", None, "Model folder or run whose Questioner asks instead; needs its --config."
)
_CONFIG = define_config(TrainConfig)
_WORKERS = flags.DEFINE_integer("workers", 2, "Processes.", lower_bound=1, allow_override=True)
_HOST = flags.DEFINE_integer("host_index", 0, "Which of the hosts this is.", lower_bound=0)
_HOSTS = flags.DEFINE_integer("host_count", 1, "Hosts that share --out.", lower_bound=1)
_VERIFY = flags.DEFINE_string("verify", None, "Answer every row of this set again.")
_CONVERT = flags.DEFINE_string("convert", None, "A set or a file of rows to convert.")
_TO = flags.DEFINE_enum(
    "to", None, formats.TARGETS, "What --convert makes of it.", allow_override=True
)
_FILE = flags.DEFINE_string("file", None, "File that --convert writes.", allow_override=True)


def main(argv: Sequence[str]) -> None:
    del argv
    chosen = [flag.name for flag in (_OUT, _VERIFY, _CONVERT) if flag.value]
    if len(chosen) != 1:
        got = ", ".join(f"--{name}" for name in chosen) or "none of them"
        raise UserError(f"expected one of --out, --verify and --convert, got {got}.")
    if not _SCENES.value or not Path(_SCENES.value).is_dir():
        raise UserError(f"--scenes: expected a folder of scenes, got {_SCENES.value}.")
    if not _QUESTIONER.value:  # a policy may use what there is
        workers.use_cpu()
    root = Path(_SCENES.value)
    if _VERIFY.value:
        _verify(root, Path(_VERIFY.value))
    elif _CONVERT.value:
        _convert(root, Path(_CONVERT.value))
    else:
        _generate(root, Path(_OUT.value or ""))


# --- making a set ----------------------------------------------------------------------------


def _generate(root: Path, out: Path) -> None:
    started = time.monotonic()
    if _HOST.value >= _HOSTS.value:
        raise UserError(f"--host_index: expected less than {_HOSTS.value}, got {_HOST.value}.")
    with user_errors(OSError):
        questions = _questions(root, out)
    if _QUESTIONER.value:  # from here on as without one
        jax.config.update("jax_default_device", jax.devices("cpu")[0])
    with user_errors(OSError, ValueError):
        listed = formats.read_lists(Path(_LISTS.value)) if _LISTS.value else None
        wanted = _recipe(root, questions, listed)
    if _PICTURES.value and wanted.source not in recipe.OWN_PIXELS:
        raise UserError(f"--pictures: the pictures of {wanted.source} may not be passed on.")
    if "parquet" in wanted.formats:
        with user_errors(ModuleNotFoundError):
            shards.parquet()
    with user_errors(FileNotFoundError, ValueError):
        blocks = make_blocks(root, wanted)
    with user_errors(OSError):
        _check_recipe(out, wanted)
    written = all(pipeline.is_written(out, block, wanted) for block in blocks)
    if written and (out / card.NAME).is_file():
        shutil.rmtree(out / pipeline.WORK, ignore_errors=True)  # of a run killed at its very end
        print(f"{out}: is complete; nothing to do.")
        return
    mine = [block for block in blocks if block.number % _HOSTS.value == _HOST.value]
    scenes = sum(len(block.scenes) for block in blocks)
    asked = _by_block(questions, blocks)

    def own(block: Block) -> pipeline.Listed | None:
        """The lists of a block's scenes."""
        return None if listed is None else {s: listed[s] for s in block.scenes if s in listed}

    try:
        with (
            user_errors(OSError, ValueError, ModuleNotFoundError),
            workers.alone(_place_of_host(out)),
            workers.started(min(_WORKERS.value, len(mine))) as submit,
        ):
            todo = [b for b in mine if not pipeline.block_path(out, b).is_file()]
            jobs = [
                functools.partial(
                    pipeline.judge_block, root, out, b, wanted, scenes, asked[b.number], own(b)
                )
                for b in todo
            ]
            workers.run_all(
                submit, jobs, "candidates", [len(block.scenes) for block in todo], "scene"
            )
            plan = out / pipeline.WORK / pipeline.PLAN
            if _HOST.value == 0:
                _wait([pipeline.block_path(out, block) for block in blocks], "candidates")
                if not plan.is_file():
                    print(f"{out}: choosing rows ...", file=sys.stderr)
                    pipeline.make_plan(out, blocks, wanted)
            _wait([plan], "the plan of host 0")
            todo = [b for b in mine if not pipeline.is_written(out, b, wanted)]
            jobs = [
                functools.partial(pipeline.write_block, root, out, b, wanted, own(b)) for b in todo
            ]
            workers.run_all(submit, jobs, "rows", None, "row", total=wanted.count)
            if _HOST.value == 0:
                names = [
                    shards.shard_path(out, form, block.split, block.number)
                    for block in blocks
                    for form in wanted.formats
                ]
                _wait(names, "shards")
                _finish(root, out, blocks, wanted, started)
    except KeyboardInterrupt as stop:
        raise UserError("stopped; finished shards are kept, the same command goes on.") from stop
    except BrokenProcessPool as died:
        raise UserError(
            "a worker process died, perhaps for want of memory; finished shards are kept, the same "
            "command goes on (--workers=1 needs the least)."
        ) from died


def _by_block(questions: Sequence[Any], blocks: Sequence[Block]) -> list[list[Any]]:
    """The questions about the scenes of each block; the first one also counts those about none."""
    place = {scene: number for number, block in enumerate(blocks) for scene in block.scenes}
    asked: list[list[Any]] = [[] for _ in blocks]
    for question in questions:
        scene = question.get("scene_id")
        asked[place.get(scene, 0) if isinstance(scene, str) else 0].append(question)
    return asked


def _place_of_host(out: Path) -> Path:
    """A folder that only one process of a host works in at a time."""
    path = out / pipeline.WORK / f"host-{_HOST.value}"
    path.mkdir(parents=True, exist_ok=True)
    return path


def _finish(root: Path, out: Path, blocks: Sequence[Block], wanted: Recipe, started: float) -> None:
    """Pictures, the card, and what was found on the way since `started` (`time.monotonic`)."""
    summary = summarise(out, blocks, wanted)
    pictures = _draw(root, out, wanted, summary.samples) if _PICTURES.value else []
    card.write_card(out, summary, pictures)
    shutil.rmtree(out / pipeline.WORK)
    for name, why in summary.skipped:
        print(f"skipped {name}: {why}", file=sys.stderr)
    for one in summary.reports:
        best = max(one.majority, one.regression, one.table)
        blind = f", blind {best:.1%} of {one.blind_bound:.0%}" if one.is_guessed else ""
        print(f"{one.split:10s} {one.group:40s} {one.rows:7,d} rows{blind}")
    rows, seconds = sum(summary.rows.values()), time.monotonic() - started
    print(f"{out}: {rows:,} rows, {len(summary.skipped)} scenes skipped, {seconds:.1f} s")


def _draw(root: Path, out: Path, wanted: Recipe, samples: dict[str, Any]) -> list[str]:
    from spatialevo_jax.environment import picture  # matplotlib takes a second to import
    from spatialevo_jax.environment.fields import BadRequest, parse_request
    from spatialevo_jax.environment.respond import answer_requests

    (out / "pictures").mkdir(exist_ok=True)
    names = []
    for task, row in samples.items():
        request = parse_request(
            verify.request_fields(row), _loader(root), convention=wanted.convention
        )
        if isinstance(request, BadRequest):
            raise ValueError(request.message)
        (reply,) = answer_requests([request], convention=wanted.convention)
        picture.draw(request, reply, out / "pictures" / f"{task}.png")
        names.append(f"pictures/{task}.png")
    return names


def _digest(value: Any) -> str:
    text = json.dumps(value, sort_keys=True)
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest() if value else ""


def _recipe(root: Path, questions: Sequence[Any], listed: Any) -> Recipe:
    said = _SOURCE.value or ("rooms" if (root / ROOMS_FILE).is_file() else "")
    known: dict[str, recipe.Source] = {one: one for one in recipe.SOURCES}
    source = known.get(said)
    if source is None:
        raise UserError(
            f"--source: {root} does not say whose scenes these are; give one of "
            f"{', '.join(recipe.SOURCES)}."
        )
    weights = []
    for pair in _WEIGHTS.value or []:
        name, _, value = pair.partition("=")
        try:
            weights.append((name, float(value)))
        except ValueError as error:
            raise UserError(f"--weights: expected NAME=NUMBER, got {pair!r}.") from error
    return Recipe(
        count=_COUNT.value,
        source=source,
        seed=_SEED.value,
        convention="reference" if _CONVENTION.value == "reference" else "corrected",
        tasks=tuple(_TASKS.value or ()),
        weights=tuple(weights),
        least_margin=_MARGIN.value if _CONVENTION.value == "corrected" else 0.0,
        invalid_share=_INVALID.value,
        choice_share=_CHOICES.value,
        wordings=_WORDINGS.value,
        rationales=_RATIONALES.value,
        scene_images=_IMAGES.value,
        validation_share=_HELD_OUT.value,
        formats=tuple(_FORMATS.value or ()),
        embed_images=_EMBED.value,
        questions=_digest(questions),
        lists=_digest(listed),
    )


def _questions(root: Path, out: Path) -> list[dict[str, Any]]:
    """Requests to ask instead of our own, from a file or from a policy."""
    asking = [flag.name for flag in (_QUESTIONS, _QUESTIONER, _LISTS) if flag.value]
    if len(asking) > 1:
        got = " and ".join(f"--{name}" for name in asking)
        raise UserError(f"expected one of --questions, --questioner and --lists, got {got}.")
    path = Path(_QUESTIONS.value) if _QUESTIONS.value else None
    if _QUESTIONER.value:
        path = out.with_name(f"{out.name}.questions.jsonl")
        if not path.is_file():
            _let_ask(Path(_QUESTIONER.value), root, path)
    if path is None:
        return []
    with user_errors(ValueError):
        asked = list(shards.read_lines(path))
    if not asked:
        raise UserError(f"{path}: expected questions, found none.")
    return asked


def _let_ask(policy: Path, root: Path, path: Path) -> None:
    """Writes what a policy (a run, or a model folder) asks about the rooms in train/, some more
    than there shall be rows.
    """
    from spatialevo_jax.qa import questioner  # brings the model and its tokenizer
    from spatialevo_jax.train.checkpoint import CHECKPOINTS

    if _HOSTS.value > 1:
        raise UserError("--questioner: let one host ask first; then give --questions to all.")
    config = _CONFIG.load()
    data = dataclasses.replace(config.data, scenes=root, tasks=tuple(_TASKS.value or ()))
    config = dataclasses.replace(config, data=data, seed=_SEED.value)
    workdir = policy
    if not (policy / CHECKPOINTS).is_dir():
        config = dataclasses.replace(config, model=str(policy))
        workdir = path.with_suffix(".tokenizer")
    wanted = SPARE_QUESTIONS * _COUNT.value
    with user_errors(FileNotFoundError, ValueError), whole_file(path) as part:
        asked = questioner.ask(config, workdir, wanted)
        bar = tqdm(asked, total=wanted, desc="questions", unit="question", unit_scale=True)
        with part.open("w", encoding="utf-8") as file:
            file.writelines(json.dumps(one, ensure_ascii=False) + "\n" for one in bar)


def _check_recipe(out: Path, wanted: Recipe) -> None:
    """One folder holds one set."""
    path = out / recipe.FILE
    if path.is_file():
        with user_errors(ValueError):
            known = recipe.read_recipe(out)
        differs = [
            f"{field.name}: {getattr(known, field.name)} there, {getattr(wanted, field.name)} asked"
            for field in dataclasses.fields(Recipe)
            if getattr(known, field.name) != getattr(wanted, field.name)
        ]
        if differs:
            raise UserError(
                f"{out} holds a set of another recipe ({'; '.join(differs)}); choose another "
                "--out, or delete the folder."
            )
    elif is_used(out):
        raise UserError(f"{out} is not empty and holds no set; choose another --out.")
    else:
        with whole_file(path) as part:
            part.write_text(json.dumps(wanted.to_json(), indent=1) + "\n", encoding="utf-8")


# --- hosts ------------------------------------------------------------------------------------


def _wait(paths: Sequence[Path], what: str) -> None:
    """Until other hosts have written their part."""
    start, said = time.monotonic(), False
    while missing := [path for path in paths if not path.is_file()]:
        if _HOSTS.value == 1 or time.monotonic() - start > PATIENCE:
            raise ValueError(f"{missing[0]}: expected a file, found none.")
        if not said:
            print(f"waiting for {what} of other hosts: {len(missing)} to come", file=sys.stderr)
            said = True
        time.sleep(POLL)


# --- reading a set ---------------------------------------------------------------------------


def _loader(root: Path, *, packed: bool = True) -> verify.Loader:
    load = functools.partial(scene_io.load_scene, root, packed=packed)
    return functools.lru_cache(maxsize=256)(load)


def _verify(root: Path, folder: Path) -> None:
    with user_errors(FileNotFoundError, ValueError):
        known = recipe.read_recipe(folder)
    form = "jsonl" if "jsonl" in known.formats else "parquet"
    paths = shards.list_shards(folder, form)
    if not paths:
        raise UserError(f"{folder / form}: expected shards, found none.")
    with user_errors(FileNotFoundError):
        splits = splits_of(root, known)
    # What people edit are the JSON files, and not what is packed beside them.
    load = _loader(root, packed=False)
    rows, wrong = 0, 0
    first: dict[str, str] = {}  # where each id was seen first
    with tqdm(total=known.count, desc="verify", unit="row", unit_scale=True, disable=None) as bar:
        for path in paths:
            with user_errors(ModuleNotFoundError):
                own, found = verify.verify_shard(path, load, root, known, splits)
            for line, row in enumerate(own, start=1):
                name, here = str(row.get("id")), f"{path.name}, line {line}"
                if (there := first.setdefault(name, here)) != here:
                    found.append(
                        verify.Disagreement(path.name, line, name, "id", there, "one row of it")
                    )
            for one in found:
                print(json.dumps(dataclasses.asdict(one), ensure_ascii=False))
            rows, wrong = rows + len(own), wrong + len(found)
            bar.update(len(own))
    faults = [f"expected {known.count:,} rows, found {rows:,}"] if rows != known.count else []
    faults += [f"{wrong:,} disagreements with {root}, listed above"] if wrong else []
    if faults:
        raise UserError(f"{folder}: {'; '.join(faults)}.")
    print(f"{folder}: {rows:,} rows agree with their scenes")


def _convert(root: Path, source: Path) -> None:
    if not _TO.value or not _FILE.value:
        raise UserError("--convert needs --to and --file.")
    with user_errors(OSError, ValueError, ModuleNotFoundError):
        written, left = formats.convert(source, Path(_FILE.value), _TO.value, root, _loader(root))
    for one in left:
        print(f"left out {one}", file=sys.stderr)
    print(f"{_FILE.value}: {written:,} rows, {len(left):,} left out")


if __name__ == "__main__":
    run(main)
