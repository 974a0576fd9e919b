"""Look: the colour, dash and marker by which each run is known on the page, in light and in dark.

Colours follow Okabe and Ito, darkened or lightened until they stand out from the page; dashes and markers tell the
same to whoever sees no colours.
"""

from __future__ import annotations

from ps.dataclass import dataclass

COLOURS = {
    "page": ("#ffffff", "#14171c"),
    "card": ("#f6f7f9", "#1d2128"),
    "ink": ("#16191d", "#eceff3"),
    "soft": ("#555c66", "#a5adb8"),
    "edge": ("#d9dde3", "#3a414b"),
    "good": ("#006b45", "#4fd1a0"),
    "bad": ("#b3261e", "#ff8f85"),
}
"""What the page is made of, in light and in dark."""


@dataclass(frozen=True, slots=True)
class Look:
    """How one run is drawn; dash and marker are called as Plotly has them."""

    light: str
    dark: str
    dash: str
    marker: str


LOOKS = {
    "centralized": Look("#3b3f46", "#d5d9e0", "dash", "circle"),
    "sync": Look("#0065a3", "#6cbdf2", "solid", "square"),
    "async": Look("#a35f00", "#f0b13c", "solid", "triangle-up"),
    "ssp": Look("#a3437d", "#ef9dcb", "solid", "diamond"),
    "pipeline": Look("#6a3fb5", "#b99bf5", "longdash", "star"),
    "federated-iid": Look("#00785a", "#35c99b", "dashdot", "triangle-down"),
    "federated-non-iid": Look("#cc4100", "#ff8f5e", "dot", "x"),
}


def ink(name: str) -> str:
    """Return a colour by its name, a run's or one of ``COLOURS``: a CSS variable, which follows the reader's theme."""
    return f"var(--{name})"


def variables(theme: int) -> str:
    """Return the CSS variables with every colour in light (0) or dark (1)."""
    runs = {name: (look.light, look.dark) for name, look in LOOKS.items()}
    return "".join(f"--{name}:{pair[theme]};" for name, pair in {**COLOURS, **runs}.items())


def themes() -> str:
    """Return the CSS that gives every variable its colour, as the reader's theme is; paper is light."""
    light, dark = variables(0), variables(1)
    screen = f":root{{color-scheme:light dark;{light}}}@media (prefers-color-scheme:dark){{:root{{{dark}}}}}"
    return f"{screen}@media print{{:root{{{light}}}}}"
