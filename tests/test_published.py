"""Checkpoints in the authors' layout: there and back without a bit changed, and every defect named."""

import json
import pickle
import shutil
from fnmatch import fnmatch

import numpy as np
import pytest
import torch
import yaml
from shard_fixture import write_shards
from test_model_training import observation, trained

from jobs.command_line import UsageError, run_command
from jobs.export_command import Export, export_command
from lamp_model.checkpoints import BadCheckpoint
from lamp_model.policy import load_motion_expert, load_policy
from lamp_model.published.config import read_config
from lamp_model.published.files import is_published
from schemas.files import sha256_of


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A run and its export."""
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("published")
    data = write_shards(folder / "shards", episodes=3, frames=2)
    trained(1, data, folder / "stage1", steps=2)
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
    expected = load_motion_expert(made / "stage1", device="cpu").state_dict()
    shutil.copytree(made / "export", tmp_path / "motion")
    only = {"motion_head." + name: tensor for name, tensor in expected.items()}
    change(tmp_path / "motion", lambda state: (state.clear(), state.update(only)))
    (tmp_path / "motion/dataset_statistics.json").unlink()
    for source in (made / "export", made / "export/pytorch_model.pt", tmp_path / "motion"):
        found = load_motion_expert(source, device="cpu")
        assert not any(m.training for m in found.modules())
        assert all(torch.equal(tensor, expected[name]) for name, tensor in found.state_dict().items())
    shutil.copy(made / "export/dataset_statistics.json", tmp_path / "motion")
    with pytest.raises(BadCheckpoint, match=r"lacks action_model, motion_guidance, qwen_vl_interface"):
        load_policy(tmp_path / "motion", device="cpu")


def test_their_config_switches_compatibility_on(export):
    as_published(export)
    policy = load_policy(export, device="cpu")
    model = policy.model
    assert model.config.padding == "repeat" and policy.pil_size == 64
    assert not model.qwen_vl_interface.config.tidy
    images, state = observation()
    actions = policy.predict(images, "open the drawer", state)
    assert set(np.unique(actions[:, -1])) <= {0.0, 1.0}
    seen = policy.state_range.normalise(torch.tensor([[9.0] * 7 + [0.6], [-9.0] * 7 + [0.4]]))
    assert seen[:, -1].tolist() == [1.0, 0.0] and seen[:, 2].tolist() == [0.0, 0.0] and seen.abs().max() > 1
    turned = np.array(state)
    turned[2] += 5
    assert np.array_equal(policy.predict(images, "open the drawer", turned), actions)


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
        ("action_model", "use_adaln", True, "use_adaln must be False"),
        ("action_model", "state_dim", 9, "has 8 dimensions of state, the config says 9"),
    ],
)
def test_a_config_of_what_there_is_not_here_is_refused(export, section, key, value, says):
    as_published(export)
    path = export / "config.yaml"
    values = yaml.safe_load(path.read_text())
    values["framework"][section][key] = value
    path.write_text(yaml.safe_dump(values))
    with pytest.raises(BadCheckpoint, match=says):
        load_policy(export, device="cpu")


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

    (export / "checkpoints").mkdir()
    (export / "checkpoints/step_1.pt").write_bytes(b"another")
    (export / "model.py").write_text("never run")
    monkeypatch.setattr(huggingface_hub, "snapshot_download", downloaded)
    for source, revision in (("owner/LaMP@8264894", "8264894"), ("owner/LaMP", None)):
        asked.clear()
        assert load_policy(source, device="cpu").cameras == ("image", "wrist")
        # The second time by the commit of the first: the repository may have changed in between.
        assert asked == [("owner/LaMP", revision, False), ("owner/LaMP", "8" * 40, True)]
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
