"""The `reference` convention: what the published oracle answers, for those who must reproduce it.

Same Scene, Query and Verdict as `tasks.judge`. Only the tasks that differ stand here; the others
mean the same in both conventions. Several of these answers are geometrically wrong on purpose:
docs/oracles.md names them one by one.

Every oracle takes `rules`: with the published validity rules (the whole request), or without them
(the geometry alone, which then also gives answers such as `same_level`).
"""

import functools
from typing import Protocol

import jax
import jax.numpy as jnp

from geometry_jax import checks, ops
from geometry_jax.reasons import Reason
from geometry_jax.tasks import TASK_IDS, TASKS, motion_camera, object_counting
from geometry_jax.tasks import single_image_relative_direction as single_image
from geometry_jax.tasks import visibility_compare as visibility
from geometry_jax.tasks.elevation_cam_cam import SAME_LEVEL
from geometry_jax.types import Query, Scene, Verdict

SMALL_PROJECTION = 0.3  # of unit vectors: below it a direction has one part
IMAGE_AREA = 640.0 * 480.0  # pixels of every image, whatever its size
CONTRAST = 0.15  # difference of visibilities that makes a label worth comparing
ROUNDING = 5e-8  # of the difference of two shares in float32: one of exactly 0.15 counts
DETECTABLE = 0.01  # share of an object from which position_cam_obj takes its seen middle
TINY = 1e-8

# Answers beyond those of the task table, which only the geometry without rules can give.
EXTRA_CHOICES = {
    "elevation_cam_cam": ("same_level",),
    "single_image_relative_direction": ("overlap",),
    "motion_camera": ("same",),
    "visibility_compare": ("neither",),
}
PLANAR_INDEX = {name: index for index, name in enumerate(ops.PLANAR)}


class ReferenceOracle(Protocol):
    def __call__(self, scene: Scene, query: Query, *, rules: jax.Array | bool) -> Verdict: ...


def _centers(scene: Scene, labels: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
    """(k, 3) centres of the axis-aligned boxes of labels, (k,) absent, (k,) several, (k,) index."""
    index, absent, several = jax.vmap(lambda label: checks.unique_object(scene, label))(labels)
    return scene.center[index], absent, several, index


def _camera(scene: Scene, frame: jax.Array) -> tuple[jax.Array, jax.Array]:
    """(3, 3) world_from_camera rotation, (3,) position; the alignment's where a pose is lost."""
    pose = scene.world_from_camera[frame]
    return pose[:3, :3], pose[:3, 3]


def _counting(scene: Scene, query: Query, *, rules: jax.Array | bool) -> Verdict:
    """Without rules, a frame counts what it shows."""
    frame = query.frames[0]
    counted = checks.instances(scene, query.labels[0])
    seen = checks.visible(scene, frame, query.labels[0], query.min_visibility)
    count = jnp.where(frame >= 0, seen, counted).sum()
    return checks.verdict(
        count,
        ((frame >= 0) & ~checks.has_frames(scene, frame[None]), Reason.MISSING_FRAME),
        (rules & (count == 0), Reason.ABSENT_LABEL),
        (rules & (count < object_counting.LEAST), Reason.TOO_FEW),
        shown=checks.evidence(numbers=(count,)),
    )


def _size(scene: Scene, query: Query, *, rules: jax.Array | bool) -> Verdict:
    """The stored size, else the longest side of the axis-aligned box."""
    _, (absent,), (several,), (target,) = _centers(scene, query.labels[:1])
    stored = scene.stored_size[target] / 100.0
    longest = jnp.where(jnp.isfinite(stored), stored, scene.extent[target].max())
    return checks.verdict(
        longest,
        (absent, Reason.ABSENT_LABEL),
        (several, Reason.NOT_UNIQUE),
        shown=checks.evidence(objects=(target,), numbers=(longest,)),
    )


def _room_size(scene: Scene, query: Query, *, rules: jax.Array | bool) -> Verdict:
    """An unknown area is 0."""
    area = jnp.where(jnp.isfinite(scene.floor_area), scene.floor_area, 0.0)
    return checks.verdict(area, shown=checks.evidence(numbers=(area,)))


def _absolute_distance(scene: Scene, query: Query, *, rules: jax.Array | bool) -> Verdict:
    """Between the centres of the axis-aligned boxes."""
    ends, absent, several, index = _centers(scene, query.labels[:2])
    distance = ops.safe_norm(ends[1] - ends[0])
    return checks.verdict(
        distance,
        (absent.any(), Reason.ABSENT_LABEL),
        (rules & (query.labels[0] == query.labels[1]), Reason.SAME_LABEL),
        (several.any(), Reason.NOT_UNIQUE),
        shown=checks.evidence((ends[0], ends[1]), (index[0], index[1]), (distance,)),
    )


def _relative_distance(scene: Scene, query: Query, *, rules: jax.Array | bool) -> Verdict:
    """The first candidate with the smallest centre distance after rounding to centimetres."""
    ends, absent, several, index = _centers(scene, query.labels)
    asked = query.labels[1:] >= 0
    known = asked & ~absent[1:] & ~several[1:]
    centimetres = jnp.round(100.0 * ops.safe_norm(ends[1:] - ends[0]))
    order = jnp.argsort(jnp.where(known, centimetres, jnp.inf), stable=True)
    ranked = centimetres[order]
    lead = jnp.where(known[order[1]], ranked[1] - ranked[0], jnp.inf)
    used = 1 + asked.sum()
    return checks.verdict(
        query.labels[1:][order[0]],
        (absent[0] | (rules & jnp.any(asked & absent[1:])), Reason.ABSENT_LABEL),
        (several[0] | (rules & jnp.any(asked & several[1:])), Reason.NOT_UNIQUE),
        (~known.any(), Reason.MISSING_ROLE),
        (rules & checks.same_labels(query.labels, used), Reason.SAME_LABEL),
        margin=lead,
        shown=checks.evidence(
            (ends[0], ends[1 + order[0]]),
            (index[0], *jnp.where(asked, index[1:], -1)),
            (*jnp.where(known, centimetres / 100.0, jnp.nan),),
        ),
    )


def _relative_direction(scene: Scene, query: Query, *, rules: jax.Array | bool) -> Verdict:
    """Bins of unit vectors that are normalised in 3D first and projected onto the floor after."""
    (stand, face, asked), absent, several, index = _centers(scene, query.labels[:3])
    facing = (face - stand) / (ops.safe_norm(face - stand) + TINY)
    towards = (asked - stand) / (ops.safe_norm(asked - stand) + TINY)
    ahead = jnp.dot(towards[:2], facing[:2])
    aside = towards[0] * facing[1] - towards[1] * facing[0]  # to the right
    left, behind = aside < 0, ahead < 0
    front, back = PLANAR_INDEX["front"], PLANAR_INDEX["back"]
    side = jnp.where(left, PLANAR_INDEX["left"], PLANAR_INDEX["right"])
    front_side = jnp.where(left, PLANAR_INDEX["front-left"], PLANAR_INDEX["front-right"])
    back_side = jnp.where(left, PLANAR_INDEX["back-left"], PLANAR_INDEX["back-right"])
    beside, along = jnp.abs(ahead) < SMALL_PROJECTION, jnp.abs(aside) < SMALL_PROJECTION
    eight = jnp.where(
        beside,
        side,
        jnp.where(
            along, jnp.where(behind, back, front), jnp.where(ahead > 0, front_side, back_side)
        ),
    )
    says_left = (beside | ~along) & left
    says_front = ~beside & ~behind
    easy = jnp.where(says_left, PLANAR_INDEX["left"], PLANAR_INDEX["right"])
    medium = jnp.where(says_front, front, jnp.where(beside | ~along, side, back))
    value = jnp.stack([eight, easy, medium, eight])[query.difficulty]
    to_edge = jnp.minimum(
        jnp.abs(jnp.abs(ahead) - SMALL_PROJECTION), jnp.abs(jnp.abs(aside) - SMALL_PROJECTION)
    )
    return checks.verdict(
        value,
        (absent.any(), Reason.ABSENT_LABEL),
        (rules & checks.same_labels(query.labels, 3), Reason.SAME_LABEL),
        (several.any(), Reason.NOT_UNIQUE),
        margin=to_edge,
        shown=checks.evidence((stand, face, asked), (index[0], index[1], index[2]), (ahead, aside)),
    )


def _single_image_direction(scene: Scene, query: Query, *, rules: jax.Array | bool) -> Verdict:
    """In the camera's own axes, not levelled; in the world's where a seen middle is unknown."""
    frame = query.frames[0]
    (index, none, several) = jax.vmap(
        lambda label: checks.unique_in_frame(scene, frame, label, query.min_visibility)
    )(query.labels[:2])
    seen = scene.camera_location[frame, index]
    known = jnp.isfinite(seen).all()
    x, down, z = jnp.where(known, seen[1] - seen[0], 0.0)
    world = scene.center[index[1]] - scene.center[index[0]]
    rightward = jnp.where(known, x, world[0])
    forward = jnp.where(known, z, world[1])
    rise = jnp.where(known, -down, world[2])
    horizontal = jnp.hypot(rightward, forward)
    planar, to_edge = ops.compass_bin(forward, rightward)
    sideways = jnp.abs(rightward) >= jnp.abs(forward)
    axis = jnp.where(sideways, jnp.where(rightward >= 0, 0, 2), jnp.where(forward >= 0, 1, 3))
    steep = jnp.abs(rise) > single_image.STEEP * horizontal
    vertical = jnp.where(rise > 0, 0, 1)
    value = jnp.where(steep, 8 + 4 * vertical + axis, planar)
    overlap = len(single_image.CHOICES)
    upright = jnp.where(rise == 0, overlap, 16 + vertical)
    return checks.verdict(
        jnp.where(horizontal < TINY, upright, value),
        (~checks.has_frames(scene, query.frames[:1]), Reason.MISSING_FRAME),
        (rules & (query.labels[0] == query.labels[1]), Reason.SAME_LABEL),
        (none.any(), Reason.NOT_VISIBLE),
        (several.any(), Reason.NOT_UNIQUE_IN_IMAGE),
        margin=jnp.minimum(
            jnp.abs(jnp.abs(rise) - single_image.STEEP * horizontal), to_edge * horizontal
        ),
        shown=checks.evidence(objects=(index[0], index[1]), numbers=(forward, rightward, rise)),
    )


def _distance_cam_obj(scene: Scene, query: Query, *, rules: jax.Array | bool) -> Verdict:
    """To the axis-aligned box."""
    frame = query.frames[0]
    target, none, several = checks.unique_in_frame(
        scene, frame, query.labels[0], query.min_visibility
    )
    _, camera = _camera(scene, frame)
    half = scene.extent[target] / 2
    closest = scene.center[target] + jnp.clip(camera - scene.center[target], -half, half)
    distance = ops.safe_norm(closest - camera)
    return checks.verdict(
        distance,
        (~checks.has_frames(scene, query.frames[:1]), Reason.MISSING_FRAME),
        (none, Reason.NOT_VISIBLE),
        (several, Reason.NOT_UNIQUE_IN_IMAGE),
        shown=checks.evidence((camera, closest), (target,), (distance,)),
    )


def _position_cam_cam(scene: Scene, query: Query, *, rules: jax.Array | bool) -> Verdict:
    """Bins of the displacement in the camera's x-y plane, its image plane; down counts as front."""
    axes, camera = _camera(scene, query.frames[0])
    _, other = _camera(scene, query.frames[1])
    local = axes.T @ (other - camera)
    value, to_edge = ops.compass_bin(local[1], local[0])
    return checks.verdict(
        value,
        (~checks.has_frames(scene, query.frames), Reason.MISSING_FRAME),
        margin=checks.angle_margin(to_edge),
        shown=checks.evidence((camera, other), numbers=(local[1], local[0])),
    )


def _elevation(scene: Scene, query: Query, *, rules: jax.Array | bool) -> Verdict:
    """As corrected, whatever the poses; without rules cameras within 0.15 m are at one level."""
    cameras = scene.world_from_camera[query.frames, :3, 3]
    rise = cameras[1, 2] - cameras[0, 2]
    level = jnp.abs(rise) <= SAME_LEVEL
    return checks.verdict(
        jnp.where(level, 2, jnp.where(rise > 0, 0, 1)),
        (~checks.has_frames(scene, query.frames), Reason.MISSING_FRAME),
        (rules & level, Reason.SAME_LEVEL),
        margin=checks.share_margin(jnp.abs(rise), SAME_LEVEL),
        shown=checks.evidence((cameras[0], cameras[1]), numbers=(rise,)),
    )


def _counts(scene: Scene, query: Query, frame: jax.Array) -> tuple[jax.Array, jax.Array]:
    """For each object (N,): how many of its label the frame shows, and the best visibility of
    its label there, without a threshold.
    """
    alike = (scene.label[:, None] == scene.label[None]) & scene.object_valid[None]
    seen = scene.seen[frame]
    shown = seen & (scene.visibility[frame] >= query.min_visibility)
    best = jnp.max(jnp.where(alike & seen[None], scene.visibility[frame][None], 0.0), axis=1)
    return jnp.sum(alike & shown[None], axis=1), best


def _visibility_pool(scene: Scene, query: Query) -> jax.Array:
    """Whether the pool of the pair is empty or holds the target: labels of clear contrast, else
    labels that both images show once, else labels that neither shows twice.
    """
    (first, best_first), (second, best_second) = (
        _counts(scene, query, frame) for frame in query.frames
    )
    single = scene.object_valid & (first <= 1) & (second <= 1) & (first + second >= 1)
    contrast = single & (jnp.abs(best_first - best_second) >= CONTRAST - ROUNDING)
    shared = scene.object_valid & (first == 1) & (second == 1)
    pool = jnp.where(contrast.any(), contrast, jnp.where(shared.any(), shared, single))
    return ~pool.any() | jnp.any(pool & (scene.label == query.labels[0]))


def _visibility_compare(scene: Scene, query: Query, *, rules: jax.Array | bool) -> Verdict:
    """Image shares of 640 x 480 pixels, not clamped; only labels of the pair's pool."""

    def look(frame: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
        target, none, several = checks.unique_in_frame(
            scene, frame, query.labels[0], query.min_visibility
        )
        box = scene.bbox_2d[frame, target]
        sides = jnp.maximum(box[2:] - box[:2], 0.0)
        score = (
            visibility.SHARE_WEIGHT * scene.visibility[frame, target]
            + visibility.AREA_WEIGHT * sides[0] * sides[1] / IMAGE_AREA
            - visibility.OCCLUDED_COST * scene.occluded[frame, target]
            - visibility.TRUNCATED_COST * scene.truncated[frame, target]
        )
        return target, none, several, score

    target, none, several, score = jax.vmap(look)(query.frames)
    lead = score[0] - score[1]
    both = ~none[0] & ~none[1]
    by_score = jnp.where(jnp.abs(lead) <= visibility.SAME_SCORE, 2, jnp.where(lead > 0, 0, 1))
    one = jnp.where(none.all(), 3, jnp.where(none[1], 0, 1))
    return checks.verdict(
        jnp.where(both, by_score, one),
        (~checks.has_frames(scene, query.frames), Reason.MISSING_FRAME),
        (rules & ~_visibility_pool(scene, query), Reason.NOT_VISIBLE),
        (several.any(), Reason.NOT_UNIQUE_IN_IMAGE),
        (rules & none.all(), Reason.NOT_VISIBLE),
        margin=jnp.where(both, jnp.abs(jnp.abs(lead) - visibility.SAME_SCORE), checks.ALWAYS_CLEAR),
        shown=checks.evidence(
            objects=(target[0], target[1]),
            numbers=(jnp.where(none[0], 0.0, score[0]), jnp.where(none[1], 0.0, score[1])),
        ),
    )


def _bearing(
    scene: Scene, query: Query, local: jax.Array, *failures: tuple[jax.Array, Reason]
) -> Verdict:
    """The bin of a place in the axes of the reference camera, height left out."""
    axes, camera = _camera(scene, query.frames[0])
    value, to_edge = ops.compass_bin(local[2], local[0])
    return checks.verdict(
        value,
        (~checks.has_frames(scene, query.frames), Reason.MISSING_FRAME),
        *failures,
        margin=checks.angle_margin(to_edge),
        shown=checks.evidence((camera, camera + axes @ local), numbers=(local[2], local[0])),
    )


def _position_cam_obj(scene: Scene, query: Query, *, rules: jax.Array | bool) -> Verdict:
    """The seen middle when just one object of the label is detectable at all, else the middle of
    the scene's only object of it.
    """
    frame, label = query.frames[0], query.labels[0]
    axes, camera = _camera(scene, frame)
    _, none, several = checks.unique_in_frame(scene, frame, label, query.min_visibility)
    detected, missing, twins = checks.unique_in_frame(scene, frame, label, DETECTABLE)
    seen = scene.camera_location[frame, detected]
    by_seen = ~missing & ~twins & jnp.isfinite(seen).all()
    target, absent, many = checks.unique_object(scene, label)
    local = jnp.where(by_seen, seen, axes.T @ (scene.center[target] - camera))
    return _bearing(
        scene,
        query,
        local,
        (rules & none, Reason.NOT_VISIBLE),
        (rules & several, Reason.NOT_UNIQUE_IN_IMAGE),
        (~by_seen & absent, Reason.ABSENT_LABEL),
        (~by_seen & many, Reason.NOT_UNIQUE),
    )


def _position_cam_reg(scene: Scene, query: Query, *, rules: jax.Array | bool) -> Verdict:
    """The mean of all the scene's objects of the anchor label, seen or not."""
    frame = query.frames[0]
    axes, camera = _camera(scene, frame)
    shown = jax.vmap(lambda label: checks.visible(scene, frame, label, query.min_visibility).any())(
        query.labels
    )
    anchors = checks.instances(scene, query.labels[jnp.argmax(shown)])
    count = jnp.maximum(anchors.sum(), 1)
    place = jnp.sum(jnp.where(anchors[:, None], scene.center, 0.0), 0) / count
    local = axes.T @ (place - camera)
    return _bearing(scene, query, local, (~shown.any(), Reason.NOT_VISIBLE))


def _motion(scene: Scene, query: Query, *, rules: jax.Array | bool) -> Verdict:
    """The turn in the world's x-z plane, else the translation in the first camera's own axes."""
    first, second = query.frames[0], query.frames[1]
    turn = scene.path_turn_xz[second] - scene.path_turn_xz[first]
    axes, camera = _camera(scene, first)
    x, y, z = axes.T @ (_camera(scene, second)[1] - camera)
    still = len(motion_camera.TASK.choices)
    translation, margin = motion_camera.name_translation(jnp.stack([x, z, -y]))
    largest = jnp.maximum(jnp.abs(x), jnp.maximum(jnp.abs(y), jnp.abs(z)))
    translation = jnp.where(largest < TINY, still, translation)
    turning = jnp.abs(turn) >= motion_camera.TURN
    turn_margin = checks.angle_margin(jnp.abs(turn) - motion_camera.TURN)
    return checks.verdict(
        jnp.where(turning, jnp.where(turn > 0, 1, 0), translation),
        (~checks.has_frames(scene, query.frames), Reason.MISSING_FRAME),
        margin=jnp.where(turning, turn_margin, jnp.minimum(turn_margin, margin)),
        shown=checks.evidence(
            (camera, scene.world_from_camera[second, :3, 3]), numbers=(turn, x, z, -y)
        ),
    )


def _attribute(scene: Scene, query: Query, *, rules: jax.Array | bool) -> Verdict:
    """Axis-aligned sides, of whatever objects the second image lists under the two labels."""
    labels = query.labels[:2]
    first, second = query.frames[0], query.frames[1]
    unique = jax.vmap(
        lambda label: jnp.stack(
            [
                jnp.stack(checks.unique_in_frame(scene, frame, label, query.min_visibility))
                for frame in (first, second)
            ]
        )
    )(labels)  # (2 labels, 2 frames, index none several)
    none, several = unique[..., 1] > 0, unique[..., 2] > 0
    listed = jax.vmap(lambda label: checks.instances(scene, label) & scene.seen[second])(labels)
    either = listed[0] | listed[1]
    in_order = jnp.nonzero(either, size=2, fill_value=0)[0]
    two = either.sum() >= 2
    once = listed.sum(1) == 1
    clear = ~none & ~several
    by_image = jnp.where(clear[:, 1], unique[:, 1, 0], unique[:, 0, 0])
    # Without rules nothing lists: objects are looked for where they are seen well.
    once, two = once & rules, two & rules
    found = once | two | clear.any(1)
    target = jnp.where(once, jnp.argmax(listed, axis=1), jnp.where(two, in_order, by_image))
    side = scene.extent[target].max(-1)
    lead = side[0] - side[1]
    return checks.verdict(
        scene.label[jnp.where(lead >= 0, target[0], target[1])],
        (~checks.has_frames(scene, query.frames), Reason.MISSING_FRAME),
        (rules & several.any(), Reason.NOT_UNIQUE_IN_IMAGE),
        (rules & none.all(1).any(), Reason.NOT_VISIBLE),
        (rules & (labels[0] == labels[1]), Reason.SAME_LABEL),
        (~found.all(), Reason.NOT_VISIBLE),
        margin=jnp.abs(lead),
        shown=checks.evidence(objects=(target[0], target[1]), numbers=(side[0], side[1])),
    )


REFERENCE: dict[str, ReferenceOracle] = {
    "object_counting": _counting,
    "object_size": _size,
    "absolute_distance": _absolute_distance,
    "room_size": _room_size,
    "relative_distance": _relative_distance,
    "relative_direction_hard": _relative_direction,
    "single_image_relative_direction": _single_image_direction,
    "distance_cam_obj": _distance_cam_obj,
    "position_cam_cam": _position_cam_cam,
    "elevation_cam_cam": _elevation,
    "visibility_compare": _visibility_compare,
    "position_cam_obj": _position_cam_obj,
    "position_cam_reg": _position_cam_reg,
    "motion_camera": _motion,
    "attribute_measurement": _attribute,
}


def choices(task: str) -> tuple[str, ...]:
    """What `Verdict.value` of a task answered by choice indexes into, in this convention."""
    return TASKS[TASK_IDS[task]].choices + EXTRA_CHOICES.get(task, ())


def judge_reference(scene: Scene, query: Query, *, rules: jax.Array | bool = True) -> Verdict:
    """Answers one query as the published oracle does; without `rules`, by its geometry alone."""
    branches = [
        functools.partial(REFERENCE[task.name], rules=rules)
        if task.name in REFERENCE
        else task.oracle
        for task in TASKS
    ]
    return jax.lax.switch(query.task_id, branches, scene, query)
