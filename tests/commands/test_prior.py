"""The experiment on the prior: its commands fit together, and what is done is not done again."""

import importlib
import json
import subprocess
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
import tyro

from jobs import lamp_data, lamp_policy
from jobs.cli.train_options import Train
from jobs.commands.merge import Merge

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def prior(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("prior")


@pytest.fixture
def of(prior, tmp_path):
    further = tuple(arm for arm in prior.FURTHER if arm != "scratch")
    return prior.Experiment(
        tmp_path / "out", arms=(*prior.MAIN, *further), seeds=(0, 1), tasks=(0, 3), perturb=("light:1",)
    )


def output_of(step) -> Path | None:
    return Path(step.command[step.command.index("--output") + 1]) if "--output" in step.command else step.keep


def told(words, option) -> str | None:
    """What a command is given for an option; None where it is not."""
    return words[words.index(option) + 1] if option in words else None


@pytest.mark.parametrize("backbone", ["none", "full"])
def test_each_step_takes_what_an_earlier_one_made(prior, of, backbone):
    made: set[str] = set()
    for step in prior.steps_of(replace(of, train_backbone=backbone)):
        words = [word.removeprefix("qwen3-vl:weights=") for word in step.command]
        taken = {word for word in words if word.startswith(str(of.folder))} - {str(output_of(step))}
        assert all(any(word == one or word.startswith(f"{one}/") for one in made) for word in taken), step
        assert str(output_of(step)) not in made
        made.add(str(output_of(step)))


def test_every_command_is_one_that_a_person_can_type(prior, of):
    longest: dict[tuple[str, str], list[str]] = {}
    for step in prior.steps_of(replace(of, train_backbone="full", arms=("motion", "none"))):
        program, *words = step.command
        key = program, words[1] if program == "lamp-train" and words[0] == "--stage" else words[0]
        longest[key] = max(longest.get(key, []), words, key=len)
    for (program, first), words in longest.items():
        if program == "python":
            assert (BENCHMARKS.parent / first).is_file()
        elif program == "lamp-train":
            tyro.cli(Merge if first == "merge" else Train, args=words[first == "merge" :])
        elif program == "lamp-policy":
            tyro.cli(lamp_policy.load_command(first)[0], args=words[1:])
        else:
            tyro.cli(lamp_data.OPTIONS[first], args=words[1:])
    assert {program for program, _ in longest} == {"lamp-data", "lamp-train", "lamp-policy", "python"}


def test_what_stage_1_taught_the_backbone_is_told_apart_by_a_policy_without_it(prior, of):
    with pytest.raises(ValueError, match="the arm scratch is none"):
        replace(of, arms=("scratch",))
    arms = ("none", "scratch", "end-to-end")
    steps = {step.name: step.command for step in prior.steps_of(replace(of, arms=arms, train_backbone="full"))}
    none, scratch, learning = (steps[f"stage2-demos5-{arm}-seed1"] for arm in arms)
    assert [word for word in none if word not in scratch] == [
        "--backbone", f"qwen3-vl:weights={of.folder / 'stage1-whole' / 'backbone'}",
        str(of.folder / "policies/demos5-none-seed1"),
    ]  # fmt: skip
    assert [word for word in learning if word not in scratch][:-1] == [
        "--train-backbone",
        "full",
        "--backbone-rate",
        "5e-5",
    ]


def test_all_arms_act_by_the_same_protocol(prior, of):
    evaluations = [step.command for step in prior.steps_of(replace(of, execute=4))
                   if step.command[:2] == ("lamp-policy", "evaluate")]  # fmt: skip
    assert evaluations and all(words[words.index("--execute") + 1] == "4" for words in evaluations)
    assert not any("--execute" in step.command for step in prior.steps_of(of))


def test_stage_1_may_see_the_flow_of_more_tasks(prior, of, tmp_path):
    places = {"demonstrations": "few", "fresh": "fresh", "flow_from": "more"}
    more = replace(of, **{name: tmp_path / folder for name, folder in places.items()})
    inputs = {step.name: step.command[step.command.index("--input") + 1]
              for step in prior.steps_of(more) if step.kind == "build"}  # fmt: skip
    assert {name: Path(path).name for name, path in inputs.items()} == {
        "flow": "more", "actions-5": "few", "actions-20": "few", "judged-flow": "fresh", "judged": "fresh",
    }  # fmt: skip


def test_arms_differ_in_the_prior_alone(prior, of):
    for backbone in ("none", "full"):
        steps = {step.name: step.command for step in prior.steps_of(replace(of, train_backbone=backbone))}
        with_prior, without = (steps[f"stage2-demos5-{arm}-seed1"] for arm in prior.MAIN)
        assert [word for word in with_prior if word not in without] == [
            str(of.folder / "stage1"), str(of.folder / "policies/demos5-motion-seed1")
        ]  # fmt: skip
        own = [word for word in without if word not in with_prior]
        taught = ["--backbone", f"qwen3-vl:weights={of.folder / 'stage1-whole/backbone'}"] * (backbone == "full")
        assert own == ["none", *taught, str(of.folder / "policies/demos5-none-seed1")]


def test_demonstrations_that_are_judged_on_are_never_learnt_from(prior, of, tmp_path):
    steps = {step.name: step.command for step in prior.steps_of(of)}

    def names(step):
        return {word for word in steps[step] if word.startswith("demo_")}

    assert names("actions-5") < names("actions-20") == names("flow")
    sources = {name: told(steps[name], "--input") for name in ("actions-20", "judged", "judged-flow")}
    assert sources["judged"] == sources["judged-flow"] != sources["actions-20"]
    collected = {told(steps[name], "--output"): told(steps[name], "--seed") for name in ("collect", "collect-judged")}
    assert set(collected.values()) == {None, "2"} and {Path(source).parent for source in sources.values()} == {
        Path(folder) for folder in collected
    }
    given = replace(of, demonstrations=tmp_path / "mine", fresh=tmp_path / "others")
    steps = {step.name: step.command for step in prior.steps_of(given)}
    assert not {"collect", "collect-judged"} & set(steps) and str(tmp_path / "others") in steps["judged"]


def test_parts_are_chosen_by_kind_or_name_and_a_wrong_one_is_answered(prior, of):
    steps = list(prior.steps_of(of))
    chosen = [step.name for step in prior.chosen(steps, ["flow", "collect"])]
    assert chosen == ["collect", "flow", "collect-judged"]
    assert prior.chosen(steps, None) == steps
    with pytest.raises(ValueError, match=r"there is no part .stage3.; there are .*evaluate"):
        prior.chosen(steps, ["stage3"])


def test_what_is_done_is_left_out_and_what_was_begun_goes_on(prior, tmp_path, capfd):
    script = "import pathlib, sys; p = pathlib.Path(sys.argv[1]); p.write_text('x'); sys.exit(int(sys.argv[2]))"

    def asked(code, grows=False):
        words = ("python", "-c", script, str(tmp_path / "begun"))
        return prior.Step("one", "stage1", (*words, code), tmp_path / "begun", ("python", "-c", "print('on')"), grows)

    assert not prior.is_done(asked("3"), tmp_path)
    with pytest.raises(subprocess.CalledProcessError):
        prior.run(asked("3"), tmp_path)
    assert not prior.is_done(asked("3"), tmp_path)
    prior.run(asked("3"), tmp_path)  # begun, so it goes on by its other command
    assert "on" in capfd.readouterr().out.splitlines()
    assert prior.is_done(asked("3"), tmp_path)
    note = json.loads((tmp_path / "one.json").read_bytes())
    assert note["done"] and note["command"] == list(asked("3").command) and note["seconds"] >= 0
    with pytest.raises(prior.OtherCommand, match="one was done by another command"):
        prior.is_done(asked("4"), tmp_path)
    assert not prior.is_done(asked("4", grows=True), tmp_path)


def test_what_a_step_prints_is_kept_whole(prior, tmp_path):
    prior.run(prior.Step("said", "measure", ("python", "-c", "print('a table')"), keep=tmp_path / "said.txt"), tmp_path)
    assert (tmp_path / "said.txt").read_text() == "a table\n"


def test_all_arms_are_judged_on_the_same_motions_that_look_otherwise(prior, of):
    shifted = replace(of, perturb=("camera:0.25", "light:1"), judged=3, pushes=2.0)
    steps = {step.name: step for step in prior.steps_of(shifted)}
    plain, other = (steps[f"collect-judged{suffix}"].command for suffix in ("", "-camera-0.25"))
    own = str(output_of(steps["collect-judged-camera-0.25"]))
    assert [word for word in other if word not in plain] == ["--perturb", "camera:0.25", own]
    assert set(plain) - set(other) == {str(output_of(steps["collect-judged"]))}
    assert told(plain, "--demos") == "3" and told(plain, "--pushes") == "2"
    judged = [step for step in steps.values() if step.name.startswith("judge-") and step.name.endswith("-camera-0.25")]
    assert len(judged) == len(of.policies())
    assert {told(step.command, "--data") for step in judged} == {str(of.folder / "judged-camera-0.25")}
    assert all(step.kind == "robustness" for step in judged)
    (one,) = (step for step in judged if "demos5-none-seed1" in step.name)
    assert output_of(one) == of.folder / "judged-actions" / "demos5-none-seed1-camera-0.25.json"


def test_a_finished_experiment_goes_on_with_robustness_alone(prior, of):
    steps = list(prior.steps_of(replace(of, perturb=("light:1", "camera:0.5"))))
    whole = [step.name for step in steps]
    assert len(set(whole)) == len(whole)
    before = {step.name for step in prior.steps_of(replace(of, perturb=()))}
    assert before | {step.name for step in prior.chosen(steps, ["robustness"])} == set(whole)


def test_what_was_given_to_judge_on_is_not_collected_under_a_perturbation(prior, of, tmp_path):
    """The same motions cannot be seen otherwise: policies act under it only."""
    given = replace(of, demonstrations=tmp_path / "mine", fresh=tmp_path / "others")
    robust = [step.name for step in prior.steps_of(given) if step.kind == "robustness"]
    assert robust and all(name.startswith("evaluate-") for name in robust)
    for alone in ({"demonstrations": tmp_path}, {"fresh": tmp_path}):
        with pytest.raises(ValueError, match="--demonstrations and --fresh go together"):
            replace(of, **alone)


@pytest.mark.parametrize(("options", "said"), [
    ({"vary": ("camera:0.5",), "perturb": ("camera:1",)}, "names camera twice"),
    ({"perturb": ("camra:1",)}, "'camra'"),
])  # fmt: skip
def test_wrong_perturbations_are_refused_before_anything_is_collected(prior, of, options, said):
    with pytest.raises(ValueError, match=said):
        replace(of, **options)


def test_what_varies_does_so_in_all_demonstrations_and_in_every_episode(prior, of):
    steps = list(prior.steps_of(replace(of, vary=("layout:1",), flow_demos=30, perturb=("light:1",))))
    seen = [step for step in steps if "collect" in step.command or step.command[:2] == ("lamp-policy", "evaluate")]
    for step in seen:
        words = step.command[step.command.index("--perturb") + 1 :][:2]
        assert words[0] == "layout:1" and (words[1] == "light:1") == ("light" in step.name)
    assert {step.name for step in seen} >= {"collect", "collect-flow-demos", "collect-judged-light-1"}


def test_the_place_of_an_object_is_told_until_it_is_moved(prior, tmp_path):
    places = importlib.import_module("object_places")
    scene = """<mujoco><worldbody><body><joint name="arm"/><body><joint name="finger" type="slide"/></body></body>
        <body><freejoint name="basket_1_joint0"/></body><body><joint name="soup_1_joint0" type="free"/></body>
        </worldbody></mujoco>"""
    states = np.zeros((4, 1 + 2 + 14 + 1 + 1 + 12))
    states[:, 1 + 2 + 7 :][:, :3] = [0.1, 0.2, 0.03]
    states[2:, 1 + 2 + 7] += [0.005, 0.5]  # shaken, then taken away
    with h5py.File(tmp_path / "soup.hdf5", "w") as file:
        file.create_group("data").attrs["bddl_file_content"] = (
            "(:goal\n (And (Open lid_1) (In soup_1 basket_1_inside)))"
        )
        for name, kept in (("demo_0", states), ("demo_1", states[:, :-1])):
            file[f"data/{name}/states"] = kept
            file[f"data/{name}"].attrs["model_file"] = scene
    told = [places.standing_at(tmp_path, "soup.hdf5", "demo_0", frame) for frame in range(4)]
    assert told[0] == pytest.approx([0.1, 0.2]) and told[1] == pytest.approx([0.105, 0.2])  # what an action led to
    assert told[2] is None and told[3] is None
    with pytest.raises(ValueError, match=r"demo_1: a state has 30 numbers, its scene 1 \+ 16 \+ 14"):
        places.standing_at(tmp_path, "soup.hdf5", "demo_1", 0)
    with h5py.File(tmp_path / "stove.hdf5", "w") as file:
        file.create_group("data").attrs["bddl_file_content"] = "(:goal\n (And (Turnon stove_1)))"
        file["data/demo_0/states"] = states
        file["data/demo_0"].attrs["model_file"] = scene
    assert places.standing_at(tmp_path, "stove.hdf5", "demo_0", 0) is None  # nothing is put anywhere


def test_a_hand_that_goes_to_the_mean_place_follows_no_object(prior):
    reach = importlib.import_module("reach")
    chance, task = np.random.default_rng(0), np.repeat(["soup", "milk"], 100)
    mean = np.where(task[:, None] == "soup", [0.1, 0.2], [-0.1, 0.0])
    displaced = reach._without_means(chance.uniform(-0.02, 0.02, (200, 2)), task)
    end = mean + displaced
    now = mean + chance.normal((0.1, -0.05), 0.01, (200, 2)) + 0.5 * displaced  # the hand is half way there
    windows = reach.Windows(np.arange(200), chance.integers(5, 11, 200), now, end, displaced, task)
    metres = 0.04  # that an action moves the hand
    right, half, blind = ((mean + share * displaced - now) / metres for share in (1, 0.5, 0))
    eyeless = reach.eyeless(windows, right)
    told = [reach.reached(windows, sums, right) for sums in (right, half, blind, eyeless)]
    assert [x for _, x, _ in told] == pytest.approx([1, 0.5, 0, 0], abs=1e-9)
    assert [y for _, _, y in told] == pytest.approx([1, 0.5, 0, 0], abs=1e-9)
    off = np.linalg.norm(displaced, axis=1).mean() * 100
    assert [one[0] for one in told[:3]] == pytest.approx([0, off / 2, off], abs=1e-9)
    assert 0.5 * off < told[3][0] < off


def test_a_report_tells_errors_under_a_perturbation_apart(prior, of):
    for suffix, error in (("", 0.1), ("-light-1", 0.3)):
        path = of.folder / "judged-actions" / f"demos5-none-seed0{suffix}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({"episodes": {"a": {"action_error": error}, "b": {"action_error": error}}}))
    text = prior.write_report(of)
    assert "| 5 | none | 1 | 0.1000" in text and "| 5 | light:1: none | 1 | 0.3000" in text


def test_a_report_is_made_of_what_there_is(prior, of, tmp_path):
    folder = of.folder
    for arm, off, successes in (("motion", 0.1, 3), ("none", 0.2, 1)):
        for seed in of.seeds:
            name = f"demos5-{arm}-seed{seed}"
            judged = {f"{number}": {"action_error": off + 0.01 * number} for number in range(4)}
            path = folder / "judged-actions" / f"{name}.json"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps({"episodes": judged}))
            lines = [
                {"suite": "libero_object", "task": 0, "text": "t", "episode": e, "success": e < successes,
                 "objects": {"soup": {"nearest_m": 0.02, "raised_m": 0.2 if e <= successes else 0.0}} if e < 4 else {}}
                for e in range(5)
            ]  # fmt: skip
            path = folder / "evaluations" / name / "episodes.jsonl"
            path.parent.mkdir(parents=True)
            path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    text = prior.write_report(of)
    found = json.loads((folder / "results.json").read_bytes())
    (pair,) = found["pairs"]
    assert {"only_first": 4, "only_second": 0, "pairs": 10, "p_value": 0.125}.items() <= pair["success"].items()
    assert pair["action_error"]["difference"] == pytest.approx(-0.1) and pair["action_error"]["better"] == 8
    assert "| 5 | motion | 2 | 0.1150" in text and "| 0.1150; 0.1150 | 6/10 |" in text and "| 60%; 60% |" in text
    assert "| 8/8 | 100%; 100% |" in text and "| 4/8 | 50%; 50% |" in text  # lifted: of one episode nobody knows
    assert {"only_first": 4, "only_second": 0, "pairs": 8}.items() <= pair["lifted"].items()
    assert pair["success"]["difference"] == pytest.approx(0.4)
    low, high = pair["success"]["interval"]  # five initial states, each of them twice
    assert 0 <= low < 0.4 < high <= 1 and low == pytest.approx(0.0) and high == pytest.approx(0.8)
    assert (folder / "results.png").is_file()


def test_stage_1_may_see_the_flow_of_demonstrations_that_nobody_pushed(prior, of, tmp_path):
    pushed = replace(of, demos=(2, 3), flow_demos=5, judged=1, pushes=3.0)
    steps = {step.name: step.command for step in prior.steps_of(pushed)}
    for name, count, own in (("collect", "3", "--pushes"), ("collect-flow-demos", "5", "--seed")):
        words = steps[name]
        assert words[words.index("--demos") + 1] == count
        assert {"--pushes", "--seed"} & set(words) == {own}
    for name, last in (("flow", "demo_4"), ("actions-3", "demo_2")):
        words = steps[name]
        assert last in words and f"demo_{int(last[-1]) + 1}" not in words
        source = Path(words[words.index("--input") + 1])
        assert source.parent.name == ("flow-demos" if name == "flow" else "demos")
    with pytest.raises(ValueError, match="--flow-demos with --demonstrations needs --flow-from"):
        replace(pushed, demonstrations=tmp_path, fresh=tmp_path)
