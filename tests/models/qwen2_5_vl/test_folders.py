"""Released folder -> ours -> released: the same files, the same logits; each fault one error."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
import pytest
from safetensors.numpy import load_file, save_file

from spatialevo_jax.models.qwen2_5_vl import folders, weights
from spatialevo_jax.models.qwen2_5_vl.config import ModelConfig

from .checkpoints import Pair
from .released import TIED, UNTIED, contents, random_tensors, write_folder

EMBEDDING, HEAD = weights.EMBEDDING, weights.HEAD
Q0 = "model.layers.0.self_attn.q_proj.weight"


def there_and_back(source: Path, place: Path) -> Path:
    folders.save_orbax(folders.open_hf(source), place / "orbax")
    folders.save_hf(folders.open_orbax(place / "orbax"), place / "hf")
    return place / "hf"


@pytest.fixture(scope="module")
def released(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tied checkpoint in three files, norms in float32."""
    place = tmp_path_factory.mktemp("released") / "hf"
    return write_folder(place, TIED, random_tensors(TIED, norm=np.float32), files=3)


@pytest.fixture(scope="module")
def ours(released: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("ours") / "orbax"
    folders.save_orbax(folders.open_hf(released), place)
    return place


@pytest.fixture
def copied(released: Path, tmp_path: Path) -> Path:
    """A copy to spoil."""
    return copy(released, tmp_path / "copied")


def copy(source: Path, target: Path) -> Path:
    for name, content in contents(source).items():
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        (target / name).write_bytes(content)
    return target


@pytest.mark.parametrize(
    ("config", "files", "dtypes"),
    [
        (TIED, 3, {"norm": np.float32}),
        (UNTIED, 1, {}),
        (UNTIED, 2, {"": np.float32}),
        (TIED, 1, {"": np.float16}),
    ],
    ids=["bfloat16, norms float32", "bfloat16, one file", "float32", "float16"],
)
def test_there_and_back_gives_the_same_files_to_the_byte(
    tmp_path: Path, config: ModelConfig, files: int, dtypes: dict[str, Any]
) -> None:
    tensors = random_tensors(config, **dtypes)
    source = write_folder(tmp_path / "source", config, tensors, files=files)
    assert contents(there_and_back(source, tmp_path)) == contents(source)


def test_back_and_there_gives_the_same_parameters(ours: Path, tmp_path: Path) -> None:
    folders.save_hf(folders.open_orbax(ours), tmp_path / "hf")
    folders.save_orbax(folders.open_hf(tmp_path / "hf"), tmp_path / "orbax")
    first, second = (
        ocp.PyTreeCheckpointer().restore(p / "params") for p in (ours, tmp_path / "orbax")
    )
    jax.tree.map(lambda a, b: np.testing.assert_array_equal(a, b, strict=True), first, second)
    first, second = contents(ours), contents(tmp_path / "orbax")
    kept = {name for name in first if not name.startswith("params/")}
    assert kept == {name for name in second if not name.startswith("params/")}
    assert all(first[name] == second[name] for name in kept)


def test_transformers_loads_the_folder_and_gives_the_same_logits(
    pair: Pair, tmp_path: Path
) -> None:
    torch = pytest.importorskip("torch", reason="the comparison needs PyTorch")
    from transformers import Qwen2_5_VLForConditionalGeneration

    pair.theirs.save_pretrained(tmp_path / "source", max_shard_size="400KB")
    back = there_and_back(tmp_path / "source", tmp_path)
    assert contents(back) == contents(tmp_path / "source")
    assert len(list(back.glob("model-*.safetensors"))) > 3
    result: Any = Qwen2_5_VLForConditionalGeneration.from_pretrained(back, output_loading_info=True)
    loaded, report = result
    assert not any(report.values()), report
    tokens = torch.arange(20)[None]
    with torch.no_grad():
        expected, got = (m(input_ids=tokens).logits for m in (pair.theirs, loaded.eval()))
    assert torch.equal(got, expected)


def test_a_folder_loads_as_parameters(released: Path, ours: Path) -> None:
    opened = [folders.open_either(path) for path in (released, ours)]
    assert opened[0].config == opened[1].config
    assert (opened[0].config.vision, opened[0].config.text) == (TIED.vision, TIED.text)
    from_hf, from_ours = (folders.load(folder, np.float32) for folder in opened)
    jax.tree.map(lambda a, b: np.testing.assert_array_equal(a, b, strict=True), from_hf, from_ours)
    assert {leaf.dtype for leaf in jax.tree.leaves(from_hf)} == {np.dtype(np.float32)}


def test_a_run_takes_all_but_the_parameters_along(
    released: Path, ours: Path, tmp_path: Path
) -> None:
    expected = {n: x for n, x in contents(ours).items() if not n.startswith("params/")}
    for path in (released, ours):
        workdir = tmp_path / path.name
        workdir.mkdir()
        place = folders.begin_run(folders.open_either(path), workdir)
        assert (place / "tokenizer.json").is_file()
        assert contents(workdir) == expected
        (place / "tokenizer.json").write_text("mine")
        folders.begin_run(folders.open_either(path), workdir)
        assert (place / "tokenizer.json").read_text() == "mine"


def test_a_run_does_not_go_on_with_a_model_of_other_sizes(released: Path, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    folders.begin_run(folders.open_hf(released), tmp_path / "run")
    moved = copy(released, tmp_path / "moved")
    folders.begin_run(folders.open_hf(moved), tmp_path / "run")
    other = write_folder(tmp_path / "other", UNTIED, random_tensors(UNTIED))
    with pytest.raises(ValueError, match=f"{other}: expected the model that the run in .*/run"):
        folders.begin_run(folders.open_hf(other), tmp_path / "run")


def test_parameters_of_a_run_are_rounded_to_the_types_they_came_with(
    ours: Path, tmp_path: Path
) -> None:
    def learnt(x: np.ndarray) -> np.ndarray:
        return x.astype(np.float32) * np.float32(1.01)

    before = folders.load(folders.open_orbax(ours), np.float32)
    after = jax.tree.map(learnt, before)
    ocp.PyTreeCheckpointer().save(tmp_path / "state", {"params": after, "step": np.int32(3)})
    opened = folders.open_orbax(ours, tmp_path / "state", "params")
    jax.tree.map(np.testing.assert_array_equal, folders.load(opened, np.float32), after)
    folders.save_hf(opened, tmp_path / "hf")
    got, kept = folders.open_hf(tmp_path / "hf"), folders.open_hf(tmp_path / "hf").tensors
    assert got.layout.dtypes == opened.layout.dtypes
    for name, tensor in weights.to_released(after, TIED).items():
        rounded = tensor.astype(kept[name].dtype)  # to nearest
        np.testing.assert_array_equal(kept[name][:], rounded, strict=True)


def test_an_index_of_one_file_is_kept(tmp_path: Path) -> None:
    tensors = random_tensors(TIED)
    source = write_folder(tmp_path / "source", TIED, tensors)
    total = sum(tensor.nbytes for tensor in tensors.values())
    places = dict.fromkeys(tensors, folders.SINGLE)
    index = {"metadata": {"total_size": total}, "weight_map": places}
    (source / folders.INDEX).write_text(json.dumps(index, indent=2, sort_keys=True) + "\n")
    assert contents(there_and_back(source, tmp_path)) == contents(source)


def test_a_tied_head_that_was_stored_is_stored_again(tmp_path: Path) -> None:
    tensors = random_tensors(TIED)
    tensors[HEAD] = tensors[EMBEDDING]
    source = write_folder(tmp_path / "source", TIED, tensors)
    assert contents(there_and_back(source, tmp_path)) == contents(source)


def test_native_names_are_read_and_kept(tmp_path: Path) -> None:
    tensors = {
        name.replace("visual.", "model.visual.").replace(
            "model.layers", "model.language_model.layers"
        ): x
        for name, x in random_tensors(UNTIED).items()
    }
    source = write_folder(tmp_path / "source", UNTIED, tensors)
    assert contents(there_and_back(source, tmp_path)) == contents(source)
    assert folders.open_hf(source).tensors.keys() == weights.released_shapes(UNTIED).keys()


def test_files_that_are_too_large_are_split(
    released: Path, ours: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    limit = 40_000
    monkeypatch.setattr(folders, "LARGEST_FILE", limit + folders.HEADER_ROOM)
    folders.save_hf(folders.open_orbax(ours), tmp_path / "hf")
    files = sorted((tmp_path / "hf").glob("*.safetensors"))
    assert len(files) > 3
    names = [f"model-{i:05d}-of-{len(files):05d}.safetensors" for i in range(1, len(files) + 1)]
    assert [path.name for path in files] == names
    index = json.loads((tmp_path / "hf" / folders.INDEX).read_text())
    tensors = {name: x for path in files for name, x in load_file(path).items()}
    assert index["metadata"]["total_size"] == sum(x.nbytes for x in tensors.values())
    for path in files:
        held = load_file(path)
        assert sum(x.nbytes for x in held.values()) <= limit or len(held) == 1
        assert all(index["weight_map"][name] == path.name for name in held)
    expected = folders.open_hf(released).tensors
    assert tensors.keys() == expected.keys()
    assert all(tensors[name].tobytes() == expected[name][:].tobytes() for name in tensors)


def test_other_weights_and_folders_are_left_out_and_said(copied: Path, tmp_path: Path) -> None:
    (copied / "adapter.safetensors").write_bytes(b"")
    (copied / "pytorch_model.bin").write_bytes(b"")
    (copied / ".cache").mkdir()
    folder = folders.open_hf(copied)
    assert folder.left_out == (".cache", "adapter.safetensors", "pytorch_model.bin")
    folders.save_orbax(folder, tmp_path / "orbax")
    kept = {path.name for path in (tmp_path / "orbax" / "hf").iterdir()}
    assert kept == set(folder.companions) and kept.isdisjoint(folder.left_out)


# --- faults of a released folder -----------------------------------------------------------

FIRST, LAST = (f"model-0000{number}-of-00003.safetensors" for number in (1, 3))


def remove(name: str) -> Callable[[Path], object]:
    return lambda folder: (folder / name).unlink()


def edit(name: str, change: Callable[[dict[str, Any]], object]) -> Callable[[Path], object]:
    def spoil(folder: Path) -> None:
        fields = json.loads((folder / name).read_text())
        change(fields)
        (folder / name).write_text(json.dumps(fields))

    return spoil


def place(name: str, file: Any) -> Callable[[Path], object]:
    return edit(folders.INDEX, lambda index: index["weight_map"].update({name: file}))


def forget(name: str) -> Callable[[Path], object]:
    return edit(folders.INDEX, lambda index: index["weight_map"].pop(name))


def write(name: str, content: bytes) -> Callable[[Path], object]:
    return lambda folder: (folder / name).write_bytes(content)


def cut(name: str, size: int) -> Callable[[Path], object]:
    return lambda folder: (folder / name).write_bytes((folder / name).read_bytes()[:size])


def take_out(folder: Path) -> None:
    """A tensor that neither its file nor the index has."""
    file = json.loads((folder / folders.INDEX).read_text())["weight_map"][Q0]
    tensors = load_file(folder / file)
    del tensors[Q0]
    save_file(tensors, folder / file)
    forget(Q0)(folder)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (remove("config.json"), r"config\.json"),
        (write("config.json", b"{"), r"config\.json: expected JSON, it does not parse"),
        (edit("config.json", lambda c: c.update(architectures=["Llama"])), "got .*Llama"),
        (edit("config.json", lambda c: c.update(quantization_config={})), "not quantised, got {}"),
        (remove(folders.INDEX), "expected model.safetensors or .*index.json, found neither"),
        (write(folders.SINGLE, b""), "expected model.safetensors or .*index.json .*, found both"),
        (write(folders.INDEX, b"[]"), "expected a JSON object, got list"),
        (edit(folders.INDEX, lambda i: i.pop("weight_map")), "expected the objects weight_map"),
        (place(EMBEDDING, f"../{FIRST}"), f"{EMBEDDING}: expected a safetensors file, got '../"),
        (place(EMBEDDING, None), f"{EMBEDDING}: expected a safetensors file, got None"),
        (place("model.extra", FIRST), f"{FIRST}: model.extra: expected this tensor here"),
        (place(EMBEDDING, LAST), f"{EMBEDDING}: (expected this tensor here|.*does not place)"),
        (forget(Q0), f"{Q0}: .*does not place it here"),
        (take_out, f"{Q0}: expected this tensor in the checkpoint, found none"),
        (remove(FIRST), f"{FIRST}: no such file; .* should be in it"),
        (cut(FIRST, 0), f"{FIRST}: expected a safetensors file; its header is cut off"),
        (cut(FIRST, 500), f"{FIRST}: expected a safetensors file; its header is cut off"),
        (cut(FIRST, -1), rf"{FIRST}: \S+\.\S+: truncated"),
    ],
)
def test_a_fault_of_a_released_folder_is_named(
    copied: Path, spoil: Callable[[Path], object], message: str
) -> None:
    spoil(copied)
    with pytest.raises((ValueError, OSError), match=message):
        folders.open_hf(copied)


def test_a_tensor_under_both_its_names_is_an_error(tmp_path: Path) -> None:
    tensors = random_tensors(UNTIED)
    tensors["model.language_model.norm.weight"] = tensors["model.norm.weight"]
    source = write_folder(tmp_path / "source", UNTIED, tensors)
    with pytest.raises(ValueError, match=r"norm\.weight: this tensor is there twice"):
        folders.open_hf(source)


# --- faults of a folder of ours ------------------------------------------------------------


def spoilt_params(change: Callable[[dict[str, Any]], object]) -> Callable[[Path], object]:
    def spoil(folder: Path) -> None:
        checkpointer = ocp.PyTreeCheckpointer()
        params = checkpointer.restore(folder / "params")
        change(params)
        checkpointer.save(folder / "params", params, force=True)

    return spoil


def halve_data(folder: Path) -> None:
    for path in (folder / "params").glob("ocdbt.process_*/d/*"):
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def drop_norm(params: dict[str, Any]) -> None:
    del params["text"]["norm"]


def add_head(params: dict[str, Any]) -> None:
    params["text"]["head"] = {"kernel": np.zeros((40, 320), np.float32)}


def cut_norm(params: dict[str, Any]) -> None:
    params["text"]["norm"]["norm"]["scale"] = np.zeros(39, np.float32)


def count_norm(params: dict[str, Any]) -> None:
    params["text"]["norm"]["norm"]["scale"] = np.zeros(40, np.int32)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (remove("hf/config.json"), r"hf/config\.json"),
        (remove("layout.json"), r"layout\.json"),
        (write("layout.json", b"{}"), r"layout\.json: expected the objects files"),
        (edit("layout.json", lambda x: x["files"].update({"../x.safetensors": []})), "got '../x"),
        (
            edit("layout.json", lambda x: x["files"].pop(FIRST)),
            ": expected this tensor, found none",
        ),
        (edit("layout.json", lambda x: x["files"].update(a=["b"])), "expected lists of tensors"),
        (
            edit("layout.json", lambda x: x["dtypes"].popitem()),
            r"\S+: expected the type float32, bf",
        ),
        (
            edit("layout.json", lambda x: x["files"][FIRST].append(EMBEDDING)),
            f"{EMBEDDING}: unknown tensor, or there twice",
        ),
        (remove("params/manifest.ocdbt"), "params: expected a complete orbax checkpoint"),
        (remove("params/_METADATA"), "params: expected a complete orbax checkpoint"),
        (halve_data, r"(vision|text)\.\S+: "),
        (spoilt_params(drop_norm), r"text\.norm\.norm\.scale: expected this parameter, found none"),
        (spoilt_params(add_head), r"text\.head\.kernel: the model has no such parameter"),
        (spoilt_params(cut_norm), r"text\.norm\.norm\.scale: expected the shape \(40,\), got"),
        (
            spoilt_params(count_norm),
            r"text\.norm\.norm\.scale: expected the type float32, got int32",
        ),
    ],
)
def test_a_fault_of_our_folder_is_named_and_leaves_nothing(
    ours: Path, tmp_path: Path, spoil: Callable[[Path], object], message: str
) -> None:
    copied = copy(ours, tmp_path / "copied")
    spoil(copied)
    with pytest.raises((ValueError, OSError), match=message):
        folders.save_hf(folders.open_orbax(copied), tmp_path / "out" / "hf")
    assert not (tmp_path / "out").is_dir() or not list((tmp_path / "out").iterdir())


@pytest.mark.parametrize("form", ["nothing", "file", "other"])
def test_what_is_no_model_folder_is_an_error(tmp_path: Path, form: str) -> None:
    path = tmp_path / "model"
    if form == "file":
        path.write_text("")
    elif form == "other":
        path.mkdir()
    for read in (folders.open_hf, folders.open_orbax, folders.open_either):
        with pytest.raises(OSError, match=str(path)):
            read(path)


def test_an_adapter_without_its_model_is_named(tmp_path: Path) -> None:
    (tmp_path / "adapter_config.json").write_text('{"peft_type": "LORA"}')
    (tmp_path / "adapter_model.safetensors").write_bytes(b"")
    for read in (folders.open_hf, folders.open_orbax, folders.open_either):
        with pytest.raises(ValueError, match="expected a whole model, found an adapter"):
            read(tmp_path)


# --- writing -------------------------------------------------------------------------------


def test_a_target_that_exists_is_left_alone(released: Path, tmp_path: Path) -> None:
    (tmp_path / "taken").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    for name in ("taken", "link"):
        with pytest.raises(ValueError, match=f"{name}: expected a new folder, this one exists"):
            folders.save_orbax(folders.open_hf(released), tmp_path / name)
    assert not list((tmp_path / "taken").iterdir())


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
@pytest.mark.parametrize("after", [0, 5])
def test_writing_that_fails_half_way_leaves_nothing(
    released: Path, ours: Path, tmp_path: Path, error: BaseException, after: int
) -> None:
    def failing(items: Any) -> Any:
        for number, item in enumerate(items):
            if number == after:
                raise error
            yield item

    with pytest.raises(type(error)):
        folders.save_hf(folders.open_orbax(ours), tmp_path / "out", failing)
    with pytest.raises(type(error)):
        folders.save_orbax(folders.open_hf(released), tmp_path / "out", failing)
    assert not list(tmp_path.iterdir())


def test_what_a_killed_process_left_is_removed_and_what_another_fills_is_not(
    ours: Path, tmp_path: Path
) -> None:
    left = tmp_path / ".out.abc.part"
    (left / "out").mkdir(parents=True)
    (tmp_path / ".other.abc.part").mkdir()
    with folders.whole_folder(tmp_path / "out") as filled:
        assert not left.exists() and filled.parent.parent == tmp_path
        (filled / "mine").touch()
        folders.save_hf(folders.open_orbax(ours), tmp_path / "out")
        assert (filled / "mine").exists()
        (tmp_path / "out").rename(tmp_path / "first")
    assert {path.name for path in tmp_path.iterdir()} == {".other.abc.part", "first", "out"}


@pytest.mark.parametrize("read", ["convert", "load"])
def test_other_bytes_than_were_written_are_noticed(ours: Path, tmp_path: Path, read: str) -> None:
    """Also where orbax reads them as numbers."""
    place = copy(ours, tmp_path / "ours")
    data = max((place / "params").rglob("d/*"), key=lambda path: path.stat().st_size)
    spoilt = bytearray(data.read_bytes())
    spoilt[len(spoilt) // 2] ^= 1
    data.write_bytes(spoilt)
    with pytest.raises(ValueError, match=f"{data.name} has other bytes than were written"):
        if read == "load":
            folders.load(folders.open_orbax(place), np.float32)
        else:
            folders.save_hf(folders.open_orbax(place), tmp_path / "out")
    assert {path.name for path in tmp_path.iterdir()} == {"ours"}


def test_a_list_in_place_of_a_tree_is_no_checkpoint(ours: Path, tmp_path: Path) -> None:
    place = copy(ours, tmp_path / "ours")
    (place / "params" / "_METADATA").write_text("[]")
    with pytest.raises(ValueError, match="params"):
        folders.open_orbax(place)
