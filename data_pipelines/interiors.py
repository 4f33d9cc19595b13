"""Lived-in rooms: bedrooms, living rooms, offices, kitchens and bathrooms, some of them L-shaped,
with doors, windows, things on the walls and on the tables, textures and shadows.

World: metres, z up, the origin in a corner of the floor's bounding rectangle. Everything follows
from a seed.
"""

import dataclasses

import numpy as np

from data_pipelines import catalogue, rooms
from data_pipelines.cameras import camera_path, pinhole
from data_pipelines.catalogue import Theme
from data_pipelines.furniture import Category, local_bounds
from data_pipelines.placing import (
    GAP,
    WALL_GAP,
    Placed,
    Views,
    blocks,
    separation,
    share_in_views,
    turn,
)
from data_pipelines.plan import Plan
from data_pipelines.renderer import Shell
from geometry_jax.types import leaf

LENGTH, WIDTH, HEIGHT = (4.4, 6.6), (3.8, 5.6), (2.45, 2.9)  # metres
L_SHAPED = 0.4  # share of the rooms
CUT = (0.22, 0.38)  # sides of the corner that is missing, in shares of the room's
ATTEMPTS, TRIES = 40, 40  # rooms; places for one thing
EXTRA = (4, 9)  # fewest and most things beside what every room of its kind needs
ON_WALLS, ON_TOPS = (2, 5), (3, 8)
DOORWAY = 0.9  # metres before a door that stay free
CLEARANCE = 0.35  # metres between the camera and the walls
TUCKED = 0.6  # share of the chairs that stand at a table
TABLE_GAP = 0.03  # metres between a table and a chair at it
IN_IMAGE = 0.5  # share of a box's corners that lie in an image which shows the thing
LEAST_PIXELS = 30  # on which a thing is to be seen in one picture, and a tenth of it
FEWEST = 8  # things in a room


@dataclasses.dataclass(frozen=True)
class Thing:
    """A placed piece, and the one that carries it."""

    placed: Placed
    carrier: int | None = None  # index of the thing it stands on


def _plan(rng: np.random.Generator) -> Plan:
    size = np.array([rng.uniform(*LENGTH), rng.uniform(*WIDTH), rng.uniform(*HEIGHT)])
    if rng.uniform() >= L_SHAPED:
        return Plan(size)
    sides = size[:2] * rng.uniform(*CUT, 2)
    low = np.where(rng.uniform(size=2) < 0.5, 0.0, size[:2] - sides)
    return Plan(size, np.concatenate([low, np.where(low == 0, sides, size[:2])]))


def _shell(plan: Plan, rng: np.random.Generator) -> Shell:
    """Walls of one paint, one of them accented, over planks, tiles or carpet."""
    paints = np.array(
        [[0.90, 0.88, 0.84], [0.84, 0.87, 0.90], [0.87, 0.90, 0.85], [0.92, 0.87, 0.83]]
    )
    accents = np.array(
        [[0.62, 0.70, 0.74], [0.72, 0.66, 0.58], [0.66, 0.72, 0.62], [0.76, 0.64, 0.62]]
    )
    walls = np.tile(paints[rng.integers(4)], (4, 1)) * np.array([[1.0], [0.97], [0.98], [0.95]])
    walls[rng.integers(4)] = accents[rng.integers(4)]
    grounds = np.array(
        [[0.62, 0.46, 0.30], [0.50, 0.36, 0.24], [0.74, 0.72, 0.68], [0.52, 0.54, 0.58]]
    )
    kind = int(rng.integers(4))  # two woods, tiles, carpet
    ground = grounds[kind] * rng.uniform(0.92, 1.06)
    second = ground * (0.88 if kind == 2 else 1.0)
    f32 = np.float32
    return Shell(
        leaf(plan.size.astype(f32)),
        leaf(walls.astype(f32)),
        leaf(np.stack([ground, second]).astype(f32)),
        leaf(np.array([0.96, 0.96, 0.95], f32)),
        planks=leaf(np.bool_(kind < 2)),
    )


def _views(
    plan: Plan, frames: int, width: int, height: int, field_of_view: float, rng: np.random.Generator
) -> Views | None:
    """A camera path that keeps clear of the walls; None when it does not."""
    away = None
    if plan.cut is not None:
        away = (plan.cut[:2] + plan.cut[2:]) / 2 - plan.size[:2] / 2
    path, kept = camera_path(plan.size, frames, rng, away_from=away)
    eye = path[:, :2, 3]
    if (eye < CLEARANCE).any() or (eye > plan.size[:2] - CLEARANCE).any():
        return None
    if plan.cut is not None:
        low, high = plan.cut[:2] - CLEARANCE, plan.cut[2:] + CLEARANCE
        if ((low < eye) & (eye < high)).all(axis=1).any():
            return None
    return Views(path, kept, pinhole(width, height, field_of_view), width, height)


@dataclasses.dataclass
class _Furnishing:
    """A room while it is being furnished."""

    plan: Plan
    views: Views
    rng: np.random.Generator
    things: list[Thing]
    floor: list[np.ndarray]  # (4, 2) footprints that are taken

    def add(self, category: Category) -> None:
        """Puts one more thing up, if there is a place for it and budget to draw it."""
        parts = sum(len(thing.placed.category.parts) for thing in self.things)
        full = parts + len(category.parts) >= rooms.MAX_PARTS_LIVED_IN  # one is the missing corner
        if full or len(self.things) == rooms.MOST_LIVED_IN:
            return
        for _ in range(TRIES):
            thing = self._candidate(category)
            if thing is not None and self._fits(thing):
                self._take(thing)
                return

    def _candidate(self, category: Category) -> Thing | None:
        rng = self.rng
        scale = np.append(np.repeat(rng.uniform(0.92, 1.08), 2), rng.uniform(0.95, 1.05))
        tint = rng.uniform(0.9, 1.08) * rng.uniform(0.94, 1.06, 3)
        if category.on_top:
            return self._on_top(category, scale, tint)
        if category.hangs is not None or category.by_wall:
            return self._at_wall(category, scale, tint)
        tables = [
            index
            for index, thing in enumerate(self.things)
            if thing.placed.category.label in ("table", "desk")
        ]
        if category.label.endswith("chair") and tables and rng.uniform() < TUCKED:
            return self._at_table(category, scale, tint, int(rng.choice(tables)))
        position = rng.uniform([0.4, 0.4], self.plan.size[:2] - 0.4)
        return Thing(Placed(category, position, float(rng.uniform(-np.pi, np.pi)), scale, tint))

    def _at_wall(self, category: Category, scale: np.ndarray, tint: np.ndarray) -> Thing | None:
        walls = self.plan.walls()
        lengths = np.array([np.linalg.norm(run) for _, run in walls])
        start, run = walls[self.rng.choice(len(walls), p=lengths / lengths.sum())]
        length = np.linalg.norm(run)
        low, high = (bound * scale for bound in local_bounds(category))
        half = (high[0] - low[0]) / 2 + WALL_GAP
        if length < 2 * half:
            return None
        along = run / length
        inward = np.array([-along[1], along[0]])
        hangs = category.hangs is not None
        back = -low[1] if hangs else WALL_GAP - low[1]
        position = start + along * self.rng.uniform(half, length - half) + inward * back
        position = position - along * (low[0] + high[0]) / 2
        yaw = float(np.arctan2(along[1], along[0]))  # its own x along the wall, its front inward
        bottom = self.rng.uniform(*category.hangs) if category.hangs is not None else 0.0
        return Thing(Placed(category, position, yaw, scale, tint, float(bottom)))

    def _at_table(
        self, category: Category, scale: np.ndarray, tint: np.ndarray, index: int
    ) -> Thing:
        """A chair at one side of a table, its front to the table; at a desk, at its front."""
        table = self.things[index].placed
        _, extent, yaw = table.obb()
        side = 1 if table.category.label == "desk" else int(self.rng.integers(4))
        outward = np.array([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0], [0.0, -1.0]])[side]
        reach = extent[side % 2] / 2 + local_bounds(category)[1][1] * scale[1] + TABLE_GAP
        slack = max(0.0, extent[1 - side % 2] / 2 - 0.25)
        offset = outward * reach + outward[::-1] * self.rng.uniform(-slack, slack)
        facing = yaw + np.arctan2(-outward[1], -outward[0]) - np.pi / 2
        facing += self.rng.uniform(-0.25, 0.25)
        position = table.position + turn(yaw, offset)
        return Thing(Placed(category, position, float(facing), scale, tint))

    def _on_top(self, category: Category, scale: np.ndarray, tint: np.ndarray) -> Thing | None:
        carriers = [i for i, thing in enumerate(self.things) if thing.placed.category.top]
        if not carriers:
            return None
        index = int(self.rng.choice(carriers))
        carrier = self.things[index].placed
        assert carrier.category.top is not None
        sides = np.array(carrier.category.top) * carrier.scale
        low, high = (bound * scale for bound in local_bounds(category))
        slack = sides[:2] / 2 - np.maximum(np.abs(low[:2]), np.abs(high[:2])) - 0.02
        if (slack < 0).any():
            return None
        position = carrier.position + turn(carrier.yaw, self.rng.uniform(-slack, slack))
        yaw = carrier.yaw + float(self.rng.uniform(-0.35, 0.35))
        return Thing(Placed(category, position, yaw, scale, tint, float(sides[2])), index)

    def _fits(self, thing: Thing) -> bool:
        placed = thing.placed
        corners = placed.corners()
        shares = share_in_views(corners, self.views)
        if (shares < IN_IMAGE).all():
            return False
        footprint = corners[:4, :2]
        if placed.category.hangs is not None:
            return self._wall_is_free(placed)
        if blocks(placed, self.views.path):
            return False
        if thing.carrier is not None:
            others = [other.placed for other in self.things if other.carrier == thing.carrier]
            inside = self._within(footprint, self.things[thing.carrier].placed)
            return inside and all(
                separation(footprint, other.corners()[:4, :2]) > 0.02 for other in others
            )
        if (footprint < WALL_GAP / 2).any() or (
            footprint > self.plan.size[:2] - WALL_GAP / 2
        ).any():
            return False
        gap = 0.0 if placed.category.label.endswith("chair") else GAP
        if any(separation(footprint, other) < gap for other in self.floor):
            return False
        hung = [other.placed for other in self.things if other.placed.category.hangs is not None]
        return not any(_overlap(placed, other) for other in hung)

    def _within(self, footprint: np.ndarray, carrier: Placed) -> bool:
        assert carrier.category.top is not None
        local = turn(-carrier.yaw, footprint - carrier.position)
        half = np.array(carrier.category.top[:2]) * carrier.scale[:2] / 2
        return bool((np.abs(local) <= half).all())

    def _wall_is_free(self, placed: Placed) -> bool:
        """Whether nothing else is on that piece of wall or stands before it."""
        return not any(
            _overlap(placed, other.placed)
            for other in self.things
            if other.placed.category.by_wall or other.placed.category.hangs is not None
        )

    def _take(self, thing: Thing) -> None:
        self.things.append(thing)
        placed = thing.placed
        if placed.category.label == "door":
            center, extent, yaw = placed.obb()
            half = np.array([extent[0] / 2, DOORWAY])
            signs = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]])
            self.floor.append(center[:2] + turn(yaw, signs * half))
        elif placed.category.hangs is None and thing.carrier is None:
            self.floor.append(placed.corners()[:4, :2])


def _overlap(one: Placed, other: Placed, margin: float = 0.05) -> bool:
    """Whether two boxes, grown by `margin` metres, meet."""
    a, b = one.aabb(), other.aabb()
    return bool((a[:3] - margin < b[3:]).all() and (b[:3] - margin < a[3:]).all())


def _furnish(plan: Plan, theme: Theme, views: Views, rng: np.random.Generator) -> list[Thing]:
    taken = []
    if plan.cut is not None:
        (x0, y0), (x1, y1) = plan.cut[:2], plan.cut[2:]
        taken = [np.array([[x0, y0], [x1, y0], [x1, y1], [x0, y1]])]
    room = _Furnishing(plan, views, rng, [], taken)
    room.add(catalogue.DOOR)
    if theme.name != "bathroom" or rng.uniform() < 0.5:
        room.add(catalogue.WINDOW)
    for choices in theme.needs:
        room.add(choices[rng.integers(len(choices))])
    for _ in range(int(rng.integers(*EXTRA))):
        room.add(theme.may[rng.integers(len(theme.may))])
    for _ in range(int(rng.integers(*ON_TOPS))):
        room.add(theme.tops[rng.integers(len(theme.tops))])
    for index in rng.permutation(len(theme.walls))[: int(rng.integers(*ON_WALLS))]:
        room.add(theme.walls[index])
    return room.things


def make_interior(
    seed: tuple[int, ...], *, frames: int, width: int, height: int, field_of_view: float
) -> rooms.Room:
    """A room of a random kind, all of whose things are to be seen in some picture.

    Args:
        seed: everything follows from it.
        field_of_view: horizontal, radians.

    Raises:
        rooms.NoRoomError: no such room was found; more frames, a wider view or larger pictures
            would help.
    """
    for attempt in range(ATTEMPTS):
        rng = np.random.default_rng((*seed, attempt))
        plan = _plan(rng)
        theme = catalogue.THEMES[rng.integers(len(catalogue.THEMES))]
        views = _views(plan, frames, width, height, field_of_view, rng)
        if views is None:
            continue
        shell = _shell(plan, rng)
        things = _furnish(plan, theme, views, rng)
        while len(things) >= FEWEST:
            objects = tuple(thing.placed for thing in things)
            rendering = rooms.render_views(plan, objects, shell, views, views.path[views.kept])
            share = rooms.visibility(rendering)[:, : len(objects)]
            pixels = np.asarray(rendering.seen)[:, : len(objects)]
            enough = (share >= rooms.MIN_SEEN) & (pixels >= LEAST_PIXELS)
            seen = np.asarray(enough.any(axis=0))
            if seen.all():
                return rooms.Room(plan, shell, objects, views, rendering)
            things = _without(things, seen)
    raise rooms.NoRoomError(
        f"seed {seed}: found no room with {FEWEST} things to be seen in {frames} frames of "
        f"{np.rad2deg(field_of_view):.0f} degrees and {width}x{height} pixels; use more frames, a "
        "wider view or larger pictures."
    )


def _without(things: list[Thing], seen: np.ndarray) -> list[Thing]:
    """The things that are seen, without those that stood on one that is not."""
    kept = [
        index
        for index, thing in enumerate(things)
        if seen[index] and (thing.carrier is None or seen[thing.carrier])
    ]
    return [
        dataclasses.replace(
            things[index],
            carrier=None if (on := things[index].carrier) is None else kept.index(on),
        )
        for index in kept
    ]
