"""What a run needs of machines that are not here: its own functions, compiled for them.

The rollouts of both roles (`decode.generate`) and the updates (`make_evolution_step`) are compiled
from shapes alone, for a described topology of TPUs, on a machine with neither TPUs nor room for the
parameters. The compiler then says how many bytes of each chip they take, or by how much they do not
fit. What a byte is for is counted by hand from the shapes and their shardings.

    machine = described("v5p:2x2x2")
    plan = make_plan(config, model, machine)
    plan.fits, plan.memory.params, plan.update_bytes
"""

import dataclasses
import functools
import importlib.util
import math
import re
import resource
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import topologies
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from geometry_jax.tasks import TASKS
from spatialevo_jax import costs, lora, mesh, sharding
from spatialevo_jax.config import MeshConfig, TrainConfig
from spatialevo_jax.costs import CHIPS, Chip
from spatialevo_jax.mesh import BATCH
from spatialevo_jax.models.qwen2_5_vl import images
from spatialevo_jax.models.qwen2_5_vl import model as qwen
from spatialevo_jax.models.qwen2_5_vl.config import SIZES, ModelConfig
from spatialevo_jax.models.qwen2_5_vl.images import VisionShape
from spatialevo_jax.rollout import decode
from spatialevo_jax.rollout.batch import Prompts, Starts, Suffixes
from spatialevo_jax.scheduler import accuracy_scheduler
from spatialevo_jax.train.setup import computing
from spatialevo_jax.train.state import TrainState, init_state, optimizer
from spatialevo_jax.train.step import EvolutionBatch, RoleBatch, make_evolution_step

ROLES = ("questioner", "solver")
SLICES = {  # what can be had of each kind of chip, smallest first
    "v5e": ("2x2", "2x4", "4x4", "4x8", "8x8", "8x16", "16x16"),
    "v5p": ("2x2x1", "2x2x2", "2x2x4", "2x4x4", "4x4x4"),
    "v6e": ("2x2", "2x4", "4x4", "4x8", "8x8", "8x16", "16x16"),
}
# No compiler for GPUs is asked. A server of 8 is stood in for by 8 TPUs with about as much memory:
# state, caches and gradients are the same there, and activations are the TPU compiler's.
STAND_INS = {"h100:8": "v5p:2x2x2", "h200:8": "v5p:2x2x2"}
COLLECTIVES = "all-gather|all-reduce|reduce-scatter|all-to-all|collective-permute"


class NoMeshError(ValueError):
    """Devices that no mesh makes fit for a run."""


@dataclasses.dataclass(frozen=True)
class Machine:
    """Devices to compile for, and the chips that they stand for."""

    name: str
    compiled_for: str  # the topology
    chip: Chip
    devices: Sequence[Any]

    @property
    def is_server(self) -> bool:
        """One host with GPUs, for which TPUs stand in."""
        return self.compiled_for != self.name


def described(name: str) -> Machine:
    """The machine of a name such as `v5e:4x4`, `v5p:2x2x2` or `h100:8`.

    Raises:
        ValueError: not a name of a machine, or libtpu is not installed.
    """
    topology = STAND_INS.get(name, name)
    kind = name.partition(":")[0]
    axes = topology.count("x")
    if kind not in CHIPS or axes != SLICES.get(topology.partition(":")[0], ("",))[0].count("x"):
        known = ", ".join([*(f"{kind}:{sizes[0]}" for kind, sizes in SLICES.items()), *STAND_INS])
        raise ValueError(f"--topology: expected one such as {known}; got {name!r}.")
    try:
        found = topologies.get_topology_desc(platform="tpu", topology_name=topology)
    except (RuntimeError, NotImplementedError, ValueError) as error:
        if importlib.util.find_spec("libtpu") is None:
            raise ValueError(
                f"--topology: {topology} needs the compiler for TPUs, found none: "
                "pip install -c constraints.txt '.[tpu]'"
            ) from error
        sizes = ", ".join(SLICES[topology.partition(":")[0]])
        raise ValueError(
            f"--topology: expected a slice that there is, such as {sizes}; {name!r} can't be "
            f"described ({error})."
        ) from error
    return Machine(name, topology, CHIPS[kind], found.devices)


# --- the model and the mesh ----------------------------------------------------------------------


def model_of(config: TrainConfig, size: str | None = None) -> ModelConfig:
    """The model of a run, from `size` if that is given, else from what `config.model` is called: a
    size, or a folder named as it was released (`Qwen2.5-VL-3B-Instruct` is `qwen2_5_vl_3b`). The
    folder itself is not needed.

    Raises:
        ValueError: no size is called so.
    """
    name = size or config.model
    last = re.sub(r"[^a-z0-9]+", "_", name.rstrip("/").rpartition("/")[2].lower())
    found = [known for known in SIZES if last == known or last.startswith(f"{known}_")]
    if not found:
        raise ValueError(
            f"{name}: expected one of {', '.join(SIZES)}, or a folder named after one; which of "
            "them it holds is said with --size."
        )
    return computing(config, SIZES[found[0]])


def meshes(config: TrainConfig, model: ModelConfig, devices: Sequence[Any]) -> Iterator[Mesh]:
    """Meshes of these devices that can hold the run: the config's own, then others, those that
    split layers the least first.
    """
    count = len(devices)
    others = [MeshConfig(tensor=n) for n in range(1, count + 1) if count % n == 0]
    for asked in dict.fromkeys([config.mesh, *others]):
        try:
            made = sharding.make_mesh(**dataclasses.asdict(asked), devices=devices)
            sharding.param_shardings(model, made)
        except ValueError:
            continue
        updated = config.grpo.two_pass
        if all(rows % batch_devices(made) == 0 for rows in (*prompts_of(config).values(), updated)):
            yield made


def mesh_of(config: TrainConfig, model: ModelConfig, machine: Machine) -> Mesh:
    """The first of `meshes`. Raises: NoMeshError: there is none."""
    found = next(meshes(config, model, machine.devices), None)
    if found is None:
        asked = " and ".join(f"{count} {role}" for role, count in prompts_of(config).items())
        raise NoMeshError(
            f"{machine.name}: no mesh of {len(machine.devices)} devices divides prompts, {asked}, "
            f"and {model.text.num_heads} heads; another number of rows may."
        )
    return found


def least_bytes(config: TrainConfig, model: ModelConfig, machine: Machine) -> int:
    """Of each chip, for state and gradients spread over all chips: no mesh needs less."""
    state = abstract_state(config, model)
    kept = (state.params, state.opt_state, state.reference, state.trained)
    return sum(
        math.prod(leaf.shape) * np.dtype(leaf.dtype).itemsize for leaf in jax.tree.leaves(kept)
    ) // len(machine.devices)


def batch_devices(devices: Mesh) -> int:
    return math.prod(devices.shape[axis] for axis in BATCH)


def prompts_of(config: TrainConfig) -> dict[str, int]:
    """Prompts of each role in a step."""
    return dict(zip(ROLES, (sum(config.data.rows), config.rollout.solver_prompts), strict=True))


def blocks_of(devices: Mesh) -> int:
    """Parts of a batch that hosts make; see `hosts.share`. Raises: ValueError, as there."""
    along = devices.devices.reshape(batch_devices(devices), -1)
    own: dict[int, set[int]] = {}
    for row, group in enumerate(along):
        for device in group:
            own.setdefault(device.process_index, set()).add(row)
    blocks = {tuple(sorted(rows)) for rows in own.values()}
    if sum(map(len, blocks)) != len(along) or any(
        rows != tuple(range(rows[0], rows[0] + len(rows))) for rows in blocks
    ):
        raise ValueError(f"mesh: expected hosts to hold blocks of rows, got {sorted(blocks)}.")
    return len(blocks)


# --- shapes --------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Shapes:
    """Of one step."""

    images: int
    visual_tokens: int  # of an image
    packed: VisionShape  # with the padding that lets hosts share them
    prompts: dict[str, int]  # of each role
    prompt_tokens: dict[str, int]
    samples: dict[str, int]
    reply_tokens: dict[str, int]
    window_patches: int
    patch_dim: int
    merged: int  # patches that become a visual token

    @property
    def vision(self) -> qwen.VisionInputs:
        """The packed images, as shapes."""
        windows, count, patches, tokens = self.packed
        size = self.window_patches
        return qwen.VisionInputs(
            patches=_shape(jnp.float32, windows, size, self.patch_dim),
            valid=_shape(bool, windows, size),
            positions=_shape(jnp.int32, windows, size, 2),
            image_slots=_shape(jnp.int32, count, patches),
            image_valid=_shape(bool, count, patches),
            return_slots=_shape(jnp.int32, windows * size),
            token_slots=_shape(jnp.int32, tokens, self.merged),
        )


def shapes_of(config: TrainConfig, model: ModelConfig, devices: int, blocks: int) -> Shapes:
    grid = model.vision.grid(*config.data.image_size)
    modalities = zip(config.data.rows, (1, 2, config.data.scene_frames), strict=True)
    frames = [frames for count, frames in modalities for _ in range(count)]
    parts = [
        images.needed_shape([grid] * sum(frames[block::blocks]), model.vision)
        for block in range(blocks)
    ]
    one = images.shared_shape(parts, devices // blocks)
    packed = VisionShape(
        one.windows * blocks, one.images * blocks, one.image_patches, one.tokens * blocks
    )
    rollout = config.rollout

    def roles(questioner: int, solver: int) -> dict[str, int]:
        return {"questioner": questioner, "solver": solver}

    return Shapes(
        images=sum(frames),
        visual_tokens=math.prod(grid) // model.vision.spatial_merge_size**2,
        packed=packed,
        prompts=prompts_of(config),
        prompt_tokens=roles(rollout.questioner_prompt, rollout.solver_prompt),
        samples=roles(rollout.questioner_samples, rollout.solver_samples),
        reply_tokens=roles(rollout.questioner_tokens, rollout.solver_tokens),
        window_patches=model.vision.window_patches,
        patch_dim=model.vision.patch_dim,
        merged=model.vision.spatial_merge_size**2,
    )


def _shape(dtype: Any, *sizes: int) -> Any:
    return jax.ShapeDtypeStruct(sizes, dtype)


def abstract_prompts(shapes: Shapes, role: str, count: int) -> Prompts:
    length = shapes.prompt_tokens[role]
    ids = _shape(jnp.int32, count, length)
    positions = _shape(jnp.int32, 3, count, length)
    return Prompts(ids, positions, _shape(bool, count, length), ids)


def abstract_role(shapes: Shapes, role: str, prompts: int) -> RoleBatch:
    sampled = (prompts, shapes.samples[role], shapes.reply_tokens[role])
    ids, numbers = _shape(jnp.int32, *sampled), _shape(jnp.float32, *sampled)
    suffixes = Suffixes(
        inputs=ids,
        targets=ids,
        positions=_shape(jnp.int32, 3, *sampled),
        valid=_shape(bool, *sampled),
        mask=numbers,
    )
    gains = _shape(jnp.float32, *sampled[:2])
    return RoleBatch(abstract_prompts(shapes, role, prompts), suffixes, numbers, gains)


def abstract_state(config: TrainConfig, model: ModelConfig) -> TrainState:
    """Shapes and types of the state in self-evolution, without any memory."""
    scheduler = accuracy_scheduler(
        len(TASKS), prior_accuracy=0.5, prior_count=1.0, floor=0.05, decay=1.0
    )
    return jax.eval_shape(
        lambda params: init_state(config, params, scheduler, step=config.warm_start.steps),
        qwen.abstract_params(model),
    )


def placed(tree: Any, layout: Any) -> Any:
    """Shapes with their shardings."""
    return jax.tree.map(
        lambda leaf, own: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=own), tree, layout
    )


# --- bytes ---------------------------------------------------------------------------------------


def chip_bytes(tree: Any) -> int:
    """Bytes of arrays with shardings on one chip."""
    return sum(
        math.prod(leaf.sharding.shard_shape(leaf.shape)) * _itemsize(leaf.dtype)
        for leaf in jax.tree.leaves(tree)
    )


def _itemsize(dtype: Any) -> int:
    is_key = jnp.issubdtype(dtype, jax.dtypes.prng_key)
    return 8 if is_key else np.dtype(dtype).itemsize  # a key is two u32


@dataclasses.dataclass(frozen=True)
class Memory:
    """Bytes on each chip, counted from shapes and shardings."""

    params: int  # float32 masters
    optimizer: int  # two moments of what is trained
    reference: int  # the copy that the KL term compares with
    gradients: int  # float32, of what is trained; during an update only
    prefix_cache: int  # keys and values of the Solver's prompts; during its rollout only
    reply_cache: int  # and of its replies
    copy: int  # the decoder in its type of computing, with `whole_weights`; during rollouts only

    @property
    def state(self) -> int:
        """What is there all the time."""
        return self.params + self.optimizer + self.reference


def _copy_bytes(config: TrainConfig, state: TrainState, model: ModelConfig) -> int:
    """Of the decoder's matrices gathered along fsdp; see `sharding.whole_weights`."""
    if not config.rollout.whole_weights:
        return 0
    size = np.dtype(model.compute_dtype).itemsize
    return sum(
        math.prod(leaf.shape) // (leaf.sharding.mesh.shape[mesh.TENSOR] ** over) * size
        for leaf in jax.tree.leaves(state.params["text"])
        for over in [mesh.TENSOR in leaf.sharding.spec]
    )


def count_memory(
    config: TrainConfig, state: TrainState, shapes: Shapes, model: ModelConfig, devices: Mesh
) -> Memory:
    text, role = model.text, "solver"
    tensor = devices.shape[mesh.TENSOR]
    heads = text.num_kv_heads // tensor if text.num_kv_heads % tensor == 0 else text.num_kv_heads
    entry = 2 * text.num_layers * heads * text.head_dim * np.dtype(model.compute_dtype).itemsize
    prompts = shapes.prompts[role] // batch_devices(devices)
    return Memory(
        params=chip_bytes(state.params) + chip_bytes(state.adapter),
        optimizer=chip_bytes(state.opt_state),
        reference=chip_bytes(state.reference),
        gradients=chip_bytes(state.trained),
        prefix_cache=prompts * shapes.prompt_tokens[role] * entry,
        reply_cache=prompts * shapes.samples[role] * shapes.reply_tokens[role] * entry,
        copy=_copy_bytes(config, state, model),
    )


@dataclasses.dataclass(frozen=True)
class Program:
    """One function compiled for a machine. Bytes are those of each chip, by the compiler."""

    name: str
    arguments: int  # what it is given, the state's part and the batch
    results: int  # what it returns beyond what it writes over its arguments
    temporary: int  # what it needs while it runs; None of it is known where it does not fit
    needed: int  # all of it together
    compiles: bool  # False: the compiler found that it does not fit the chip that it compiles for
    counted_flops: float  # of the compiler's cost analysis for all chips, a loop's body once
    collectives: dict[str, int]  # in the program's text, a loop's body once
    seconds: float  # to compile


_UNITS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}
_SIZE = r"([\d.]+)([KMGT]?)i?B?"
# In the compiler's words: all that a program would use, or what is temporary alone.
_USED = re.compile(rf"Used {_SIZE} of {_SIZE} hbm")
_TEMPORARY = re.compile(rf"HLO temporaries \({_SIZE}\) exceeds")


def compile_program(name: str, lowered: Any, chips: int, given: int) -> Program:
    """Compiles, and reads what the compiler says of memory, also where that is too much. `given`
    are the bytes on each chip that the program begins with.

    Raises:
        jax.errors.JaxRuntimeError: anything else than too much memory.
    """
    start = time.perf_counter()
    try:
        done = lowered.compile()
    except jax.errors.JaxRuntimeError as error:
        used, temporary = _USED.search(str(error)), _TEMPORARY.search(str(error))
        found = used or temporary
        if found is None:
            raise
        size = int(float(found[1]) * _UNITS[found[2]])
        needed = size if used else size + given
        return Program(name, 0, 0, 0, needed, False, 0.0, {}, time.perf_counter() - start)
    seconds = time.perf_counter() - start
    memory, cost = done.memory_analysis(), done.cost_analysis() or {}
    results = memory.output_size_in_bytes - memory.alias_size_in_bytes
    return Program(
        name=name,
        arguments=memory.argument_size_in_bytes,
        results=results,
        temporary=memory.temp_size_in_bytes,
        needed=memory.argument_size_in_bytes + results + memory.temp_size_in_bytes,
        compiles=True,
        counted_flops=cost.get("flops", 0.0) * chips,
        collectives=dict(Counter(re.findall(rf" ({COLLECTIVES})(?:-start)?\(", done.as_text()))),
        seconds=seconds,
    )


def lower_rollout(
    config: TrainConfig, model: ModelConfig, shapes: Shapes, devices: Mesh, role: str
) -> Any:
    """A role's rollout as the loop calls it."""
    prompts, samples = shapes.prompts[role], shapes.samples[role]
    first = _shape(jnp.int32, prompts)
    keys = jax.eval_shape(lambda: jax.random.split(jax.random.key(0), (prompts, samples)))
    batch = (shapes.vision, abstract_prompts(shapes, role, prompts), Starts(first, first))
    params = placed(qwen.abstract_params(model), sharding.param_shardings(model, devices))
    with jax.set_mesh(devices):
        return decode.generate.lower(
            qwen.Policy(model),
            params,
            *placed((*batch, keys), sharding.batch_shardings((*batch, keys), devices)),
            np.zeros(model.text.vocab_size, bool),
            length=shapes.reply_tokens[role],
            temperature=config.rollout.temperature,
            end_token=0,
            whole_weights=config.rollout.whole_weights,
        )


def updates_of(config: TrainConfig, shapes: Shapes) -> dict[str, EvolutionBatch]:
    """The batches of a step's updates by what they are called: both roles together, or in the
    published order the Questioner's and one part of the Solver's prompts. Two of the same shape are
    one.
    """
    asked, part = ROLES
    if not config.grpo.two_pass:
        both = [abstract_role(shapes, role, shapes.prompts[role]) for role in ROLES]
        return {"update": EvolutionBatch(shapes.vision, *both)}
    questioner = abstract_role(shapes, asked, shapes.prompts[asked])
    solver = abstract_role(shapes, part, config.grpo.two_pass)
    batches = {
        "update of the questioner": EvolutionBatch(shapes.vision, questioner, None),
        "update of the solver": EvolutionBatch(shapes.vision, None, solver),
    }
    if jax.tree.leaves(questioner) == jax.tree.leaves(solver):
        return {"update of a role": batches["update of the solver"]}
    return batches


def lower_update(
    config: TrainConfig,
    model: ModelConfig,
    devices: Mesh,
    state: TrainState,
    batch: EvolutionBatch,
) -> Any:
    """An update as the loop calls it; `state` has its shardings."""
    update = make_evolution_step(
        qwen.Policy(model),
        optimizer(config, config.warm_start.steps),
        config.grpo,
        jnp.zeros(model.text.vocab_size, bool),
        temperature=config.rollout.temperature,
    )
    layout = jax.tree.map(lambda leaf: leaf.sharding, state)
    whole = NamedSharding(devices, PartitionSpec())
    pinned = jax.jit(update, donate_argnums=0, out_shardings=(layout, whole))
    with jax.set_mesh(devices):
        return pinned.lower(state, placed(batch, sharding.batch_shardings(batch, devices)))


# --- time ----------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Work:
    """What a step computes, and the least time that the chips need for it: bounds, which no run
    reaches.
    """

    rollout_flops: float
    update_flops: float
    rollout_seconds: float
    update_seconds: float


def count_work(
    config: TrainConfig, model: ModelConfig, shapes: Shapes, devices: Mesh, chip: Chip
) -> Work:
    """By hand. All replies are counted at their full length. An update computes a forward pass and
    a backward pass of twice its cost (once, with adapters), a forward pass of the reference, and
    again: the logits where they come in chunks, with `remat` the tower's forward twice and, where
    that is "full", the decoder's.
    """
    patches = shapes.visual_tokens * model.vision.spatial_merge_size**2
    tower = costs.vision_flops(model, shapes.images, patches)
    seen_again, again = 2 * (model.remat != "off"), int(model.remat == "full")
    kept = bool(config.grpo.kl_coefficient)
    updates, size = 1, config.grpo.two_pass
    if size:
        updates += shapes.prompts["solver"] // size
    moves, backward = bool(config.grpo.vision_lr_share), 2
    if config.lora.rank:  # no gradient of a kernel, and none of a tower without adapters
        adapted = lora.adapted(qwen.abstract_params(model), config.lora)
        moves, backward = any(name.startswith("vision.") for name in adapted), 1
    update = updates * tower * (1 + moves * (backward + seen_again + kept))
    rollout = rollout_seconds = 0.0
    chips, tensor = devices.size, devices.shape[mesh.TENSOR]
    for role in ROLES:
        prompts, samples = shapes.prompts[role], shapes.samples[role]
        before, length = shapes.prompt_tokens[role], shapes.reply_tokens[role]
        sampled = prompts * samples * length
        prefill = costs.text_flops(model, prompts, before)
        replies = costs.text_flops(model, prompts * samples, length, before)
        head = costs.head_flops(model, sampled)
        rollout += tower + prefill + replies + head
        update += (1 + backward + again + kept) * (prefill + replies)
        update += (2 + backward + kept) * head
        # A step of decoding waits for its arithmetic, its memory or its network.
        own = prompts // batch_devices(devices)
        read = costs.decode_bytes(model, own, samples, before, length / 2) / tensor
        weights = costs.decode_bytes(model, 0, 0, 0, 0) / tensor
        gathered = weights * (1 - 1 / devices.shape[mesh.FSDP])
        once = length if config.rollout.whole_weights else 1
        a_step = max(
            (replies + head) / length / (chips * chip.flops),
            read / chip.bandwidth,
            gathered / once / chip.network,
        )
        rollout_seconds += (tower + prefill) / (chips * chip.flops) + length * a_step
    return Work(rollout, update, rollout_seconds, update / (chips * chip.flops))


# --- the plan ------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Plan:
    """What a step takes on one machine."""

    machine: str
    compiled_for: str
    chips: int
    hosts: int
    limit: int  # bytes of a chip
    mesh: dict[str, int]
    shapes: Shapes
    memory: Memory
    rollouts: tuple[Program, ...]  # none of them where nothing was compiled
    updates: tuple[Program, ...]
    work: Work
    host_peak: int  # bytes of this process's memory, so far

    @property
    def rollout_bytes(self) -> int:
        """Of a chip during the larger rollout, with all that is kept beside it. Of what is counted
        alone, the least that it can be.
        """
        memory = self.memory
        beside = memory.optimizer + memory.reference
        counted = memory.params + memory.copy + memory.prefix_cache + memory.reply_cache
        return beside + max((program.needed for program in self.rollouts), default=counted)

    @property
    def update_bytes(self) -> int:
        """Of a chip during the larger update, likewise."""
        counted = self.memory.state + self.memory.gradients
        return max((program.needed for program in self.updates), default=counted)

    @property
    def needed(self) -> int:
        return max(self.rollout_bytes, self.update_bytes)

    @property
    def fits(self) -> bool | None:
        """None: what is counted fits, and what more there is was not compiled."""
        if self.needed > self.limit:
            return False
        return True if self.updates else None

    def on(self, config: TrainConfig, model: ModelConfig, machine: Machine) -> "Plan | None":
        """The plan for a machine that the same programs stand for, as for two servers of GPUs that
        differ in memory and speed alone; None where they do not.
        """
        if machine.compiled_for != self.compiled_for or machine.is_server != (
            self.machine != self.compiled_for
        ):
            return None
        found = mesh_of(config, model, machine)
        work = count_work(config, model, self.shapes, found, machine.chip)
        return dataclasses.replace(self, machine=machine.name, limit=machine.chip.memory, work=work)


def lower_all(
    config: TrainConfig, model: ModelConfig, devices: Mesh, blocks: int = 1
) -> tuple[Shapes, TrainState, dict[str, Any]]:
    """Shapes of batches that hosts make in `blocks`, the placed state, and what lowers each program
    of a step.
    """
    shapes = shapes_of(config, model, batch_devices(devices), blocks)
    state = abstract_state(config, model)
    state = placed(state, sharding.shardings(state, model, devices))
    programs = {
        f"rollout of the {role}": functools.partial(
            lower_rollout, config, model, shapes, devices, role
        )
        for role in ROLES
    }
    updates = {
        name: functools.partial(lower_update, config, model, devices, state, batch)
        for name, batch in updates_of(config, shapes).items()
    }
    return shapes, state, programs | updates


def make_plan(
    config: TrainConfig,
    model: ModelConfig,
    machine: Machine,
    progress: Any = lambda name: None,
    *,
    compiled: bool = True,
) -> Plan:
    """Compiles a step for a machine, or only counts. `progress` is called with the name of each
    program before it is compiled.

    Raises:
        NoMeshError: no mesh of these devices can hold the run.
    """
    found = mesh_of(config, model, machine)
    hosts = 1 if machine.is_server else len({device.process_index for device in machine.devices})
    blocks = 1 if machine.is_server else blocks_of(found)
    shapes, state, programs = lower_all(config, model, found, blocks)
    memory = count_memory(config, state, shapes, model, found)
    done = []
    for name, lower in programs.items() if compiled else ():
        progress(name)
        given = memory.params if name.startswith("rollout") else memory.state
        done.append(compile_program(name, lower(), found.size, given))
    return Plan(
        machine=machine.name,
        compiled_for=machine.compiled_for,
        chips=found.size,
        hosts=hosts,
        limit=machine.chip.memory,
        mesh=dict(found.shape),
        shapes=shapes,
        memory=memory,
        rollouts=tuple(done[: len(ROLES)]),
        updates=tuple(done[len(ROLES) :]),
        work=count_work(config, model, shapes, found, machine.chip),
        host_peak=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
    )
