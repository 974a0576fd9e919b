"""RayCluster: the room that a job has on Ray, one placement group, and the actors in it. Nothing else here uses Ray."""

from __future__ import annotations

import contextlib
import importlib
import logging
import signal
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from ps.errors import ConnectTimeout, PSError, UsageError
from ps.ray.options import Bundle, RayOptions
from ps.ray.process_actor import ProcessActor
from ps.ray.start import ProcessLost, ProcessNews, ProcessStart, StartedAt
from ps.text import shortened

KNOCK = 5.0
"""Seconds in which the head of a cluster has to take a connection: Ray itself would try for over a minute."""
ASKING = 2.0
"""Seconds for which an actor is asked for news at once."""
NAP = 0.5
"""Seconds before one that does not answer is asked again: its node may be gone, which Ray needs a while to notice."""
TELL = 10.0
"""Seconds between two lines about what is waited for."""


class RayProcess:
    """A process and its actor, as seen from here."""

    def __init__(self, start: ProcessStart, actor: Any) -> None:
        self.start, self.actor = start, actor
        self.place: StartedAt | None = None
        self.seen = 0
        """How many of its lines were received."""
        self.is_over = False
        self.waits_for: Any = None
        """The answer that is on its way."""
        self.asks_at = 0.0


Event = tuple[RayProcess, StartedAt | ProcessNews | ProcessLost]


class RayCluster:
    """A connection to a cluster. Close it: it gives back all that the job has, whatever state that is in."""

    def __init__(self, options: RayOptions) -> None:
        """Raises UsageError where Ray is not installed or cannot be used so, ConnectTimeout where nobody answers."""
        try:
            self._ray: Any = importlib.import_module("ray")
        except ImportError:
            raise UsageError("Ray is not installed here: pip install 'paramserver[ray]'") from None
        self._options = options
        self._group: Any = None
        self._processes: list[RayProcess] = []
        self._is_ours = not self._ray.is_initialized()
        if self._is_ours:
            self._connect(options)
        environment = self._ray.get_runtime_context().runtime_env or {}
        self.places_processes = bool(environment.get("working_dir"))
        """Whether Ray has put the script's folder on each node, and starts actors there."""

    def _connect(self, options: RayOptions) -> None:
        if options.address.startswith("ray://"):
            raise UsageError(
                f"{options.address:.80} is an address of Ray's client: run this on a node of the cluster, or have it "
                f"run there: ray job submit --working-dir . -- psctl run --on ray ..."
            )
        address = _bootstrap(options.address)
        before = signal.getsignal(signal.SIGTERM)
        try:
            self._ray.init(
                address=address,
                log_to_driver=False,
                logging_level=logging.ERROR,
                runtime_env={"working_dir": options.working_dir} if options.working_dir else None,
            )
        except (Exception, SystemExit) as error:
            with contextlib.suppress(Exception):
                self._ray.shutdown()
            raise ConnectTimeout(f"cannot join the Ray cluster at {address}: {_said(error)}. Try: ray status") from None
        finally:
            with contextlib.suppress(ValueError):  # in another thread than the main one Ray sets none
                signal.signal(signal.SIGTERM, before)

    def reserve(self, bundles: Sequence[Bundle], say: Callable[[str], None], stop: Callable[[], bool]) -> bool:
        """Take the room for all processes at once; return False if ``stop`` says so before. Raises PSError."""
        from ray.util.placement_group import placement_group

        try:
            self._group = placement_group([dict(each) for each in bundles], strategy=self._options.strategy)
            ready = self._group.ready()
        except Exception as error:
            raise UsageError(f"Ray does not take this job: {_said(error)}") from None
        began, told = time.monotonic(), 1.0
        while not self._ray.wait([ready], timeout=0.1)[0]:
            waited = time.monotonic() - began
            if stop():
                return False
            if waited > self._options.wait:
                raise ConnectTimeout(
                    f"Ray has had no room for {_shown(bundles)} in {self._options.wait:g} s; {self._room()}. Ask for "
                    f"less, add nodes, or end what has them: ray status"
                )
            if waited > told:
                say(f"waiting for {_shown(bundles)}; {self._room()}")
                told = waited + TELL
        try:
            self._ray.get(ready, timeout=self._options.wait)
        except Exception as error:
            raise UsageError(f"Ray does not take this job: {_said(error)}") from None
        return True

    def prepare(self, number: int, bundle: Bundle) -> Any:
        """Have an actor be made in a bundle of the room. It starts nothing yet."""
        from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

        amounts = dict(bundle)
        cpus, gpus, memory = (amounts.pop(name, 0) for name in ("CPU", "GPU", "memory"))
        kind = self._ray.remote(
            num_cpus=cpus, num_gpus=gpus, memory=memory or None, resources=amounts, max_restarts=0, max_concurrency=4
        )(ProcessActor)
        place = PlacementGroupSchedulingStrategy(
            self._group, placement_group_bundle_index=number, placement_group_capture_child_tasks=False
        )
        return kind.options(scheduling_strategy=place).remote()

    def begin(self, actor: Any, start: ProcessStart) -> RayProcess:
        """Have an actor start a process."""
        process = RayProcess(start, actor)
        process.waits_for = actor.begin.remote(start)
        self._processes.append(process)
        return process

    def events(self, limit: float) -> Iterator[Event]:
        """Yield what happens to the processes within ``limit`` seconds, if anything does."""
        now = time.monotonic()
        asked: dict[Any, RayProcess] = {}
        for process in self._processes:
            if process.is_over:
                continue
            if process.waits_for is None and now >= process.asks_at:
                process.waits_for = (
                    process.actor.news.remote(process.seen, ASKING)
                    if process.place is not None
                    else process.actor.begin.remote(process.start)
                )
            if process.waits_for is not None:
                asked[process.waits_for] = process
        if not asked:
            time.sleep(limit)
            return
        done, _ = self._ray.wait(list(asked), num_returns=len(asked), timeout=0)
        if not done:
            done, _ = self._ray.wait(list(asked), num_returns=1, timeout=limit)
        for answer in done:
            process = asked[answer]
            process.waits_for = None
            if (event := self._received(process, answer)) is not None:
                yield process, event

    def _received(self, process: RayProcess, answer: Any) -> StartedAt | ProcessNews | ProcessLost | None:
        from ray import exceptions

        try:
            found: StartedAt | ProcessNews = self._ray.get(answer)
        except exceptions.ActorUnavailableError:  # perhaps only for now: Ray says so when it knows
            process.asks_at = time.monotonic() + NAP
            return None
        except exceptions.RayTaskError as error:  # of ours: it cannot be started
            process.is_over = True
            if isinstance(error.cause, PSError):
                raise error.cause from None
            raise PSError(f"cannot start {process.start.name} on Ray: {_said(error)}") from None
        except exceptions.RayError as error:
            if "No module named 'ps" in str(error):
                raise UsageError(
                    "a node of Ray's cannot import paramserver: install it in its image, or in the runtime environment"
                ) from None
            if isinstance(error, exceptions.RuntimeEnvSetupError):
                raise UsageError(f"Ray cannot prepare a node: {_said(error)}") from None
            process.is_over = True
            before, because, why = _said(error).partition("The actor died because ")
            return ProcessLost(why if because else before, begun=process.place is not None)
        if isinstance(found, StartedAt):
            process.place = found
            return found
        fresh = found.lines[max(0, process.seen - found.first) :]
        process.seen = found.first + len(found.lines)
        process.is_over = found.code is not None
        return ProcessNews(process.seen - len(fresh), fresh, found.address, found.code)

    def ask(self, process: RayProcess, grace: float) -> None:
        """Have a process be asked to end, and be killed after ``grace`` seconds."""
        with contextlib.suppress(Exception):
            process.actor.end.remote(grace)

    def release(self, actor: Any) -> None:
        """End an actor at once, and with it what it has started."""
        with contextlib.suppress(Exception):
            self._ray.kill(actor, no_restart=True)

    def forget(self, process: RayProcess) -> None:
        """End a process's actor, which is not asked any more."""
        process.is_over = True
        self.release(process.actor)
        self._processes.remove(process)

    def close(self) -> None:
        """Give back all that the job has."""
        for process in [*self._processes]:
            self.forget(process)
        with contextlib.suppress(Exception):
            if self._group is not None:
                from ray.util.placement_group import remove_placement_group

                remove_placement_group(self._group)
        if self._is_ours:
            with contextlib.suppress(Exception):
                self._ray.shutdown()

    def _room(self) -> str:
        with contextlib.suppress(Exception):
            total, free = self._ray.cluster_resources(), self._ray.available_resources()
            names = [name for name in sorted(total) if name in ("CPU", "GPU") or not _is_rays_own(name)]
            found = ", ".join(f"{free.get(name, 0):g} of {total[name]:g} {name}" for name in names)
            return f"free there are {found or 'none'}"
        return "and it does not say what it has"


def _is_rays_own(name: str) -> bool:
    return ":" in name or "_group_" in name or name in ("memory", "object_store_memory")


def _shown(bundles: Sequence[Bundle]) -> str:
    """Return what processes need in all, and the most that one of them does."""
    names = list(dict.fromkeys(name for each in bundles for name in each))
    wanted = [f"{sum(each.get(name, 0) for each in bundles):g} {name}" for name in names]
    most = max(bundles, key=lambda each: sum(each.values()))
    one = ", ".join(f"{amount:g} {name}" for name, amount in most.items())
    return f"{', '.join(wanted)} (up to {one} on one node)"


def _bootstrap(address: str) -> str:
    """Return where the head of a cluster is, once that takes connections. Raises ConnectTimeout and UsageError."""
    from ray._private.services import canonicalize_bootstrap_address

    try:
        found = canonicalize_bootstrap_address(address)
    except Exception as error:
        raise UsageError(f"{address!r:.80} is no address of a Ray cluster: {_said(error)}") from None
    if not found:
        raise ConnectTimeout(
            "there is no Ray cluster on this machine: ray start --head begins one, and -o address=HOST:PORT "
            "(RAY_ADDRESS) names another's"
        )
    host, _, port = found.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), KNOCK).close()
    except (OSError, ValueError, UnicodeError) as error:
        why = getattr(error, "strerror", None) or str(error)
        raise ConnectTimeout(f"no Ray cluster answers at {found}: {why}. Is it up? Try: ray status") from None
    return str(found)


def _said(error: BaseException) -> str:
    """Return an error of Ray's, which may have pages, in a line."""
    return shortened(" ".join(str(error).split()) or type(error).__name__, 300)
