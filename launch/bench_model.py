"""The `model` subject of `launch.bench`: Qwen2.5-VL forward, forward + backward, and sampling.

On CPU beside transformers' own PyTorch model, where PyTorch is installed: the same weights, inputs,
types and number of threads, the two taking turns, and the median of each turn's ratio; and beside
the time of the decoder's matrix products alone, in whichever library computes them faster. On an
accelerator alone, beside what the chip can do: the share of its peak in arithmetic for forward and
backward (MFU), and of its memory bandwidth for decoding.
"""

import dataclasses
import functools
import importlib.util
import math
import os
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from tqdm import tqdm

from geometry_jax.types import leaf
from spatialevo_jax import costs
from spatialevo_jax.models.qwen2_5_vl import images, products
from spatialevo_jax.models.qwen2_5_vl import model as qwen
from spatialevo_jax.models.qwen2_5_vl.config import SIZES, ModelConfig, TextConfig, VisionConfig
from spatialevo_jax.models.qwen2_5_vl.rope import mrope_positions
from spatialevo_jax.rollout import decode
from spatialevo_jax.rollout.batch import Prompts, Starts
from spatialevo_jax.tokenizer import SpecialIds

MID = "mid"  # wide enough that matrices and not launches take the time, small enough for a laptop
DTYPES = ("float32", "bfloat16")
GOALS = {"forward": 1.0, "forward + backward": 1.2, "decode": 2.0}  # ours / PyTorch
PARTS = ("products", "forward", "backward", "decode")  # of what is measured


@dataclasses.dataclass(frozen=True)
class Shapes:
    """What is computed: prompts about one image each, and samples of each prompt."""

    prompts: int = 4
    samples: int = 4
    prompt_tokens: int = 256
    new_tokens: int = 32
    image: tuple[int, int] = (308, 420)  # pixels, height and width


@dataclasses.dataclass(frozen=True)
class Measure:
    """One line of the table."""

    subject: str
    dtype: str
    ours_per_s: float  # tokens: of prompts, or sampled ones
    torch_per_s: float | None  # None: not measured
    ratio: float | None  # median over turns of ours / PyTorch
    bound: str  # what the share is a share of, "" where there is none
    share: float | None  # the least time that is possible by that / ours
    most: float | None  # and what the ratio would be at that time
    peak_bytes: int | None  # of the device's memory, so far


def mid_config() -> ModelConfig:
    """117 M parameters in the proportions of the released sizes."""
    vision = VisionConfig(
        depth=6,
        hidden_size=512,
        intermediate_size=1408,
        num_heads=8,
        out_hidden_size=768,
        fullatt_block_indexes=(2, 5),
    )
    text = TextConfig(
        vocab_size=16_384,
        hidden_size=768,
        intermediate_size=2816,
        num_layers=10,
        num_heads=12,
        num_kv_heads=2,
        head_dim=64,
        mrope_section=(8, 12, 12),
        tie_word_embeddings=True,
    )
    return ModelConfig(vision, text, unroll=text.num_layers)


def special_ids(config: ModelConfig) -> SpecialIds:
    """The last ids of the vocabulary."""
    return SpecialIds(*(config.text.vocab_size - 1 - n for n in range(6)))


@functools.partial(jax.jit, static_argnums=(0, 1))
def random_params(config: ModelConfig, dtype: str = "float32") -> qwen.Params:
    """Of the size of trained ones; in any `dtype` the same numbers, rounded."""
    key = jax.random.key(0)

    def drawn(number: int, name: str, shape: tuple[int, ...]) -> jax.Array:
        if "scale" in name:
            return jnp.ones(shape, dtype)
        size = 0.02 if "bias" in name else shape[-1 if "embedding" in name else -2] ** -0.5
        normal = jax.random.normal(jax.random.fold_in(key, number), shape)
        return (size * normal).astype(dtype)

    paths, form = jax.tree_util.tree_flatten_with_path(qwen.abstract_params(config))
    leaves = [
        drawn(number, jax.tree_util.keystr(path), leaf.shape)
        for number, (path, leaf) in enumerate(paths)
    ]
    return form.unflatten(leaves)


@dataclasses.dataclass(frozen=True)
class Inputs:
    """The same numbers for both implementations."""

    shapes: Shapes
    patches: list[images.Patches]
    vision: qwen.VisionInputs
    prompts: Prompts
    starts: Starts

    @property
    def patch_count(self) -> int:
        return sum(len(one.values) for one in self.patches)


def make_inputs(config: ModelConfig, shapes: Shapes) -> Inputs:
    """Random pictures and texts, without padding.

    Raises:
        ValueError: the image does not fit the prompt.
    """
    rng, ids = np.random.default_rng(0), special_ids(config)
    pictures = rng.integers(0, 256, (shapes.prompts, *shapes.image, 3), dtype=np.uint8)
    patches = [images.preprocess(picture, config.vision) for picture in pictures]
    shown = len(patches[0].values) // config.vision.spatial_merge_size**2
    if shown + 4 > shapes.prompt_tokens:
        raise ValueError(
            f"prompt_tokens: expected at least {shown + 4} for an image of {shown} tokens, "
            f"got {shapes.prompt_tokens}."
        )
    shape = (shapes.prompts, shapes.prompt_tokens)
    tokens = rng.integers(0, config.text.vocab_size - 6, shape).astype(np.int32)
    tokens[:, 1], tokens[:, 2 + shown] = ids.vision_start, ids.vision_end
    tokens[:, 2 : 2 + shown] = ids.image_pad
    index = np.full(shape, -1, np.int32)
    index[:, 2 : 2 + shown] = np.arange(shapes.prompts * shown).reshape(-1, shown)
    grids = [one.grid for one in patches]
    positions = np.stack(
        [mrope_positions(row, [grid], ids) for row, grid in zip(tokens, grids, strict=True)], axis=1
    )
    prompts = Prompts(leaf(tokens), leaf(positions), leaf(np.ones(shape, bool)), leaf(index))
    starts = Starts(leaf(tokens[:, -1]), leaf(positions[0, :, -1] + 1))
    return Inputs(shapes, patches, images.pack_images(patches, config.vision), prompts, starts)


# --- what it costs at least ----------------------------------------------------------------------


def forward_flops(config: ModelConfig, inputs: Inputs) -> float:
    """Multiplications and additions of the matrix products of a forward pass; causal attention
    counts its half.
    """
    shapes = inputs.shapes
    vision = costs.vision_flops(config, shapes.prompts, inputs.patch_count // shapes.prompts)
    text = costs.text_flops(config, shapes.prompts, shapes.prompt_tokens)
    return vision + text + costs.head_flops(config, shapes.prompts * shapes.prompt_tokens)


def decode_bytes(config: ModelConfig, shapes: Shapes) -> float:
    """Bytes that a step of decoding must read, in the middle of the samples."""
    half = shapes.new_tokens / 2
    return costs.decode_bytes(config, shapes.prompts, shapes.samples, shapes.prompt_tokens, half)


@dataclasses.dataclass(frozen=True)
class Least:
    """What is needed at least: by the chip's peaks, or where they are not known, as on CPU, by the
    best that any side reaches in the decoder's matrix products.
    """

    flops: float  # operations of a second, for all tokens of the prompts at a time
    step: float  # seconds of a step of decoding, of one token of each sample
    of_flops: str  # where they are from
    of_step: str


def chip() -> tuple[float, float] | None:
    """Peak FLOP/s and B/s of the device, None where it is not known."""
    found = costs.chip_of(jax.devices()[0].device_kind)
    return None if found is None else (found.flops, found.bandwidth)


# --- ours ----------------------------------------------------------------------------------------


@functools.partial(jax.jit, static_argnums=0)
def our_forward(policy: qwen.Policy, params: Any, vision: Any, prompts: Prompts) -> jax.Array:
    """(P, S, V) logits of all tokens."""
    features = qwen.encode_images(policy, params, vision)
    x = qwen.embed(
        policy, params, prompts.tokens[:, None], prompts.feature_index[:, None], features
    )
    positions, valid = prompts.positions[:, :, None], prompts.valid[:, None]
    hidden, _ = qwen.extend(policy, params, x, positions, valid, right_padded=True)
    return qwen.logits(policy, params, hidden[:, 0])


@functools.partial(jax.jit, static_argnums=0)
def our_gradient(policy: qwen.Policy, params: Any, vision: Any, prompts: Prompts) -> Any:
    """Of the mean cross-entropy of the next token, with respect to all parameters."""

    def loss(params: Any) -> jax.Array:
        logits = our_forward(policy, params, vision, prompts)
        targets = jnp.roll(prompts.tokens, -1, axis=1)  # the last token has none
        # As in `train.likelihoods`: its gradient is one pass over the logits.
        chosen = jnp.arange(logits.shape[-1]) == targets[..., None]
        target = jnp.where(chosen, logits, 0.0).sum(-1)
        return (jax.nn.logsumexp(logits, axis=-1) - target)[:, :-1].mean()

    return jax.grad(loss)(params)


@jax.jit
def our_products(
    layers: Any, head: jax.Array, x: jax.Array, attended: jax.Array, wide: jax.Array
) -> list[jax.Array]:
    """Rows times every matrix of the decoder: of its width, of all heads, of the MLP's width."""
    found = [products.scores(x, head)]
    for layer in layers:
        mlp = layer["mlp"]
        maps = [(x, layer[name]) for name in ("q", "k", "v")] + [(attended, layer["o"])]
        maps += [(x, mlp["gate"]), (x, mlp["up"]), (wide, mlp["down"])]
        for rows, of_map in maps:
            if "weight" in of_map:
                found.append(products.linear_of_few(rows, of_map["weight"], None))
            else:
                found.append(products.linear(rows, of_map["kernel"], None))
    return found


@dataclasses.dataclass(frozen=True)
class Ours:
    policy: qwen.Policy
    params: Any
    inputs: Inputs

    @functools.cached_property
    def layers(self) -> Any:
        """The decoder's layers, apart."""
        blocks, count = self.params["text"]["blocks"], self.policy.config.text.num_layers
        return [jax.tree.map(lambda x, at=at: x[at], blocks) for at in range(count)]

    @functools.cached_property
    def layers_of_few(self) -> Any:
        return qwen.for_decoding(self.params)["text"]["blocks"]

    @functools.cached_property
    def head(self) -> jax.Array:
        """(vocabulary, width)."""
        text = self.params["text"]
        return text["head"]["kernel"].T if "head" in text else text["embedding"]["embedding"]

    def products(self, rows: int) -> None:
        text, kind = self.policy.config.text, self.policy.config.compute_dtype
        widths = (text.hidden_size, text.num_heads * text.head_dim, text.intermediate_size)
        given = [jnp.ones((rows, width), kind) for width in widths]
        few = rows <= products.FEW and jax.default_backend() == "cpu"
        layers = self.layers_of_few if few else self.layers
        jax.block_until_ready(our_products(layers, self.head, *given))

    def forward(self) -> None:
        found = our_forward(self.policy, self.params, self.inputs.vision, self.inputs.prompts)
        jax.block_until_ready(found)

    def gradient(self) -> None:
        found = our_gradient(self.policy, self.params, self.inputs.vision, self.inputs.prompts)
        jax.block_until_ready(found)

    def generate(self, length: int) -> None:
        """All samples go on to the full length: their end is banned."""
        given, end = self.inputs, special_ids(self.policy.config).im_end
        banned = jnp.zeros(self.policy.config.text.vocab_size, bool).at[end].set(True)
        keys = jax.random.split(jax.random.key(0), (given.shapes.prompts, given.shapes.samples))
        found = decode.generate(
            self.policy,
            self.params,
            given.vision,
            given.prompts,
            given.starts,
            keys,
            banned,
            length=length,
            temperature=1.0,
            end_token=end,
        )
        jax.block_until_ready(found)


# --- the clock -----------------------------------------------------------------------------------


class Side(Protocol):
    """An implementation: ours, or PyTorch's."""

    def products(self, rows: int) -> None: ...

    def forward(self) -> None: ...

    def gradient(self) -> None: ...

    def generate(self, length: int) -> None: ...


Clock = Callable[[], float]


def turns(
    calls: Sequence[Callable[[], Any]], repeats: int, clock: Clock, progress: Callable[[], Any]
) -> list[list[float]]:
    """Seconds of each call, one after the other in every turn, after one turn to warm up: whatever
    else the machine does slows all alike.
    """
    found = [[] for _ in calls]
    for turn in range(repeats + 1):
        for call, taken in zip(calls, found, strict=True):
            start = clock()
            call()
            if turn:
                taken.append(clock() - start)
        progress()
    return found


def baseline_is_here() -> bool:
    """Whether PyTorch can run on the same device: on CPU, where it is installed."""
    return jax.default_backend() == "cpu" and importlib.util.find_spec("torch") is not None


def measure(
    config: ModelConfig,
    shapes: Shapes,
    dtypes: Sequence[str],
    repeats: int,
    *,
    baseline: bool,
    clock: Clock = time.perf_counter,
    parts: Sequence[str] = PARTS,
) -> list[Measure]:
    """The lines of the table for some of `PARTS`, beside PyTorch if there is to be a `baseline`.

    Raises:
        ValueError: the image does not fit the prompt.
    """
    inputs = make_inputs(config, shapes)
    lines = []
    rounds = len(parts) + ("products" in parts)
    with tqdm(total=rounds * len(dtypes) * (repeats + 1), desc="model", disable=None) as bar:
        for dtype in dtypes:
            own = dataclasses.replace(config, compute_dtype=dtype)
            params = random_params(own, dtype)
            sides: list[Side] = [Ours(qwen.Policy(own), params, inputs)]
            if baseline:
                from launch.bench_torch import Theirs  # takes seconds to import

                sides.append(Theirs(params, own, inputs, dtype))
            lines += _compare(own, inputs, sides, repeats, clock, bar.update, parts)
    return lines


def _compare(
    config: ModelConfig,
    inputs: Inputs,
    sides: Sequence[Side],
    repeats: int,
    clock: Clock,
    progress: Callable[[], Any],
    parts: Sequence[str] = PARTS,
) -> list[Measure]:
    shapes, flops, lines = inputs.shapes, forward_flops(config, inputs), []
    tokens, samples = shapes.prompts * shapes.prompt_tokens, shapes.prompts * shapes.samples

    def add(subject: str, count: int, taken: list[list[float]], bound: str, needs: float) -> None:
        """`needs` are the seconds that are needed at least."""
        mine = statistics.median(taken[0])
        other = statistics.median(taken[1]) if len(taken) > 1 else None
        ratios = [b / a for a, b in zip(*taken, strict=True)] if len(taken) > 1 else []
        stats = jax.devices()[0].memory_stats() or {}
        lines.append(
            Measure(
                subject=subject,
                dtype=config.compute_dtype,
                ours_per_s=count / mine,
                torch_per_s=None if other is None else count / other,
                ratio=statistics.median(ratios) if ratios else None,
                bound=bound,
                share=needs / mine if bound else None,
                most=other / needs if bound and other is not None else None,
                peak_bytes=stats.get("peak_bytes_in_use"),
            )
        )

    known = Least(1.0, 0.0, "", "")  # of lines without a bound
    if peaks := chip():
        step = decode_bytes(config, shapes) / peaks[1]
        known = Least(peaks[0], step, "FLOP/s", "B/s")
    if "products" in parts:
        fastest = []
        of_products = 2.0 * costs.sizes(config).text + costs.head_flops(config, 1)
        for rows in (tokens, samples):
            calls = [functools.partial(side.products, rows) for side in sides]
            taken = turns(calls, repeats, clock, progress)
            add(
                f"products alone, {rows:,} rows",
                rows,
                taken,
                known.of_flops,
                rows * of_products / known.flops,
            )
            fastest.append(min(map(statistics.median, taken)))
        if not peaks:
            known = Least(tokens * of_products / fastest[0], fastest[1], "products", "products")
    for part, subject, times in (("forward", "forward", 1), ("backward", "forward + backward", 3)):
        if part in parts:
            calls = [side.forward if part == "forward" else side.gradient for side in sides]
            taken = turns(calls, repeats, clock, progress)
            add(subject, tokens, taken, known.of_flops, times * flops / known.flops)
    if "decode" not in parts:
        return lines
    lengths = (1, shapes.new_tokens)
    calls = [functools.partial(side.generate, length) for side in sides for length in lengths]
    taken = turns(calls, repeats, clock, progress)
    steps = shapes.new_tokens - 1
    # What a longer sampling takes more than one of a single token: decoding alone.
    alone = [
        [b - a for a, b in zip(*taken[at : at + 2], strict=True)] for at in range(0, len(taken), 2)
    ]
    add("decode", samples * steps, alone, known.of_step, steps * known.step)
    whole = taken[1::2]
    add("rollout, prompts included", samples * shapes.new_tokens, whole, "", 0.0)
    return lines


def table(lines: Sequence[Measure]) -> str:
    """A Markdown table of tokens a second. `at most`: ours / PyTorch if ours took no more time than
    the bound.
    """
    rows = [
        "| | type | ours, tokens/s | PyTorch, tokens/s | ours / PyTorch | goal | at most | "
        "of the bound | peak GB |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for one in lines:
        other = "" if one.torch_per_s is None else f"{one.torch_per_s:,.0f}"
        ratio = "" if one.ratio is None else f"{one.ratio:.2f}"
        goal = f"{GOALS[one.subject]:.1f}" if one.subject in GOALS and one.ratio else ""
        share = f"{one.share:.1%} {one.bound}" if one.share and one.bound else ""
        most = f"{one.most:.2f}" if one.most else ""
        peak = f"{one.peak_bytes / 1e9:.1f}" if one.peak_bytes else ""
        rows.append(
            f"| {one.subject} | {one.dtype} | {one.ours_per_s:,.0f} | {other} | {ratio} | {goal} "
            f"| {most} | {share} | {peak} |"
        )
    return "\n".join(rows)


def describe(config: ModelConfig, shapes: Shapes, *, baseline: bool) -> str:
    """The shapes, the device and what stands beside it, in one paragraph."""
    params = jax.tree.leaves(qwen.abstract_params(config))
    count = sum(math.prod(x.shape) for x in params) / 1e6
    height, width = shapes.image
    cores = len(os.sched_getaffinity(0))
    if baseline:
        beside = f"beside transformers on PyTorch with {cores} threads"
    elif jax.default_backend() == "cpu":
        beside = "ours alone: PyTorch is not installed"
    else:
        beside = "alone: PyTorch is compared with on CPU"
    return (
        f"{count:,.0f} M parameters; {shapes.prompts} prompts of {shapes.prompt_tokens} tokens, "
        f"each with an image of {width} x {height} pixels; {shapes.samples} samples of "
        f"{shapes.new_tokens} tokens of each. "
        f"{jax.devices()[0].device_kind}, {cores} cores; {beside}."
    )


def known_config(name: str) -> ModelConfig:
    """Raises: ValueError: unknown."""
    if name == MID:
        return mid_config()
    if name not in SIZES:
        raise ValueError(f"--model: expected one of {MID}, {', '.join(SIZES)}; got {name!r}.")
    return SIZES[name]
