"""The public names of ps.optim."""

import ps.optim


def test_the_public_names_are_these() -> None:
    assert ps.optim.__all__ == [
        "OPTIMIZERS",
        "SCHEDULES",
        "Optimizer",
        "Reader",
        "Schedule",
        "WeightedSum",
        "Workspace",
        "apply",
        "clip_scale",
        "square_sum",
    ]
    assert all(hasattr(ps.optim, name) for name in ps.optim.__all__)
