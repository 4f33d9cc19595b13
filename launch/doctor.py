"""Looks through prepared scenes and says what is wrong with them and how to mend it.

    python -m launch.doctor --scenes=data/rooms
    python -m launch.doctor --scenes=data/scannet --scene=scene0000_00
    python -m launch.doctor --scenes=data/scannet --json > findings.jsonl

Scenes are folders in the published layout, ours or others'. Files are looked at first; then mesh,
depth, poses and records are projected into each other. A scene without findings is one line; the
exit code is 1 where anything was found. docs/doctor.md lists what can be found.
"""

import json
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from absl import flags
from tqdm import tqdm

from data_pipelines.diagnosis import Diagnosis, diagnose, list_folders
from data_pipelines.findings import CURES
from launch.errors import UserError, run, user_errors

_SCENES = flags.DEFINE_string(
    "scenes", None, "Folder in the unified layout: train/, val/, metadata/.", allow_override=True
)
_SCENE = flags.DEFINE_string("scene", None, "Only this scene.", allow_override=True)
_JSON = flags.DEFINE_bool("json", False, "One JSON object a scene.")


def _as_text(diagnosis: Diagnosis) -> str:
    if not diagnosis.findings:
        return f"{diagnosis.scene_id}: good"
    lines = [f"{diagnosis.scene_id}: {len(diagnosis.findings)} found"]
    for one in diagnosis.findings:
        where = f" ({one.where})" if one.where else ""
        lines += [f"  {one.code}{where}: {one.what}", f"    {CURES[one.code]}"]
    return "\n".join(lines)


def _as_json(split: str, diagnosis: Diagnosis) -> str:
    findings = [one._asdict() | {"cure": CURES[one.code]} for one in diagnosis.findings]
    record = {"scene_id": diagnosis.scene_id, "split": split, "good": not findings}
    return json.dumps(record | {"findings": findings}, ensure_ascii=False)


def main(argv: Sequence[str]) -> int:
    if not _SCENES.value:
        raise UserError("--scenes: expected a folder of scenes, got none; see --help.")
    root = Path(_SCENES.value)
    if not root.is_dir():
        raise UserError(f"--scenes: expected a folder of scenes, found no {root}.")
    with user_errors(OSError):
        scenes = list_folders(root)
    if _SCENE.value is not None:
        scenes = [one for one in scenes if one[1] == _SCENE.value]
    if not scenes:
        wanted = f"a scene {_SCENE.value!r}" if _SCENE.value else "scenes in train/ or val/"
        raise UserError(f"{root}: expected {wanted}, found none.")
    counts: Counter[str] = Counter()
    bad = 0
    for split, name in tqdm(scenes, desc="doctor", unit="scene", disable=None):
        found = diagnose(root, split, name)
        tqdm.write(_as_json(split, found) if _JSON.value else _as_text(found))
        bad += bool(found.findings)
        counts.update({one.code for one in found.findings})
    if not _JSON.value:
        print(f"\n{len(scenes)} scenes: {len(scenes) - bad} good, {bad} with findings")
        for code, count in counts.most_common():
            print(f"{count:6d}  {code}")
    sys.stdout.flush()
    return 1 if bad else 0


if __name__ == "__main__":
    run(main)
