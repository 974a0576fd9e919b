"""``dataclass`` as the standard library has it, with one method compiled for each class instead of six.

A process of ours loads two hundred such classes: a quarter of its start was the compiling of their methods.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import MISSING, Field, FrozenInstanceError, fields
from reprlib import recursive_repr
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dataclasses import dataclass as dataclass
else:
    from dataclasses import dataclass as _standard

    def dataclass(
        *,
        slots: bool,
        frozen: bool = False,
        eq: bool = True,
        order: bool = False,
        repr: bool = True,
        weakref_slot: bool = False,
    ):
        """Declare a class with slots. Others, and what is not named here, are for the standard library's."""
        if not slots:
            raise TypeError("use dataclasses.dataclass for a class without slots")

        def make(cls: type) -> type:
            inherits = any("__dataclass_params__" in base.__dict__ for base in cls.__mro__[1:])
            bare = {"init": False, "repr": False, "eq": order, "order": order}
            bare["frozen"] = frozen and inherits  # bases are looked at
            made = _standard(**bare, slots=True, weakref_slot=weakref_slot)(cls)
            params = made.__dataclass_params__
            params.init, params.frozen, params.eq, params.repr = True, frozen, eq, repr
            methods = {"__init__": constructor(made, frozen=frozen)}
            methods |= _shown(made) if repr else {}
            methods |= _compared(made, frozen) if eq else {}
            methods |= _kept(made) if frozen else {}
            for name, method in methods.items():
                if name not in cls.__dict__ or cls.__dict__[name] is None:  # a class with __eq__ has a __hash__ of None
                    setattr(made, name, method)
            return made

        return make


class _Factory:
    """Stands for a default that is made anew for each object."""

    def __repr__(self) -> str:
        return "<factory>"


FACTORY = _Factory()


def constructor(cls: type, *, frozen: bool) -> Callable[..., None]:
    """Return ``__init__`` for a class with slots, from text: a call by name with defaults is fast no other way.

    ``frozen``: it writes past what keeps others from assigning.
    """
    scope: dict[str, Any] = {"FACTORY": FACTORY}
    taken, lines, declared = ["self"], [], fields(cls)
    for field in declared:
        name = value = field.name
        scope[f"set__{name}"] = getattr(cls, name).__set__  # past what keeps others from assigning
        scope[f"default__{name}"], scope[f"make__{name}"] = field.default, field.default_factory
        if field.default_factory is not MISSING:
            value = f"make__{name}() if {name} is FACTORY else {name}" if field.init else f"make__{name}()"
        elif not field.init:
            value = f"default__{name}"
        if field.init:
            anew = field.default_factory is not MISSING
            default = "FACTORY" * anew or f"default__{name}" * (field.default is not MISSING)
            taken.append(f"{name}={default}" if default else name)
        if field.init or field.default is not MISSING or field.default_factory is not MISSING:
            lines.append(f"    set__{name}(self, {value})" if frozen else f"    self.{name} = {value}")
    if getattr(cls, "__post_init__", None):
        lines.append("    self.__post_init__()")
    exec("\n".join([f"def __init__({', '.join(taken)}):", *lines, "    return"]), scope)
    made: Callable[..., None] = scope["__init__"]
    made.__qualname__, made.__module__ = f"{cls.__qualname__}.__init__", cls.__module__
    made.__annotations__ = {field.name: field.type for field in declared if field.init}
    made.__annotations__["return"] = None
    return made


def _shown(cls: type) -> dict[str, Any]:
    names = [field.name for field in fields(cls) if field.repr]

    @recursive_repr()
    def __repr__(self: Any) -> str:
        return f"{type(self).__qualname__}({', '.join(f'{name}={getattr(self, name)!r}' for name in names)})"

    return {"__repr__": __repr__}


def _compared(cls: type, frozen: bool) -> dict[str, Any]:
    """Return equality and hash, which are compiled when they are first asked for: most never are."""

    def compiled() -> dict[str, Any]:
        declared: tuple[Field[Any], ...] = fields(cls)
        compared = [field.name for field in declared if field.compare]
        hashed = [field.name for field in declared if (field.compare if field.hash is None else field.hash)]
        scope: dict[str, Any] = {}
        text = f"""
def __eq__(self, other):
    if other.__class__ is self.__class__:
        return ({_values("self", compared)}) == ({_values("other", compared)})
    return NotImplemented
def __hash__(self):
    return hash(({_values("self", hashed)}))
"""
        exec(text, scope)
        for name in ("__eq__", "__hash__") if frozen else ("__eq__",):
            if cls.__dict__[name] in (__eq__, __hash__):
                setattr(cls, name, scope[name])
        return scope

    def __eq__(self: Any, other: object) -> Any:
        return compiled()["__eq__"](self, other)

    def __hash__(self: Any) -> Any:
        return compiled()["__hash__"](self)

    return {"__eq__": __eq__, "__hash__": __hash__ if frozen else None}


def _values(of: str, names: list[str]) -> str:
    return "".join(f"{of}.{name}," for name in names)


def _kept(cls: type) -> dict[str, Any]:
    """Return what keeps a value as it is, and lets it be copied and pickled nevertheless."""
    names = [field.name for field in fields(cls)]

    def __setattr__(self: Any, name: str, value: Any) -> None:
        if type(self) is cls or name in names:
            raise FrozenInstanceError(f"cannot assign to field {name!r}")
        object.__setattr__(self, name, value)

    def __delattr__(self: Any, name: str) -> None:
        if type(self) is cls or name in names:
            raise FrozenInstanceError(f"cannot delete field {name!r}")
        object.__delattr__(self, name)

    def __getstate__(self: Any) -> list[Any]:
        return [getattr(self, name) for name in names]

    def __setstate__(self: Any, state: list[Any]) -> None:
        for name, value in zip(names, state, strict=True):
            object.__setattr__(self, name, value)

    return {method.__name__: method for method in (__setattr__, __delattr__, __getstate__, __setstate__)}
