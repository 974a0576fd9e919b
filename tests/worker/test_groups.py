"""Promises of tensors that differ: groups with numbers of their own, frozen ones, and steps that leave some out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from ps.config import job_from
from ps.errors import ConfigError, GradientError, LayoutMismatch, UsageError
from ps.testing import LocalCluster
from ps.worker import KV
from support.loopback import model

Start = Callable[..., LocalCluster]
Local = Callable[..., KV]

SHAPES = ((40, 30), (30,), (), (30, 7), (7,))
GROUPS = {"d": {"lr": 0.3, "weight_decay": 0.0}, "small": {"tensors": ["b", "e", "c"], "weight_decay": 0.5}}
NUMBERS = {
    "a": {},
    "b": {"weight_decay": 0.5},
    "c": {"weight_decay": 0.5},
    "d": GROUPS["d"],
    "e": {"weight_decay": 0.5},
}
OPTIMIZERS = ["sgd:lr=0.1,weight_decay=0.1", "adam:lr=0.1,weight_decay=0.1", "adamw:lr=0.1,weight_decay=0.1"]


def alone(local: Local, optimizer: str, name: str, steps: list[Any], **job: Any) -> np.ndarray:
    """Train one tensor in a process of its own, with its group's numbers; None: a step that it takes no part in."""
    numbers = ",".join(f"{key}={value}" for key, value in NUMBERS[name].items())
    head, _, rest = optimizer.partition(":")
    spec = dict(item.split("=") for item in (*rest.split(","), *filter(None, numbers.split(","))))
    kv = local(optimizer=f"{head}:" + ",".join(f"{key}={value}" for key, value in spec.items()), **job)
    params = kv.init({name: model(*SHAPES)[name]})
    for step in steps:
        if step is not None:
            kv.step({name: step[name]})
    return np.array(params[name])


@pytest.mark.parametrize("mode", ["sync", "async", "ssp"])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_each_group_is_trained_as_by_a_job_of_its_own_with_its_numbers(
    loopback: Start, local: Local, optimizer: str, mode: str
) -> None:
    gradients = [model(*SHAPES, seed=seed) for seed in range(1, 5)]

    def train(kv: KV) -> dict[str, np.ndarray]:
        params = kv.init(model(*SHAPES), groups=GROUPS)
        for gradient in gradients:
            kv.step(gradient)
        return {name: np.array(value) for name, value in params.items()}

    (there,) = loopback(servers=2, workers=1, mode=mode, optimizer=optimizer, chunk_size=1024).run(train)
    here = train(local(optimizer=optimizer))
    for name in here:
        expected = alone(local, optimizer, name, gradients)
        assert there[name].tobytes() == here[name].tobytes() == expected.tobytes(), name


@pytest.mark.parametrize("chunk_size", [1024, 1 << 20])
@pytest.mark.parametrize("clip", [{}, {"clip_norm": 1.0}, {"clip_value": 0.2}], ids=str)
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_what_a_step_leaves_out_stays_as_it_is_with_its_optimizers_state(
    loopback: Start, local: Local, optimizer: str, clip: dict[str, float], chunk_size: int
) -> None:
    left_out = [{"b", "d"}, set(), {"a", "b", "c", "d", "e"}, {"a"}, {"b", "c"}]
    gradients = [model(*SHAPES, seed=seed) for seed in range(1, 6)]

    def train(kv: KV) -> dict[str, np.ndarray]:
        params = kv.init(model(*SHAPES), groups=GROUPS)
        for gradient, names in zip(gradients, left_out, strict=True):
            given: dict[str, Any] = {name: value for name, value in gradient.items() if name not in names}
            kv.step(given | dict.fromkeys(sorted(names)[::2]), partial=True)
        return {name: np.array(value) for name, value in params.items()}

    (there,) = loopback(servers=2, workers=1, optimizer=optimizer, chunk_size=chunk_size, **clip).run(train)
    here = train(local(optimizer=optimizer, chunk_size=chunk_size, servers=2, **clip))
    for name in here:
        assert there[name].tobytes() == here[name].tobytes(), name
        if "clip_norm" not in clip:  # else what the norm is depends on the others
            steps = [None if name in names else g for g, names in zip(gradients, left_out, strict=True)]
            assert here[name].tobytes() == alone(local, optimizer, name, steps, **clip).tobytes(), name


def test_of_a_tensor_that_only_some_workers_have_a_gradient_for_the_others_count_as_zeros(
    loopback: Start, local: Local
) -> None:
    """As in one process with the whole batch: worker 0 has b and c, worker 1 has c and d, nobody has e."""
    halves = [{"b", "c", "a"}, {"c", "d", "a"}]
    gradients = [[model(*SHAPES, seed=10 * rank + step) for step in range(3)] for rank in range(2)]

    def train(kv: KV) -> dict[str, np.ndarray]:
        params = kv.init(model(*SHAPES))
        for step in range(3):
            kv.step({name: gradients[kv.rank][step][name] for name in sorted(halves[kv.rank])}, partial=True)
        return {name: np.array(value) for name, value in params.items()}

    found = loopback(servers=2, workers=2, optimizer="adam:lr=0.1", chunk_size=1024).run(train, train)
    kv = local(optimizer="adam:lr=0.1")
    params = kv.init(model(*SHAPES))
    for step in range(3):
        whole = {
            name: sum(
                gradients[rank][step][name] if name in halves[rank] else np.zeros_like(gradients[0][0][name])
                for rank in range(2)
            )
            / np.float32(2)
            for name in "abcd"
        }
        kv.step(whole, partial=True)
    for name in params:
        assert found[0][name].tobytes() == found[1][name].tobytes()
        np.testing.assert_allclose(found[0][name], params[name], rtol=1e-6, err_msg=name)
    assert found[0]["e"].tobytes() == model(*SHAPES)["e"].tobytes()


def test_a_step_in_which_a_worker_has_no_gradient_at_all_is_still_one_of_both(loopback: Start) -> None:
    def train(kv: KV) -> float:
        params = kv.init({"w": np.zeros(4, np.float32)})
        kv.step({} if kv.rank else {"w": np.ones(4, np.float32)}, partial=True)
        return float(params["w"][0])

    assert loopback(workers=2, optimizer="sgd:lr=1").run(train, train) == [-0.5, -0.5]


def test_announced_gradients_may_be_all_of_a_partial_step(loopback: Start) -> None:
    def train(kv: KV) -> list[float]:
        params = kv.init({"a": np.zeros(300, np.float32), "b": np.zeros(300, np.float32)})
        kv.ready("b", np.ones(300, np.float32))
        kv.step(partial=True)
        return [float(params["a"][0]), float(params["b"][0])]

    assert loopback(workers=1, servers=2, optimizer="sgd:lr=1", chunk_size=1024).run(train) == [[0.0, -1.0]]


@pytest.mark.parametrize("mode", ["sync", "async", "ssp"])
def test_a_groups_rate_and_decay_may_be_set_anew_for_all_workers(loopback: Start, local: Local, mode: str) -> None:
    gradients = [model(*SHAPES, seed=seed) for seed in range(1, 7)]

    def train(kv: KV) -> dict[str, np.ndarray]:
        params = kv.init(model(*SHAPES), groups=GROUPS)
        for step, gradient in enumerate(gradients):
            if step == 2:
                kv.set_lr(0.05)
                kv.set_lr(0.7, group="d")
            if step == 4:
                kv.set_weight_decay(0.25, group="small")
            if step == 5:
                kv.set_weight_decay(0.0)
            kv.step(gradient)
        return {name: np.array(value) for name, value in params.items()}

    job: dict[str, Any] = {"optimizer": "adamw:lr=0.1,weight_decay=0.1", "chunk_size": 1024}
    (there,) = loopback(servers=2, workers=1, mode=mode, **job).run(train)
    here = train(local(**job))

    def one(name: str) -> np.ndarray:
        lr, decay = {"d": (0.3, 0.0)}.get(name, (0.1, 0.1 if name == "a" else 0.5))
        kv = local(optimizer=f"adamw:lr={lr},weight_decay={decay}")
        params = kv.init({name: model(*SHAPES)[name]})
        for step, gradient in enumerate(gradients):
            if step == 2:
                kv.set_lr(0.7 if name == "d" else 0.05)
            if step == 4 and name in "bce":
                kv.set_weight_decay(0.25)
            if step == 5 and name == "a":
                kv.set_weight_decay(0.0)
            kv.step({name: gradient[name]})
        return np.array(params[name])

    for name in here:
        assert there[name].tobytes() == here[name].tobytes() == one(name).tobytes(), name


def test_one_worker_sets_a_groups_rate_and_the_other_follows_it(loopback: Start) -> None:
    def train(kv: KV) -> list[float]:
        params = kv.init({"a": np.zeros(4, np.float32), "b": np.zeros(4, np.float32)}, groups={"b": {}})
        if kv.rank == 1:
            kv.set_lr(0.25, group="b")
        for _ in range(2):
            kv.step({name: np.ones(4, np.float32) for name in "ab"})
        return [float(params["a"][0]), float(params["b"][0])]

    assert loopback(workers=2, optimizer="sgd:lr=1").run(train, train) == [[-2.0, -0.5]] * 2


def test_a_newcomer_knows_the_rate_that_a_group_was_given(loopback: Start) -> None:
    job = loopback(workers=1, optimizer="sgd:lr=1", mode="async")

    def first(kv: KV) -> None:
        kv.init({"a": np.zeros(4, np.float32)}, groups={"a": {}})
        kv.set_lr(0.5, group="a")
        kv.step({"a": np.ones(4, np.float32)})
        kv.step({"a": np.ones(4, np.float32)})

    def second(kv: KV) -> float:
        params = kv.init({"a": np.zeros(4, np.float32)}, groups={"a": {}})
        kv.step({"a": np.ones(4, np.float32)})
        return float(params["a"][0])

    with job.connect() as kv:
        first(kv)
        with job.connect() as newcomer:
            assert second(newcomer) == -1.5


def test_frozen_tensors_of_any_dtype_stay_with_the_worker_and_cannot_be_written_to(loopback: Start) -> None:
    table = np.arange(6, dtype=np.int32).reshape(2, 3)

    def train(kv: KV) -> tuple[list[str], int, bool]:
        params = kv.init(
            {"encoder.table": table, "w": np.zeros(4, np.float32), "encoder.half": np.ones(2, np.float16)},
            kinds={"encoder.*": "frozen"},
        )
        kv.step({"w": np.ones(4, np.float32)})
        assert params["encoder.table"].tobytes() == table.tobytes()
        return list(params), kv._store.traffic.bytes_up, params["encoder.half"].flags.writeable  # type: ignore[attr-defined]

    names = ["encoder.table", "w", "encoder.half"]
    assert loopback(workers=1).run(train)[0] == (names, 32, False), "16 bytes of first values and 16 of a gradient"


@pytest.mark.parametrize("bad", [{"b": {"lr": 0.2}}, {"b": {}}, None], ids=["another rate", "another group", "none"])
def test_workers_that_disagree_about_a_group_train_different_models(loopback: Start, bad: Any) -> None:
    def train(kv: KV) -> str:
        try:
            kv.init({"a": np.zeros(4), "b": np.zeros(4)}, groups={"b": {"lr": 0.1}} if kv.rank == 0 else bad)
        except LayoutMismatch as error:
            return str(error)
        return ""

    found = "".join(loopback(workers=2).run(train, train))
    assert "b float64[4] (group b lr=0.1)" in found


@pytest.mark.parametrize(
    ("groups", "kind", "text"),
    [
        ([("a", {})], UsageError, "groups is a dict"),
        ({"a": 0.1}, UsageError, "group 'a' is a dict with the numbers"),
        ({"a": {"lr": "0.1"}}, UsageError, "group 'a': lr is a number, not '0.1'"),
        ({"a": {"lr": True}}, UsageError, "lr is a number, not True"),
        ({"a": {"momentum": 0.1}}, ConfigError, "group 'a': optimizer adam takes no 'momentum'"),
        ({"a": {"lr": -1}}, ConfigError, "group 'a': optimizer adam: lr=-1.0 must be"),
        ({"a": {"lr": float("nan")}}, ConfigError, "lr=nan must be"),
        ({"x.*": {}}, UsageError, r"no trained tensor is called 'x\.\*'; there are 'a'$"),
        ({"run": {}}, UsageError, "no trained tensor is called 'run'"),
        ({"g": {"tensors": "a"}}, UsageError, "tensors is a list of names or patterns"),
        ({"": {}}, UsageError, "a name has 1 to 200 characters"),
        ({"a" * 201: {}}, UsageError, "a name has 1 to 200 characters"),
    ],
)
def test_groups_that_cannot_be_are_refused_in_their_own_words(local: Local, groups: Any, kind: Any, text: str) -> None:
    kv = local(optimizer="adam")
    with pytest.raises(kind, match=text):
        kv.init({"a": np.zeros(3), "run": np.zeros(3)}, kinds={"run": "buffer"}, groups=groups)
    assert list(kv.init({"a": np.zeros(3)})) == ["a"], "nothing was begun"


def test_a_rate_for_a_group_that_there_is_not_is_refused(local: Local) -> None:
    kv = local(optimizer="ftrl")
    kv.init({"a": np.zeros(3), "b": np.zeros(3)}, groups={"*": {"lr": 0.1}})
    with pytest.raises(UsageError, match=r"is called 'a'; kv.init was given '\*'"):
        kv.set_lr(0.1, group="a")
    with pytest.raises(UsageError, match="every group was declared with an own lr"):
        kv.set_lr(0.1)
    with pytest.raises(UsageError, match="optimizer ftrl has no weight decay"):
        kv.set_weight_decay(0.1, group="*")
    with pytest.raises(UsageError, match="the weight decay must be a finite number at least 0"):
        kv.set_weight_decay(-0.1)


def test_a_partial_step_is_refused_where_gradients_are_compressed(loopback: Start) -> None:
    def train(kv: KV) -> None:
        kv.init({"a": np.zeros(3, np.float32)})
        with pytest.raises(UsageError, match=r"partial=True needs a job without compression.*topk"):
            kv.step({}, partial=True)
        kv.step({"a": np.ones(3, np.float32)})

    loopback(workers=1, compress="topk:0.5").run(train)


def test_an_unknown_name_is_refused_in_a_partial_step_too(local: Local) -> None:
    kv = local()
    kv.init({"alpha": np.zeros(3)})
    with pytest.raises(GradientError, match="unknown tensor 'alhpa'; did you mean 'alpha'"):
        kv.step({"alhpa": np.zeros(3)}, partial=True)


def test_a_client_trains_by_groups_and_may_leave_tensors_out(loopback: Start, local: Local) -> None:
    gradients = [model(*SHAPES, seed=seed) for seed in range(1, 5)]
    left_out = [set(), {"a", "b"}, {"e"}, {"d", "c"}]
    optimizer = "adamw:lr=0.1,weight_decay=0.1"

    def train(kv: KV) -> dict[str, np.ndarray]:
        params = kv.init(model(*SHAPES), groups=GROUPS)
        rows = np.arange(4)
        for step, _ in enumerate(kv.batches((rows,), 1, epochs=1, shuffle=False)):
            given = {name: value for name, value in gradients[step].items() if name not in left_out[step]}
            kv.step(given, partial=True)
        return {name: np.array(value) for name, value in params.items()}

    job = {"mode": "federated", "workers": 1, "rounds": 1, "local_optimizer": optimizer}
    assert job_from(job).federated
    (found,) = loopback(servers=2, **job).run(train)
    for name in found:
        steps = [None if name in names else g for g, names in zip(gradients, left_out, strict=True)]
        np.testing.assert_allclose(found[name], alone(local, optimizer, name, steps), rtol=1e-4, err_msg=name)
