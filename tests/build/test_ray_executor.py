"""Ray runs the work and plays no part in being correct:
the same bytes, and a death costs nobody but the one who dies.
"""

import errno
import json
import os
import signal
import socket
import subprocess
import sys
import time
from dataclasses import replace

import pytest
from fixtures.command import ENVIRONMENT, ended_lamp_data, lamp_data
from fixtures.libero import FAST, QUALITY, Demo, fast_recipe, outputs_of, partials_in, samples_of, write_file
from fixtures.ray_session import ray_place, running_ray

from jobs.cli.build_options import Build
from jobs.commands.build import build_command
from jobs.executors import ray as ray_executor
from jobs.executors._ray_placement import NodeResources, Placement, place
from jobs.executors._ray_pool import Death
from jobs.executors.local import LocalExecutor
from pipeline.build.executor import WorkerDied, unnoticed
from pipeline.build.run import ShardConfig, build
from pipeline.errors import BuildError
from schemas.manifest import EPISODES, read_manifest

__all__ = ["ray_place", "running_ray"]
SMALL = ShardConfig(samples_per_shard=4)


def executor(workers=2, attempts=3):
    return ray_executor.build(ray_executor.Config(address="local", workers=workers, attempts=attempts))


def run(source, output, executor, **options):
    return build(fast_recipe(), source, output, SMALL, executor, lambda *a: a[2], **options)


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    folder = tmp_path_factory.mktemp("libero")
    write_file(folder / "a_demo.hdf5", [Demo(0), Demo(1, 0, 14), Demo(2, 0, 28), Demo(3, 1)])
    return folder


@pytest.fixture(scope="module")
def wanted(source, tmp_path_factory):
    output = tmp_path_factory.mktemp("wanted")
    run(source, output, LocalExecutor())
    return outputs_of(output)


@pytest.mark.parametrize("workers", [1, 3])
def test_any_number_of_workers_gives_the_bytes_of_one_process(running_ray, source, wanted, tmp_path, workers):
    """Three are more than there are CPUs, which must not leave tasks waiting for ever."""
    run(source, tmp_path / "out", executor(workers))
    assert outputs_of(tmp_path / "out") == wanted


def test_every_task_comes_back_once_with_its_own_result(running_ray):
    tasks = list(range(25))
    found = list(executor(2).run(lambda: lambda n: n * n, tasks))
    assert sorted(found) == [(n, n * n) for n in tasks]
    assert list(executor().run(lambda: lambda n: n, [])) == []


def test_more_workers_than_cpus_work_at_the_same_time(running_ray, tmp_path):
    def make():
        def work(task):
            (tmp_path / str(os.getpid())).touch()
            until = time.monotonic() + 180
            while len(list(tmp_path.iterdir())) < 3 and time.monotonic() < until:
                time.sleep(0.02)
            return len(list(tmp_path.iterdir()))

        return work

    assert [count for _, count in executor(3).run(make, range(3))] == [3, 3, 3]


def test_a_worker_is_made_once_and_not_for_every_task(running_ray, tmp_path):
    def make():
        (tmp_path / f"made-{os.getpid()}-{time.monotonic_ns()}").touch()
        return lambda task: os.getpid()

    pids = {pid for _, pid in executor(2).run(make, range(12))}
    assert len(list(tmp_path.iterdir())) == len(pids) <= 2 and os.getpid() not in pids


class Poisoned:
    """Runs a build on Ray with one episode that kills whoever touches it; every attempt is noted."""

    def __init__(self, episode: str, notes):
        self.episode, self.notes, self.inner = episode, notes, executor(2)

    def run(self, make_worker, tasks, **options):
        episode, notes = self.episode, self.notes

        def make():
            worker = make_worker()

            def work(task):
                if getattr(task, "episode", None) == episode:
                    (notes / f"{time.monotonic_ns()}").touch()
                    os._exit(1)
                return worker(task)

            return work

        return self.inner.run(make, tasks)


def test_an_episode_that_kills_its_worker_is_tried_three_times_and_its_neighbours_lose_nothing(
    running_ray, source, wanted, tmp_path
):
    notes = tmp_path / "notes"
    notes.mkdir()
    output = tmp_path / "out"
    summary = run(source, output, Poisoned("demo_1", notes))
    assert len(list(notes.iterdir())) == 3
    (victim,) = summary.quarantined
    assert (victim.source, victim.episode, victim.code) == ("a_demo.hdf5", "demo_1", "worker_died")
    assert victim.message.startswith("a_demo.hdf5:demo_1: its worker died 3 times") and "\n" not in victim.message
    assert read_manifest(output).counts["quarantined"] == {"worker_died": 1}
    assert (summary.episodes, summary.kept) == (3, 9)
    run(source, tmp_path / "all", LocalExecutor())
    lines = [json.loads(line) for line in (output / EPISODES).read_bytes().splitlines()]
    lost = {"demo_0", "demo_1", "demo_2", "demo_3"} - {line.get("episode") for line in lines}
    assert lost == {"demo_1"}
    assert samples_of(output).items() < samples_of(tmp_path / "all").items()
    run(source, output, LocalExecutor())
    assert outputs_of(output) == wanted, "and when the trouble is over it is built too"


def test_a_workers_exception_comes_out_as_it_was_raised_and_is_not_tried_again(running_ray, tmp_path):
    def make():
        def work(task):
            (tmp_path / f"{time.monotonic_ns()}").touch()
            if task == "disk":
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/where/it.was")
            raise ValueError("a bug")

        return work

    with pytest.raises(OSError, match="No space left") as full:
        list(executor(1).run(make, ["disk"]))
    assert (full.value.errno, full.value.filename) == (errno.ENOSPC, "/where/it.was")
    with pytest.raises(ValueError) as bug:
        list(executor(1).run(make, ["bug"]))
    assert str(bug.value) == "a bug" and "in work" in bug.value.__notes__[0]
    assert len(list(tmp_path.iterdir())) == 2


def test_a_worker_that_cannot_be_made_is_told_and_not_waited_for(running_ray):
    def make():
        raise RuntimeError("no such tracker")

    with pytest.raises(RuntimeError, match="no such tracker"):
        list(executor(2).run(make, [1, 2, 3]))


def test_a_worker_that_dies_while_it_is_made_is_no_tasks_fault(running_ray):
    begun = []
    with pytest.raises(BuildError, match="could not start a worker"):
        list(executor(1, attempts=1).run(lambda: os._exit(1), [1, 2], begun=begun.append))
    assert begun == []


def test_workers_that_died_while_they_were_made_are_forgotten_when_one_is_made():
    queue = ray_executor._Queue([0], 3, unnoticed)
    gone = Death("it is gone", node_lost=False)
    for _ in range(3):
        queue.died(None, gone)
        queue.died(None, gone)
        queue.worker_made()
    queue.died(None, gone)
    queue.died(None, gone)
    with pytest.raises(BuildError, match="could not start a worker: it is gone"):
        queue.died(None, gone)


def test_one_attempt_is_one_attempt(running_ray, tmp_path):
    def make():
        def work(task):
            (tmp_path / f"{task}-{time.monotonic_ns()}").touch()
            if task == 1:
                os._exit(1)
            return task

        return work

    found = dict(executor(1, attempts=1).run(make, range(3)))
    assert isinstance(found[1], WorkerDied) and found[0] == 0 and found[2] == 2
    assert len(list(tmp_path.glob("1-*"))) == 1


@pytest.mark.parametrize(
    ("options", "says"),
    [({"workers": 0}, "workers must be 1 or more"), ({"attempts": 0}, "attempts"), ({"wait": -1}, "wait")],
)
def test_nonsense_is_refused_when_it_is_configured(options, says):
    with pytest.raises(ValueError, match=says):
        ray_executor.Config(**options)


def words_for(source, output):
    return ["build", "--dataset", "libero", "--input", source, "--output", output, *FAST, "--samples-per-shard", "4"]


def lines_of(ran):
    """What a command says on standard error, progress bars and the clearing of them aside."""
    lines = [line.strip() for line in ran.stderr.replace("\r", "\n").splitlines()]
    return [line for line in lines if line and not line.startswith(("episodes:", "shards:"))]


def free_port():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


@pytest.mark.parametrize("how", ["nonsense", "dead"])
def test_a_cluster_that_does_not_answer_is_one_sentence(source, tmp_path, how):
    address = f"127.0.0.1:{free_port()}" if how == "dead" else "nonsense"
    words = [*words_for(source, tmp_path / "out"), "--executor-options", "wait=1"]
    ran = lamp_data(*words, folder=tmp_path, env={**ENVIRONMENT, "RAY_ADDRESS": address})
    assert ran.returncode == 1 and ran.stdout == ""
    joining, *waiting, last = lines_of(ran)
    assert joining.endswith(f"joining the Ray cluster at {address} (RAY_ADDRESS)")
    assert ["waiting up to 1 s for it to answer" in line for line in waiting] == [True] * (how == "dead")
    assert f"no Ray cluster answers at {address} (RAY_ADDRESS)" in last and "--executor local" in last


def test_a_folder_whose_sockets_would_have_too_long_a_path_is_one_sentence(source, tmp_path):
    words = [*words_for(source, tmp_path / "out"), "--executor-options", "address=local"]
    ran = lamp_data(*words, folder=tmp_path, env={**ENVIRONMENT, "RAY_TMPDIR": str(tmp_path / ("long" * 20))})
    assert ran.returncode == 1
    assert f"cannot start below RAY_TMPDIR={tmp_path}" in lines_of(ran)[-1] and "shorter folder" in lines_of(ran)[-1]


def test_kill_9_of_the_driver_on_ray_and_going_on_without_ray_gives_the_same_bytes(source, wanted, ray_place, tmp_path):
    words = words_for(source, tmp_path / "out")
    on_ray = [*words, "--executor-options", "address=local", "workers=1"]
    ran = ended_lamp_data("SIGKILL@result:1", *on_ray, folder=tmp_path, env=ray_place.environment)
    assert ran.returncode == -signal.SIGKILL
    ran = lamp_data(*words, "--executor", "local", folder=tmp_path)
    assert ran.returncode == 0, ran.stderr
    assert outputs_of(tmp_path / "out") == wanted and not partials_in(tmp_path / "out")


def test_ctrl_c_while_ray_starts_ends_with_130_and_leaves_no_process(source, ray_place, tmp_path):
    words = [*words_for(source, tmp_path / "out"), "--executor-options", "address=local", "workers=2"]
    ran = ended_lamp_data("SIGINT@start:1", *words, folder=tmp_path, env=ray_place.environment)
    assert ran.returncode == 130 and ray_place.left() == []
    starting, ending, last = lines_of(ran)
    assert starting.endswith("starting a local Ray cluster with 2 workers") and "second Ctrl-C" in ending
    assert last.endswith("interrupted; what was finished stays, and the same command goes on from there")


def test_a_lost_local_cluster_is_started_again_and_sigterm_ends_it(source, wanted, ray_place, tmp_path):
    """The node daemon dies after the first episode, and the third is the last before the end."""
    words = words_for(source, tmp_path / "out")
    ran = ended_lamp_data(
        *("raylet@result:1,SIGTERM@result:3", *words, "--json", "--executor-options", "address=local", "workers=1"),
        folder=tmp_path,
        env=ray_place.environment,
    )
    assert ran.returncode == 143 and ran.stdout == "" and ray_place.left() == []
    said = lines_of(ran)
    assert "local Ray cluster was lost: its node daemon" in said[1] and "it starts again" in said[1]
    assert said[2].endswith("starting a local Ray cluster with 1 worker")
    assert said[-1].endswith("ended by SIGTERM; what was finished stays, and the same command goes on from there")
    assert len(list((tmp_path / "out" / ".lamp" / "episodes").glob("??/*.json"))) >= 3
    ran = lamp_data(*words, "--executor", "local", folder=tmp_path)
    assert ran.returncode == 0 and outputs_of(tmp_path / "out") == wanted


@pytest.fixture
def cluster(ray_place):
    """The address of a cluster that somebody else started and that wants a token."""
    command = [sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block", "--num-cpus=1"]
    place = {**ray_place.environment, "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "0" * 32}
    address = f"127.0.0.1:{free_port()}"
    options = [f"--port={address.split(':')[1]}", "--include-dashboard=false", "--disable-usage-stats"]
    options += [f"--dashboard-agent-listen-port={free_port()}"]
    with open(ray_place.folder / "log", "w") as log:
        process = subprocess.Popen([*command, *options], env=place, stdout=log, stderr=log)
    yield address
    process.terminate()
    try:
        process.wait(timeout=20)
    except subprocess.TimeoutExpired:  # ray start sometimes hangs in its own end when its node is gone
        process.kill()
        process.wait()


def test_a_cluster_of_others_is_asked_with_its_token_and_its_loss_is_one_sentence(source, cluster, ray_place, tmp_path):
    """Its workers are sent the driver's code."""
    words = [*words_for(source, tmp_path / "out"), "--executor-options", f"address={cluster}", "wait=60"]
    ran = lamp_data(*words, folder=tmp_path, env=ray_place.environment)
    assert ran.returncode == 1
    assert f"the Ray cluster at {cluster} wants a token: set RAY_AUTH_MODE=token" in lines_of(ran)[-1]
    token = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "0" * 32}
    words += ["ship_code=yes"]
    ran = ended_lamp_data("raylet@result:1", *words, folder=tmp_path, env={**ray_place.environment, **token})
    sent = ray_place.folder.glob("ray/session_*/runtime_resources/py_modules_files/_ray_pkg_*/*/build/run.py")
    assert {path.parts[-3] for path in sent} == {"pipeline"}
    assert ran.returncode == 1
    _, last = lines_of(ran)
    assert f"the Ray cluster at {cluster} is lost: its node daemon on this machine (raylet) has ended" in last
    assert "the same command goes on from there when the cluster is up again" in last


def test_a_build_of_which_every_episode_died_says_so(source, tmp_path):
    class Dead:
        def run(self, make_worker, tasks, **options):
            yield from ((task, WorkerDied("the machine is gone")) for task in tasks)

    with pytest.raises(BuildError, match=r"4 quarantined, the first because a_demo.hdf5:demo_0: the machine is gone"):
        run(source, tmp_path / "out", Dead())


def test_every_gpu_is_shared_by_as_many_workers_as_it_holds(running_ray, tmp_path):
    """Two GPUs, half a GPU a worker: four processes, two on each GPU, and each sees its own GPU only."""

    def make():
        def work(task):
            (tmp_path / f"{os.environ['CUDA_VISIBLE_DEVICES']}-{os.getpid()}").touch()
            until = time.monotonic() + 180
            while len(list(tmp_path.iterdir())) < 4 and time.monotonic() < until:
                time.sleep(0.02)
            return os.environ["CUDA_VISIBLE_DEVICES"]

        return work

    ran = ray_executor.build(ray_executor.Config(address="local", gpus_per_worker=0.5)).run(
        make, range(4), device="auto"
    )
    assert sorted(str(device) for _, device in ran) == ["0", "0", "1", "1"]


def test_a_worker_without_models_holds_no_gpu_and_sees_none(running_ray):
    def make():
        return lambda task: os.environ["CUDA_VISIBLE_DEVICES"]

    seen = [executor(1).run(make, [0], device=device) for device in (None, "cpu")]
    assert [device for ran in seen for _, device in ran] == ["", ""]


@pytest.mark.parametrize(
    ("device", "gpus", "says"),
    [
        ("cuda:1", None, "Ray assigns the GPUs"),
        ("auto", 4.0, "no node of the Ray cluster has that many, the most is 2"),
    ],
)
def test_gpus_that_the_cluster_cannot_give_are_one_sentence(running_ray, device, gpus, says):
    config = ray_executor.Config(address="local", gpus_per_worker=gpus)
    with pytest.raises(BuildError, match=says):
        list(ray_executor.build(config).run(lambda: str, [0], device=device))


def test_a_trial_on_a_cluster_runs_there_and_counts_its_cpus_and_gpus(running_ray, source, tmp_path, capsys):
    """With a recipe that runs no model, the two CPUs count; a stage with models is counted by the two GPUs."""
    command = Build(dataset="libero", input=source, output=tmp_path / "out", quality=QUALITY, dry_run=True)
    assert build_command(replace(command, stride=4, horizon_steps=8, grid=6, action_horizon=4)) == 0
    said = capsys.readouterr().out
    assert "with 2 worker(s) on the Ray cluster at" in said
    assert "which has 1 node(s), 2 CPU(s) and 2 GPU(s)" in said and not (tmp_path / "out").exists()
    shared = ray_executor.build(ray_executor.Config(gpus_per_worker=0.25)).capacity(100, "auto")
    assert shared is not None and (shared.cpus, shared.gpus, shared.workers) == (2, 2, 8)
    whole = ray_executor.build(ray_executor.Config()).capacity(100, "auto")
    assert whole is not None and whole.workers == 2


@pytest.mark.parametrize(
    ("nodes", "gpus", "wanted"),
    [
        ([(8, 0), (16, 8), (16, 8)], None, Placement(16, 1.0, 1.0)),
        ([(8, 0), (4, 8)], 0.5, Placement(16, 0.25, 0.5)),
        ([(8, 0), (32, 1), (2, 4)], 1.0, Placement(5, 0.5, 1.0)),
        ([(64, 8), (64, 3)], 2.0, Placement(5, 1.0, 2.0)),
        ([(8, 0), (4, 0)], None, Placement(12, 1.0, 0.0)),
    ],
)
def test_all_gpus_of_all_nodes_are_used_and_every_worker_fits_beside_them(nodes, gpus, wanted):
    """A head without GPUs takes no part; the node with the fewest CPUs for its GPUs decides how many a worker wants."""
    assert place([NodeResources(*node) for node in nodes], 1000, None, gpus, "auto") == wanted


def test_a_module_that_only_the_driver_has_is_one_sentence(running_ray, tmp_path, monkeypatch):
    (tmp_path / "only_here.py").write_text("def make():\n    return str\n")
    monkeypatch.syspath_prepend(tmp_path)
    import only_here  # pyright: ignore[reportMissingImports]

    with pytest.raises(BuildError, match="no Python module only_here, which is there on this machine"):
        list(executor(1).run(only_here.make, [1]))
