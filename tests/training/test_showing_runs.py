"""What is seen of a run while it trains: lines, trackers, a profile."""

import json
import math

import pytest
import torch
from fixtures.shard import write_shards
from training.test_model_training import OPTIONS, smaller

from lamp_model.training import tracking
from lamp_model.training.clock import PHASES
from lamp_model.training.metrics import MetricsLog, read_metrics
from lamp_model.training.request import Request
from lamp_model.training.run import prepare, train
from lamp_model.training.tracking import TrackedRun, Trackers, check_trackers, trackers
from lamp_model.training.watch import Watch
from schemas.errors import MissingDependency


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Both stages with TensorBoard, the first with a profile."""
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("shown")
    write_shards(folder / "shards", episodes=2, frames=2)
    options = {**OPTIONS, "steps": 4, "val_fraction": 0.5}
    for stage, profile in ((1, 1), (2, 0)):
        first = folder / "stage1" if stage == 2 else None
        run = Request(
            stage,
            folder / "shards",
            folder / f"stage{stage}",
            first,
            options=options,
            device="cpu",
            track=("tensorboard",),
            profile=profile,
        )
        train(smaller(prepare(run)))
    return folder


def scalars(folder):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    found = EventAccumulator(str(folder / "tensorboard"))
    found.Reload()
    return {tag: {e.step: e.value for e in found.Scalars(tag)} for tag in found.Tags()["scalars"]}


@pytest.mark.parametrize("stage", [1, 2])
def test_each_line_says_where_time_and_memory_go_and_which_module_moves(folder, stage):
    lines = [line for line in read_metrics(folder / f"stage{stage}/metrics.jsonl") if "loss" in line]
    assert [line["step"] for line in lines] == [1, 2, 3, 4]
    modules = ["motion_head"] if stage == 1 else ["motion_guidance", "action_model"]
    for line in lines:
        shares = [line[f"share_{phase}"] for phase in PHASES]
        assert all(0 < share < 1 for share in shares) and sum(shares) <= 1
        assert line["memory_gb"] > 0 and "mfu" not in line  # of a CPU no peak is known
        norms = [line[f"gradient_norm_{module}"] for module in modules]
        assert math.hypot(*norms) == pytest.approx(line["gradient_norm"], rel=1e-4)
        assert ("gate" in line) == (stage == 2)
    if stage == 2:
        assert all(0 < line["gate"] < 1 for line in lines) and lines[0]["gate"] == pytest.approx(0.5, abs=0.01)


@pytest.mark.parametrize("stage", [1, 2])
def test_tensorboard_has_every_number_of_the_lines(folder, stage):
    shown = scalars(folder / f"stage{stage}")
    for line in read_metrics(folder / f"stage{stage}/metrics.jsonl"):
        for name, value in line.items():
            if name == "step" or not isinstance(value, int | float):
                continue
            tag = name
            for group in ("share", "gradient_norm"):
                tag = tag.replace(f"{group}_", f"{group}/", 1) if tag.startswith(f"{group}_") else tag
            assert shown[tag][line["step"]] == pytest.approx(value, rel=1e-5), name


def test_a_profile_is_a_trace_that_tools_open(folder):
    trace = json.loads((folder / "stage1/profile/steps-1.json").read_text())
    names = {event.get("name", "") for event in trace["traceEvents"]}
    assert any("addmm" in name for name in names)
    assert not list((folder / "stage1/profile").glob("*.partial")) and not (folder / "stage2/profile").exists()


def test_a_resumed_run_hides_what_it_repeats(tmp_path):
    for done, values in ((0, {1: 5.0, 2: 6.0, 3: 7.0}), (1, {2: 8.0, 3: 9.0})):
        with trackers(("tensorboard",), TrackedRun(tmp_path, {"a": 1}, done)) as opened:
            log = MetricsLog(tmp_path / "metrics.jsonl", done, opened)
            for step, value in values.items():
                log.write(step=step, loss=value)
    assert scalars(tmp_path)["loss"] == {1: 5.0, 2: 8.0, 3: 9.0}
    assert [line["loss"] for line in read_metrics(tmp_path / "metrics.jsonl")] == [5.0, 8.0, 9.0]


def test_a_tracker_that_fails_is_closed_and_the_lines_go_on(tmp_path, monkeypatch, capsys):
    class Broken:
        def write(self, step, values):
            raise OSError(28, "No space left on device")

        def close(self):
            raise AssertionError("closed although it was given up")

    module = tracking._module("tensorboard")
    monkeypatch.setattr(module, "open_tracker", lambda run: Broken())
    with trackers(("tensorboard",), TrackedRun(tmp_path, {}, 0)) as opened:
        log = MetricsLog(tmp_path / "metrics.jsonl", 0, opened)
        log.write(step=1, loss=1.0)
        log.write(step=2, loss=2.0)
    said = capsys.readouterr().out
    assert said.count("tensorboard shows this run no longer: [Errno 28] No space left on device; training goes on") == 1
    assert len(read_metrics(tmp_path / "metrics.jsonl")) == 2


def test_a_missing_library_is_one_sentence_before_anything_begins(monkeypatch):
    monkeypatch.setattr(tracking, "find_spec", lambda name: None)
    with pytest.raises(MissingDependency, match=r"wandb is not installed, which --track wandb needs: pip"):
        check_trackers(("wandb",))
    with pytest.raises(ValueError, match="track must be tensorboard, wandb or trackio, found 'visdom'"):
        check_trackers(("visdom",))
    check_trackers(())


def test_no_tracker_shows_nothing(tmp_path):
    Trackers().write(1, {"loss": 1.0})
    assert not list(tmp_path.iterdir())


def test_mfu_is_what_the_model_needs_of_what_the_devices_can_do():
    watch = Watch(flops=2e12, peak=1e14)
    assert watch.mfu(rate=10.0, devices=1) == pytest.approx(0.2) and watch.mfu(20.0, 4) == pytest.approx(0.1)
    assert Watch(flops=2e12).mfu(1.0, 1) is None
