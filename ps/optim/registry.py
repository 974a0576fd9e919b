"""The optimizers and the learning-rate schedules, one line each."""

from __future__ import annotations

from ps.optim.adagrad import Adagrad
from ps.optim.adam import Adam
from ps.optim.adamw import AdamW
from ps.optim.fedadagrad import ServerAdagrad
from ps.optim.fedadam import ServerAdam
from ps.optim.fedyogi import ServerYogi
from ps.optim.ftrl import FTRL
from ps.optim.lion import Lion
from ps.optim.momentum import Momentum
from ps.optim.nesterov import Nesterov
from ps.optim.optimizer import Optimizer
from ps.optim.rmsprop import RMSprop
from ps.optim.schedule import Constant, Cosine, Linear, Schedule, Shape, Step, Warmup
from ps.optim.sgd import SGD
from ps.spec import Registry

OPTIMIZERS: Registry[Optimizer] = Registry(
    "optimizer",
    {
        "adagrad": Adagrad,
        "adam": Adam,
        "adamw": AdamW,
        "fedadagrad": ServerAdagrad,
        "fedadam": ServerAdam,
        "fedyogi": ServerYogi,
        "ftrl": FTRL,
        "lion": Lion,
        "momentum": Momentum,
        "nesterov": Nesterov,
        "rmsprop": RMSprop,
        "sgd": SGD,
    },
    interface=Optimizer,
)

SCHEDULES: Registry[Schedule] = Registry(
    "schedule",
    {
        "constant": Constant,
        "cosine": Cosine,
        "linear": Linear,
        "step": Step,
        "warmup": Warmup,
    },
    finish=Schedule,
    interface=Shape,
)
