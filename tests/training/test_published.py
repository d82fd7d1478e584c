"""Checkpoints in the authors' layout: there and back without a bit changed, and every defect named."""

import json
import pickle
import shutil
from dataclasses import replace
from fnmatch import fnmatch
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from fixtures.published import EXPORTABLE
from fixtures.shard import write_shards
from training.test_model_training import observation, trained

from jobs.cli.exit_codes import UsageError, run_command
from jobs.commands.export import Export, export_command
from lamp_model.errors import BadCheckpoint, BadRun
from lamp_model.imagination import load_motion_expert
from lamp_model.model_config import ModelConfig
from lamp_model.policy import load_policy
from lamp_model.published import files
from lamp_model.published.config import read_config, to_values
from lamp_model.published.export import differences
from lamp_model.published.files import is_published
from lamp_model.published.loading import read_published_motion
from lamp_model.storage import run_folder
from lamp_model.storage.checkpoints import read_tensors, write_sealed_tensors
from schemas.episode import ActionConvention
from schemas.files import sha256_of
from schemas.plugins import MissingDependency


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A run and its export."""
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("published")
    data = write_shards(folder / "shards", episodes=3, frames=2)
    trained(1, data, folder / "stage1", steps=2, **EXPORTABLE)
    trained(2, data, folder / "stage2", folder / "stage1", steps=2)
    assert run_command(lambda: export_command(Export(folder / "stage2", folder / "export"))) == 0
    return folder


@pytest.fixture
def export(made, tmp_path):
    """A copy of the export to spoil."""
    return shutil.copytree(made / "export", tmp_path / "export")


def as_published(folder):
    """The same checkpoint as the authors would have written it: no word of this project in the config."""
    path = folder / "config.yaml"
    values = yaml.safe_load(path.read_text())
    own = values.pop("lamp")["model"]
    values["framework"]["qwenvl"]["base_vlm"] = str(folder / "backbone")
    values["framework"]["action_model"]["use_mask_z"] = True
    path.write_text(yaml.safe_dump(values))
    (folder / "checkpoint_manifest.json").unlink()
    # Their code has no other width of the time's sinusoid.
    name = "motion_head.decoder.cogvideox.time_embedding.linear_1.weight"
    change(folder, lambda state: state.update({name: torch.randn(state[name].shape[0], 512) * 0.02}))
    return own


def change(folder, edit):
    state = torch.load(folder / "pytorch_model.pt", weights_only=True)
    edit(state)
    torch.save(state, folder / "pytorch_model.pt")
    (folder / "checkpoint_manifest.json").unlink(missing_ok=True)


def test_a_run_comes_back_bit_for_bit(made):
    assert sorted(p.name for p in (made / "export").iterdir()) == [
        "backbone",
        "checkpoint_manifest.json",
        "config.yaml",
        "dataset_statistics.json",
        "pytorch_model.pt",
    ]
    assert not list((made / "export/backbone").glob("*.safetensors"))
    run, back = (load_policy(made / name, device="cpu") for name in ("stage2", "export"))
    weights, again = run.model.state_dict(), back.model.state_dict()
    assert set(weights) == set(again) and all(torch.equal(weights[name], again[name]) for name in weights)
    images, state = observation()
    for expected, found in zip(
        run.predict(images, "open", state, return_motion=True),
        back.predict(images, "open", state, return_motion=True),
        strict=True,
    ):
        assert np.array_equal(found, expected)


def test_the_motion_expert_of_run_and_checkpoint_is_the_same(made, tmp_path):
    expected = load_motion_expert(made / "stage1", device="cpu").expert.state_dict()
    shutil.copytree(made / "export", tmp_path / "motion")
    only = {"motion_head." + name: tensor for name, tensor in expected.items()}
    change(tmp_path / "motion", lambda state: (state.clear(), state.update(only)))
    (tmp_path / "motion/dataset_statistics.json").unlink()
    for source in (made / "export", made / "export/pytorch_model.pt", tmp_path / "motion"):
        found = load_motion_expert(source, device="cpu").expert
        assert not any(m.training for m in found.modules())
        assert all(torch.equal(tensor, expected[name]) for name, tensor in found.state_dict().items())
        read = read_published_motion(source)
        assert read.config.own_normalisation and read.whole == (source != tmp_path / "motion")
    shutil.copy(made / "export/dataset_statistics.json", tmp_path / "motion")
    with pytest.raises(BadCheckpoint, match=r"lacks action_model, motion_guidance, qwen_vl_interface"):
        load_policy(tmp_path / "motion", device="cpu")


@pytest.mark.parametrize("theirs", [False, True])
def test_what_a_motion_expert_imagines_is_what_the_policy_returns(made, export, theirs):
    source = export if theirs else made / "stage2"
    if theirs:
        as_published(export)
    images, state = observation()
    expert = load_motion_expert(source, device="cpu")
    _, motion = load_policy(source, device="cpu").predict(images, "open", state, seed=3, return_motion=True)
    assert np.array_equal(expert.imagine(images, "open", seed=3), motion)
    assert expert.cameras == ("image", "wrist")
    with pytest.raises(ValueError, match="2 images"):
        expert.imagine(images[:1], "open")


def test_their_config_switches_compatibility_on(export):
    as_published(export)
    policy = load_policy(export, device="cpu")
    model = policy.model
    assert model.config.padding == "repeat" and policy.pil_size == 64
    assert not model.qwen_vl_interface.config.tidy and model.qwen_vl_interface.config.padding == "unattended"
    assert model.qwen_vl_interface.config.features == "after-norm"
    other = load_policy(export, device="cpu", features="before-norm").model.qwen_vl_interface.config
    assert other.features == "before-norm"
    with pytest.raises(ValueError, match="features must be one of after-norm, before-norm, found 'last'"):
        load_policy(export, device="cpu", features="last")
    images, state = observation()
    actions = policy.predict(images, "open the drawer", state)
    assert set(np.unique(actions[:, -1])) <= {0.0, 1.0}
    seen = policy.state_range.normalise(torch.tensor([[9.0] * 7 + [0.6], [-9.0] * 7 + [0.4]]))
    assert seen[:, -1].tolist() == [1.0, 0.0] and seen[:, 2].tolist() == [0.0, 0.0] and seen.abs().max() > 1
    turned = np.array(state)
    turned[2] += 5
    assert np.array_equal(policy.predict(images, "open the drawer", turned), actions)


def test_the_authors_weights_see_images_mirrored_and_callers_hold_them_upright(export):
    """The simulator's images are upside down, and the authors rotate those by 180 degrees."""
    own = as_published(export)
    assert own["image_orientation"] == "upright"
    values = json.loads((export / "dataset_statistics.json").read_text())
    (export / "dataset_statistics.json").write_text(json.dumps({"libero": next(iter(values.values()))}))
    images, state = observation()
    simulated = [image[::-1] for image in images]
    turned = [np.ascontiguousarray(image[::-1, ::-1]) for image in simulated]
    policy = load_policy(export, device="cpu")
    as_given = load_policy(export, device="cpu", image_orientation="upright")
    assert (policy.image_orientation, as_given.image_orientation) == ("mirrored", "upright")
    actions, motion = policy.predict(images, "open the drawer", state, return_motion=True)
    same, mirrored = as_given.predict(turned, "open the drawer", state, return_motion=True)
    assert np.array_equal(actions, same)
    side = round(len(motion) ** 0.5)
    rows = mirrored.reshape(side, side, *mirrored.shape[1:])[:, ::-1].reshape(mirrored.shape)
    assert np.array_equal(motion, rows * np.float32([-1, 1, 1]))
    expert = load_motion_expert(export, device="cpu")
    assert np.array_equal(expert.imagine(images, "open the drawer"), motion)
    with pytest.raises(
        ValueError, match="image_orientation must be one of upright, mirrored, rotated-180, found 'sideways'"
    ):
        load_policy(export, device="cpu", image_orientation="sideways")


def test_statistics_of_a_real_robot_come_with_upright_images(export):
    as_published(export)
    values = json.loads((export / "dataset_statistics.json").read_text())
    (export / "dataset_statistics.json").write_text(json.dumps({"franka": next(iter(values.values()))}))
    assert load_policy(export, device="cpu").image_orientation == "upright"
    assert load_policy(export, device="cpu", image_orientation="rotated-180").image_orientation == "rotated-180"


def test_a_run_knows_its_own_orientation(made):
    assert load_policy(made / "stage2", device="cpu").image_orientation == "upright"
    assert load_policy(made / "export", device="cpu").image_orientation == "upright"
    with pytest.raises(ValueError, match="image_orientation is for published checkpoints"):
        load_policy(made / "stage2", device="cpu", image_orientation="upright")


def test_compatibility_sees_padding_as_the_published_code_does(export):
    """Whatever the backbone makes of padding on the left goes on, unmasked; by default it is zero and masked."""
    own = load_policy(export, device="cpu").model
    as_published(export)
    theirs = load_policy(export, device="cpu").model
    images = [torch.from_numpy(image)[None].expand(2, -1, -1, -1) for image in observation()[0]]
    texts = ["open the drawer", "pick up the black bowl between the plate and the ramekin and place it on the plate"]
    raw, masked, seen = (
        theirs.qwen_vl_interface.encode(images, texts),
        own.encode(images, texts),
        theirs.encode(images, texts),
    )
    assert not raw.mask[0, 0] and raw.mask[1].all()
    assert seen.mask is None and torch.equal(seen.tokens, raw.tokens) and seen.tokens.isfinite().all()
    assert not masked.mask[0, 0] and masked.mask[1].all() and not masked.tokens[~masked.mask].any()
    assert seen.tokens[~raw.mask].abs().max() > 0.1


def test_the_published_config_is_the_paper_preset(tmp_path):
    """The values of the released inference config, in a few lines; what it leaves out has the released defaults."""
    from lamp_model.presets import preset

    (tmp_path / "config.yaml").write_text(
        "framework: {name: LaMP, qwenvl: {base_vlm: Qwen/Qwen3-VL-4B-Instruct}, motion_expert: {enabled: true},\n"
        "  action_model: {use_mask_z: true, mlp_ratio: 4.0, future_action_window_size: 9}}\n"
        "datasets: {vla_data: {image_size: [224, 224]}}\n"
    )
    found = read_config(tmp_path / "config.yaml")
    paper = preset("paper").model
    assert found.mask_z and not found.own_normalisation
    assert (found.model.motion, found.model.action) == (paper.motion, paper.action)
    assert found.model.fusion_options == {"heads": 40, "dropout": 0.1}


def swap(name, text):
    def spoil(folder):
        path = folder / name
        path.write_text(path.read_text().replace(*text))
        (folder / "checkpoint_manifest.json").unlink()

    return spoil


def remove(name):
    return lambda folder: (folder / name).unlink()


def append(name):
    def spoil(folder):
        with open(folder / name, "ab") as file:
            file.write(b"x")

    return spoil


def flip(folder):
    path = folder / "pytorch_model.pt"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def list_elsewhere(folder):
    path = folder / "checkpoint_manifest.json"
    manifest = json.loads(path.read_text())
    manifest["files"][0]["name"] = "../config.yaml"
    path.write_text(json.dumps(manifest))


BIAS = "action_model.norm.bias"


def to(state, kind):
    state[BIAS] = state[BIAS].to(kind)


def unlist(folder):
    (folder / "checkpoint_manifest.json").unlink()


def in_json(name, edit):
    def spoil(folder):
        values = json.loads((folder / name).read_text())
        edit(values)
        (folder / name).write_text(json.dumps(values))

    return spoil


def manifest(edit):
    return in_json("checkpoint_manifest.json", edit)


def statistics(edit):
    def spoil(folder):
        in_json("dataset_statistics.json", lambda values: edit(values["franka"]))(folder)
        unlist(folder)

    return spoil


def own(part, **values):
    def spoil(folder):
        config = yaml.safe_load((folder / "config.yaml").read_text())
        config["lamp"]["model"][part] |= values
        (folder / "config.yaml").write_text(yaml.safe_dump(config))
        unlist(folder)

    return spoil


class Trap:
    def __reduce__(self):
        return (open, ("/tmp/lamp-was-here", "w"))


def hide_code(folder):
    with open(folder / "pytorch_model.pt", "wb") as file:
        pickle.dump({"motion_head.x": Trap()}, file, protocol=2)
    (folder / "checkpoint_manifest.json").unlink()


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (remove("config.yaml"), r"has no config\.yaml"),
        (remove("dataset_statistics.json"), r"has no dataset_statistics\.json"),
        (remove("pytorch_model.pt"), r"exactly one \.pt file, found none"),
        (lambda f: shutil.copy(f / "pytorch_model.pt", f / "b.pt"), r"found b\.pt, pytorch_model\.pt"),
        (append("config.yaml"), r"config\.yaml has \d+ bytes, its checkpoint_manifest\.json says \d+"),
        (flip, r"pytorch_model\.pt is not what was published: its SHA-256 differs"),
        (list_elsewhere, r"lists '\.\./config\.yaml', which is no plain file name"),
        (lambda f: (f / "checkpoint_manifest.json").write_text("[1"), "is no manifest of a checkpoint"),
        (hide_code, "holds more than tensors and was not loaded"),
        (lambda f: change(f, lambda s: s.update(extra=torch.ones(1))), "holds extra: its parts must be exactly qwen"),
        (lambda f: change(f, lambda s: s.update(n=3)), "tensors by name and nothing else"),
        (
            lambda f: change(f, lambda s: s.pop("motion_guidance.gate")),
            r"1 names differ: it lacks motion_guidance\.gate",
        ),
        (
            lambda f: change(f, lambda s: s.update({"action_model.norm.bias": torch.ones(7)})),
            r"of another size than its config: action_model\.norm\.bias is \[7\], \[32\] was expected",
        ),
        (
            lambda f: (f / "pytorch_model.pt").write_bytes(b"") or unlist(f),
            "does not read as a PyTorch checkpoint: EOFError",
        ),
        (
            lambda f: change(f, lambda s: to(s, torch.int64)),
            r"floating-point numbers, and action_model\.norm\.bias is int64",
        ),
        (lambda f: change(f, lambda s: to(s, torch.bool)), r"action_model\.norm\.bias is bool"),
        (lambda f: change(f, lambda s: to(s, torch.complex64)), r"action_model\.norm\.bias is complex64"),
        (lambda f: change(f, lambda s: to(s, "meta")), r"action_model\.norm\.bias is without numbers"),
        (
            lambda f: change(f, lambda s: s.update({BIAS: s[BIAS].to_sparse()})),
            r"action_model\.norm\.bias is sparse_coo",
        ),
        (statistics(lambda v: v.update(state=None)), "state: the statistics of the data have no minimum and maximum"),
        (statistics(lambda v: v["state"]["min"].__setitem__(0, float("nan"))), "state: a range needs finite minima"),
        (statistics(lambda v: v["action"]["max"].__setitem__(1, float("inf"))), "action: .* to inf in dimension 1"),
        (statistics(lambda v: v["action"].update(convention=3)), "must say the convention of the actions"),
        (manifest(lambda m: m["files"][0].pop("sha256")), "lacks 'sha256'; name, size and sha256 are needed"),
        (manifest(lambda m: m["files"][0].update(sha256="")), r"must give the size and the SHA-256 of config\.yaml"),
        (manifest(lambda m: m["files"].pop(0)), r"does not list config\.yaml, so nobody knows"),
        (manifest(lambda m: m["files"].pop(1)), r"does not list dataset_statistics\.json"),
        (manifest(lambda m: m.pop("lamp")), r"does not list backbone/"),
        (manifest(lambda m: m.clear()), "it lists no file"),
        (manifest(lambda m: m["lamp"]["files"][0].update(name="backbone/../x")), "which is no plain file name"),
        (manifest(lambda m: m["lamp"]["files"][0].update(name="/etc/passwd")), "which is no plain file name"),
        (append("backbone/chat_template.jinja"), r"backbone/chat_template\.jinja has \d+ bytes"),
        (lambda f: (f / "backbone/extra.json").write_text("{}"), r"does not list backbone/extra\.json"),
        (remove("backbone/config.json"), r"lacks backbone/config\.json, which its checkpoint_manifest\.json lists"),
        (own("motion", layers="x"), r"lamp\.model: motion\.layers must be a whole number, found 'x'"),
        (own("motion", patch_size=0), "patch_size must lie between 1 and 65536, found 0"),
        (own("motion", layers=10**9), "layers must lie between 1 and 1000"),
        (own("fusion_options", heads=0), "heads must lie between 1 and 65536, found 0"),
        (own("backbone_options", prompt="Do it"), r"prompt must be a text with \{instruction\} in it, found 'Do it'"),
        (own("backbone_options", image_size=0), "image_size must lie between 1 and 65536"),
        (swap("dataset_statistics.json", ('"franka"', '"kuka"')), "no statistics for libero or franka; it has: kuka"),
        (swap("config.yaml", ("framework", "frame\tw: [")), "is no config of a published checkpoint"),
    ],
)
def test_every_defect_is_named(export, spoil, says):
    spoil(export)
    with pytest.raises(BadCheckpoint, match=says) as refused:
        load_policy(export, device="cpu")
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("section", "key", "value", "says"),
    [
        ("motion_expert", "use_rotary_embeddings", True, "use_rotary_embeddings must be False, found True"),
        ("motion_expert", "tau_v_infer", 0.15, "tau_v_infer must be a whole number of 10 steps"),
        ("motion_expert", "latent_dim", 7, "latent_dim must be heads times head size"),
        ("motion_expert", "guidance_heads", 0, "heads must lie between 1 and 65536, found 0"),
        ("motion_expert", "guidance_heads", 7, "a number of heads that divides the feature width 192, found 7"),
        ("motion_expert", "guidance_dropout", 5, "dropout must be at least 0 and below 1"),
        ("motion_expert", "patch_size", 0, "patch_size must lie between 1"),
        ("motion_expert", "num_layers", "two", "num_layers must be a whole number, found 'two'"),
        ("motion_expert", "motion_infer_steps", 0, "denoising_steps must lie between 1"),
        ("qwenvl", "vl_hidden_dim", 99, "says vl_hidden_dim 99, the features of its backbone are 192 wide"),
        ("action_model", "num_inference_timesteps", 0, "denoising_steps must lie between 1"),
        ("action_model", "use_adaln", True, "use_adaln must be False"),
        ("vla_data", "image_size", [0, 0], "image_size must lie between 1"),
        ("vla_data", "image_size", [], "image_size must be one side of a square or two that are equal, found"),
        ("vla_data", "image_size", [64, 32], "image_size must be one side of a square or two that are equal, found"),
        ("vla_data", "CoT_prompt", None, r"must be a text with \{instruction\} in it, found None"),
        ("vla_data", "CoT_prompt", "Do it.", r"must be a text with \{instruction\} in it, found 'Do it\.'"),
        ("action_model", "state_dim", 9, "has 8 dimensions of state, the config says 9"),
    ],
)
def test_a_config_of_what_there_is_not_here_is_refused(export, section, key, value, says):
    as_published(export)
    path = export / "config.yaml"
    values = yaml.safe_load(path.read_text())
    values["datasets" if section == "vla_data" else "framework"][section][key] = value
    path.write_text(yaml.safe_dump(values))
    with pytest.raises(BadCheckpoint, match=says):
        load_policy(export, device="cpu")


def test_everything_small_is_looked_at_before_gigabytes_are(export, monkeypatch):
    """The SHA-256 of the .pt comes after all that can be known without it, and nothing is used before it."""
    hashed = []
    monkeypatch.setattr(files, "sha256_of", lambda path: hashed.append(path.suffix) or sha256_of(path))

    def resized(name):
        return lambda s: s.update({name: torch.ones(3)})

    kept = (export / "checkpoint_manifest.json").read_text()
    for spoil, says in (
        (statistics(lambda v: v["state"]["min"].pop()), "as many minima as maxima"),
        (own("motion", layers=2), "24 names differ"),
        (lambda folder: change(folder, resized("extra.x")), "holds extra"),
        (lambda folder: change(folder, resized("action_model.norm.bias")), r"norm\.bias is \[3\]"),
    ):
        folder = shutil.copytree(export, export.parent / "spoilt", dirs_exist_ok=True)
        spoil(folder)
        (folder / "checkpoint_manifest.json").write_text(kept)
        manifest(lambda m, folder=folder: agree(m, folder))(folder)
        with pytest.raises(BadCheckpoint, match=says):
            load_policy(folder, device="cpu")
        assert ".yaml" in hashed and ".pt" not in hashed, says
        shutil.rmtree(folder)
    flip(export)
    with pytest.raises(BadCheckpoint, match="its SHA-256 differs"):
        load_motion_expert(export, device="cpu")


def test_a_file_of_the_old_form_has_no_index_and_is_hashed_before_it_is_read(export, monkeypatch):
    path = export / "pytorch_model.pt"
    torch.save(torch.load(path, weights_only=True), path, _use_new_zipfile_serialization=False)
    manifest(lambda m: agree(m, export))(export)
    assert load_policy(export, device="cpu").model
    manifest(lambda m: m["checkpoint"].update(sha256="0" * 64) or m["files"][-1].update(sha256="0" * 64))(export)
    monkeypatch.setattr(torch, "load", lambda *_, **__: pytest.fail("read before it was verified"))
    with pytest.raises(BadCheckpoint, match="its SHA-256 differs"):
        load_policy(export, device="cpu")


def agree(listed, folder):
    """Let a manifest say what stands in the folder."""
    for record in (*listed["files"], listed["checkpoint"], *listed["lamp"]["files"]):
        path = folder / record["name"]
        record.update(size=path.stat().st_size, sha256=sha256_of(path))


def test_an_export_says_what_its_actions_mean_and_how_it_asks(made, tmp_path):
    told = {"convention": "twist", "dimensions": ["x"] * 6 + ["gripper"], "description": "metres a second"}
    shutil.copytree(made / "stage2", tmp_path / "run")
    in_json("statistics.json", lambda values: values["action"].update(told))(tmp_path / "run")
    assert run_command(lambda: export_command(Export(tmp_path / "run", tmp_path / "export"))) == 0
    for name in ("run", "export"):
        found = load_policy(tmp_path / name, device="cpu").action_convention
        assert found == ActionConvention("twist", ("x",) * 6 + ("gripper",), "metres a second")
    model = run_folder.read_config(made / "stage2").model
    asked = {**model.backbone_options, "prompt": "Do {instruction} now", "weights": "x"}
    values = to_values(replace(model, backbone_options=asked), 192)
    assert values["datasets"]["vla_data"]["CoT_prompt"] == "Do {instruction} now"


def test_what_their_code_would_do_otherwise_is_said_and_no_more():
    paper = ModelConfig(padding="repeat", backbone_options={"tidy": False}, image_orientation="mirrored")
    assert len(differences(paper)) == 2, "gripper and state are always other"
    for change, says in (
        ({"padding": "masked"}, "masks nothing"),
        ({"backbone_options": {}}, "strips spaces and the full stop"),
        ({"backbone_options": {"tidy": False, "min_pixels": 0}}, "enlarge images to 65536 pixels"),
        ({"image_orientation": "upright"}, "sends mirrored images"),
        ({"cameras": ("image",)}, "two cameras, where this run looks at image"),
    ):
        said = differences(replace(paper, **change))
        assert len(said) == 3 and says in said[-1]


def test_a_backbone_that_cannot_be_had_is_named_and_no_preset_of_training(export):
    as_published(export)
    path = export / "config.yaml"
    path.write_text(path.read_text().replace(str(export / "backbone"), "no where"))
    with pytest.raises(
        MissingDependency, match=r"weights no where could not be loaded \(they are a folder here, or"
    ) as refused:
        load_policy(export, device="cpu")
    assert "preset" not in str(refused.value)


def test_motion_of_a_run_of_stage_2_is_what_guides_it(made, tmp_path):
    expected = load_motion_expert(made / "stage1", device="cpu").expert.state_dict()
    found = load_motion_expert(made / "stage2", device="cpu").expert.state_dict()
    assert found.keys() == expected.keys() and all(torch.equal(found[name], expected[name]) for name in found)
    run = shutil.copytree(
        made / "stage2", tmp_path / "joint"
    )  # an objective that taught it on leaves it with what learnt
    learnt = read_tensors(run / "model.safetensors") | {"motion_head.vlm_proj.weight": torch.ones(32, 192)}
    write_sealed_tensors(run / "model.safetensors", learnt)
    assert (load_motion_expert(run, device="cpu").expert.vlm_proj.weight == 1).all()
    config = json.loads((run / "config.json").read_text())
    config["model"]["guided"] = False
    (run / "config.json").write_text(json.dumps(config))
    with pytest.raises(BadRun, match="trained with --motion none: it has no Motion Expert"):
        load_motion_expert(run, device="cpu")


@pytest.mark.parametrize("load", [load_policy, load_motion_expert])
def test_a_file_in_place_of_a_folder_is_answered_in_a_sentence(made, load):
    for name in ("model.safetensors", "curves.png"):
        with pytest.raises(BadRun, match=f"{name} is a file: give the folder of a run of lamp-train"):
            load(made / "stage2" / name, device="cpu")


@pytest.mark.parametrize("spoil", [lambda v: v["action"]["max"].__setitem__(0, float("inf")), lambda v: v.pop("state")])
def test_broken_statistics_of_a_run_are_named(made, tmp_path, spoil):
    run = shutil.copytree(made / "stage2", tmp_path / "run")
    in_json("statistics.json", spoil)(run)
    with pytest.raises(BadRun, match=r"run/statistics\.json does not read as statistics"):
        load_policy(run, device="cpu")


def test_what_is_taken_for_a_name_on_the_hub(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs").mkdir()
    assert (
        is_published("owner/LaMP-LIBERO")
        and is_published("owner/LaMP-LIBERO@8264894")
        and is_published(tmp_path / "x.pt")
    )
    assert not is_published("runs/stage2") and not is_published(tmp_path / "runs") and not is_published("stage2")


def test_a_name_on_the_hub_may_pin_its_revision(export, monkeypatch):
    import huggingface_hub

    asked = []
    hub = export.parent / "hub" / ("8" * 40)
    hub.mkdir(parents=True)

    def downloaded(name, revision, allow_patterns, ignore_patterns):
        """What the patterns ask for, of what the repository has."""
        asked.append((name, revision, "*.pt" in allow_patterns))
        for file in sorted(p.relative_to(export).as_posix() for p in export.rglob("*") if p.is_file()):
            if any(fnmatch(file, p) for p in allow_patterns) and not any(fnmatch(file, p) for p in ignore_patterns):
                (hub / file).parent.mkdir(exist_ok=True)
                shutil.copy(export / file, hub / file)
        return str(hub)

    # As the authors' manifest does: it lists a file that no loader reads.
    (export / "README.md").write_text("about the weights")
    manifest = json.loads((export / "checkpoint_manifest.json").read_text())
    sha256 = sha256_of(export / "README.md")
    manifest["files"].append({"name": "README.md", "size": 17, "sha256": sha256})
    (export / "checkpoint_manifest.json").write_text(json.dumps(manifest))
    (export / "checkpoints").mkdir()
    (export / "checkpoints/step_1.pt").write_bytes(b"another")
    (export / "model.py").write_text("never run")
    monkeypatch.setattr(huggingface_hub, "snapshot_download", downloaded)
    for source, revision in (("owner/LaMP@8264894", "8264894"), ("owner/LaMP", None)):
        asked.clear()
        assert load_policy(source, device="cpu").cameras == ("image", "wrist")
        # The second time by the commit of the first: the repository may have changed in between.
        listed = [] if (hub / "README.md").is_file() and revision is None else [("owner/LaMP", "8" * 40, False)]
        assert asked == [("owner/LaMP", revision, False), *listed, ("owner/LaMP", "8" * 40, True)]
    assert not list(hub.rglob("step_1.pt")) and not list(hub.rglob("*.py"))
    asked.clear()
    with pytest.raises(BadCheckpoint, match="has no statistics for kuka"):
        load_policy("owner/LaMP", device="cpu", statistics_key="kuka")
    assert [large for _, _, large in asked] == [False], "gigabytes were fetched for nothing"


def test_the_manifest_is_right_and_what_stands_is_not_overwritten(made):
    manifest = json.loads((made / "export/checkpoint_manifest.json").read_text())
    for record in manifest["files"]:
        assert sha256_of(made / "export" / record["name"]) == record["sha256"]
    with pytest.raises(UsageError, match="exists already"):
        export_command(Export(made / "stage2", made / "export"))
    with pytest.raises(UsageError, match="holds a run of stage 1"):
        export_command(Export(made / "stage1", made / "other"))
    assert not list(made.glob(".*partial"))


def test_where_nothing_can_be_written_nothing_is_said_to_stay(made, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    for output in (tmp_path / "file" / "out", "/proc/out"):
        assert run_command(lambda output=output: export_command(Export(made / "stage2", Path(output)))) == 1
        said = capsys.readouterr().err
        assert f"nothing was written to {output}" in said and "what was finished stays" not in said
