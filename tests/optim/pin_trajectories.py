"""Write data/trajectories.json: ten steps of every optimizer as other libraries take them.

Not run by the tests and no dependency of theirs. To make the file anew, in an environment of its own:

    pip install torch==2.13.0 optax==0.2.8 jax==0.10.2 pytorch_optimizer==4.1.0
    python tests/optim/pin_trajectories.py

All in float64. FTRL is pinned from zero weights, since the other library does not fit its z to the initial ones.
FedAdam and FedYogi are the other libraries' Adam and Yogi with v = tau² to begin with and so many updates behind them
that their bias corrections are 1.
"""

from __future__ import annotations

import importlib.metadata
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytorch_optimizer
import torch

STEPS, SIZE = 10, 5

LONG_AGO = 10**6
"""Updates after which 1 - beta^t is 1 in float64."""

TORCH: dict[str, Callable[..., Any]] = {
    "sgd:lr=0.1": lambda p: torch.optim.SGD(p, lr=0.1),
    "sgd:lr=0.1,weight_decay=0.05": lambda p: torch.optim.SGD(p, lr=0.1, weight_decay=0.05),
    "momentum:lr=0.05": lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.9),
    "momentum:lr=0.05,momentum=0.8,weight_decay=0.05": lambda p: torch.optim.SGD(
        p, lr=0.05, momentum=0.8, weight_decay=0.05
    ),
    "nesterov:lr=0.7": lambda p: torch.optim.SGD(p, lr=0.7, momentum=0.9, nesterov=True),
    "nesterov:lr=0.05,momentum=0.8,weight_decay=0.05": lambda p: torch.optim.SGD(
        p, lr=0.05, momentum=0.8, weight_decay=0.05, nesterov=True
    ),
    "adagrad": lambda p: torch.optim.Adagrad(p),
    "adagrad:lr=0.1,lr_decay=0.2,initial=0.3,eps=1e-6,weight_decay=0.05": lambda p: torch.optim.Adagrad(
        p, lr=0.1, lr_decay=0.2, initial_accumulator_value=0.3, eps=1e-6, weight_decay=0.05
    ),
    "rmsprop": lambda p: torch.optim.RMSprop(p),
    "rmsprop:lr=0.05,alpha=0.8,eps=1e-3,weight_decay=0.05": lambda p: torch.optim.RMSprop(
        p, lr=0.05, alpha=0.8, eps=1e-3, weight_decay=0.05
    ),
    "adam": lambda p: torch.optim.Adam(p),
    "adam:lr=0.1,beta1=0.7,beta2=0.95,eps=1e-3,weight_decay=0.05": lambda p: torch.optim.Adam(
        p, lr=0.1, betas=(0.7, 0.95), eps=1e-3, weight_decay=0.05
    ),
    "adamw": lambda p: torch.optim.AdamW(p),
    "adamw:lr=0.1,beta1=0.7,beta2=0.95,eps=1e-3,weight_decay=0.5": lambda p: torch.optim.AdamW(
        p, lr=0.1, betas=(0.7, 0.95), eps=1e-3, weight_decay=0.5
    ),
}
FTRL: dict[str, Callable[..., Any]] = {
    "ftrl": lambda p: pytorch_optimizer.FTRL(p, lr=0.1, beta=1.0),
    "ftrl:lr=0.5,beta=0.7,l1=1.5,l2=0.2": lambda p: pytorch_optimizer.FTRL(
        p, lr=0.5, beta=0.7, lambda_1=1.5, lambda_2=0.2
    ),
}
FEDERATED: dict[str, Callable[..., Any]] = {
    "fedadagrad": lambda p: torch.optim.Adagrad(p, lr=0.1, initial_accumulator_value=1e-3**2, eps=1e-3),
    "fedadagrad:lr=0.3,tau=0.1,weight_decay=0.05": lambda p: torch.optim.Adagrad(
        p, lr=0.3, initial_accumulator_value=0.1**2, eps=0.1, weight_decay=0.05
    ),
    "fedadam": lambda p: uncorrected_adam(p, lr=0.01, betas=(0.9, 0.99), eps=1e-3),
    "fedadam:lr=0.1,beta1=0.7,beta2=0.95,tau=0.1,weight_decay=0.05": lambda p: uncorrected_adam(
        p, lr=0.1, betas=(0.7, 0.95), eps=0.1, weight_decay=0.05
    ),
}
LION: dict[str, Any] = {
    "lion": lambda: optax.lion(1e-4, weight_decay=0.0),
    "lion:lr=0.05,beta1=0.8,beta2=0.9,weight_decay=0.3": lambda: optax.lion(0.05, b1=0.8, b2=0.9, weight_decay=0.3),
}
YOGI: dict[str, Any] = {
    "fedyogi": lambda: uncorrected_yogi(0.01, 0.9, 0.99, 1e-3, 0.0),
    "fedyogi:lr=0.1,beta1=0.7,beta2=0.95,tau=0.1,weight_decay=0.05": lambda: uncorrected_yogi(
        0.1, 0.7, 0.95, 0.1, 0.05
    ),
}


def uncorrected_adam(parameters: list[Any], **numbers: Any) -> Any:
    """Return Adam with v = eps² and its bias corrections at 1."""
    optimizer = torch.optim.Adam(parameters, **numbers)
    for parameter in parameters:
        optimizer.state[parameter] = {
            "step": torch.tensor(float(LONG_AGO), dtype=torch.float64),
            "exp_avg": torch.zeros_like(parameter),
            "exp_avg_sq": torch.full_like(parameter, numbers["eps"] ** 2),
        }
    return optimizer


def uncorrected_yogi(lr: float, beta1: float, beta2: float, tau: float, decay: float) -> Any:
    """Return Yogi with m = 0, v = tau² and its bias corrections at 1."""
    yogi = optax.scale_by_yogi(beta1, beta2, eps=tau, eps_root=0.0, initial_accumulator_value=tau**2)

    def init(parameter: Any) -> Any:
        state = yogi.init(parameter)
        return state._replace(count=jnp.asarray(LONG_AGO, jnp.int32), mu=jnp.zeros_like(parameter))

    begun = optax.GradientTransformation(init, yogi.update)
    return optax.chain(optax.add_decayed_weights(decay), begun, optax.scale_by_learning_rate(lr))


def torch_run(build: Callable[..., Any], initial: np.ndarray, gradients: np.ndarray) -> list[list[float]]:
    """Return the weights after each step."""
    parameter = torch.nn.Parameter(torch.tensor(initial))
    optimizer = build([parameter])
    weights = []
    for gradient in gradients:
        parameter.grad = torch.tensor(gradient)
        optimizer.step()
        weights.append(parameter.detach().tolist())
    return weights


def optax_run(build: Callable[[], Any], initial: np.ndarray, gradients: np.ndarray) -> list[list[float]]:
    """Return the weights after each step."""
    optimizer, parameter = build(), jnp.asarray(initial)
    state = optimizer.init(parameter)
    weights = []
    for gradient in gradients:
        updates, state = optimizer.update(jnp.asarray(gradient), state, parameter)
        parameter = optax.apply_updates(parameter, updates)
        weights.append(parameter.tolist())
    return weights


def main() -> None:
    """Write the file."""
    jax.config.update("jax_enable_x64", True)
    rng = np.random.default_rng(0)
    initial = rng.standard_normal(SIZE).round(3)
    gradients = rng.standard_normal((STEPS, SIZE)).round(3)
    gradients[3:6, 0] = 0.0  # a weight that gets no gradient for a while

    cases = []
    for library, run, builds, start in (
        ("torch", torch_run, TORCH, initial),
        ("pytorch_optimizer", torch_run, FTRL, np.zeros(SIZE)),
        ("optax", optax_run, LION, initial),
        ("torch", torch_run, FEDERATED, initial),
        ("optax", optax_run, YOGI, initial),
    ):
        named = f"{library} {importlib.metadata.version(library)}"
        for spec, build in builds.items():
            weights = run(build, start, gradients)
            cases.append({"spec": spec, "library": named, "initial": start.tolist(), "weights": weights})

    about = "Ten steps of float64 weights; made by tests/optim/pin_trajectories.py"
    rows = ",\n".join(json.dumps(case) for case in cases)
    head = f'"about": {json.dumps(about)},\n"gradients": {json.dumps(gradients.tolist())}'
    text = f'{{{head},\n"cases": [\n{rows}\n]}}\n'
    (Path(__file__).parent / "data" / "trajectories.json").write_text(text)


if __name__ == "__main__":
    main()
