"""Registry: what one kind of thing may be called in a job's settings; Spec: one such text, read and checked.

A text such as ``adam:lr=1e-3,beta1=0.9`` is a name and numbers, never code. A definition is a dataclass whose fields,
declared with ``ps.number.number``, are the numbers it takes; how it is used is its own kind's affair. Each folder of
definitions has the same files: the interface that all of them fulfil, ``registry.py`` with one line for each, and one
file for each.
"""

from __future__ import annotations

import contextlib
import dataclasses
import difflib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import field
from typing import Any, Generic, TypeAlias, TypeVar

from ps.dataclass import dataclass
from ps.errors import ConfigError
from ps.number import parse_decimal

T = TypeVar("T")

Numbers: TypeAlias = tuple[tuple[str, float], ...]
"""Every number of one spec, in the order of its definition's fields."""


def as_defined(definition: Any) -> Any:
    """Return a definition, which is itself what is used."""
    return definition


@dataclass(frozen=True, slots=True)
class Spec(Generic[T]):
    """A name and all its numbers, checked; specs of one kind are equal when their texts are."""

    kind: str
    name: str
    numbers: Numbers
    definition: type[Any] = field(repr=False, compare=False)
    finish: Callable[[Any], T] = field(default=as_defined, repr=False, compare=False)

    def __str__(self) -> str:
        """Return the canonical text, every number written out, so that it outlives a change of defaults."""
        return self.name + ":" * bool(self.numbers) + ",".join(f"{key}={value!r}" for key, value in self.numbers)

    def build(self) -> T:
        """Return what is named."""
        return self.finish(self.definition(**dict(self.numbers)))


class Registry(Mapping[str, type[Any]], Generic[T]):
    """The definitions of one kind by name, in the order of the alphabet.

    >>> from ps.optim import OPTIMIZERS
    >>> OPTIMIZERS.parse("momentum:0.1")
    Spec(kind='optimizer', name='momentum', numbers=(('lr', 0.1), ('momentum', 0.9), ('weight_decay', 0.0)))
    >>> str(OPTIMIZERS.parse("momentum:lr=1e-1"))
    'momentum:lr=0.1,momentum=0.9,weight_decay=0.0'
    """

    def __init__(
        self,
        kind: str,
        definitions: Mapping[str, type[Any]],
        *,
        finish: Callable[[Any], T] = as_defined,
        interface: type[Any] | None = None,
        pluggable: bool = True,
    ) -> None:
        """``kind``: the word for it in errors. ``finish`` makes what is used out of a definition with its numbers.

        ``interface``: the protocol that definitions fulfil, where it is one for all of them. ``pluggable``: whether
        plug-ins may add to it, so that an unknown name may be one of theirs.
        """
        self.kind = kind
        self._definitions = dict(definitions)
        self._finish = finish
        self._members = [name for name in vars(interface) if not name.startswith("_")] if interface else []
        self._pluggable = pluggable

    def __getitem__(self, name: str) -> type[Any]:
        return self._definitions[name]

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(self._definitions))

    def __len__(self) -> int:
        return len(self._definitions)

    def add(self, name: str, definition: type[Any]) -> None:
        """Add a definition; ConfigError when the name cannot be written, or stands for another."""
        if not name.isidentifier():
            raise ConfigError(f"{self.kind} {name!r}: a name has letters, digits and underscores only")
        known = self._definitions.get(name, definition)
        if known is not definition:
            raise ConfigError(f"there is a {self.kind} {name!r} already, {known.__module__}.{known.__qualname__}")
        if not dataclasses.is_dataclass(definition):
            raise ConfigError(f"{self.kind} {name!r} must be a dataclass, whose fields are its numbers")
        for each in dataclasses.fields(definition):
            if "range" not in each.metadata:
                raise ConfigError(f"{self.kind} {name!r}: declare {each.name} with ps.plugins.number(default, …)")
        missing = {*self._members} - {*dir(definition), *(each.name for each in dataclasses.fields(definition))}
        if missing:
            raise ConfigError(f"{self.kind} {name!r} lacks {', '.join(sorted(missing))}")
        self._definitions[name] = definition

    def parse(self, text: str) -> Spec[T]:
        """Read ``name``, ``name:number`` or ``name:number,key=number,…``; ConfigError when it is wrong.

        The number without a key is the definition's first: an optimizer's learning rate, krum's f.
        """
        name, colon, rest = text.partition(":")
        name = name.strip()
        fields = dataclasses.fields(self._known(name))
        if colon and not fields:
            raise ConfigError(f"{self.kind} {text!r}: {name} takes no numbers")
        if colon:
            with contextlib.suppress(ValueError):
                parse_decimal(rest.partition(",")[0].strip())
                rest = f"{fields[0].name}={rest}"
        given: dict[str, float] = {}
        for item in rest.split(",") if colon else ():
            key, equals, value = (part.strip() for part in item.partition("="))
            if not equals or not key:
                raise ConfigError(f"{self.kind} {text!r}: expected key=number after the colon, not {item.strip()!r}")
            if key in given:
                raise ConfigError(f"{self.kind} {text!r}: {key} is given twice")
            try:
                given[key] = parse_decimal(value)
            except ValueError:
                raise ConfigError(f"{self.kind} {text!r}: {key}={value!r} is not a number") from None
        return self.spec(name, given)

    def spec(self, name: str, given: Mapping[str, float] | Numbers = ()) -> Spec[T]:
        """Return the spec of a name and the numbers that are given; the others have their defaults.

        ConfigError for a name that there is not, and for numbers that it does not take.
        """
        return Spec(self.kind, name, self._complete(name, dict(given)), self._definitions[name], self._finish)

    def _known(self, name: str) -> type[Any]:
        if name not in self._definitions:
            plug_in = "; a plug-in's needs --plugin with its module, for every role" if self._pluggable else ""
            raise ConfigError(f"unknown {self.kind} {name!r}; {_hint(name, self)}there are {', '.join(self)}{plug_in}")
        return self._definitions[name]

    def _complete(self, name: str, given: Mapping[str, float]) -> Numbers:
        fields = {each.name: each for each in dataclasses.fields(self._known(name))}
        if given and not fields:
            raise ConfigError(f"{self.kind} {name} takes no numbers, not even {next(iter(given))}")
        for key in given:
            if key not in fields:
                raise ConfigError(
                    f"{self.kind} {name} takes no {key!r}; {_hint(key, fields)}it takes {', '.join(fields)}"
                )
        numbers = []
        for key, each in fields.items():
            value = given.get(key, each.default)
            allowed = each.metadata["range"]
            if value is dataclasses.MISSING:
                raise ConfigError(f"{self.kind} {name} needs {key}=<{allowed}>")
            if value not in allowed:
                raise ConfigError(f"{self.kind} {name}: {key}={value!r} {allowed.refusal(value)}")
            numbers.append((key, int(value) if allowed.whole else float(value)))
        return tuple(numbers)


def _hint(word: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(word, known, n=1)
    return f"did you mean {close[0]!r}? " if close else ""
