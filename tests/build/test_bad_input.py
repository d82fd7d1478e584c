"""Bad input: each defect is one sentence that names file, episode and what is wrong; the rest is built to the same
bytes.
"""

import json
from collections import Counter
from pathlib import Path

import h5py
import numpy as np
import pytest
from fixtures.command import lamp_data, said
from fixtures.libero import FAST, Demo, fast_recipe, outputs_of, partials_in, replace, samples_of, shipped, write_file

from jobs.executors.local import LocalExecutor
from pipeline.build.run import ShardConfig, build
from schemas.manifest import EPISODES, read_manifest

RGB, DEPTH = "obs/agentview_rgb", "obs/agentview_depth"


def in_demo(*edits):
    """A defect inside demo_0, beside a demo_1 that is well."""

    def make(path: Path):
        def change(file):
            for edit in edits:
                edit(file)

        write_file(path, [Demo(0), Demo(1, 1)], change)

    return make


def put(name, values):
    return lambda file: replace(file, name, values)


def changed(name, where, value):
    """One array with some of its values replaced."""

    def edit(file):
        array = file[f"data/demo_0/{name}"][:]
        array[where] = value
        replace(file, name, array)

    return edit


def remove(name):
    def edit(file):
        del file[f"data/demo_0/{name}"]

    return edit


def without_planes(file):
    for name in ("znear_m", "zfar_m"):
        del file[f"data/demo_0/{DEPTH}"].attrs[name]


def planes(near, far):
    def edit(file):
        file[f"data/demo_0/{DEPTH}"].attrs.update(znear_m=near, zfar_m=far)

    return edit


def model(text):
    def edit(file):
        file["data/demo_0"].attrs["model_file"] = text

    return edit


def in_model(old, new):
    return model(shipped(0)["attributes"]["model_file"].replace(old, new))


def only(count):
    """Cut every array of demo_0 to some frames."""

    def edit(file):
        for group in (file["data/demo_0"], file["data/demo_0/obs"]):
            for name in [n for n in group if isinstance(group[n], h5py.Dataset)]:
                replace(
                    file, f"{group.name.removeprefix('/data/demo_0').strip('/')}/{name}".strip("/"), group[name][:count]
                )

    return edit


def broken_chunk(path: Path):
    """Bytes of a compressed picture overwritten, as a bad disk would."""
    write_file(path, [Demo(0), Demo(1, 1)])
    with h5py.File(path, "r") as file:
        chunk = file[f"data/demo_0/{RGB}"].id.get_chunk_info(5)
    with open(path, "r+b") as file:
        file.seek(chunk.byte_offset + chunk.size // 2)
        file.write(b"\xff" * 64)


def truncated(share):
    def make(path: Path):
        data = write_file(path, [Demo(0), Demo(1, 1)]).read_bytes()
        path.write_bytes(data[: int(len(data) * share)])

    return make


def words(text):
    """A file whose problem_info is something else."""
    return lambda path: write_file(path, [Demo(0)], lambda f: f["data"].attrs.__setitem__("problem_info", text))


def foreign(path: Path):
    with h5py.File(path, "w") as file:
        file["weights"] = np.zeros(3)


def flat_data(path: Path):
    with h5py.File(path, "w") as file:
        file["data"] = np.zeros(3)


def no_demos(path: Path):
    with h5py.File(path, "w") as file:
        file.create_group("data")


T, S = 14, 128
# name: (how it is made, the episode (None for the file), the code, what the sentence says)
DEFECTS = {
    "truncated": (truncated(0.6), None, "unreadable_file", "truncated"),
    "cut_to_nothing": (
        lambda p: p.write_bytes(b""),
        None,
        "unreadable_file",
        "no file of demonstrations that can be opened",
    ),
    "text": (lambda p: p.write_text("not HDF5\n"), None, "unreadable_file", "file signature not found"),
    "foreign": (foreign, None, "unreadable_file", "'data' doesn't exist"),
    "data_is_an_array": (flat_data, None, "unreadable_file", "no file of demonstrations that can be opened"),
    "no_demos": (no_demos, None, "no_episodes", "holds no group data/demo_<number>"),
    "one_frame": (in_demo(only(1)), "demo_0", "too_short", "has 1 frame(s); an episode needs at least 2"),
    "no_frame": (in_demo(only(0)), "demo_0", "too_short", "has 0 frame(s)"),
    "nan_depth": (in_demo(changed(DEPTH, ..., np.nan)), "demo_0", "no_depth", "not one pixel"),
    "inf_depth": (in_demo(changed(DEPTH, ..., np.inf)), "demo_0", "no_depth", "not one pixel"),
    "zero_depth": (in_demo(changed(DEPTH, ..., 0)), "demo_0", "no_depth", "not one pixel"),
    "depth_without_planes": (in_demo(without_planes), "demo_0", "no_depth", "znear_m and zfar_m or the model's extent"),
    "no_depth": (in_demo(remove(DEPTH)), "demo_0", "no_depth", "no usable recorded depth"),
    "planes_nan": (in_demo(planes(np.nan, 2.0)), "demo_0", "bad_clip_planes", "must be 0 < near < far, found nan, 2"),
    "planes_swapped": (in_demo(planes(3.0, 0.1)), "demo_0", "bad_clip_planes", "found 3, 0.1"),
    "planes_words": (in_demo(planes("near", "far")), "demo_0", "unreadable_episode", "near"),
    "depth_shape": (
        in_demo(put(DEPTH, np.zeros((T, S, S), np.float32))),
        "demo_0",
        "wrong_shape",
        "agentview_depth must be [14, 128, 128, 1], found [14, 128, 128]",
    ),
    "depth_dtype": (
        in_demo(put(DEPTH, np.zeros((T, S, S, 1), np.uint16))),
        "demo_0",
        "wrong_dtype",
        "agentview_depth must be floating point, found uint16",
    ),
    "rgb_shape": (
        in_demo(put(RGB, np.zeros((T, S, S, 4), np.uint8))),
        "demo_0",
        "wrong_shape",
        "agentview_rgb must be [T, H, W, 3] with T = 14, found [14, 128, 128, 4]",
    ),
    "rgb_length": (
        in_demo(put(RGB, np.zeros((T - 1, S, S, 3), np.uint8))),
        "demo_0",
        "wrong_shape",
        "with T = 14, found [13, 128, 128, 3]",
    ),
    "rgb_dtype": (
        in_demo(put(RGB, np.zeros((T, S, S, 3), np.float32))),
        "demo_0",
        "wrong_dtype",
        "agentview_rgb must be uint8, found float32",
    ),
    "rgb_tiny": (
        in_demo(put(RGB, np.zeros((T, 8, 8, 3), np.uint8)), put(DEPTH, np.full((T, 8, 8, 1), 0.98, np.float32))),
        "demo_0",
        "image_too_small",
        "images are 8 x 8, at least 32 are needed",
    ),
    "rgb_black": (
        in_demo(changed(RGB, ..., 0)),
        "demo_0",
        "blank_images",
        "every frame of agentview is one flat colour",
    ),
    "actions_shape": (
        in_demo(put("actions", np.zeros((T, 6)))),
        "demo_0",
        "wrong_shape",
        "actions must be [T, 7], found [14, 6]",
    ),
    "actions_scalar": (in_demo(put("actions", 1.0)), "demo_0", "wrong_shape", "actions must be [T, 7], found []"),
    "actions_words": (in_demo(put("actions", [[b"x"] * 7] * T)), "demo_0", "unreadable_episode", "could not convert"),
    "actions_a_group": (
        in_demo(remove("actions"), lambda f: f["data/demo_0"].create_group("actions")),
        "demo_0",
        "missing_field",
        "has no actions",
    ),
    "actions_nan": (
        in_demo(changed("actions", (3, 2), np.nan)),
        "demo_0",
        "not_finite",
        "actions hold a value that is not",
    ),
    "state_inf": (
        in_demo(changed("obs/ee_states", (3, 2), np.inf)),
        "demo_0",
        "not_finite",
        "state hold a value that is not",
    ),
    "no_actions": (in_demo(remove("actions")), "demo_0", "missing_field", "has no actions"),
    "no_state": (in_demo(remove("obs/gripper_states")), "demo_0", "missing_field", "has no gripper_states"),
    "no_obs": (in_demo(remove("obs")), "demo_0", "missing_field", "has no group obs"),
    "no_agentview": (in_demo(remove(RGB)), "demo_0", "missing_camera", "has no agentview_rgb"),
    "broken_chunk": (broken_chunk, "demo_0", "unreadable_episode", "agentview_rgb cannot be read"),
    "model_no_xml": (in_demo(model("<mujoco")), "demo_0", "bad_model", "model_file is no XML"),
    "model_bomb": (
        in_demo(model('<!DOCTYPE m [<!ENTITY a "' + "ha" * 5000 + '">]><mujoco>' + "&a;" * 3000 + "</mujoco>")),
        "demo_0",
        "bad_model",
        "model_file is no XML",
    ),
    "model_pose": (
        in_demo(in_model('quat="0.618217 0.343231', 'quat="0.618217 nan')),
        "demo_0",
        "bad_model",
        "quat of <camera>",
    ),
    "model_quat": (
        in_demo(in_model("0.618217 0.343231 0.343231 0.618218", "0 0 0 0")),
        "demo_0",
        "bad_model",
        "quat of camera agentview is all zero",
    ),
    "model_fov": (
        in_demo(in_model('name="agentview"', 'name="agentview" fovy="190"')),
        "demo_0",
        "bad_model",
        "fovy of camera agentview must lie between 0 and 180, found 190",
    ),
    "words_no_json": (words("{"), "demo_0", "bad_language", "problem_info is no JSON with a text"),
    "words_null": (
        words(json.dumps({"language_instruction": None})),
        "demo_0",
        "bad_language",
        "problem_info is no JSON",
    ),
    "words_number": (
        words(json.dumps({"language_instruction": 3})),
        "demo_0",
        "bad_language",
        "problem_info is no JSON",
    ),
    "words_list": (words(json.dumps(["put it"])), "demo_0", "bad_language", "problem_info is no JSON"),
    "words_missing": (words(json.dumps({"task": "x"})), "demo_0", "bad_language", "problem_info is no JSON"),
}
NEIGHBOURS = [n for n, (make, e, _, _) in DEFECTS.items() if e and not n.startswith("words")]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Every defect in a file of its own, two good files among them; and the same without the bad episodes."""
    folder = tmp_path_factory.mktemp("bad")
    for name, (make, *_) in DEFECTS.items():
        (folder / "data" / "libero").mkdir(parents=True, exist_ok=True)
        make(folder / "data" / "libero" / f"{name}_demo.hdf5")
    good = folder / "good" / "libero"
    for name in ("a_good", "z_good"):
        for root in (folder / "data" / "libero", good):
            write_file(root / f"{name}_demo.hdf5", [Demo(0, 0, 28), Demo(1, 1, 14)])
    for name in NEIGHBOURS:
        write_file(good / f"{name}_demo.hdf5", [Demo(1, 1)])
    return folder


@pytest.fixture(scope="module")
def told(place):
    """What the command said of all of that."""
    return lamp_data("build", "--dataset", "libero", *FAST, "--executor", "local", "--json", folder=place)


@pytest.fixture(scope="module")
def quarantined(told):
    return {q["source"].removesuffix("_demo.hdf5"): q for q in json.loads(told.stdout)["quarantined"]}


@pytest.mark.parametrize("name", DEFECTS)
def test_each_defect_is_one_sentence_naming_file_episode_and_what_is_wrong(quarantined, name):
    _, episode, code, says = DEFECTS[name]
    found = quarantined[name]
    assert (found["episode"], found["code"]) == (episode or "", code)
    assert found["message"].startswith(f"{name}_demo.hdf5" + (f":{episode}" if episode else ""))
    assert says in found["message"] and "\n" not in found["message"] and len(found["message"]) < 400


def test_nothing_else_is_quarantined_and_the_exit_code_tells(told, quarantined):
    assert set(quarantined) == set(DEFECTS)
    assert told.returncode == 1
    total = len(DEFECTS) + 4 + len(NEIGHBOURS)
    assert f"{len(DEFECTS)} of {total} episodes were quarantined, more than --max-quarantined 0.01" in said(told)


def test_the_good_episodes_give_the_bytes_that_they_give_alone(place, told):
    build(fast_recipe(), place / "good" / "libero", place / "alone", ShardConfig(), LocalExecutor(), lambda *a: a[2])
    alone = samples_of(place / "alone")
    assert len(alone) == 3 * (4 + len(NEIGHBOURS))
    assert samples_of(place / "shards" / "libero") == alone
    with_bad, without = (read_manifest(place / f) for f in ("shards/libero", "alone"))
    assert with_bad.files["statistics.json"] == without.files["statistics.json"]
    assert not partials_in(place)


def test_the_manifest_counts_by_reason_and_the_list_of_episodes_has_every_one(place, told):
    codes = Counter(code for _, _, code, _ in DEFECTS.values())
    assert read_manifest(place / "shards" / "libero").counts["quarantined"] == dict(codes)
    lines = [json.loads(line) for line in (place / "shards" / "libero" / EPISODES).read_bytes().splitlines()]
    assert sum("quarantined" in line for line in lines) == len(DEFECTS)
    assert sum("digest" in line for line in lines) == 4 + len(NEIGHBOURS)


def test_the_same_command_again_tells_the_same_and_changes_no_byte(place, told, quarantined):
    before = outputs_of(place / "shards")
    again = lamp_data("build", "--dataset", "libero", *FAST, "--executor", "local", folder=place)
    assert again.returncode == 1 and outputs_of(place / "shards") == before
    for code, count in Counter(q["code"] for q in quarantined.values()).items():
        assert f"quarantined  {count} {code}" in again.stdout


def test_allowing_it_makes_the_exit_code_0_and_a_mended_file_is_taken_up(place, told):
    words_of = ["build", "--dataset", "libero", *FAST, "--executor", "local", "--json", "--max-quarantined", "1"]
    write_file(place / "data" / "libero" / "nan_depth_demo.hdf5", [Demo(0), Demo(1, 1)])
    ran = lamp_data(*words_of, folder=place)
    assert ran.returncode == 0, ran.stderr
    summary = json.loads(ran.stdout)
    assert summary["made"] == 2, "its two episodes"
    assert len(summary["quarantined"]) == len(DEFECTS) - 1
    in_demo(changed(DEPTH, ..., np.nan))(place / "data" / "libero" / "nan_depth_demo.hdf5")


def test_language_optional_keeps_what_has_no_words(tmp_path):
    words(json.dumps({"language_instruction": ""}))(write_file(tmp_path / "a_demo.hdf5"))
    build(fast_recipe(language="optional"), tmp_path, tmp_path / "out", ShardConfig(), LocalExecutor(), lambda *a: a[2])
    assert read_manifest(tmp_path / "out").samples == 3


def test_depth_that_is_missing_in_places_costs_those_places_and_not_the_episode(tmp_path):
    """Half of one picture without depth, for each way of saying so: the same samples, with those points invalid."""
    results = {}
    for name, value in (("nan", np.nan), ("inf", np.inf), ("zero", 0.0)):
        folder = tmp_path / name
        write_file(folder / "a_demo.hdf5", [Demo(0)], changed(DEPTH, np.s_[9, 64:], value))
        summary = build(fast_recipe(), folder, folder / "out", ShardConfig(), LocalExecutor(), lambda *a: a[2])
        assert not summary.quarantined and summary.kept > 0
        results[name] = samples_of(folder / "out")
    assert results["nan"] == results["inf"] == results["zero"]


def test_if_every_window_is_rejected_the_reasons_are_told(tmp_path):
    write_file(tmp_path / "data" / "libero" / "a_demo.hdf5", [Demo(0)])
    ran = lamp_data(
        *("build", "--dataset", "libero", *FAST, "--executor", "local", "--quality.min-steps", "14"), folder=tmp_path
    )
    assert ran.returncode == 1
    assert "no triplet came out of" in said(ran) and "every window was rejected: 4 too_short" in said(ran)
    assert not (tmp_path / "shards" / "libero" / "manifest.json").exists()


def test_if_every_file_is_bad_the_first_reason_is_told_and_what_stood_in_the_output_stays(tmp_path):
    source = tmp_path / "data" / "libero"
    write_file(source / "a_demo.hdf5", [Demo(0)])
    command = ["build", "--dataset", "libero", *FAST, "--executor", "local"]
    assert lamp_data(*command, folder=tmp_path).returncode == 0
    before = outputs_of(tmp_path / "shards")
    (source / "a_demo.hdf5").write_text("no longer")
    ran = lamp_data(*command, folder=tmp_path)
    assert ran.returncode == 1 and "1 quarantined, the first because a_demo.hdf5 is no file of demonstrations" in said(
        ran
    )
    assert outputs_of(tmp_path / "shards") == before
