"""The launcher: a process that has imported the engine once and starts each worker by forking itself.

Importing torch and Stable-Baselines3 and building a first model costs several seconds; forked workers start in
milliseconds and share the memory. Forking is safe here because the launcher has one thread and runs nothing but this
file. It is a plain child process, not `multiprocessing`: a caller's script is never imported again.

Whoever goes away is noticed by the end of a socket: the launcher leaves when its parent is gone, and so does a worker.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import warnings
from types import TracebackType

from historystore.documents import LearnerSpec
from historystore.errors import HistoryError, InvalidValue
from historystore.recording.messages import Channel, Job, Warm

_CODE = "import json, sys; sys.path[:] = json.loads(sys.argv[1]); from {} import main; main(int(sys.argv[2]))"
_ONE_THREAD = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS")
_LAST_WORDS_BYTES = 4000


class Launcher:
    """The parent's handle on a launcher process for one job; a context manager.

    The launcher and its workers never get SIGINT or SIGHUP: a terminal's signals reach the parent alone, whose end or
    hanging up then lets them seal.

    Raises:
        InvalidValue: the engine refuses the learner's specification.
    """

    def __init__(self, job: Job) -> None:
        self._job = job
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - closed in close()
        self._start()

    def _start(self) -> None:
        ours, theirs = socket.socketpair()
        self._channel = Channel(ours)
        with theirs:
            self._process = _started("historystore.recording.launcher", theirs, errors=self._errors.fileno())

    def warm_up(self) -> Warm:
        """Wait until workers can start; return what the engine said when it built the learner once."""
        self._channel.send(self._job)
        for message in self._channel:
            assert isinstance(message, Warm)
            if message.error is not None:
                raise InvalidValue(message.error)
            return message
        raise HistoryError(f"recording: the engine cannot be loaded. {self.last_words()}")

    def start_worker(self) -> Channel:
        """Start a worker on the job and return the channel to it; a launcher that was killed is started again."""
        ours, theirs = socket.socketpair()
        with theirs:
            try:
                socket.send_fds(self._channel.socket, [b"w"], [theirs.fileno()])
            except OSError:
                self._let_go()
                self._start()
                self.warm_up()
                socket.send_fds(self._channel.socket, [b"w"], [theirs.fileno()])
        channel = Channel(ours)
        channel.send(self._job)
        return channel

    def last_words(self) -> str:
        """Return the last line that the launcher or a worker wrote to its standard error."""
        size = self._errors.seek(0, os.SEEK_END)
        self._errors.seek(max(0, size - _LAST_WORDS_BYTES))
        lines = self._errors.read().decode(errors="replace").strip().splitlines()
        return lines[-1].strip() if lines else "It left no message."

    def close(self) -> None:
        """End the launcher, which holds nothing; its workers are not touched."""
        self._let_go()
        self._errors.close()

    def _let_go(self) -> None:
        self._channel.close()
        self._process.kill()
        self._process.wait()

    def __enter__(self) -> Launcher:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


def main(control: int) -> None:
    """Be the launcher: warm up, then fork a worker for every socket that arrives."""
    with socket.socket(fileno=control) as end:
        channel = Channel(end)
        job = next(iter(channel))
        assert isinstance(job, Job)
        channel.send(_warmed(job))
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # workers are nobody's to wait for: their sockets tell their end
        while (connection := _arrived(end)) is not None:
            _serve(connection, control=end)
    os._exit(0)  # it holds nothing, and taking the interpreter down would take a second


def _warmed(job: Job) -> Warm:
    """Import the engine and build the learner once, as every worker will."""
    from historystore.recording import worker  # noqa: F401 - so that every fork has it
    from historystore.recording.engines import engine_of

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            engine = engine_of(job.template, policies=job.policies_store)
            if torch := sys.modules.get("torch"):  # an engine without it starts seconds sooner
                torch.set_num_threads(1)
            engine.check(job.template, fields=job.fields)
        except HistoryError as error:
            return Warm(error=str(error))
        except Exception as error:  # noqa: BLE001 - whatever the engine says of the settings goes to the user
            return Warm(error=_refusal(job.template, error))
    ours = (warning for warning in caught if issubclass(warning.category, UserWarning))
    texts = tuple(dict.fromkeys(" ".join(str(warning.message).split()) for warning in ours))
    return Warm(group_size=engine.group_size(job.template), warnings=texts)


def _refusal(spec: LearnerSpec, error: Exception) -> str:
    said = f"{type(error).__name__}: {' '.join(str(error).split())}".rstrip(".")
    return (
        f"learner: {spec.algorithm} with {spec.policy} refuses these settings, {said}. "
        "Change --set, --policy or --streams."
    )


def _arrived(end: socket.socket) -> socket.socket | None:
    try:
        data, descriptors, _, _ = socket.recv_fds(end, 1, 1)
    except OSError:
        return None
    return socket.socket(fileno=descriptors[0]) if data else None


def _serve(connection: socket.socket, *, control: socket.socket) -> None:
    """Start a worker that owns the connection."""
    with connection:
        if sys.platform == "darwin":  # Apple's frameworks abort in a forked child
            _started("historystore.recording.worker", connection, errors=sys.stderr.fileno())
        elif os.fork() == 0:
            control.close()
            _be_worker(connection)


def _be_worker(connection: socket.socket) -> None:
    """Run a worker in this forked process and end the process with it, whatever happens."""
    from historystore.recording import worker

    code = 1
    try:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        worker.main(connection.detach())
        code = 0
    except BaseException:  # noqa: BLE001 - nothing of the launcher may run in the child
        sys.excepthook(*sys.exc_info())
    finally:
        sys.stderr.flush()
        os._exit(code)


def _started(module: str, connection: socket.socket, *, errors: int) -> subprocess.Popen[bytes]:
    """Start `module.main` in an interpreter that finds packages as this one does, with terminal signals blocked."""
    command = [sys.executable, "-c", _CODE.format(module), json.dumps(sys.path), str(connection.fileno())]
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGHUP})  # inherited
    try:
        return subprocess.Popen(  # noqa: S603 - this interpreter, our own code
            command,
            stdin=subprocess.DEVNULL,
            stdout=errors,
            stderr=errors,
            pass_fds=[connection.fileno()],
            env={**os.environ, **dict.fromkeys(_ONE_THREAD, "1")},
        )
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
