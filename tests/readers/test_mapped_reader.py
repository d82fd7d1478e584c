"""Any LeRobot or RLDS dataset by a mapping file: the same episode as a reader of its own would give."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import tensorflow_datasets as tfds
import yaml
from fixtures.lerobot import SAMPLE as LEROBOT
from fixtures.lerobot import moving, write_lerobot
from fixtures.rlds import SAMPLE, jpeg, textured, write_rlds

from pipeline.errors import UnreadableSource
from pipeline.readers import dataset_choice
from pipeline.readers._mapping_file import DatasetMapping, load_mapping
from pipeline.readers.bridge import CONVENTION, STATE_NAMES, BridgeReader
from pipeline.readers.mapped import Config, MappedReader, feature_names
from pipeline.recipe import Recipe
from schemas.episode import BadEpisode
from schemas.plugins import PluginChoice
from schemas.structured import BadFile, structure

MAPPINGS = Path(__file__).parents[2] / "jobs/recipes/mappings"
BRIDGE = {
    "name": "bridge",
    "licence": "CC BY 4.0",
    "fps": 5,
    "primary": "steps/observation/image_0",
    "cameras": {f"steps/observation/image_{i}": {"fixed": i != 3} for i in range(4)},
    "state": [{"key": "steps/observation/state", "names": list(STATE_NAMES)}],
    "action": {
        "convention": CONVENTION.name,
        "description": CONVENTION.description.removesuffix("; gripper absolute, 1 open, 0 closed"),
        "parts": [{"key": "steps/action", "names": list(CONVENTION.dimensions)}],
        "gripper": {"open": 1, "closed": 0},
    },
    "language": "steps/language_instruction",
    "notes": "episode_metadata/file_path",
}
PLAIN = {
    "name": "set",
    "licence": "mine",
    "fps": 10,
    "primary": "observation.images.top",
    "cameras": {"observation.images.top": {}},
}
LENGTH = 4


def mapping_of(values) -> DatasetMapping:
    return structure(DatasetMapping, values, "my.yaml")


def reader_of(values) -> MappedReader:
    return MappedReader(Config(mapping=mapping_of(values)))


def read_all(reader, folder):
    return [reader.read(ref) for ref in reader.list_episodes(folder)]


def written(tmp_path, columns=None, version="v2.1", task="wave", cameras=("top",), **more):
    """A LeRobot set of one episode with 96 x 64 videos."""
    video = {f"observation.images.{name}": moving(LENGTH, seed=number) for number, name in enumerate(cameras)}
    episode = {
        "task": task,
        "video": video,
        "columns": columns or {"action": np.zeros((LENGTH, 2), np.float32)},
        **more,
    }
    return write_lerobot(tmp_path / "set", version, [episode], 10.0)


def test_bridge_by_a_mapping_is_what_its_own_reader_gives():
    own = read_all(BridgeReader(), SAMPLE.parent.parent)
    mapped = read_all(reader_of(BRIDGE), SAMPLE.parent.parent)
    assert len(mapped) == len(own) == 3
    for a, b in zip(mapped, own, strict=True):
        assert a.ref == b.ref and list(a.views) == list(b.views)
        assert a.action_convention.dimensions == b.action_convention.dimensions
        assert a.action_convention.description.endswith("; gripper 1 open, 0 closed")
        for name in ("primary", "wrist", "instructions", "fps", "state_names", "success", "notes"):
            assert getattr(a, name) == getattr(b, name), name
        for name in ("state", "actions", "action_mask"):
            assert np.array_equal(getattr(a, name), getattr(b, name)), name
        for name, view in a.views.items():
            assert np.array_equal(view.frames, b.views[name].frames)
            assert (view.size, view.fixed, view.length) == (b.views[name].size, b.views[name].fixed, b.length)


def test_a_real_lerobot_set_with_the_words_in_a_column_of_its_own():
    values = {
        "name": "robot_sim.PickNPlace",
        "licence": "Apache-2.0",
        "fps": 20,
        "primary": "observation.images.ego_view",
        "cameras": {"observation.images.ego_view": {"fixed": True}},
        "state": {"key": "observation.state", "take": [0, 1, 2, 22, 23], "names": ["l0", "l1", "l2", "r0", "r1"]},
        "action": {"convention": "gr1_joints", "description": "absolute joints", "parts": {"key": "action"}},
        "language": "annotation.human.action.task_description",
    }
    episode = read_all(reader_of(values), LEROBOT)[0]
    assert episode.actions.shape == (episode.length, 44) and episode.action_convention.dimensions[43] == "motor_43"
    assert episode.state.shape == (episode.length, 5) and episode.state_names == ("l0", "l1", "l2", "r0", "r1")
    assert episode.instructions and all("pick the" in text for text in episode.instructions)
    assert episode.views[episode.primary].frames.shape[1:] == (256, 256, 3)


def rt1_features() -> tfds.features.FeaturesDict:
    """The published schema of fractal20220817_data 0.1.0."""
    tensor, text = tfds.features.Tensor, tfds.features.Text()

    def floats(*shape):
        return tensor(shape=shape, dtype=np.float32)

    observation = {
        "image": tfds.features.Image(shape=(256, 320, 3), dtype=np.uint8, encoding_format="jpeg"),
        "natural_language_instruction": text,
        "natural_language_embedding": floats(512),
        "base_pose_tool_reached": floats(7),
        "gripper_closed": floats(1),
        "gripper_closedness_commanded": floats(1),
        "height_to_bottom": floats(1),
        "orientation_box": floats(2, 3),
        "orientation_start": floats(4),
        "robot_orientation_positions_box": floats(3, 3),
        "rotation_delta_to_go": floats(3),
        "src_rotation": floats(4),
        "vector_to_go": floats(3),
        "workspace_bounds": floats(3, 3),
    }
    action = {
        "base_displacement_vector": floats(2),
        "base_displacement_vertical_rotation": floats(1),
        "gripper_closedness_action": floats(1),
        "rotation_delta": floats(3),
        "terminate_episode": tensor(shape=(3,), dtype=np.int32),
        "world_vector": floats(3),
    }
    flags = {name: tensor(shape=(), dtype=np.bool_) for name in ("is_first", "is_last", "is_terminal")}
    steps = {"observation": observation, "action": action, "reward": floats(), **flags}
    return tfds.features.FeaturesDict({"steps": tfds.features.Dataset(steps)})


def rt1_step(number, image):
    def filled(features):
        return {
            name: np.full(feature.shape, number, feature.np_dtype)
            for name, feature in features.items()
            if isinstance(feature, tfds.features.Tensor)
        }

    described = rt1_features()["steps"].feature
    observation = filled(described["observation"]) | {
        "image": jpeg(image),
        "natural_language_instruction": "pick apple",
        "gripper_closed": np.array([0.25], np.float32),
    }
    action = filled(described["action"]) | {"world_vector": np.array([1, 2, 3], np.float32)}
    flags = {"is_first": number == 0, "is_last": False, "is_terminal": False}
    return {"observation": observation, "action": action, "reward": np.float32(number == LENGTH - 1), **flags}


def write_rt1(folder):
    steps = [rt1_step(number, textured(256, 320)) for number in range(LENGTH)]
    return write_rlds(
        folder / "fractal20220817_data" / "0.1.0", rt1_features(), [{"steps": steps}], "fractal20220817_data-train"
    )


def test_the_shipped_mapping_of_rt1_reads_the_published_schema(tmp_path):
    write_rt1(tmp_path)
    (episode,) = read_all(MappedReader(Config(mapping=load_mapping(MAPPINGS / "fractal20220817_data.yaml"))), tmp_path)
    assert (episode.primary, episode.wrist, episode.fps) == ("image", None, 3)
    assert episode.instructions == ("pick apple",)
    assert episode.state_names == ("x", "y", "z", "qx", "qy", "qz", "qw", "gripper")
    assert episode.state[2].tolist() == [2] * 7 + [0.25]
    assert episode.actions[2].tolist() == [1, 2, 3, 2, 2, 2, 2]
    assert episode.action_convention.description.endswith("gripper -1 open, 1 closed")
    assert not episode.views["image"].fixed and episode.views["image"].size == (320, 256)


ALOHA = [f"{side}_{joint}" for side in ("left", "right") for joint in ("waist", "shoulder", "elbow", "gripper")]


@pytest.mark.parametrize("name", ["aloha", "so100"])
@pytest.mark.parametrize("version", ["v2.0", "v2.1", "v3.0"])
def test_the_shipped_mappings_of_lerobot_sets(tmp_path, name, version):
    mapping = load_mapping(MAPPINGS / f"{name}.yaml")
    cameras = [key.removeprefix("observation.images.") for key in mapping.cameras]
    values = np.arange(LENGTH * 8, dtype=np.float32).reshape(LENGTH, 8)
    written(tmp_path, {"observation.state": values, "action": values + 100}, version, cameras=cameras)
    (episode,) = read_all(MappedReader(Config(mapping=mapping)), tmp_path)
    assert set(episode.views) == set(mapping.cameras) and episode.wrist == mapping.wrist
    assert np.array_equal(episode.state, values) and np.array_equal(episode.actions, values + 100)
    assert episode.instructions == ("wave",)
    assert episode.notes["fps"].startswith("labelled 10, ")


@pytest.mark.parametrize(
    "described", [ALOHA, [ALOHA], {"motors": ALOHA}, {"left": ALOHA[:4], "right": ALOHA[4:]}], ids=repr
)
def test_names_are_found_in_each_way_they_are_written(described):
    assert feature_names(described) == ALOHA


def test_names_that_are_not_given_are_the_keys_with_numbers(tmp_path):
    columns = {"observation.state": np.zeros((LENGTH, 2), np.float32), "gripper": np.zeros(LENGTH, np.float32)}
    written(tmp_path, columns)
    (episode,) = read_all(reader_of(PLAIN | {"state": [{"key": "observation.state"}, {"key": "gripper"}]}), tmp_path)
    assert episode.state_names == ("state_0", "state_1", "gripper")


def test_a_turned_camera_comes_upright_with_its_own_intrinsics_scaled(tmp_path):
    """The stored picture is 96 x 64; upright it is 64 x 96, and K was given for twice that."""
    written(tmp_path)
    given = {"fx": 120, "fy": 124, "cx": 66, "cy": 94, "size": [128, 192]}
    camera = {"orientation": "rotated-90", "intrinsics": given, "fixed": True}
    (episode,) = read_all(reader_of(PLAIN | {"cameras": {PLAIN["primary"]: camera}}), tmp_path)
    view = episode.views[episode.primary]
    assert view.size == (64, 96) and view.intrinsics_source == "mapping file"
    assert np.allclose(view.intrinsics, [[60, 0, 33], [0, 62, 47], [0, 0, 1]])
    upright = np.stack([cv2.rotate(frame, cv2.ROTATE_90_COUNTERCLOCKWISE) for frame in moving(LENGTH)])
    assert np.abs(view.frames.astype(int) - upright).mean() < 6


def test_a_squashed_picture_squashes_the_intrinsics(tmp_path):
    """As BridgeData's 640 x 480 to a square: fx and fy scale by their own sides."""
    written(tmp_path)
    given = {"fx": 400, "fy": 400, "cx": 320, "cy": 240, "size": [640, 480]}
    (episode,) = read_all(reader_of(PLAIN | {"cameras": {PLAIN["primary"]: {"intrinsics": given}}}), tmp_path)
    k = episode.views[episode.primary].intrinsics
    assert np.allclose([k[0, 0], k[1, 1], k[0, 2], k[1, 2]], [400 * 96 / 640, 400 * 64 / 480, 48, 32])


def test_intrinsics_that_cannot_be_the_cameras_are_refused(tmp_path):
    written(tmp_path)
    given = {"fx": 320, "fy": 320, "cx": 20, "cy": 240, "size": [640, 480]}
    with pytest.raises(BadEpisode, match="principal point") as error:
        read_all(reader_of(PLAIN | {"cameras": {PLAIN["primary"]: {"intrinsics": given}}}), tmp_path)
    assert error.value.code == "bad_intrinsics"


def test_a_field_of_view_gives_intrinsics(tmp_path):
    written(tmp_path)
    (episode,) = read_all(reader_of(PLAIN | {"cameras": {PLAIN["primary"]: {"fov_y": 90}}}), tmp_path)
    assert episode.views[episode.primary].intrinsics[0, 0] == pytest.approx(32)


def depth_pictures(length, height=64, width=96):
    millimetres = np.arange(length * height * width).reshape(length, height, width).astype(np.uint16) % 3000
    encoded = [cv2.imencode(".png", image)[1].tobytes() for image in millimetres]
    return millimetres, [{"bytes": data, "path": "x.png"} for data in encoded]


def with_depth(orientation="upright"):
    camera = {"orientation": orientation, "depth": {"key": "depth", "metres_per_unit": 0.001}}
    return PLAIN | {"cameras": {PLAIN["primary"]: camera}}


def write_depth(tmp_path, pictures):
    folder = written(tmp_path, {"action": np.zeros((LENGTH, 2), np.float32), "depth": pictures})
    info = json.loads((folder / "meta/info.json").read_text())
    info["features"]["depth"] = {"dtype": "image", "shape": [64, 96, 1], "names": None}
    (folder / "meta/info.json").write_text(json.dumps(info))


@pytest.mark.parametrize("orientation", ["upright", "upside-down"])
def test_recorded_depth_of_16_bit_pictures_comes_in_metres_and_upright(tmp_path, orientation):
    millimetres, pictures = depth_pictures(LENGTH)
    write_depth(tmp_path, pictures)
    (episode,) = read_all(reader_of(with_depth(orientation)), tmp_path)
    depth = episode.views[episode.primary].depth
    expected = millimetres / 1000 if orientation == "upright" else millimetres[:, ::-1] / 1000
    assert depth.unit == "m" and np.allclose(depth.read(), expected, atol=1e-6)


def test_depth_of_another_size_or_kind_is_refused_when_it_is_read(tmp_path):
    write_depth(tmp_path / "small", depth_pictures(LENGTH, 32, 48)[1])
    colour = cv2.imencode(".png", np.zeros((64, 96, 3), np.uint8))[1].tobytes()
    write_depth(tmp_path / "colour", [{"bytes": colour, "path": "x.png"}] * LENGTH)
    for folder, code in (("small", "wrong_shape"), ("colour", "bad_depth")):
        (episode,) = read_all(reader_of(with_depth()), tmp_path / folder)
        with pytest.raises(BadEpisode) as error:
            episode.views[episode.primary].depth.read()
        assert error.value.code == code


def test_depth_of_rlds_tensors_and_words_in_numbers(tmp_path):
    """As language_table writes its instruction: the characters' numbers, filled up with zeros."""
    steps = {
        "observation": {
            "rgb": tfds.features.Image(shape=(64, 96, 3), encoding_format="jpeg"),
            "depth": tfds.features.Tensor(shape=(64, 96, 1), dtype=np.float32),
            "instruction": tfds.features.Tensor(shape=(16,), dtype=np.int32),
        },
        "reward": tfds.features.Scalar(np.float32),
    }
    features = tfds.features.FeaturesDict({"steps": tfds.features.Dataset(steps)})
    text = np.zeros(16, np.int32)
    text[:4] = list(b"push")
    depth = np.linspace(500, 900, 64 * 96, dtype=np.float32).reshape(64, 96, 1)
    made = [
        {"observation": {"rgb": jpeg(textured(64, 96)), "depth": depth, "instruction": text}, "reward": float(t == 2)}
        for t in range(3)
    ]
    write_rlds(tmp_path / "set" / "1.0.0", features, [{"steps": made}], "set-train")
    key = "steps/observation/rgb"
    camera = {"depth": {"key": "steps/observation/depth", "metres_per_unit": 0.001}}
    values = PLAIN | {"primary": key, "cameras": {key: camera}, "language": "steps/observation/instruction"}
    (episode,) = read_all(reader_of(values | {"success": {"key": "steps/reward", "above": 0}}), tmp_path)
    assert episode.instructions == ("push",) and episode.success is True
    assert np.allclose(episode.views["rgb"].depth.read()[2], depth[..., 0] / 1000)


@pytest.mark.parametrize(
    ("told", "expected"), [({"key": "reward", "above": 0}, True), ({"key": "reward", "above": 1}, False), (None, None)]
)
def test_success_by_the_last_number(tmp_path, told, expected):
    written(tmp_path, {"reward": np.array([0, 0, 0, 1.0])})
    (episode,) = read_all(reader_of(PLAIN | {"success": told}), tmp_path)
    assert episode.success is expected


@pytest.mark.parametrize(("text", "expected"), [("/out.npy", True), ("/success/", False)])
def test_success_by_a_text(text, expected):
    told = {"key": "episode_metadata/file_path", "contains": text}
    for episode in read_all(reader_of(BRIDGE | {"success": told}), SAMPLE.parent.parent):
        assert episode.success is expected


def test_actions_that_stand_one_row_later_are_brought_to_their_frame(tmp_path):
    values = np.arange(LENGTH * 2, dtype=np.float32).reshape(LENGTH, 2)
    written(tmp_path, {"action": values})
    action = {"convention": "x", "description": "y", "parts": {"key": "action"}, "shift": 1}
    (episode,) = read_all(reader_of(PLAIN | {"action": action}), tmp_path)
    assert np.array_equal(episode.actions[:-1], values[1:]) and episode.action_mask.tolist() == [True] * 3 + [False]


def test_without_actions_they_are_of_no_width_and_masked(tmp_path):
    written(tmp_path)
    (episode,) = read_all(reader_of(PLAIN), tmp_path)
    assert episode.actions.shape == (LENGTH, 0) and not episode.action_mask.any()
    assert episode.action_convention.name == "none" and episode.state.shape == (LENGTH, 0)


def test_a_key_that_is_not_there_is_named(tmp_path):
    written(tmp_path)
    (problem,) = reader_of(PLAIN | {"language": "words"}).list_episodes(tmp_path)
    assert isinstance(problem, UnreadableSource) and problem.code == "foreign_features"
    assert "has no words, which the mapping of set names; lamp-data inspect shows the keys" in str(problem)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"name": "a b"}, "name may hold letters"),
        ({"fps": 0}, "fps must be above 0"),
        ({"primary": "x"}, "primary must be one of the cameras observation.images.top, found 'x'"),
        ({"wrist": "x"}, "wrist must be one of the cameras"),
        ({"robot": "franka"}, "has a name 'robot' that is not known; known are name, licence, fps, cameras"),
        (
            {"cameras": {PLAIN["primary"]: {"orientation": "flipped"}}},
            "orientation must be one of upright, upside-down",
        ),
        ({"cameras": {PLAIN["primary"]: {"fov_y": 200}}}, "a vertical field of view lies between 0 and 180"),
        ({"success": {"key": "a"}}, "give above .* or contains"),
        ({"action": {"convention": "a", "description": "b", "parts": []}}, "parts must name at least one column"),
        ({"state": {"key": "a", "take": [1, 2], "names": ["x"]}}, "2 numbers are taken and 1 names given"),
    ],
)
def test_a_mapping_that_says_nonsense_is_refused_by_place(change, says):
    with pytest.raises(BadFile, match=says):
        mapping_of(PLAIN | change)


def test_the_content_of_the_mapping_decides_the_recipe_and_its_place_does_not(tmp_path):
    text = (MAPPINGS / "so100.yaml").read_text()
    digests = []
    for name, content in (("a", text), ("b", "# moved\n" + text), ("c", text.replace("fixed: true", "fixed: false"))):
        (tmp_path / name).mkdir()
        path = tmp_path / name / "my.yaml"
        path.write_text(content)
        recipe = Recipe(dataset_choice(str(path), {}))
        assert recipe.info.name == "so100_set" and recipe.info.licence == "Apache-2.0"
        digests.append(recipe.digest)
    assert digests[0] == digests[1] != digests[2]


def test_the_example_in_the_docs_is_a_mapping():
    text = (MAPPINGS.parents[2] / "docs" / "your-own-dataset.md").read_text()
    mapping = mapping_of(yaml.safe_load(text.split("```yaml\n")[1].split("```")[0]))
    assert mapping.info.licence == "Apache-2.0" and len(mapping.keys) == 8


def test_without_a_mapping_it_asks_for_one(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"needs a mapping file: --dataset my\.yaml"):
        list(MappedReader(Config()).list_episodes(tmp_path))
    assert dataset_choice("bridge", {}) == PluginChoice("bridge", {})


def test_names_of_cameras_are_short_where_that_is_plain():
    keys = ["steps/observation/top/image", "steps/observation/side/image", "steps/observation/wrist"]
    mapping = mapping_of(PLAIN | {"primary": keys[0], "cameras": {key: {} for key in keys}})
    assert list(mapping.names.values()) == ["steps.observation.top.image", "steps.observation.side.image", "wrist"]
