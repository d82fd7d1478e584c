"""Depth models through the real loading path: preparation, resizing back, batches, weights that do not fit."""

import json
import shutil

import numpy as np
import pytest
import torch
from fixtures.depth import depth_anything, episode_of, midas, pictures, save, view_of, zoedepth
from PIL import Image
from transformers import pipeline as library_pipeline
from transformers.modeling_outputs import DepthEstimatorOutput

from pipeline.depth._hub_models import DepthModel
from pipeline.depth._preprocess import Preparation
from pipeline.errors import BuildError
from pipeline.licences import licences_of, restrictions
from pipeline.recipe import Recipe
from pipeline.vision.auto_batch import ShrinkingBatches
from schemas.episode import BadEpisode
from schemas.plugins import MissingDependency, PluginChoice, configure, load_plugin

torch.set_num_threads(1)
MAKERS = {"depth-anything-v2": depth_anything, "midas": midas, "zoedepth": zoedepth}


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Folders of saved weights by plug-in, and ``metric``, the metric kind of Depth Anything."""
    root = tmp_path_factory.mktemp("weights")
    found = {name: save(root / name, *make()) for name, make in MAKERS.items()}
    return {**found, "metric": save(root / "metric", *depth_anything(metric=True))}


def plugin(folders, name, **options):
    module = load_plugin("pipeline.depth", name)
    weights = folders[options.pop("of", name)]
    return module, configure("pipeline.depth", name, {"weights": str(weights), "device": "cpu", **options})


def model_of(folders, name, **options) -> DepthModel:
    module, config = plugin(folders, name, **options)
    return module.build(config).model


@pytest.mark.parametrize("name", MAKERS)
@pytest.mark.parametrize(("height", "width"), [(48, 64), (90, 60), (256, 256)])
def test_pictures_are_prepared_as_the_librarys_processors_do(name, height, width):
    """Up to two levels of 255, by which Pillow's rounding between rows and columns differs."""
    _, processor = MAKERS[name]()
    frames = pictures(2, height, width)
    theirs = processor(images=[Image.fromarray(f) for f in frames], return_tensors="pt")["pixel_values"]
    ours = Preparation.of_processor(processor, name == "zoedepth").prepare(torch.from_numpy(frames))
    assert ours.shape == theirs.shape
    level = 1 / 255 / min(processor.image_std)
    assert (ours - theirs).abs().max() < 2.1 * level
    assert (ours - theirs).abs().mean() < 0.3 * level


@pytest.mark.parametrize("name", ["depth-anything-v2", "midas"])
def test_estimates_equal_the_librarys_pipeline(name, folders):
    """The library's own way from picture to depth; it resizes back with cubic splines, so the two differ by how they
    bend.
    """
    frames = pictures(3, 60, 80, seed=3)
    model, processor = MAKERS[name]()
    theirs = library_pipeline("depth-estimation", model=model, image_processor=processor, device="cpu")
    expected = np.stack([np.array(theirs(Image.fromarray(f))["predicted_depth"]) for f in frames])
    found = model_of(folders, name).inverse_depth(frames)
    assert found.shape == expected.shape == (3, 60, 80)
    assert expected.std() > 0.01
    assert np.abs(found - expected).mean() < 0.02 * expected.std()


def test_zoedepth_is_read_where_its_padding_was_added(folders):
    """Against the library's processor and model, their answer laid over the padded picture corner to corner; edges are
    not mixed.
    """
    frames = pictures(2, 50, 70, seed=4)
    model, processor = zoedepth()
    inputs = processor(images=[Image.fromarray(f) for f in frames], return_tensors="pt")["pixel_values"]
    with torch.no_grad():
        predicted = model(pixel_values=inputs).predicted_depth
    rows, columns = int((50 / 2) ** 0.5 * 3), int((70 / 2) ** 0.5 * 3)
    size = (50 + 2 * rows, 70 + 2 * columns)
    whole = torch.nn.functional.interpolate(1 / predicted[:, None], size, mode="bilinear", align_corners=True)[:, 0]
    expected = whole[:, rows:-rows, columns:-columns].numpy()
    found = model_of(folders, "zoedepth").inverse_depth(frames)
    off = np.abs(found - expected)
    assert np.quantile(off, 0.9) < 1e-6 * expected.max() and off.max() < 0.2 * expected.std()


@pytest.mark.parametrize("corners", [False, True])
@pytest.mark.parametrize(("height", "width"), [(40, 52), (200, 260)])
def test_a_plane_comes_back_exactly_whatever_the_sizes(corners, height, width):
    """Inverse depth of a plane is linear in the pixel: what is predicted at the model's pixels is so at the frame's."""
    preparation = Preparation((56, 56), True, 14, "bicubic", (0.5,) * 3, (0.5,) * 3, corners)
    padded = [n + 2 * preparation.padding(n) for n in (height, width)]
    rows, columns = preparation.size_for(*padded)
    places = []
    for n, padding, found in ((height, padded[0], rows), (width, padded[1], columns)):
        index = np.arange(found)
        centre = index * (padding - 1) / (found - 1) + 0.5 if corners else (index + 0.5) * padding / found
        places.append(centre - preparation.padding(n))
    plane = 1 + 0.01 * places[0][:, None] + 0.02 * places[1]
    expected = 1 + 0.01 * (np.arange(height)[:, None] + 0.5) + 0.02 * (np.arange(width) + 0.5)
    found = preparation.restore(torch.from_numpy(plane).float()[None], height, width)[0].numpy()
    inner = (
        (slice(1, -1), slice(1, -1))
        if corners
        else (slice(height // 40, -(height // 40)), slice(width // 40, -(width // 40)))
    )
    np.testing.assert_allclose(found[inner], expected[inner], rtol=1e-5)


def test_the_two_sides_of_an_edge_are_not_mixed():
    preparation = Preparation((56, 56), False, 1, "bicubic", (0.5,) * 3, (0.5,) * 3, False)
    step = torch.full((1, 56, 56), 1.0)
    step[:, :, 30:] = 3.0
    found = preparation.restore(step, 37, 41)
    assert set(found.unique().tolist()) == {1.0, 3.0}
    column = 41 * 30 / 56  # where the step lies
    np.testing.assert_array_equal(found[0, 5].numpy() > 2, np.arange(41) + 0.5 > column)


def test_a_smooth_answer_is_read_where_the_librarys_post_processing_reads_it():
    """Both near the truth; the library's cubic splines overshoot a little."""
    _, processor = midas()

    def smooth(height, width):
        v, u = (np.mgrid[0:height, 0:width] + 0.5) / np.array([height, width])[:, None, None]
        return torch.from_numpy(2 + np.sin(2 * v + 3 * u)).float()[None]

    theirs = processor.post_process_depth_estimation(DepthEstimatorOutput(predicted_depth=smooth(64, 64)), [(45, 91)])
    ours = Preparation.of_processor(processor, False).restore(smooth(64, 64), 45, 91)
    inner, truth = (0, slice(2, -2), slice(2, -2)), smooth(45, 91)
    assert (theirs[0]["predicted_depth"][None] - truth)[inner].abs().max() < 5e-3
    assert (ours - truth)[inner].abs().max() < 1e-3


@pytest.mark.parametrize("batch_size", [1, 2, 3, 64])
def test_every_frame_is_seen_once_and_batches_change_nothing(batch_size, folders):
    frames = pictures(5, 40, 40)
    model = model_of(folders, "midas", batch_size=batch_size)
    seen = []
    model.model.register_forward_pre_hook(
        lambda module, args, kwargs: seen.append(len(kwargs["pixel_values"])), with_kwargs=True
    )
    found = model.inverse_depth(frames)
    assert sum(seen) == 5 and max(seen) <= batch_size
    alone = model_of(folders, "midas", batch_size=1).inverse_depth(frames)
    # A CPU's kernels for other batch sizes round otherwise: to a ten-thousandth of the answers' range.
    np.testing.assert_allclose(found, alone, rtol=0, atol=1e-4 * alone.max())


@pytest.mark.parametrize("name", MAKERS)
def test_a_lower_resolution_sees_fewer_pixels_and_answers_for_all(name, folders):
    model, frames = model_of(folders, name, resolution=96), pictures(2, 80, 80)
    seen = []
    model.model.register_forward_pre_hook(
        lambda module, args, kwargs: seen.append(kwargs["pixel_values"].shape[2]), with_kwargs=True
    )
    assert model.inverse_depth(frames).shape == (2, 80, 80)
    assert abs(seen[0] - 96) <= 16
    with pytest.raises(ValueError, match="resolution must be 64 or more"):
        plugin(folders, name, resolution=20)


def test_weights_with_terms_are_said():
    for size, restricted in (("small", False), ("base", True)):
        recipe = Recipe(PluginChoice("bridge"), depth=PluginChoice("depth-anything-v2", {"size": size}))
        assert any("non-commercial" in said for said in restrictions(licences_of(recipe))) == restricted


def test_metric_models_give_metres_and_say_so(folders):
    frames = pictures(3, 40, 48)
    for name, options in (("zoedepth", {}), ("depth-anything-v2", {"of": "metric", "kind": "metric-indoor"})):
        module, config = plugin(folders, name, **options)
        estimator = module.build(config)
        with torch.no_grad():
            seen = estimator.model.preparation.prepare(torch.from_numpy(frames))
            predicted = estimator.model.model(pixel_values=seen).predicted_depth
        view = view_of(frames)
        depth = estimator.estimate(episode_of(view), view)
        assert depth.unit == "m" and depth.alignment is None and "not aligned" in depth.source
        assert np.nanmedian(depth.depth) == pytest.approx(float(predicted.median()), rel=0.2)


def test_half_precision_is_said(folders):
    model = model_of(folders, "midas", precision="bfloat16")
    assert "bfloat16" in model.name
    frames = pictures(2, 40, 48)
    whole = model_of(folders, "midas").inverse_depth(frames)
    assert 0 < np.abs(model.inverse_depth(frames) - whole).max() < 0.2 * whole.max()


# Memory


class Scarce:
    """A model that raises what torch raises on a GPU when asked for more than so many frames."""

    def __init__(self, room: int):
        self.room, self.tried = room, []

    def __call__(self, frames):
        self.tried.append(len(frames))
        if len(frames) > self.room:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return frames * 2


def test_batches_halve_until_they_fit_and_stay_small():
    scarce, batches = Scarce(room=3), ShrinkingBatches(16, "take less")
    frames = np.arange(20)
    found = np.concatenate([part for _, part in batches.run(scarce, frames)])
    np.testing.assert_array_equal(found, frames * 2)
    assert scarce.tried[:4] == [16, 8, 4, 2] and set(scarce.tried[4:]) == {2}
    scarce.tried.clear()
    list(batches.run(scarce, frames[:4]))
    assert scarce.tried == [2, 2]


def test_a_single_frame_that_does_not_fit_ends_the_build_with_a_sentence(folders, monkeypatch):
    with pytest.raises(BuildError, match=r"a single item does not fit .*Tried to allocate.*: take less"):
        list(ShrinkingBatches(4, "take less").run(Scarce(room=0), np.arange(3)))
    model = model_of(folders, "midas", batch_size=4)
    model.model.forward = Scarce(room=0).__call__
    monkeypatch.setattr(model, "_predict", lambda frames: model.model.forward(frames))
    with pytest.raises(BuildError, match=r"MiDaS: use a smaller size, precision=float16 or device=cpu"):
        model.inverse_depth(pictures(3, 40, 40))


# Weights that cannot be had or do not fit


def test_weights_that_are_not_here_are_named_before_any_work(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    module = load_plugin("pipeline.depth", "depth-anything-v2")
    with pytest.raises(MissingDependency, match=r"Depth-Anything-V2-Base-hf .* cannot be downloaded .*weights=FOLDER"):
        module.check(configure("pipeline.depth", "depth-anything-v2", {"size": "base"}))
    with pytest.raises(MissingDependency, match=r"there is no such folder"):
        module.check(module.Config(weights=str(tmp_path / "nowhere")))
    with pytest.raises(MissingDependency, match=r"config.json cannot be read"):
        module.check(module.Config(weights=str(tmp_path)))


@pytest.mark.parametrize(
    ("name", "of", "options", "says"),
    [
        ("midas", "zoedepth", {}, "expected DPTForDepthEstimation, found ZoeDepthForDepthEstimation"),
        ("zoedepth", "depth-anything-v2", {}, "those of another model: expected ZoeDepthForDepthEstimation"),
        (
            "depth-anything-v2",
            "metric",
            {},
            "give metric depth, relative depth was asked for: choose kind=metric-indoor",
        ),
        ("depth-anything-v2", "depth-anything-v2", {"kind": "metric-outdoor"}, "choose kind=relative"),
    ],
)
def test_weights_of_another_model_are_refused(name, of, options, says, folders):
    module, config = plugin(folders, name, of=of, **options)
    with pytest.raises(MissingDependency, match=says):
        module.check(config)


def damaged(folders, tmp_path, how):
    folder = shutil.copytree(folders["midas"], tmp_path / "copy")
    how(folder)
    module = load_plugin("pipeline.depth", "midas")
    config = module.Config(weights=str(folder), device="cpu")
    module.check(config)
    module.build(config)


def test_files_that_do_not_go_together_are_refused(folders, tmp_path):
    def other_weights(folder):
        shutil.copy(folders["depth-anything-v2"] / "model.safetensors", folder)

    with pytest.raises(MissingDependency, match=r"lack \d+ of the model's \d+ tensors"):
        damaged(folders, tmp_path / "a", other_weights)

    def cut(folder):
        data = (folder / "model.safetensors").read_bytes()
        (folder / "model.safetensors").write_bytes(data[: len(data) // 2])

    with pytest.raises(MissingDependency, match=r"cannot be loaded"):
        damaged(folders, tmp_path / "b", cut)

    def unknown_resizing(folder):
        settings = json.loads((folder / "preprocessor_config.json").read_text())
        (folder / "preprocessor_config.json").write_text(json.dumps({**settings, "do_pad": True}))

    with pytest.raises(MissingDependency, match=r"settings that are not known here \(do_pad=True"):
        damaged(folders, tmp_path / "c", unknown_resizing)

    with pytest.raises(
        MissingDependency, match=r"must hold config.json, preprocessor_config.json and model.safetensors"
    ):
        damaged(folders, tmp_path / "d", lambda folder: (folder / "preprocessor_config.json").unlink())


def test_a_pickle_with_more_than_tensors_is_not_opened(folders, tmp_path):
    class Hostile:
        def __reduce__(self):
            return (open, (str(tmp_path / "executed"), "w"))

    def pickled(folder):
        (folder / "model.safetensors").unlink()
        torch.save({"weight": Hostile()}, folder / "pytorch_model.bin")

    with pytest.raises(MissingDependency, match=r"cannot be loaded"):
        damaged(folders, tmp_path, pickled)
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize("device", ["cuda:7", "tpu?"])
def test_a_device_that_is_not_there_is_refused(device, folders):
    module, config = plugin(folders, "midas")
    with pytest.raises(ValueError, match=r"device"):
        module.build(type(config)(weights=config.weights, device=device))


# Answers that say nothing


@pytest.mark.parametrize(
    ("answer", "code"),
    [(np.nan, "depth_not_finite"), (np.inf, "depth_not_finite"), (0.0, "depth_infinite"), (2.5, "depth_constant")],
)
def test_an_answer_that_says_nothing_is_refused_by_name(answer, code, folders, monkeypatch):
    module, config = plugin(folders, "midas")
    estimator = module.build(config)
    monkeypatch.setattr(
        estimator.model.model,
        "forward",
        lambda pixel_values: DepthEstimatorOutput(
            predicted_depth=torch.full(pixel_values.shape[:1] + pixel_values.shape[2:], answer)
        ),
    )
    view = view_of(pictures(3, 40, 40))
    with pytest.raises(BadEpisode) as error:
        estimator.estimate(episode_of(view), view)
    assert error.value.code == code and "camera front" in error.value.message
