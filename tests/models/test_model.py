"""Laws of the model that need no other implementation."""

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from geometry_jax.types import leaf
from spatialevo_jax import lora, mesh
from spatialevo_jax.config import LoraConfig
from spatialevo_jax.models.qwen2_5_vl import images, model, rope, weights
from spatialevo_jax.models.qwen2_5_vl.config import SIZES, TINY, Remat, sized
from spatialevo_jax.models.qwen2_5_vl.products import scores

PROMPTS, GROUP, PROMPT, SUFFIX = 2, 3, 9, 5
RNG = np.random.default_rng(0)
TOKENS = RNG.integers(0, TINY.text.vocab_size, (PROMPTS, PROMPT))
LENGTHS = (PROMPT, PROMPT - 3)  # the second prompt is padded on the right
SUFFIXES = RNG.integers(0, TINY.text.vocab_size, (PROMPTS, GROUP, SUFFIX))


embed = jax.jit(model.embed, static_argnums=0)
extend = jax.jit(model.extend, static_argnums=0)
encode_images = jax.jit(model.encode_images, static_argnums=0)


class Ids:
    image_pad = 9
    video_pad = 8


@pytest.fixture(scope="module")
def built() -> tuple[model.Policy, model.Params]:
    return model.build(TINY, seed=0)


def text_positions(first: np.ndarray, count: int) -> jax.Array:
    """(3, ..., count) positions from `first` on, the same on all axes."""
    return leaf(np.broadcast_to(first[..., None] + np.arange(count), (3, *first.shape, count)))


def prefill(policy: model.Policy, params: model.Params) -> model.KVCache:
    valid = np.arange(PROMPT) < np.array(LENGTHS)[:, None]
    x = embed(policy, params, leaf(TOKENS[:, None]))
    positions = text_positions(np.zeros((PROMPTS, 1), int), PROMPT)
    return model.as_prefix(extend(policy, params, x, positions, leaf(valid[:, None]))[1])


def plain_hidden(policy: model.Policy, params: model.Params) -> np.ndarray:
    """(P, G, T, D) hidden states of the suffixes from whole sequences, without any cache."""
    out = np.zeros((PROMPTS, GROUP, SUFFIX, TINY.text.hidden_size), np.float32)
    for p in range(PROMPTS):
        before = np.broadcast_to(TOKENS[p, : LENGTHS[p]], (GROUP, LENGTHS[p]))
        whole = np.concatenate([before, SUFFIXES[p]], axis=1)[:, None]
        x = embed(policy, params, leaf(whole))
        positions = text_positions(np.zeros((GROUP, 1), int), whole.shape[-1])
        hidden, _ = extend(policy, params, x, positions, jnp.ones(whole.shape, bool))
        out[p] = np.asarray(hidden)[:, 0, LENGTHS[p] :]
    return out


def suffix_starts() -> np.ndarray:
    return np.broadcast_to(np.array(LENGTHS)[:, None], (PROMPTS, GROUP))


def test_suffixes_that_share_a_prefix_equal_whole_sequences(
    built: tuple[model.Policy, model.Params],
) -> None:
    policy, params = built
    x = embed(policy, params, leaf(SUFFIXES))
    positions = text_positions(suffix_starts(), SUFFIX)
    valid = jnp.ones(SUFFIXES.shape, bool)
    hidden, _ = extend(policy, params, x, positions, valid, prefill(policy, params))
    np.testing.assert_allclose(hidden, plain_hidden(policy, params), atol=2e-5)


@pytest.mark.parametrize("room", [SUFFIX, SUFFIX + 4])
def test_cached_decoding_equals_whole_sequences(
    built: tuple[model.Policy, model.Params], room: int
) -> None:
    policy, params = built
    prefix = prefill(policy, params)
    cache = model.empty_cache(policy, (PROMPTS, GROUP, room))
    found = []
    for step in range(SUFFIX):
        x = embed(policy, params, leaf(SUFFIXES[..., step : step + 1]))
        positions = text_positions(suffix_starts() + step, 1)
        valid = jnp.ones((PROMPTS, GROUP, 1), bool)
        hidden, cache = extend(policy, params, x, positions, valid, prefix, cache, step)
        found.append(np.asarray(hidden)[:, :, 0])
    np.testing.assert_allclose(np.stack(found, 2), plain_hidden(policy, params), atol=2e-5)


def test_parameters_apart_are_apart_already(built: tuple[model.Policy, model.Params]) -> None:
    once = model.for_decoding(built[1])
    assert model.for_decoding(once) is once and len(once["text"]["blocks"]) == TINY.text.num_layers


@pytest.mark.parametrize("platform", ["cpu", "gpu"])
def test_only_processors_decode_by_transposed_kernels(
    built: tuple[model.Policy, model.Params], platform: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model.mesh, "platform", lambda: platform)
    blocks = built[1]["text"]["blocks"]
    found = model.for_decoding(built[1])["text"]["blocks"]
    for number, block in enumerate(found):
        for one, stacked in ((block["o"], blocks["o"]), (block["mlp"]["up"], blocks["mlp"]["up"])):
            kernel = stacked["kernel"][number]
            name, expected = ("weight", kernel.T) if platform == "cpu" else ("kernel", kernel)
            np.testing.assert_array_equal(one[name], expected)
            assert len({"weight", "kernel"} & one.keys()) == 1


@pytest.mark.parametrize(
    ("platform", "dtype", "expected"),
    [("cpu", "float32", True), ("cpu", "bfloat16", False), ("gpu", "float32", False)],
)
def test_a_loop_that_decodes_keeps_keys_as_its_products_read_them(
    platform: str, dtype: str, expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model.mesh, "platform", lambda: platform)
    text, policy = TINY.text, model.Policy(dataclasses.replace(TINY, compute_dtype=dtype))
    own = model.empty_cache(policy, (2, 3, 5))
    shape = (text.num_layers, 2, 5, text.num_kv_heads, text.head_dim)
    keys = jnp.arange(math.prod(shape), dtype=dtype).reshape(shape)
    prefix = model.unstacked(model.KVCache(keys, -keys, jnp.ones((2, 5), bool)))
    assert own.heads_first is prefix.heads_first is expected
    for number in range(text.num_layers):
        one, wanted = prefix.layer(number), keys[number]
        wanted = wanted.swapaxes(1, 2) if expected else wanted
        np.testing.assert_array_equal(one.keys, wanted)
        np.testing.assert_array_equal(one.values, -wanted)
        heads = own.keys[number].shape[1 if expected else -2]
        assert heads == text.num_kv_heads and own.keys[number].size == wanted.size * 3


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_logits_and_their_gradient_are_those_of_the_product(dtype: str) -> None:
    rng = np.random.default_rng(0)
    x, table, weights = (
        leaf(rng.normal(size=shape).astype(np.float32))
        for shape in ((3, 5, 8), (11, 8), (3, 5, 11))
    )

    def value(product: Any, dtype: str, x: jax.Array, table: jax.Array) -> tuple[Any, jax.Array]:
        out = product(x.astype(dtype), table.astype(dtype))
        return (out * weights).sum(), out

    def exact(x: jax.Array, table: jax.Array) -> jax.Array:
        return jnp.einsum("...d,vd->...v", x, table)

    gradient = jax.grad(value, argnums=(2, 3), has_aux=True)
    expected, logits = gradient(exact, "float32", x, table)
    found, own = gradient(scores, dtype, x, table)
    assert own.dtype == jnp.float32
    close = 1e-5 if dtype == "float32" else 0.02
    for a, b in zip((*found, own), (*expected, logits), strict=True):
        np.testing.assert_allclose(a, b, atol=close * float(jnp.abs(b).max()))


def test_a_tower_filled_up_for_gpus_is_the_same_function(monkeypatch: pytest.MonkeyPatch) -> None:
    config = dataclasses.replace(
        TINY, vision=dataclasses.replace(TINY.vision, intermediate_size=100)
    )
    policy, params = model.build(config, seed=0)
    adapter = lora.init(params, LoraConfig(rank=3, targets=("vision.*",)), jax.random.key(0))
    factors = jax.tree.map(
        lambda x: leaf(0.1 * RNG.normal(size=x.shape).astype(np.float32)), adapter.factors
    )
    adapted = lora.attach(params, lora.Adapter(factors, jnp.float32(0.1)))
    packed = images.pack_images(pictures((56, 84), (112, 56)), config.vision)

    def loss(tower: model.Params) -> tuple[jax.Array, jax.Array]:
        features = model.encode_images(policy, {**params, "vision": tower}, packed)
        return jnp.square(features).mean(), features

    found = []
    for platform in ("cpu", "gpu"):
        monkeypatch.setattr(mesh, "platform", lambda platform=platform: platform)
        towers = (params["vision"], adapted["vision"])
        found.append([jax.grad(loss, has_aux=True)(tower) for tower in towers])
    assert model.aligned(params["vision"])["blocks"]["mlp"]["down"]["kernel"].shape[1] == 128
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), *found)


def test_recomputing_layers_changes_no_gradient_and_keeps_less(
    built: tuple[model.Policy, model.Params],
) -> None:
    _, params = built

    def loss(params: model.Params, policy: model.Policy) -> jax.Array:
        x = embed(policy, params, leaf(TOKENS[:, None]))
        positions = text_positions(np.zeros((PROMPTS, 1), int), PROMPT)
        valid = jnp.ones((PROMPTS, 1, PROMPT), bool)
        hidden, _ = extend(policy, params, x, positions, valid)
        return jnp.square(model.logits(policy, params, hidden)).mean()

    gradients, kept = [], []
    ways: tuple[tuple[Remat, int], ...] = (("off", 1), ("dots", 1), ("full", 1), ("full", 3))
    for remat, unroll in ways:
        policy = model.Policy(dataclasses.replace(TINY, remat=remat, unroll=unroll))
        gradients.append(jax.jit(jax.grad(loss), static_argnums=1)(params, policy))
        kept.append(kept_numbers(lambda params, policy=policy: loss(params, policy), params))
    for other in gradients[1:]:
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), gradients[0], other)
    off, dots, full, unrolled = kept
    assert unrolled == full < dots < off


def kept_numbers(function: Callable[[model.Params], jax.Array], params: model.Params) -> int:
    """How many numbers the forward pass keeps for the backward pass."""
    backward = jax.eval_shape(lambda params: jax.vjp(function, params)[1], params)
    return sum(math.prod(x.shape) for x in jax.tree.leaves(backward))


def test_recomputing_layers_of_the_tower_changes_no_gradient_and_keeps_less(
    built: tuple[model.Policy, model.Params],
) -> None:
    _, params = built
    packed = images.pack_images(pictures((56, 84), (112, 56)), TINY.vision)
    gradients, kept = [], []
    ways: tuple[Remat, ...] = ("off", "dots", "full")
    for remat in ways:
        policy = model.Policy(dataclasses.replace(TINY, remat=remat, unroll=1))

        def loss(tower: model.Params, policy: model.Policy = policy) -> jax.Array:
            features = model.encode_images(policy, {**params, "vision": tower}, packed)
            return jnp.square(features).mean()

        gradients.append(jax.jit(jax.grad(loss))(params["vision"]))
        kept.append(kept_numbers(loss, params["vision"]))
    for other in gradients[1:]:
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), gradients[0], other)
    weights = sum(leaf.size for leaf in jax.tree.leaves(params["vision"]))  # kept by all
    off, dots, full = (numbers - weights for numbers in kept)
    assert dots == full < 0.5 * off


def test_computing_in_bfloat16_stays_near_float32(
    built: tuple[model.Policy, model.Params],
) -> None:
    policy, params = built
    half = model.Policy(dataclasses.replace(TINY, compute_dtype="bfloat16"))
    exact, rounded = prefill(policy, params), prefill(half, params)
    assert rounded.keys.dtype == jnp.bfloat16
    error = np.abs(np.asarray(rounded.values, np.float32) - np.asarray(exact.values)).max()
    assert error < 0.05 * np.abs(np.asarray(exact.values)).max()


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_head_of_its_own_scores_like_the_table_of_embeddings(
    built: tuple[model.Policy, model.Params], dtype: str
) -> None:
    """Both without rounding to the type that the layers compute in."""
    _, params = built
    tied = dataclasses.replace(TINY, compute_dtype=dtype)
    text = dataclasses.replace(TINY.text, tie_word_embeddings=False)
    table = params["text"]["embedding"]["embedding"]
    own = {**params, "text": {**params["text"], "head": {"kernel": table.T}}}
    hidden = jnp.asarray(RNG.normal(size=(3, TINY.text.hidden_size)), dtype)
    expected = model.logits(model.Policy(tied), params, hidden)
    found = model.logits(model.Policy(dataclasses.replace(tied, text=text)), own, hidden)
    assert found.dtype == jnp.float32
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6)
    assert not np.array_equal(found, found.astype(jnp.bfloat16))


def pictures(*shapes: tuple[int, int]) -> list[images.Patches]:
    return [
        images.preprocess(
            np.random.default_rng(h * w).integers(0, 256, (h, w, 3), dtype=np.uint8), TINY.vision
        )
        for h, w in shapes
    ]


def test_features_of_an_image_do_not_depend_on_its_neighbours(
    built: tuple[model.Policy, model.Params],
) -> None:
    policy, params = built
    first, second = pictures((140, 84), (196, 252))

    def features(*shown: images.Patches) -> np.ndarray:
        packed = images.pack_images(shown, TINY.vision)
        return np.asarray(encode_images(policy, params, packed))

    alone, count = features(first), len(first.values) // 4
    assert alone.shape == (count, TINY.vision.out_hidden_size)
    np.testing.assert_allclose(features(first, second)[:count], alone, atol=1e-5)
    np.testing.assert_allclose(features(second, first)[-count:], alone, atol=1e-5)


def test_packing_needs_an_image_and_patches_that_match_their_grid() -> None:
    with pytest.raises(ValueError, match="at least one image"):
        images.pack_images([], TINY.vision)
    (one,) = pictures((56, 56))
    with pytest.raises(ValueError, match="image 0: expected 16 patches"):
        images.pack_images([one._replace(values=one.values[:-1])], TINY.vision)


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ((112, 112), (112, 112)),
        ((100, 150), (112, 140)),
        ((20, 30), (56, 84)),  # grown to the least number of pixels
        ((1000, 500), (308, 140)),  # shrunk to the most
    ],
)
def test_images_are_resized_to_whole_merge_blocks(
    size: tuple[int, int], expected: tuple[int, int]
) -> None:
    got = images.smart_resize(*size, min_pixels=56 * 56, max_pixels=28 * 28 * 64)
    assert got == expected


def test_a_ribbon_is_refused() -> None:
    with pytest.raises(ValueError, match="aspect ratio below 200"):
        images.smart_resize(10, 2010, min_pixels=1, max_pixels=10**6)


def test_positions_of_an_image_between_words() -> None:
    tokens = np.array([1, 1, 9, 9, 9, 9, 9, 9, 1, 1])
    expected = [
        [0, 1, 2, 2, 2, 2, 2, 2, 5, 6],
        [0, 1, 2, 2, 2, 3, 3, 3, 5, 6],
        [0, 1, 2, 3, 4, 2, 3, 4, 5, 6],
    ]
    np.testing.assert_array_equal(rope.mrope_positions(tokens, [(1, 4, 6)], Ids()), expected)
    with pytest.raises(ValueError, match="expected 4 image tokens"):
        rope.mrope_positions(tokens, [(1, 4, 4)], Ids())


@pytest.mark.parametrize(
    ("size", "count"),
    [
        ("qwen2_5_vl_3b", 3_754_622_976),
        ("qwen2_5_vl_7b", 8_292_166_656),
        ("qwen2_5_vl_32b", 33_452_718_336),
        ("qwen2_5_vl_72b", 73_410_777_344),
    ],
)
def test_released_sizes_have_their_published_number_of_parameters(size: str, count: int) -> None:
    shapes = model.abstract_params(sized(size))
    assert sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(shapes)) == count


@pytest.mark.parametrize("size", SIZES)
def test_the_weight_table_names_every_parameter_once(size: str) -> None:
    paths = jax.tree_util.tree_leaves_with_path(model.abstract_params(sized(size)))
    ours = [jax.tree_util.keystr(path, simple=True, separator=".") for path, _ in paths]
    entries = weights.table(sized(size))
    assert sorted(entry.ours for entry in entries) == sorted(ours)
    assert len({entry.released for entry in entries}) == len(entries)


def test_random_parameters_have_the_shapes_that_are_announced(
    built: tuple[model.Policy, model.Params],
) -> None:
    announced = model.abstract_params(TINY)
    jax.tree.map(
        lambda a, b: np.testing.assert_equal((a.shape, a.dtype), (b.shape, b.dtype)),
        *(
            announced,
            built[1],
        ),
    )


def test_a_missing_tensor_is_named(built: tuple[model.Policy, model.Params]) -> None:
    tensors = weights.to_released(built[1], TINY)
    del tensors["model.layers.2.self_attn.q_proj.bias"]
    with pytest.raises(ValueError, match=r"model\.layers\.2\.self_attn\.q_proj\.bias"):
        weights.from_released(tensors, TINY)


def test_sizes_that_cannot_be_are_refused() -> None:
    with pytest.raises(ValueError, match="expected one of tiny"):
        sized("huge")
    with pytest.raises(ValueError, match="mrope_section"):
        dataclasses.replace(TINY.text, mrope_section=(2, 2, 3))
    with pytest.raises(ValueError, match="num_heads"):
        dataclasses.replace(TINY.text, num_kv_heads=3)


def test_from_scratch_a_head_looks_for_what_is_like_itself_and_copies_it(
    built: tuple[model.Policy, model.Params],
) -> None:
    width, d = TINY.text.hidden_size, TINY.text.head_dim
    repeats = TINY.text.num_heads // TINY.text.num_kv_heads
    vectors = RNG.normal(size=(40, width)).astype(np.float32)
    blocks = built[1]["text"]["blocks"]
    for layer in range(TINY.text.num_layers):
        q, k, v, o = (np.asarray(blocks[name]["kernel"][layer]) for name in "qkvo")
        for kv in range(TINY.text.num_kv_heads):
            own = slice(kv * d, (kv + 1) * d)
            first = slice(kv * repeats * d, (kv * repeats + 1) * d)
            scores = (vectors @ q[:, first]) @ (vectors @ k[:, own]).T
            assert (scores.argmax(-1) == np.arange(40)).mean() > 0.9
            copied = vectors @ v[:, own] @ o[first]
            assert np.einsum("nw,nw->n", copied, vectors).min() > 0
