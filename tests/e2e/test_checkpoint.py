"""Promises of checkpoints with real processes: whatever is killed, the same command goes on with the same bits."""

from __future__ import annotations

import os
import re
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from ps.checkpoint.lives import Lives
from ps.checkpoint.manifest import Manifest
from ps.checkpoint.place import place
from support.cluster import PSCTL, SCRIPTS, Process, wait_until
from support.cut_short import await_whole, kill_all, whole
from support.fork_server import family

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(110)]

SCRIPT = str(SCRIPTS / "resumed.py")
Run = Callable[..., Process]
ADAM = ("--optimizer", "adam:lr=0.01", "--schedule", "cosine:steps=40,warmup=5", "--clip-norm", "1")
SHORT = ("--chunk-size", "4096", "--heartbeat-timeout", "5", "--grace", "8")


def bits(process: Process) -> dict[int, str]:
    """Return with which bits each worker ended."""
    assert process.wait(60) == 0, process.text
    found = re.findall(r"END (\d) (\d+) (\w+)", process.text)
    assert found, process.text
    return {int(rank): digest for rank, _, digest in found}


@pytest.mark.parametrize(
    ("flags", "servers"),
    [
        ((*ADAM,), (2, 3)),
        (("--optimizer", "sgd:lr=0.05", "--compress", "topk:0.05", "--clip-norm", "1"), (2, 1)),
        (("--optimizer", "momentum:lr=0.01", "--compress", "int8", "--overlap"), (1, 2)),
    ],
)
def test_a_run_that_was_killed_as_a_whole_goes_on_with_the_bits_of_one_that_was_not(
    forked: Run, tmp_path: Path, flags: tuple[str, ...], servers: tuple[int, int]
) -> None:
    before, after = servers
    wanted = bits(forked("run", "-s", before, "-w", 2, *SHORT, *flags, SCRIPT, "--nap", "0.03"))
    folder = tmp_path / "kept"
    saving = ("--checkpoint-dir", folder, "--checkpoint-every", 5)
    first = forked("run", "-s", before, "-w", 2, *SHORT, *flags, *saving, SCRIPT, "--nap", "0.03")
    await_whole(folder, 2, first)
    kill_all(first)
    second = forked("run", "-s", after, "-w", 2, *SHORT, *flags, *saving, SCRIPT, "--nap", "0.03")
    assert bits(second) == wanted
    began = {(int(clock), int(count)) for clock, count in re.findall(r"BEGIN \d (\d+) (\d+)", second.text)}
    ((clock, count),) = began
    assert clock == count >= 10
    third = forked("run", "-s", after, "-w", 2, *SHORT, *flags, *saving, SCRIPT, "--nap", "0.03")
    assert third.wait(30) == 0 and "has ended at step 40, nothing to do" in third.text and "BEGIN" not in third.text


def test_training_that_ended_goes_on_for_longer_with_the_bits_of_one_that_was_asked_for_all_at_once(
    forked: Run, tmp_path: Path
) -> None:
    flags = ("-w", 2, *SHORT, "--compress", "topk:0.05", "--checkpoint-dir")
    wanted = bits(forked("run", *flags, tmp_path / "at once", SCRIPT, "--epochs", 2))
    folder = tmp_path / "kept"
    bits(forked("run", *flags, folder, SCRIPT, "--epochs", 1))
    assert [path.name for path in sorted(folder.glob("step-*"))] == ["step-000008"], "nothing else is left there"
    more = forked("run", *flags, folder, "--resume", folder, SCRIPT, "--epochs", 2)
    assert bits(more) == wanted and "BEGIN 1 8 8" in more.text and "is not in" not in more.text, more.text
    part = folder / "step-000016.2" / "worker-1.safetensors"
    assert part.exists()
    life = Lives(place(str(folder))).latest()
    assert life is not None
    newest = Lives(place(str(folder))).newest(life)
    assert newest is not None and newest.folder == "step-000016.2"


def test_another_script_other_settings_and_other_data_are_refused_by_what_differs(forked: Run, tmp_path: Path) -> None:
    folder, script = tmp_path / "kept", tmp_path / "train.py"
    shutil.copy(SCRIPT, script)
    saving = ("-w", 1, *SHORT, "--checkpoint-dir", folder)
    bits(forked("run", *saving, script, "--epochs", 1))
    for flags, args, what in (
        (("--optimizer", "sgd:lr=0.2"), (1,), "optimizer is sgd:lr=0.2, and was sgd:lr=0.1"),
        (("--seed", 7), (1,), "seed is 7, and was 0"),
        ((), (2,), "the script's arguments are --epochs 2, and were --epochs 1"),
        (("--data", tmp_path), (1,), f"the data are {tmp_path}, and were not named"),
    ):
        refused = forked("run", *saving, *flags, script, "--epochs", *args)
        assert refused.wait(30) == 2 and what in refused.text, refused.text
    script.write_text(script.read_text() + "\n# another\n")
    refused = forked("run", *saving, script, "--epochs", 1)
    assert refused.wait(30) == 2 and "was changed" in refused.text and "--resume" in refused.text
    more = forked("run", *saving, "--resume", folder, script, "--epochs", 2)
    assert bits(more) and "that counts from now on" in more.text and re.search(r"BEGIN 0 16 ", more.text)


def test_other_data_that_a_script_reads_by_itself_are_refused_by_what_differs(forked: Run, tmp_path: Path) -> None:
    script, folder = tmp_path / "own.py", tmp_path / "kept"
    script.write_text(
        """import os, numpy as np, ps
x = np.load(os.environ["OWN_DATA"])
with ps.connect() as kv:
    kv.init({"w": np.zeros(4, np.float32)})
    for (a,) in kv.batches((x,), batch_size=8, epochs=3):
        if kv.clock == int(os.environ["OWN_END"]):
            raise RuntimeError("the machine is gone")
        kv.step({"w": a.mean(0)})
    print("DONE", kv.clock, flush=True)
"""
    )
    np.save(tmp_path / "a.npy", np.arange(256, dtype=np.float32).reshape(64, 4))
    np.save(tmp_path / "b.npy", np.arange(256, dtype=np.float32).reshape(64, 4) + 1)

    def run(data: str, *more: object, end: int = -1) -> Process:
        flags = ("run", *SHORT, "--checkpoint-dir", folder, *more, script)
        return forked(*flags, OWN_DATA=str(tmp_path / data), OWN_END=str(end))

    assert run("a.npy", end=5).wait(30) == 1
    refused = run("b.npy")
    assert refused.wait(30) == 2 and "kv.batches is given other data than before" in refused.text, refused.text
    assert "they have other values. Give an empty folder, or go on all the same with --resume" in refused.text
    assert run("a.npy", end=9).wait(30) == 1, "the refused run has changed nothing"
    more = run("b.npy", "--resume", folder)
    assert more.wait(30) == 0 and "DONE 24" in more.text and "that counts from now on" in more.text, more.text


def test_the_end_waits_for_the_last_checkpoint_also_where_a_script_fails_or_stops(forked: Run, tmp_path: Path) -> None:
    for name, workers, args, code in (("raises", 1, ("--raise-at", 13), 1), ("stops", 2, ("--stop-at", 13), 0)):
        folder = tmp_path / name
        run = forked("run", "-w", workers, *SHORT, "--checkpoint-dir", folder, SCRIPT, *args, "--nap", "0.01")
        assert run.wait(60) == code, run.text
        lives = Lives(place(str(folder)))
        newest = lives.newest(lives.life(1))
        assert newest is not None and newest.ended is (code == 0), run.text
        assert newest.step in ((13,) if code else (14, 15)), run.text


def test_sigterm_leaves_a_checkpoint_wherever_workers_are(forked: Run, tmp_path: Path) -> None:
    folder = tmp_path / "kept"
    flags = ("run", "-s", 2, "-w", 2, *SHORT, *ADAM, "--checkpoint-dir", folder)
    wanted = bits(forked("run", "-s", 2, "-w", 2, *SHORT, *ADAM, SCRIPT))
    run = forked(*flags, SCRIPT, "--gate", f"7:{tmp_path / 'never'}")
    run.wait_for(r"GATE 0"), run.wait_for(r"GATE 1")
    run.signal(signal.SIGTERM)
    assert run.wait(30) == 143
    assert "the newest whole checkpoint is step-000007" in run.text
    manifest = Manifest.read(place(str(folder)), "step-000007")
    assert manifest.step == 7 and wanted


def test_a_worker_that_dies_before_a_cut_is_named_and_the_cut_is_made(forked: Run, tmp_path: Path) -> None:
    folder = tmp_path / "kept"
    saving = ("--checkpoint-dir", folder, "--checkpoint-every", 10, "--keep", 100)
    run = forked("run", "-w", 2, *SHORT, *saving, SCRIPT, "--die-at", 8, "--nap", "0.02")
    run.wait(60)
    found = Manifest.read(place(str(folder)), "step-000010")
    assert "lost" in found.workers[1] and found.workers[0]["file"]


def test_every_example_counts_once_in_an_epoch_that_was_cut_three_times(forked: Run, tmp_path: Path) -> None:
    folder, used = tmp_path / "kept", tmp_path / "used"
    flags = ("run", "-w", 2, *SHORT, "--checkpoint-dir", folder, "--checkpoint-every", 1, SCRIPT)
    args = ("--epochs", 3, "--used", used, "--nap", "0.2")
    kept: dict[tuple[int, int], list[int]] = {}
    for life in range(3):
        run = forked(*flags, *args)
        await_whole(folder, 3 if life == 0 else 1, run)
        time.sleep(0.4)
        kill_all(run)
    last = forked(*flags, *args)
    bits(last)
    for rank in range(2):
        clocks: dict[int, list[int]] = {}
        for line in Path(f"{used}.{rank}").read_text().splitlines():
            clock, example = map(int, line.split())
            clocks.setdefault(clock, []).append(example)
        for clock, examples in clocks.items():
            once = examples[: len(examples) // max(1, len(examples) // 16)]
            assert examples == once * (len(examples) // len(once)), "a clock that was done again has the same batch"
            kept[rank, clock] = once
    for epoch in range(3):
        counted = [n for rank in range(2) for clock in range(8 * epoch + 1, 8 * epoch + 9) for n in kept[rank, clock]]
        assert sorted(counted) == list(range(256))


def test_a_run_that_stood_still_while_another_took_its_folder_writes_no_more_there(forked: Run, tmp_path: Path) -> None:
    folder = tmp_path / "kept"
    flags = ("run", "-w", 2, "--chunk-size", 4096, "--grace", 1, "--heartbeat-timeout", 60)
    saving = ("--checkpoint-dir", folder, "--checkpoint-every", 2)
    wanted = bits(forked("run", "-w", 2, *SHORT, SCRIPT))
    first = forked(*flags, *saving, SCRIPT, "--nap", "0.1")
    await_whole(folder, 2, first)
    still = family(first.pid)
    assert still, first.text
    for pid in still:
        os.kill(pid, signal.SIGSTOP)
    second = forked(*flags, *saving, SCRIPT, "--nap", "0.1")
    second.wait_for(r"waiting for the processes of an earlier run")
    second.wait_for(r"they still live: this run takes the folder over", 20)
    second.wait_for(r"BEGIN 0")
    deadline = time.monotonic() + 30
    while sum(name.endswith(".2") for name in whole(folder)) < 2 and time.monotonic() < deadline:
        time.sleep(0.05)
    for pid in still:
        os.kill(pid, signal.SIGCONT)
    assert first.wait(60) == 9 and "belongs to a later run (life 2, this is 1)" in first.text, first.text
    assert bits(second) == wanted
    lives = Lives(place(str(folder)))
    assert {m.life for m in lives.manifests()} <= {1, 2} and lives.ended(lives.life(2)) == 40


def test_a_model_that_is_not_finite_any_more_takes_no_checkpoints_place(forked: Run, tmp_path: Path) -> None:
    script, folder = tmp_path / "nan.py", tmp_path / "kept"
    script.write_text(
        """import time, numpy as np, ps
with ps.connect(optimizer="momentum:lr=0.1", on_nan="ignore") as kv:
    kv.init({"w": np.ones(50, np.float32)})
    while kv.clock < 60:
        kv.step({"w": np.full(50, np.inf if kv.clock > 30 else 1, np.float32)}, loss=float("nan"))
        time.sleep(0.02)
"""
    )
    run = forked("run", *SHORT, "--checkpoint-dir", folder, "--checkpoint-every", 5, "--keep", 2, script)
    assert run.wait(60) == 9, run.text
    assert "are not finite" in run.text and "the newest whole one is step-0000" in run.text
    lives = Lives(place(str(folder)))
    newest = lives.newest(lives.life(1))
    assert newest is not None and 10 <= newest.step <= 31 and lives.ended(lives.life(1)) is None


@pytest.mark.parametrize("mode", [("async",), ("ssp", "--staleness", "1")])
def test_contributions_count_once_over_a_resume_in_modes_without_a_common_clock(
    forked: Run, tmp_path: Path, mode: tuple[str, ...]
) -> None:
    folder = tmp_path / "kept"
    flags = (
        "run",
        "-s",
        2,
        "-w",
        2,
        *SHORT,
        "--mode",
        *mode,
        "--data-sharing",
        "static",
        "--checkpoint-dir",
        folder,
        "--checkpoint-every",
        6,
        SCRIPT,
    )
    first = forked(*flags, "--nap", "0.05")
    await_whole(folder, 1, first)
    kill_all(first)
    lives = Lives(place(str(folder)))
    saved = lives.newest(lives.life(1))
    assert saved is not None and saved.step >= 6
    second = forked(*flags, "--nap", "0.05")
    bits(second)
    began = {(int(rank), int(clock)) for rank, clock in re.findall(r"BEGIN (\d) (\d+)", second.text)}
    assert began == {(rank, saved.counted(rank)) for rank in range(2)}, "each goes on with its own, however far apart"
    newest = lives.newest(lives.life(2))
    assert newest is not None and newest.ended
    assert all((chunk.version, dict(chunk.done)) == (80, {0: 40, 1: 40}) for chunk in newest.chunks)


def test_a_pipeline_goes_on_with_another_number_of_stages_and_the_same_bits(forked: Run, tmp_path: Path) -> None:
    script, folder = Path(SCRIPTS).parents[2] / "ps" / "examples" / "pipeline_mlp.py", tmp_path / "kept"
    job = ("--mode", "pipeline", "--heartbeat-timeout", "5", "--grace", "8", "--save")
    saving = ("--checkpoint-dir", folder, "--checkpoint-every", 5)
    assert forked("run", "-w", 2, *job, tmp_path / "a", script, "--epochs", 2).wait(60) == 0
    first = forked("run", "-w", 2, *job, tmp_path / "b", *saving, script, "--epochs", 2)
    await_whole(folder, 1, first)
    kill_all(first)
    second = forked("run", "-s", 2, "-w", 4, *job, tmp_path / "b", *saving, script, "--epochs", 2)
    assert second.wait(60) == 0 and "going on from step" in second.text, second.text
    found = [load_file(tmp_path / name) for name in ("a", "b")]
    assert found[0].keys() == found[1].keys()
    assert all((found[0][name] == found[1][name]).all() for name in found[0])


def test_a_full_disk_costs_that_checkpoint_alone_and_the_end_says_so(forked: Run, tmp_path: Path) -> None:
    """A limit on the size of files stands for the disk: the part of a server is longer."""
    folder = tmp_path / "kept"
    saving = ("--transport", "tcp", "--checkpoint-dir", folder, "--checkpoint-every", 5)
    command = " ".join(map(str, (*PSCTL, "run", *SHORT, *saving, SCRIPT)))
    run = forked(f"ulimit -f 300; exec {command} --nap 0.01 --width 20000", program=("bash", "-c"))
    assert run.wait(60) == 9, run.text
    assert "is given up" in run.text and "File too large" in run.text and "none is whole yet" in run.text
    assert re.search(r"END 0 80", run.text), "training goes on"
    assert not whole(folder) and not list(folder.glob("step-*/server-*"))


def test_a_checkpoint_is_made_when_it_is_asked_for(forked: Run, tmp_path: Path) -> None:
    folder = tmp_path / "kept"
    run = forked("run", "-w", 2, *SHORT, "--checkpoint-dir", folder, SCRIPT, "--nap", "0.1")
    address = run.wait_for(r"scheduler at (\S+)")[1]
    run.wait_for(r"BEGIN 0"), run.wait_for(r"BEGIN 1")
    asked = [forked("checkpoint", "--scheduler", address) for _ in range(2)]
    for each in asked:
        assert each.wait(30) == 0 and "is the newest whole one, of step" in each.text, each.text
    assert whole(folder)
    bits(run)


def test_a_scheduler_is_started_again_though_the_checkpoint_that_its_run_has_gone_on_from_is_removed_by_then(
    forked: Run, tmp_path: Path
) -> None:
    folder = tmp_path / "kept"
    saving = ("--checkpoint-dir", folder, "--checkpoint-every", 2, "--keep", 1)
    flags = ("run", "-w", 2, *SHORT, *saving, SCRIPT, "--nap", "0.05")
    first = forked(*flags)
    await_whole(folder, 1, first)
    kill_all(first)
    second = forked(*flags)
    began = folder / second.wait_for(r"going on from step \d+, with \S*(step-\S+)")[1]
    wait_until(lambda: not began.exists())
    Process.signal_pid(Process.child(second.pid, "scheduler"), signal.SIGKILL)
    assert second.wait(60) == 0, second.text
    assert "scheduler failed (killed by SIGKILL): starting it again" in second.text and "Traceback" not in second.text
