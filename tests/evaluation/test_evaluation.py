"""The measure of flow is itself right: closed-form labels get the numbers that they must."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from jobs.lamp_data import main
from pipeline.evaluation.bodies import Body, PointClasses
from pipeline.evaluation.by_body import bodies_of, measure_bodies
from pipeline.evaluation.ground_truth import from_rigid_world, libero_episodes
from pipeline.evaluation.metrics import measure
from pipeline.evaluation.pictures import draw_worst_bodies, title_of
from pipeline.evaluation.report import as_json, as_markdown, as_text
from pipeline.evaluation.run import BASELINE, BadBody, Evaluation, evaluate
from pipeline.evaluation.scoring import ScoredWindow, compare, nothing_labelled, nothing_moves, windows_labelled
from pipeline.evaluation.sweep import choices
from pipeline.evaluation.synthetic_scene import moving_card
from pipeline.recipe import QualityConfig
from schemas.cameras import lift, project
from schemas.episode import BadEpisode
from schemas.plugins import PluginChoice
from schemas.scene_flow import MOVES, SceneFlow, keypoint_grid

DATA = Path(__file__).parents[2] / "data" / "libero"
WORLD = moving_card(frames=30, size=(160, 120), camera_moves=False)
EXACT = WORLD.flow(0, keypoint_grid(*WORLD.size), 24)
EXACT = SceneFlow(EXACT.uvz, EXACT.visible, EXACT.valid)
EVERY = np.ones(len(EXACT.uvz), bool)


def measured(label: SceneFlow, exact: SceneFlow = EXACT) -> dict:
    scores = compare(label, exact, WORLD.intrinsics, WORLD.size)
    return measure([ScoredWindow("episode", 0, label, exact, scores, None)])


def exact_label() -> SceneFlow:
    return SceneFlow(EXACT.uvz.copy(), EXACT.visible.copy(), EXACT.visible.copy())


def shifted(points: np.ndarray, by: tuple[float, float, float]) -> SceneFlow:
    """The exact label with some points moved in the camera, in metres, from step 1 on."""
    label = exact_label()
    metres = lift(label.uvz * [*WORLD.size, 1], WORLD.intrinsics)
    metres[points, 1:] += by
    label.uvz[:] = project(metres, WORLD.intrinsics) / [*WORLD.size, 1]
    return label


def test_an_exact_label_is_perfect():
    m = measured(exact_label())
    for kind in ("moving", "static", "all"):
        assert m[kind]["points"] > 100 and m[kind]["kept"] == 1
        assert m[kind]["cm"]["mean"] < 1e-9 and m[kind]["within_cm"]["0.5"] == 1
    assert m["apd_3d"] == m["jaccard_3d"] == m["visibility_accuracy"] == 1
    assert m["occluded"]["points"] > 50 and m["occluded"]["kept"] == 0
    assert m["false_movers"] == {"mean": 0, "max": 0, "snapped_movers_mean": 0}


def test_nothing_moves_is_wrong_by_exactly_the_motion():
    m = measured(nothing_moves(EXACT))
    metres = lift(EXACT.uvz * [*WORLD.size, 1], WORLD.intrinsics)
    away = 100 * np.linalg.norm(metres - metres[:, :1], axis=-1)[:, 1:]
    moving = (away.max(1) > 100 * MOVES)[:, None] & EXACT.visible[:, 1:]
    assert m["moving"]["cm"]["mean"] == pytest.approx(away[moving].mean())
    assert m["moving"]["points"] == moving.sum()
    assert m["static"]["within_cm"]["0.5"] == 1
    assert m["by_step"]["moving"][24]["cm"]["mean"] > m["by_step"]["moving"][1]["cm"]["mean"]


def test_an_error_of_three_centimetres_is_measured_as_such_and_absence_is_no_error():
    m = measured(shifted(EVERY, (0, 0, 0.03)))
    assert m["all"]["cm"]["median"] == pytest.approx(3) and m["all"]["cm"]["p90"] == pytest.approx(3)
    assert m["all"]["within_cm"] == {"0.5": 0, "2.0": 0, "5.0": 1, "10.0": 1}
    half = shifted(EVERY, (0, 0, 0.03))
    half.valid[::2] = False
    absent = measured(half)
    assert absent["all"]["cm"]["median"] == pytest.approx(3)
    assert absent["all"]["kept"] == pytest.approx(0.5, abs=0.05)
    assert absent["apd_3d"] < m["apd_3d"] and absent["jaccard_3d"] < m["jaccard_3d"]


def test_a_still_point_that_a_label_moves_is_a_false_mover_and_drift():
    static = np.ptp(EXACT.uvz, axis=1).max(-1) < 1e-6
    some = np.flatnonzero(static & EXACT.visible.all(1))[:7]
    m = measured(shifted(some, (0.05, 0, 0)))
    assert m["false_movers"]["mean"] == 7 and m["false_movers"]["max"] == 7
    assert m["drift_cm"]["max"] == pytest.approx(5)
    assert m["moving"]["cm"]["mean"] < 1e-9


def test_a_label_at_a_hidden_point_is_counted_as_such():
    hidden = ~EXACT.visible[:, 1:] & EXACT.valid[:, 1:]
    label = exact_label()
    label.visible[:] = label.valid[:] = True
    m = measured(label)
    assert m["occluded"]["kept"] == 1 and m["occluded"]["points"] == hidden.sum()
    assert m["visibility_accuracy"] == pytest.approx(1 - hidden.sum() / EXACT.valid[:, 1:].sum())
    assert m["jaccard_3d"] < 1 == m["apd_3d"]


def test_steps_after_the_end_do_not_count():
    exact = from_rigid_world(WORLD, "cut", references=(20,), fixed=True)
    ((_, flow),) = exact.windows
    assert flow.valid[:, :10].all() and not flow.valid[:, 10:].any()
    m = measured(nothing_moves(flow), flow)
    assert m["all"]["points"] + m["occluded"]["points"] == 9 * len(flow.uvz)


def test_lk_on_the_rigid_world_is_as_true_as_the_docs_say():
    world = from_rigid_world(moving_card(frames=40, size=(192, 144), camera_moves=False), "held", (0, 5), True)
    parts = {name: [PluginChoice(n)] for name, n in (("tracker", "lk"), ("depth", "recorded"), ("camera", "static"))}
    baseline, lk = evaluate("world", [world], choices([PluginChoice("tracked")], parts), QualityConfig())
    assert baseline.choice == BASELINE and baseline.metrics and lk.metrics
    assert lk.metrics["moving"]["kept"] > 0.92 and lk.metrics["moving"]["within_cm"]["2.0"] > 0.98
    assert lk.metrics["static"]["kept"] > 0.97 and lk.metrics["static"]["within_cm"]["0.5"] > 0.995
    assert lk.metrics["occluded"]["kept"] < 0.01 and lk.metrics["false_movers"]["max"] <= 2
    assert lk.metrics["moving"]["cm"]["mean"] < 0.04 * baseline.metrics["moving"]["cm"]["mean"]
    assert lk.worst[0].found.wrong >= lk.worst[-1].found.wrong
    card = lk.metrics["by_body"]["object"]
    assert card["share_of_moving"] == 1 and card["cm"] == lk.metrics["moving"]["cm"]
    assert lk.metrics["by_body"]["arm"]["points"] == 0 and lk.metrics["bodies_wrong"] == {"wrong": 0, "of": 2}
    assert baseline.metrics["bodies_wrong"] == {"wrong": 2, "of": 2}
    table = as_text([baseline, lk])
    assert "objects and parts" in table and "2 of 2" in table and "card (object)" in table


def test_a_part_that_cannot_serve_an_episode_says_so_and_the_rest_goes_on():
    moving = from_rigid_world(replace(WORLD), "moves", (0,), fixed=False)
    parts = {
        "tracker": [PluginChoice("lk")],
        "depth": [PluginChoice("recorded")],
        "camera": [PluginChoice("static"), PluginChoice("recorded")],
    }
    _, static, recorded = evaluate("world", [moving], choices([PluginChoice("tracked")], parts), QualityConfig())
    assert static.metrics is not None and "moves" in static.refused[0]
    assert recorded.metrics is not None and not recorded.refused
    # The refused points count, so that refusing what is hard makes nothing look better.
    assert (static.metrics["labelled"], static.metrics["windows"]) == (0, 1)
    assert static.metrics["all"]["points"] == recorded.metrics["all"]["points"]
    assert static.metrics["all"]["kept"] == 0 and static.metrics["false_movers"]["mean"] is None
    assert static.metrics["all"]["cm"]["mean"] is None and static.metrics["apd_3d"] == 0 == static.metrics["jaccard_3d"]
    assert "0 of 1" in as_text([static]) and "0 of 1" in as_markdown([static])


def test_refusing_half_of_the_windows_halves_coverage_and_leaves_errors_as_they_are():
    still = from_rigid_world(WORLD, "still", (0,), fixed=True, horizon=24)
    (absent,) = windows_labelled(still, nothing_labelled, refused=True)
    full = ScoredWindow(
        "a", 0, EXACT, EXACT, compare(shifted(EVERY, (0, 0, 0.03)), EXACT, WORLD.intrinsics, WORLD.size), None
    )
    alone, both = measure([full]), measure([full, absent])
    assert (both["windows"], both["labelled"]) == (2, 1)
    for kind in ("moving", "static", "all"):
        assert both[kind]["points"] == 2 * alone[kind]["points"]
        assert both[kind]["kept"] == pytest.approx(alone[kind]["kept"] / 2)
        assert both[kind]["cm"] == alone[kind]["cm"] and both[kind]["within_cm"] == alone[kind]["within_cm"]
    assert both["apd_3d"] == pytest.approx(alone["apd_3d"] / 2)


def test_knowing_where_a_hidden_point_is_and_saying_that_it_is_hidden_costs_nothing():
    label = exact_label()
    label.valid[:] = EXACT.valid  # positions of hidden points too, as the simulator knows them
    m = measured(label)
    assert m["occluded"]["kept"] == 1 and m["occluded"]["taken_for_seen"] == 0
    assert m["jaccard_3d"] == m["apd_3d"] == m["visibility_accuracy"] == 1
    label.visible[:] = True
    claimed = measured(label)
    seen, known = (np.count_nonzero(which[:, 1:]) for which in (EXACT.visible, EXACT.valid))
    assert claimed["occluded"]["taken_for_seen"] == 1 and claimed["jaccard_3d"] == pytest.approx(seen / known)
    label.visible[:] = False
    assert measured(label)["jaccard_3d"] == 0


def classes(*names: str) -> PointClasses:
    """Every point on the last named body; texture that grows from point to point."""
    bodies = tuple(Body(name, "part") for name in names)
    return PointClasses(bodies, np.full(len(EVERY), len(bodies) - 1), np.linspace(0, 32, len(EVERY)))


def test_bodies_and_textures_are_counted_each_by_itself():
    """Of two bodies one is right and one is 3 cm off from the tenth step on."""
    moving = np.flatnonzero(compare(exact_label(), EXACT, WORLD.intrinsics, WORLD.size).moving)
    wrong, right = moving[::2], moving[1::2]
    label = shifted(wrong, (0, 0, 0.03))
    label.uvz[:, :10] = EXACT.uvz[:, :10]
    on = PointClasses((Body("knob", "part"), Body("bowl", "object")), np.full(len(EVERY), -1), np.full(len(EVERY), 3.0))
    on.body[wrong], on.body[right], on.contrast[right] = 0, 1, 20.0
    window = ScoredWindow("a", 0, label, EXACT, compare(label, EXACT, WORLD.intrinsics, WORLD.size), None, classes=on)
    found = measure_bodies([window])
    part, thing, both = (found["by_body"][name] for name in ("part", "object", "objects and parts"))
    assert thing["within_cm"]["2.0"] == 1 and thing["cm"]["mean"] < 1e-9
    assert part["by_step"][8]["within_cm"]["2.0"] == 1 and part["by_step"][16]["within_cm"]["2.0"] == 0
    assert part["share_of_moving"] + thing["share_of_moving"] == pytest.approx(1) == both["share_of_moving"]
    assert both["points"] == part["points"] + thing["points"] and found["by_body"]["arm and hand"]["points"] == 0
    assert found["by_texture"]["objects and parts"]["poor"]["points"] == part["points"]
    assert found["by_texture"]["objects and parts"]["rich"]["points"] == thing["points"]
    assert found["bodies_wrong"] == {"wrong": 1, "of": 2}
    named = {b.body.name: b for b in bodies_of(window)}
    assert named["knob"].whole and not named["bowl"].whole and named["bowl"].wrong == 0
    assert named["knob"].wrong == np.count_nonzero(label.valid[wrong, 10:])


def test_where_bodies_are_not_known_nothing_is_said_of_them():
    label = exact_label()
    window = ScoredWindow("a", 0, label, EXACT, compare(label, EXACT, WORLD.intrinsics, WORLD.size), None)
    assert measure_bodies([window]) == {}
    (whole,) = bodies_of(window)
    assert whole.body is None and whole.points.all() and not whole.whole


def test_damaged_exact_flow_is_named_and_the_other_episode_still_counts(tmp_path):
    shutil.copytree(DATA, tmp_path / "libero")
    broken = next((tmp_path / "libero").rglob("*_demo_0_gt.npz"))
    broken.write_bytes(broken.read_bytes()[:5000])
    found = list(libero_episodes(tmp_path / "libero"))
    assert isinstance(found[0], BadEpisode) and "_demo_0_gt.npz" in str(found[0])
    assert not isinstance(found[1], BadEpisode)
    parts = {"tracker": ["lk", "dis"], "depth": ["recorded"], "camera": ["recorded"]}
    chosen = choices(
        [PluginChoice("tracked")], {name: [PluginChoice(n) for n in names] for name, names in parts.items()}
    )
    baseline, *rest = evaluate("files", found[:1], chosen, QualityConfig())
    assert len(baseline.refused) == 1 and not any(r.refused for r in rest)
    assert as_text([baseline, *rest]).count("_demo_0_gt.npz") == 1
    assert [row["refused"] for row in as_json(rest)] == [[], []]


def run(monkeypatch, *words: str) -> int:
    monkeypatch.setattr("sys.argv", ["lamp-data", "evaluate", *words])
    with pytest.raises(SystemExit) as ended:
        main()
    return int(ended.value.code or 0)


def test_a_picture_says_of_how_many_and_is_not_cut():
    label, (width, height) = shifted(EVERY, (0, 0, 0.03)), WORLD.size
    scores = compare(label, EXACT, WORLD.intrinsics, WORLD.size)
    name = "a/pick_up_the_alphabet_soup_that_stands_behind_it_and_place_it_in_the_basket_demo.hdf5:demo_0"
    picture = np.zeros((height, width, 3), np.uint8)
    wrong = int(np.count_nonzero(scores.kept))
    (body,) = bodies_of(ScoredWindow(name, 7, label, EXACT, scores, None, classes=classes("wooden_cabinet_1_top")))
    clip = BadBody(body, 24, picture)
    choice = "dis:preset=ultrafast,window=21 + depth-anything-v2:weights=/models/small + estimated:pixel_noise=2"
    figure = draw_worst_bodies([Evaluation("rigid-world", choice, worst=[clip])])
    title = title_of(clip)
    assert f"{wrong:,} of {wrong:,} labels wrong, mean error 3.00 cm" in title.replace("\n", " ")
    assert "wooden_cabinet_1_top (part), step 24" in title
    assert "demo.hdf5:demo_0, frame 7" in title.replace("\n", "")
    figure.canvas.draw()
    wide, high = figure.canvas.get_width_height()
    texts = [figure._suptitle, *(band._suptitle for band in figure.subfigs)]
    texts += [axes._left_title for band in figure.subfigs for axes in band.axes]
    assert choice in " ".join(texts[1].get_text().split("\n"))
    for box in (text.get_window_extent() for text in texts):
        assert box.x0 >= 0 and box.x1 <= wide and box.y0 >= 0 and box.y1 <= high


def test_the_command_gives_tables_json_and_a_picture(tmp_path, monkeypatch, capsys):
    picture = tmp_path / "worst.png"
    words = ("--truth", "files", "--input", str(DATA), "--limit", "1", "--picture", str(picture))
    assert run(monkeypatch, *words) == 0
    assert "lk + recorded + static" in capsys.readouterr().out
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert run(monkeypatch, *words, "--json") == 0
    baseline, lk = json.loads(capsys.readouterr().out)
    assert baseline["choice"] == BASELINE and lk["metrics"]["windows"] == 2
