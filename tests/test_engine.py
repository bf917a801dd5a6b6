"""One function over many tasks: in this process, in several, and as tasks of a real Ray."""

import functools
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from collectors.document import UserError
from evaluate import engine

Parallel = Callable[..., Iterator[Any]]
LOOPBACK = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0", "RAY_USAGE_STATS_ENABLED": "0"}
os.environ.update(LOOPBACK)  # read when Ray is imported: nodes listen on 127.0.0.1 alone
TWO: list[dict[str, str]] = [{}, {}]


def square(number: int) -> int:
    """Return its square; the even ones take longer."""
    time.sleep(0.0 if number % 2 else 0.05)
    return number * number


def where(variable: str) -> tuple[int, str | None]:
    """Return who works and what a variable of theirs says."""
    return os.getpid(), os.environ.get(variable)


@functools.cache
def loaded() -> list[int]:
    """Stand for a model that takes long to load."""
    return [os.getpid(), 0]


def count(_: int) -> list[int]:
    """Return the process, and how many tasks its one model has served."""
    loaded()[1] += 1
    return list(loaded())


def refuse(number: int) -> int:
    """Raise what the number says."""
    if number == 1:
        raise UserError("value 1 is too small: take 3")
    if number == 2:
        raise MemoryError("2 GB")
    if number == 3:
        raise KeyError("three")
    if number == 4:
        raise UnicodeDecodeError("utf-8", b"\xff", 0, 1, "bad")
    if number == 5:
        raise UnportableError(1, 2)
    return number


class UnportableError(Exception):
    """Cannot be built again from its arguments, as pickle does."""

    def __init__(self, left: int, right: int) -> None:
        super().__init__(f"{left} and {right}")


def die_once(marker: str) -> int:
    """Kill the worker, unless that was done before."""
    if marker and not Path(marker).exists():
        Path(marker).touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return os.getpid()


def die(marks: str) -> None:
    """Leave a mark and kill the worker, where there is something to mark."""
    if not marks:
        return
    with Path(marks).open("a") as file:
        file.write("x")
    print("CUDA error: out of luck", flush=True)
    os.kill(os.getpid(), signal.SIGKILL)


def fail_or_mark(task: tuple[str, str]) -> None:
    """Fail, or leave a mark after a while."""
    what, folder = task
    if what == "fail":
        raise UserError("no")
    time.sleep(0.2)
    Path(folder, what).touch()


def chatter(number: int) -> int:
    """Say something on both streams."""
    print(f"said {number}")
    print(f"warned {number}", file=sys.stderr)
    return number


def unpicklable(_: int) -> Any:
    """Return what cannot travel."""
    return lambda: None


def read(path: str) -> str:
    """Return what a file holds."""
    return Path(path).read_text()


def work(folder: str) -> None:
    """Start a program, say which process this is, and never end."""
    with subprocess.Popen(["sleep", "1000"]):
        Path(folder, str(os.getpid())).touch()
        while True:
            pass


def in_two(function: Callable[[Any], Any], tasks: Any, label: str = "") -> Iterator[Any]:
    """Run in two processes of this machine."""
    return engine.in_processes(function, tasks, TWO, label)


def squares(parallel: Parallel) -> None:
    """Hold results against the plain map."""
    assert list(parallel(square, range(9))) == [n * n for n in range(9)]
    assert list(parallel(square, [])) == []


def reuse(parallel: Parallel) -> None:
    """Hold 12 tasks against at most two processes, each with one model that served all its tasks."""
    served: dict[int, int] = {}
    for process, nth in parallel(count, range(12)):
        served[process] = max(nth, served.get(process, 0))
    assert os.getpid() not in served
    assert len(served) <= 2
    assert sum(served.values()) == 12


def exceptions(parallel: Parallel) -> None:
    """Hold what is raised against what the function raised, after the results before it."""
    results = parallel(refuse, [0, 0, 1, 0])
    assert [next(results), next(results)] == [0, 0]
    with pytest.raises(UserError) as raised:
        next(results)
    assert type(raised.value) is UserError
    assert str(raised.value) == "value 1 is too small: take 3"
    assert raised.value.__cause__ is None
    with pytest.raises(MemoryError, match="2 GB") as memory:
        list(parallel(refuse, [2]))
    assert type(memory.value) is MemoryError
    with pytest.raises(KeyError, match="three") as key:
        list(parallel(refuse, [3]))
    assert "in refuse" in key.value.__notes__[0]
    with pytest.raises(UnicodeDecodeError):
        list(parallel(refuse, [4]))
    with pytest.raises(RuntimeError, match="UnportableError: 1 and 2"):
        list(parallel(refuse, [5]))
    with pytest.raises(Exception, match="pickle"):
        list(parallel(unpicklable, [1]))


def deaths(parallel: Parallel, folder: Path) -> None:
    """Kill a worker on the way, then one again and again."""
    tasks = ["", str(folder / "once"), "", ""]
    assert len(list(parallel(die_once, tasks))) == 4
    assert (folder / "once").exists()
    with pytest.raises(
        UserError, match=r"shards 2 of 2, .*marks.*, ended its worker 3 times .*smaller model"
    ) as raised:
        list(parallel(die, ["", str(folder / "marks")], label="shards"))
    assert "\n" not in str(raised.value)
    assert (folder / "marks").read_text() == "x" * engine.ATTEMPTS


def children() -> list[psutil.Process]:
    """Return the processes below this one."""
    below: list[psutil.Process] = psutil.Process().children(recursive=True)
    return below


def living(processes: list[psutil.Process]) -> list[psutil.Process]:
    """Return those that still run after two minutes; a dead one whose parent died too may wait to be reaped.

    Workers are gone in three seconds; two agents of a Ray that was killed report to it for half a minute.
    """
    deadline = time.monotonic() + 120
    left = processes
    while left and time.monotonic() < deadline:
        time.sleep(0.05)
        left = [one for one in left if one.is_running() and one.status() != psutil.STATUS_ZOMBIE]
    return left


def test_local_is_lazy_and_in_this_process() -> None:
    """Without several GPUs nothing runs before it is asked for, and any callable will do."""
    begun: list[int] = []

    def note(number: int) -> int:
        begun.append(number)
        return number * number

    results = engine.run(note, [3, 4, 5])
    assert begun == []
    assert next(results) == 9
    assert begun == [3]
    assert list(results) == [16, 25]
    assert [pid for pid, _ in engine.run(where, ["HOME"])] == [os.getpid()]


def test_what_is_raised_in_this_process_is_itself() -> None:
    """The engine of one process adds nothing to an exception."""
    results = engine.run(refuse, [0, 1])
    assert next(results) == 0
    with pytest.raises(UserError, match=r"^value 1 is too small: take 3$"):
        next(results)


def test_an_unknown_engine_is_refused_at_once() -> None:
    """The name and the choices are said before anything is iterated."""
    with pytest.raises(UserError, match="'dask' is unknown: choose local or ray"):
        engine.run(square, [1], engine="dask")


def test_ray_that_is_not_installed_is_said_with_the_remedy() -> None:
    """A Python without Ray gets one line; every other engine works there."""
    program = (
        "import sys; sys.modules['ray'] = None\n"
        "from evaluate import engine; from collectors.document import UserError\n"
        "print(*engine.run(abs, [-1]))\n"
        "try: engine.run(abs, [-1], engine='ray')\n"
        "except UserError as error: print(error)\n"
    )
    said = subprocess.run(
        [sys.executable, "-c", program], env=environment(), capture_output=True, text=True, check=True
    )
    assert said.stdout.splitlines()[0] == "1"
    assert 'pip install -c constraints.txt ".[ray]"' in said.stdout.splitlines()[1]


def test_gpus_are_those_of_the_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty variable hides all; MIG ids are taken as they are; the rest never exceeds what CUDA counts."""
    import torch

    for nothing in ("", "-1", " "):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", nothing)
        assert engine.visible_gpus() == []
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "MIG-4f2c, MIG-97aa")
    assert engine.visible_gpus() == ["MIG-4f2c", "MIG-97aa"]
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert engine.gpu_environments() == [
        {"CUDA_VISIBLE_DEVICES": "MIG-4f2c", "OMP_NUM_THREADS": "3"},
        {"CUDA_VISIBLE_DEVICES": "MIG-97aa", "OMP_NUM_THREADS": "3"},
    ]
    monkeypatch.delenv("OMP_NUM_THREADS")
    shares = [int(one["OMP_NUM_THREADS"]) for one in engine.gpu_environments()]
    assert sum(shares) <= max(2, len(os.sched_getaffinity(0)))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    assert engine.visible_gpus() == [str(index) for index in range(torch.cuda.device_count())]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-00000000-dead-beef-0000-000000000000")
    assert engine.visible_gpus() == []


def test_several_gpus_get_a_process_each(monkeypatch: pytest.MonkeyPatch) -> None:
    """`local` gives each worker one device, and never this process; in a session the workers stay."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "MIG-one,MIG-two")
    seen = set(engine.run(where, ["CUDA_VISIBLE_DEVICES"] * 20))
    assert {device for _, device in seen} <= {"MIG-one", "MIG-two"}
    assert len(seen) == len({process for process, _ in seen}) <= 2
    assert os.getpid() not in {process for process, _ in seen}
    with engine.session("local") as workers:
        first, second = (set(workers(where, ["CUDA_VISIBLE_DEVICES"] * 20)) for _ in range(2))
    assert len(first | second) <= 2


def test_processes_give_results_in_order() -> None:
    """Whatever finishes first."""
    squares(in_two)
    assert not children()


def test_processes_are_used_again() -> None:
    """What the function caches stays loaded from task to task."""
    reuse(in_two)


def test_processes_have_variables_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """Theirs are on top of ours, which they inherit."""
    monkeypatch.setenv("FRESHBITS_OF_OURS", "inherited")
    own = engine.in_processes(where, ["OF_ITS_OWN", "FRESHBITS_OF_OURS"], [{"OF_ITS_OWN": "set"}])
    assert [value for _, value in own] == ["set", "inherited"]
    assert "OF_ITS_OWN" not in os.environ


def test_exceptions_cross_from_processes() -> None:
    """As themselves, on one line, after the results before them."""
    exceptions(in_two)
    assert not children()


def test_a_process_that_dies_is_replaced(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Its task is tried again; one that kills all its workers ends with a line that says so."""
    deaths(in_two, tmp_path)
    with pytest.raises(UserError, match="SIGKILL, CUDA error: out of luck"):
        list(in_two(die, [str(tmp_path / "more")]))
    assert "CUDA error: out of luck" in capfd.readouterr().err
    assert not children()


def test_nothing_is_begun_after_a_failure(tmp_path: Path) -> None:
    """Tasks behind the one that failed are not worth their time."""
    tasks = [("fail", str(tmp_path)), *[(str(n), str(tmp_path)) for n in range(20)]]
    with pytest.raises(UserError, match="no"):
        list(in_two(fail_or_mark, tasks))
    assert len(list(tmp_path.iterdir())) <= 1


def test_a_caller_that_stops_asking_leaves_no_process() -> None:
    """Closing the iterator ends workers in the middle of their tasks."""
    results = in_two(square, range(1000))
    next(results)
    assert len(children()) == 2
    results.close()  # type: ignore[attr-defined]
    assert not children()


def test_what_processes_print_reaches_stderr_by_line(capfd: pytest.CaptureFixture[str]) -> None:
    """Standard output stays the caller's."""
    assert list(in_two(chatter, [1, 2])) == [1, 2]
    deadline = time.monotonic() + 20
    said = ""
    while said.count("\n") < 4 and time.monotonic() < deadline:
        captured = capfd.readouterr()
        assert not captured.out
        said += captured.err
    assert sorted(said.split("\n")[:-1]) == ["said 1", "said 2", "warned 1", "warned 2"]


def test_a_function_of_the_program_itself_is_refused() -> None:
    """No worker could import it, which is said before one starts."""
    program = (
        "from evaluate.engine import in_processes\n"
        "def mine(task): return task\n"
        "try: list(in_processes(mine, [1], [{}]))\n"
        "except ValueError as error: print(error)\n"
    )
    said = subprocess.run(
        [sys.executable, "-c", program], env=environment(), capture_output=True, text=True, check=True
    )
    assert "move it to a module that workers can import" in said.stdout


PROGRAM = """
import os, signal, sys
import test_engine
from evaluate import engine
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell starts jobs in the background without it
for _ in {call}: pass
"""
CALLS = {
    "processes": "engine.in_processes(test_engine.work, [sys.argv[1]] * 4, [{}, {}])",
    "ray": "engine.run(test_engine.work, [sys.argv[1]] * 4, engine='ray')",
}
"""Endless tasks: two at once in processes, one on all cores of a Ray of their own."""


def environment(**more: str) -> dict[str, str]:
    """Return variables of a program that imports this module."""
    tests = Path(__file__).parent
    return {**os.environ, "PYTHONPATH": f"{tests}{os.pathsep}{tests.parent}", **LOOPBACK, **more}


@pytest.mark.slow
@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
@pytest.mark.parametrize("kind", CALLS)
def test_a_command_that_ends_leaves_no_worker(kind: str, sent: signal.Signals, tmp_path: Path) -> None:
    """Ctrl-C for its whole group, a polite kill and kill -9 end workers and what they started, amid endless tasks."""
    program = PROGRAM.format(call=CALLS[kind])
    expected = 2 if kind == "processes" else 1
    with subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path)],
        env=environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        process_group=0,
    ) as process:
        deadline = time.monotonic() + 120
        while len(list(tmp_path.iterdir())) < expected and time.monotonic() < deadline:
            assert process.poll() is None
            time.sleep(0.05)
        family = psutil.Process(process.pid).children(recursive=True)
        workers = [int(path.name) for path in tmp_path.iterdir()]
        assert len(workers) == expected
        assert {one.pid for one in family} >= set(workers)
        begun = time.monotonic()
        if sent == signal.SIGINT:
            os.killpg(process.pid, sent)
        else:
            process.send_signal(sent)
        process.wait(60)
        took = time.monotonic() - begun
        assert process.stderr is not None
        alive = living(family)
        for left in alive:
            left.kill()
        said = process.stderr.read().decode()
    assert not alive
    assert took < 20
    if sent == signal.SIGINT:
        assert said.count("KeyboardInterrupt") == 1, said


def test_a_ray_task_takes_a_gpu_or_the_cores_of_a_node() -> None:
    """With GPUs their share of the cores, without them what the smallest node has; the dead do not count."""

    def nodes(*resources: dict[str, float]) -> list[dict[str, Any]]:
        return [{"Alive": True, "Resources": one} for one in resources]

    laptop: dict[str, float] = {"CPU": 8.0, "memory": 1e10}
    assert engine.ray_demand(nodes(laptop)) == ({"num_gpus": 0, "num_cpus": 8}, 1)
    assert engine.ray_demand(nodes({}, laptop, {"CPU": 20.0})) == ({"num_gpus": 0, "num_cpus": 8}, 3)
    assert engine.ray_demand(nodes(laptop, {"CPU": 64.0, "GPU": 8.0})) == ({"num_gpus": 1, "num_cpus": 8}, 8)
    assert engine.ray_demand(nodes({"GPU": 2.0}, {"CPU": 7.0, "GPU": 4.0})) == (
        {"num_gpus": 1, "num_cpus": 0},
        6,
    )
    assert (
        engine.ray_demand([*nodes(laptop), {"Alive": False, "Resources": {"CPU": 1.0, "GPU": 1.0}}])[1] == 1
    )
    assert engine.ray_demand([]) == ({"num_gpus": 0, "num_cpus": 1}, 1)  # one that grows when asked


def test_a_cluster_that_does_not_answer_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """The address is named, and not tried for minutes."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    monkeypatch.setenv("RAY_ADDRESS", f"127.0.0.1:{port}")
    with pytest.raises(
        UserError, match=rf"RAY_ADDRESS '127.0.0.1:{port}' .*refused.* or choose local"
    ) as raised:
        list(engine.run(square, [1], engine="ray"))
    assert "\n" not in str(raised.value)
    monkeypatch.setenv("RAY_ADDRESS", "nonsense:here")
    with pytest.raises(UserError, match="nonsense:here"):
        list(engine.run(square, [1], engine="ray"))


@pytest.mark.slow
def test_a_ray_of_our_own_lives_as_long_as_the_iterator(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """It listens on this machine alone, inherits our variables, and says nothing but what workers print."""
    import ray

    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setenv("FRESHBITS_OF_OURS", "inherited")
    results = engine.run(where, ["FRESHBITS_OF_OURS"] * 50, engine="ray")
    assert not children()
    worker, variable = next(results)
    assert variable == "inherited"
    family = children()
    assert worker in {one.pid for one in family}
    listening = {c.laddr.ip for one in family for c in one.net_connections("inet") if c.status == "LISTEN"}
    assert listening
    assert listening <= {"127.0.0.1", "::ffff:127.0.0.1", "::1"}
    results.close()  # type: ignore[attr-defined]
    assert not ray.is_initialized()
    assert not living(family)
    assert list(engine.run(chatter, [1], engine="ray")) == [1]
    said = capfd.readouterr()
    assert (said.out, said.err) == ("", "said 1\nwarned 1\n")


CLUSTER = """
import sys
from ray.cluster_utils import Cluster
started = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
started.add_node(num_cpus=1)
started.wait_for_nodes()
print("address", started.address, flush=True)
sys.stdin.read()
started.shutdown()
"""


@pytest.fixture(scope="module")
def cluster() -> Iterator[str]:
    """The address of a cluster of two nodes with one core each, in processes of its own, on loopback."""
    with subprocess.Popen(
        [sys.executable, "-c", CLUSTER],
        env=environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:
        assert process.stdout is not None
        yield next(line.split()[1] for line in process.stdout if line.startswith("address"))
        process.communicate(timeout=60)


@pytest.fixture
def on_cluster(cluster: str, monkeypatch: pytest.MonkeyPatch) -> Parallel:
    """The engine, connected as a person would: by RAY_ADDRESS."""
    monkeypatch.setenv("RAY_ADDRESS", cluster)
    return functools.partial(engine.run, engine="ray")


@pytest.mark.slow
def test_ray_gives_results_in_order(on_cluster: Parallel) -> None:
    """Whatever finishes first; the connection is given up afterwards."""
    import ray

    squares(on_cluster)
    assert not ray.is_initialized()


@pytest.mark.slow
def test_ray_uses_processes_again(on_cluster: Parallel) -> None:
    """What the function caches stays loaded from task to task."""
    reuse(on_cluster)


@pytest.mark.slow
def test_exceptions_cross_from_ray(on_cluster: Parallel) -> None:
    """As themselves, without a word of Ray's."""
    exceptions(on_cluster)


@pytest.mark.slow
def test_a_worker_of_ray_that_dies_is_replaced(on_cluster: Parallel, tmp_path: Path) -> None:
    """Its task is tried again on either node; one that kills all its workers ends with a line that says so."""
    deaths(on_cluster, tmp_path)
