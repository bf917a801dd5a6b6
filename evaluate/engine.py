"""One function over many tasks, in order: in this process, in one per GPU, or as tasks of a Ray cluster.

All engines keep the same promises. Results come in the order of the tasks. What the function raises
arrives as itself, after the results before it. A worker process does one task after another, so what
the function caches in its module, such as a model, stays loaded. A task whose worker dies is tried
again, `ATTEMPTS` times in all. When the caller is done, interrupted or killed, no worker is left. What
workers print appears above the progress bar.

Functions and tasks are pickled by reference, so a function is at the top level of a module that is not
the program itself.
"""

import contextlib
import io
import os
import pickle
import reprlib
import signal
import socket
import subprocess
import sys
import traceback
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from logging import ERROR
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path
from queue import LifoQueue, SimpleQueue
from threading import Event, Lock, Thread
from typing import Any, Protocol, TypeVar

from tqdm import tqdm

from collectors.document import UserError

T = TypeVar("T")
R = TypeVar("R")

ENGINES = ("local", "ray")
ATTEMPTS = 3
"""How often a task is begun before its dying workers are the user's matter."""


def run(
    function: Callable[[T], R], tasks: Sequence[T], *, engine: str = "local", label: str = ""
) -> Iterator[R]:
    """Return an iterator of `function(task)` in the order of `tasks`; nothing runs before it is asked.

    `local` runs in this very process, a task whenever a result is asked for, unless two GPUs or more
    are visible: then each has a process of its own. `ray` connects to the cluster of `RAY_ADDRESS`, or
    starts Ray on this machine for as long as the iterator lives. Relative paths mean the same
    everywhere: nodes need the working directory and the code at the same place, as on a shared file
    system. Nothing is uploaded to them, and of the environment only the import path is sent.

    Args:
        function: a top-level function; what it does must bear being begun again.
        tasks: its arguments, picklable like its results.
        engine: one of `ENGINES`.
        label: what the progress bar of the parallel engines says, and what errors call a task.

    Raises:
        UserError: when the engine is unknown or Ray is missing; while iterating, when a task's workers
            die again and again, or the cluster cannot be reached or cannot run the code.
        ValueError: while iterating, when workers could not import the function.
    """
    check(engine)
    return _run(function, tasks, engine, label)


def _run(function: Callable[[T], R], tasks: Sequence[T], engine: str, label: str) -> Iterator[R]:
    with session(engine, label) as workers:
        yield from workers(function, tasks)


def check(engine: str) -> None:
    """Raise `UserError` when an engine is unknown, or what it needs is not installed."""
    if engine not in ENGINES:
        raise UserError(f"engine {engine!r} is unknown: choose {' or '.join(ENGINES)} in params.yaml")
    if engine == "ray" and find_spec("ray") is None:
        raise UserError(
            'engine "ray" needs Ray, which is not installed: `pip install -c constraints.txt ".[ray]"`, or choose local'
        )


@contextlib.contextmanager
def session(engine: str, label: str = "") -> Iterator[Callable[..., Iterator[Any]]]:
    """Give what runs a function over tasks as `run` does, any number of times with the same workers.

    Args:
        engine: one of `ENGINES`.
        label: as for `run`.
    """
    check(engine)
    if engine == "ray":
        with _on_ray() as places:
            yield lambda function, tasks: _in_order(function, tasks, places[: len(tasks)], label)
        return
    environments = gpu_environments()
    if not environments:
        yield map
        return
    with _processes(environments) as processes:
        yield lambda function, tasks: _in_order(function, tasks, processes, label)


def visible_gpus() -> list[str]:
    """Return what CUDA_VISIBLE_DEVICES calls each GPU that this process may use: index, UUID or MIG id."""
    variable = os.environ.get("CUDA_VISIBLE_DEVICES")
    names = None if variable is None else [name.strip() for name in variable.split(",")]
    if names is not None and names[0] in {"", "-1"}:  # none, known without importing torch
        return []
    if names and all(name.startswith("MIG-") for name in names):
        return names  # CUDA shows a process one MIG instance at most, so it cannot count them
    from torch.cuda import device_count

    return (names or [str(index) for index in range(device_count())])[: device_count()]


def gpu_environments() -> list[dict[str, str]]:
    """Return what the process of each visible GPU sets, nothing when fewer than two are visible.

    They share the cores: left alone, each would start as many threads as there are cores.
    """
    gpus = visible_gpus()
    if len(gpus) < 2:
        return []
    threads = os.environ.get("OMP_NUM_THREADS") or str(max(1, len(os.sched_getaffinity(0)) // len(gpus)))
    return [{"CUDA_VISIBLE_DEVICES": gpu, "OMP_NUM_THREADS": threads} for gpu in gpus]


def in_processes(
    function: Callable[[T], R],
    tasks: Sequence[T],
    environments: Sequence[Mapping[str, str]],
    label: str = "",
) -> Iterator[R]:
    """Yield results as `run` does, from a process for each mapping of variables to set on top of ours."""
    with _processes(environments[: len(tasks)]) as processes:
        yield from _in_order(function, tasks, processes, label)


@contextlib.contextmanager
def _processes(environments: Sequence[Mapping[str, str]]) -> Iterator[list["_Process"]]:
    processes = [_Process(environment) for environment in environments]
    try:
        yield processes
    finally:
        for process in processes:
            process.close()


@contextlib.contextmanager
def _on_ray() -> Iterator[list["_RayTask"]]:
    """Give as many places for tasks as Ray is given at a time: twice what it can run.

    A Ray that the program is connected to already is used, and stays: tasks that nobody waits for any
    more then run to their end.
    """
    connected = "ray" in sys.modules and sys.modules["ray"].is_initialized()
    if not connected:
        _connect()
    import ray

    try:
        demand, slots = ray_demand(ray.nodes())  # type: ignore[no-untyped-call]
        path = os.pathsep.join([*_import_path(), "${PYTHONPATH}"])
        remote = ray.remote(_answer_at).options(
            **demand,
            max_retries=0,  # Ray sets no limit to those of a task that it ends for want of memory
            runtime_env={"env_vars": {"PYTHONPATH": path}},
        )
        yield [_RayTask(remote) for _ in range(2 * slots)]
    finally:
        if not connected:
            ray.shutdown()


def ray_demand(nodes: Sequence[Mapping[str, Any]]) -> tuple[dict[str, int], int]:
    """Return the resources of a task and how many such tasks a cluster runs at once.

    Where there are GPUs, a task takes one of them and its share of the node's cores. Where there are
    none, it takes as many cores as the smallest node has: more tasks on a node would hold the model as
    many times and compute no faster. Ray lets a task start as many threads as it has cores.

    Args:
        nodes: what `ray.nodes()` returns.
    """
    alive = [node["Resources"] for node in nodes if node["Alive"]]
    with_gpu = [node for node in alive if node.get("GPU", 0) >= 1]
    if with_gpu:
        share = min(int(node.get("CPU", 0) // node["GPU"]) for node in with_gpu)
        return {"num_gpus": 1, "num_cpus": share}, sum(int(node["GPU"]) for node in with_gpu)
    cores = [int(node["CPU"]) for node in alive if node.get("CPU", 0) >= 1] or [1]
    return {"num_gpus": 0, "num_cpus": min(cores)}, sum(count // min(cores) for count in cores)


def _connect() -> None:
    address = os.environ.get("RAY_ADDRESS")
    options: dict[str, Any] = {"logging_level": ERROR, "log_to_driver": False}
    if not address:
        # Read when Ray is imported; Ray's ports take orders from whoever reaches them, so only this machine may.
        os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        options["include_dashboard"] = False
    import ray

    try:
        if address and ":" in address:  # Ray itself tries for minutes
            host, _, port = address.removeprefix("ray://").rpartition(":")
            socket.create_connection((host.strip("[]"), int(port)), timeout=20).close()
        ray.init(address or "local", **options)
    except (OSError, RuntimeError, ValueError) as error:
        what = f"reach the cluster at RAY_ADDRESS {address!r}" if address else "start Ray on this machine"
        raise UserError(
            f'engine "ray" cannot {what} ({_last_line(str(error))}): set RAY_ADDRESS to a cluster started with '
            "`ray start --head`, or choose local"
        ) from None


def _import_path() -> list[str]:
    """Return where this process imports from, but for the standard library and installed packages."""
    installed = [Path(sys.prefix).resolve(), Path(sys.base_prefix).resolve()]
    entries = [Path(entry).resolve() for entry in sys.path]
    return [str(e) for e in entries if not any(e.is_relative_to(prefix) for prefix in installed)]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Outcome:
    """What became of a task, as it travels from a worker."""

    value: Any = None
    error: Exception | None = None


class _WorkerDiedError(Exception):
    """A worker ended in the middle of a task; the message is how."""


class _Worker(Protocol):
    """What does one task at a time."""

    def call(self, payload: bytes) -> bytes:
        """Return the pickled outcome of a pickled (function, task), or raise `_WorkerDiedError`."""

    def stop(self) -> None:
        """End at once the call that another thread waits for, and refuse all others."""


def _in_order(
    function: Callable[[T], R], tasks: Sequence[T], workers: Sequence[_Worker], label: str
) -> Iterator[R]:
    """Yield results in order; as many threads as workers hand them one task after another."""
    _refuse_program(function)
    idle: LifoQueue[_Worker] = LifoQueue()
    for worker in workers:
        idle.put(worker)
    failed = Event()

    def attempt(index: int) -> R:
        if failed.is_set():  # the caller will not get past the failure
            raise CancelledError
        name = (
            f"{label or 'task'} {index + 1} of {len(tasks)}, {' '.join(reprlib.repr(tasks[index]).split())},"
        )
        payload = pickle.dumps((function, tasks[index]))
        worker = idle.get_nowait()
        try:
            outcome = _insist(worker, payload, name)
        finally:
            idle.put(worker)
        if outcome.error is not None:
            raise outcome.error
        return outcome.value  # type: ignore[no-any-return]

    def finished(future: Future[R]) -> None:
        if future.cancelled() or future.exception():
            failed.set()
        bar.update()

    with (
        tqdm(total=len(tasks), desc=label or None, unit="shard", disable=None, dynamic_ncols=True) as bar,
        ThreadPoolExecutor(max(1, len(workers))) as threads,
    ):
        try:
            futures: deque[Future[R]] = deque()
            for index in range(len(tasks)):
                futures.append(threads.submit(attempt, index))
                futures[-1].add_done_callback(finished)
            while futures:
                yield futures.popleft().result()
        except BaseException:
            _stop(threads, workers)
            raise


def _stop(threads: ThreadPoolExecutor, workers: Sequence[_Worker]) -> None:
    threads.shutdown(wait=False, cancel_futures=True)
    for worker in workers:
        worker.stop()


def _refuse_program(function: Callable[..., Any]) -> None:
    while isinstance(function, partial):
        function = function.func
    if function.__module__ == "__main__":
        raise ValueError(
            f"{function!r} is of the program itself: move it to a module that workers can import"
        )


def _insist(worker: _Worker, payload: bytes, name: str) -> _Outcome:
    ends = []
    for _ in range(ATTEMPTS):
        try:
            return pickle.loads(worker.call(payload))  # type: ignore[no-any-return]  # noqa: S301  from our worker
        except _WorkerDiedError as died:
            ends.append(str(died))
    raise UserError(
        f"{name} ended its worker {ATTEMPTS} times ({ends[-1]}); memory is the usual reason: free some or take a "
        "smaller model, then run the same command again"
    )


class _Process:
    """A process of this machine: started by its first task, and again by the next one after it died."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._environment = {**os.environ, **environment}
        self._process: subprocess.Popen[str] | None = None
        self._lock = Lock()
        self._stopped = False

    def call(self, payload: bytes) -> bytes:
        with self._lock:
            if self._stopped:
                raise CancelledError
            process = self._process = self._process or self._start()
        with contextlib.suppress(EOFError, OSError):
            self._connection.send_bytes(payload)
            # A child of a worker that died may still hold the other end open.
            while self._connection.poll(1) or process.poll() is None:
                if self._connection.poll():
                    return self._connection.recv_bytes()
        self.close()
        said = f", {self._last[0].strip()[:200]}" if self._last else ""
        raise _WorkerDiedError(f"{_status(process.returncode)}{said}")

    def stop(self) -> None:
        with self._lock:
            self._stopped = True
            self._kill()

    def close(self) -> None:
        """End the process with all its children, and wait for it."""
        if self._process:
            self._kill()
            self._process.wait()
            self._relay.join(1)  # a daemon that it started may hold the pipe for ever
            self._connection.close()
            self._process = None

    def _kill(self) -> None:
        if self._process:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)

    def _start(self) -> "subprocess.Popen[str]":
        self._connection, theirs = Pipe()
        serve = f"from evaluate.engine import _serve; _serve({theirs.fileno()})"
        process = subprocess.Popen(
            [sys.executable, "-c", f"import sys; sys.path[:] = {sys.path!r}; {serve}"],
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            errors="replace",
            pass_fds=[theirs.fileno()],
            process_group=0,  # Ctrl-C is for the caller, who then ends it
        )
        theirs.close()
        self._last: deque[str] = deque(maxlen=1)
        self._relay = Thread(target=_pass_on, args=(process.stdout, self._last), daemon=True)
        self._relay.start()
        return process


class _RayTask:
    """A place among the tasks that Ray is given at a time."""

    def __init__(self, remote: Any) -> None:
        self._remote = remote
        self._stopped = False

    def call(self, payload: bytes) -> bytes:
        import ray
        from ray import exceptions

        reference = self._remote.remote(str(Path.cwd()), payload)
        while not ray.wait([reference], timeout=0.5)[0]:
            if self._stopped:
                raise CancelledError
        try:
            answer, printed = ray.get(reference)
        except (
            exceptions.WorkerCrashedError,
            exceptions.NodeDiedError,
            exceptions.OutOfMemoryError,
            exceptions.ObjectLostError,
        ) as died:
            raise _WorkerDiedError(type(died).__name__) from None
        except exceptions.RayError as error:
            raise UserError(
                f"Ray cannot run a task ({_last_line(str(error))}): every node needs the same environment as this "
                f"one, and {Path.cwd()}"
            ) from None
        _show(printed.splitlines())
        return answer  # type: ignore[no-any-return]

    def stop(self) -> None:
        # The end of the connection ends the task. To cancel one that is just about to finish is worse: Ray
        # (2.60) then aborts this whole process at a failed check.
        self._stopped = True


def _serve(descriptor: int) -> None:
    """Answer payloads until the socket's other end closes, if only because the process that holds it died."""
    os.set_inheritable(descriptor, False)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(line_buffering=True)
    connection: Connection[bytes, bytes] = Connection(descriptor)
    payloads: SimpleQueue[bytes] = SimpleQueue()

    def listen() -> None:
        with contextlib.suppress(EOFError, OSError):
            while True:
                payloads.put(connection.recv_bytes())
        os.killpg(os.getpid(), signal.SIGKILL)

    Thread(target=listen, daemon=True).start()
    while True:
        connection.send_bytes(_answer(payloads.get()))


def _answer(payload: bytes) -> bytes:
    try:
        function, task = pickle.loads(payload)  # noqa: S301  from the process that started this one
        return pickle.dumps(_Outcome(value=function(task)))
    except Exception as error:
        return pickle.dumps(_Outcome(error=_portable(error)))


def _answer_at(directory: str, payload: bytes) -> tuple[bytes, str]:
    """Answer in `directory`; return also what was printed, which Ray would write across the bar."""
    printed = io.StringIO()
    try:
        os.chdir(directory)
    except OSError as error:
        absent = f"{directory} cannot be entered on the Ray node {os.uname().nodename} ({error.strerror})"
        remedy = "have the repository at the same path on every node, as on a shared file system"
        return pickle.dumps(_Outcome(error=UserError(f"{absent}: {remedy}"))), ""
    with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
        return _answer(payload), printed.getvalue()


def _portable(error: Exception) -> Exception:
    """Return an exception that arrives as itself, its traceback as a note, or one that says what it was."""
    error.add_note("".join(["in a worker:\n", *traceback.format_exception(error)]))
    try:
        pickle.loads(pickle.dumps(error))  # noqa: S301
    except Exception:  # some cannot be built again from their arguments
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error


def _pass_on(lines: io.TextIOWrapper, last: deque[str]) -> None:
    with lines:
        for line in lines:
            last.extend([line] if line.strip() else [])
            _show([line.rstrip("\n")])


def _show(lines: Sequence[str]) -> None:
    for line in lines:
        tqdm.write(line, file=sys.stderr)


def _status(returncode: int) -> str:
    try:
        return signal.Signals(-returncode).name
    except ValueError:
        return f"exit status {returncode}"


def _last_line(text: str) -> str:
    return (text.strip().splitlines() or [""])[-1].strip()[:200]
