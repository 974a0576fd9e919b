"""KeyFolder: a folder with a process's own keys, and the public keys of those it lists.

``private.key`` never leaves the machine that it was made on; ``public.key`` is what others are given. ``NAME.pub``
has the keys that are accepted under a name, one a line; ``NAME.revoked`` those that are not any more.
"""

from __future__ import annotations

import contextlib
import os
import types
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from ps.dataclass import dataclass
from ps.errors import ConfigError
from ps.keys import permissions, private_keys, public_keys
from ps.keys.private_keys import PrivateKeys, generate
from ps.keys.public_keys import PublicKeys, check_name
from ps.regular_file import blaming, open_regular, shown

PRIVATE, PUBLIC = "private.key", "public.key"
LISTED, REVOKED = ".pub", ".revoked"
LARGEST = 1 << 20
"""Bytes of a file of keys, at most."""
FRESH = 2_000_000_000
"""Nanoseconds after a change in which another one may have the same time."""
MOST = 100_000
"""Names that a folder lists, at most."""


@dataclass(frozen=True, slots=True)
class KeyFolder:
    """What was in a folder when it was read."""

    path: Path
    own: PrivateKeys
    listed: Mapping[str, tuple[PublicKeys, ...]]
    """By name; usually one, and two while keys are replaced."""
    revoked: frozenset[bytes]
    """CURVE keys that must not get in whoever says so."""

    @classmethod
    def read(cls, path: str | Path) -> KeyFolder:
        """Read a folder. Raises ConfigError for what is missing, damaged, or in reach of others, with what to do."""
        folder = Path(path)
        try:
            names = sorted(entry.name for entry in os.scandir(folder))
        except FileNotFoundError:
            raise ConfigError(f"there is no folder {shown(folder)} with keys: psctl keys new makes one") from None
        except OSError as error:
            raise ConfigError(f"cannot read the keys in {shown(folder)}: {error.strerror}") from None
        with _replaced(folder):
            permissions.check_folder(folder)
        if PRIVATE not in names:
            raise ConfigError(f"{shown(folder)} has no {PRIVATE}: psctl keys new makes one, on the machine it is for")
        if len(names) > 2 * MOST:
            raise ConfigError(f"{shown(folder)} lists more than {MOST} names")
        with _replaced(folder):
            own = _read(folder / PRIVATE, secret=True)
        with _naming(folder / PRIVATE):
            keys = private_keys.parse(own)
        listed: dict[str, tuple[PublicKeys, ...]] = {}
        revoked: set[bytes] = set()
        for name in names:
            stem, dot, suffix = name.rpartition(".")
            if dot + suffix not in (LISTED, REVOKED) or stem.startswith("."):
                continue
            with contextlib.suppress(FileNotFoundError), _naming(folder / name):  # revoked just now
                found = public_keys.parse(_read(folder / name, secret=False))
                if dot + suffix == REVOKED:
                    revoked |= {each.curve for each in found}
                else:
                    listed[check_name(stem)] = tuple(each.named(stem) for each in found)
        accepted = {each.curve for group in listed.values() for each in group}
        return cls(folder, keys, types.MappingProxyType(_distinct(folder, listed)), frozenset(revoked - accepted))

    @property
    def everybody(self) -> tuple[PublicKeys, ...]:
        """All keys that are listed, under whichever name."""
        return tuple(each for group in self.listed.values() for each in group)

    def of_role(self, *roles: str) -> tuple[PublicKeys, ...]:
        """Return the keys listed for these roles."""
        return tuple(each for each in self.everybody if each.role in roles)

    def by_curve(self, curve: bytes) -> PublicKeys | None:
        """Return whose key this is, as far as it is listed here."""
        return next((each for each in self.everybody if each.curve == curve), None)


def create(path: str | Path, name: str, role: str, *, signing: bool = True) -> PrivateKeys:
    """Make a folder with new keys in it. Raises ConfigError when it has some: they are never written over."""
    folder, keys = Path(path), generate(name, role, signing=signing)
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        permissions.check_folder(folder)
        _write(folder / PRIVATE, keys.text(), 0o600, durable=signing)
        _write(folder / PUBLIC, keys.public.line() + "\n", 0o644, durable=signing)
    except FileExistsError:
        raise ConfigError(
            f"{shown(folder)} has keys already, and they are never written over: take another folder"
        ) from None
    except OSError as error:
        raise ConfigError(f"cannot make keys in {shown(folder)}: {error.strerror}") from None
    return keys


def add(path: str | Path, name: str, file: str | Path, *, beside: bool = False) -> tuple[PublicKeys, ...]:
    """List the keys in a file under a name; return them. ``beside``: those listed under it stay, to be replaced later.

    Raises ConfigError when the name has others, or when another name or this process itself has these.
    """
    folder = KeyFolder.read(path)
    with (
        _naming(Path(file)),
        blaming(file, "file of public keys", error=ConfigError),
        open_regular(file, LARGEST) as opened,
    ):
        new = tuple(each.named(name) for each in public_keys.parse(opened.read(LARGEST).decode("ascii", "replace")))
    before = folder.listed.get(check_name(name), ())
    if any(each not in before for each in new) and before and not beside:
        raise ConfigError(
            f"{name} is listed with other keys ({before[0].fingerprint}): --beside accepts these as well, "
            f"psctl keys revoke {name} refuses the others first"
        )
    for each in new:
        listed = folder.by_curve(each.curve)
        if each.curve == folder.own.public.curve:
            raise ConfigError(f"these are this folder's own keys; others list them, under {folder.own.public.name}")
        if listed is not None and listed.name != name:
            raise ConfigError(f"these are the keys of {listed.name}, which is listed: one name for each")
        if listed is not None and listed.role != each.role:
            raise ConfigError(f"these keys are listed for a {listed.role}: psctl keys revoke {name} first")
    place(folder.path, name, [*before, *(each for each in new if each not in before)])
    return new


def place(folder: Path, name: str, keys: Iterable[PublicKeys], *, durable: bool = True) -> None:
    """Have a folder list exactly these keys under a name: all of them at once, or nothing has changed."""
    _put(folder, name, LISTED, keys, durable=durable)


def revoke(path: str | Path, name: str) -> tuple[PublicKeys, ...]:
    """Refuse from now on the keys that a name is listed with; return them. Raises ConfigError when there are none."""
    folder = KeyFolder.read(path)
    found = folder.listed.get(name, ())
    if not found:
        known = ", ".join(list(folder.listed)[:10]) or "nobody"
        raise ConfigError(f"{shown(path)} lists no {name[:80]}; it lists {known}")
    place_of = folder.path / f"{name}{REVOKED}"
    former = public_keys.parse(_read(place_of, secret=False)) if place_of.exists() else ()
    # First: a key that is not listed any more is known to be one of the revoked.
    _put(folder.path, name, REVOKED, dict.fromkeys([*former, *found]))
    with _writing(folder.path):
        (folder.path / f"{name}{LISTED}").unlink()
    return found


def mark_of(path: Path) -> tuple[int, ...]:
    """Return what is another one once something was put into a folder, or the folder into another one's place.

    The latest change comes first, in nanoseconds; within ``FRESH`` of it another one may leave the mark as it is.
    """
    try:
        about = path.stat()
    except OSError:
        return (0,)
    return max(about.st_mtime_ns, about.st_ctime_ns), about.st_mtime_ns, about.st_dev, about.st_ino


@contextlib.contextmanager
def _writing(folder: Path) -> Iterator[None]:
    """Say so where a folder cannot be changed."""
    try:
        yield
    except OSError as error:
        text = f"cannot change the keys in {shown(folder)}: {error.strerror}; nothing was changed"
        raise ConfigError(text) from None


@contextlib.contextmanager
def _replaced(folder: Path) -> Iterator[None]:
    """Say so when a folder was put in another one's place while it was read."""
    try:
        yield
    except FileNotFoundError:
        raise ConfigError(f"the folder {shown(folder)} was moved away while it was read: try again") from None


@contextlib.contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Put a file's name before what is wrong with what is in it."""
    try:
        yield
    except ConfigError as error:
        text = str(error)
        raise ConfigError(text if str(path) in text else f"{shown(path)}: {text}") from None


def _read(path: Path, *, secret: bool) -> str:
    try:
        with open_regular(path, LARGEST) as file:
            permissions.check_file(path, os.fstat(file.fileno()), secret=secret)
            return file.read(LARGEST).decode("ascii", "replace")
    except FileNotFoundError:
        raise
    except (OSError, ValueError) as error:
        raise ConfigError(f"cannot read {shown(path)}: {getattr(error, 'strerror', None) or error}") from None


def _put(folder: Path, name: str, suffix: str, keys: Iterable[PublicKeys], *, durable: bool = True) -> None:
    """Have the file of a name have exactly these keys in it, in one step."""
    text = "".join(f"{each.line()}\n" for each in keys)
    partial = folder / f".{name}.{os.getpid()}.new"
    with _writing(folder):
        with contextlib.suppress(FileNotFoundError):
            partial.unlink()
        _write(partial, text, 0o644, durable=durable)
        partial.replace(folder / f"{name}{suffix}")


def _write(path: Path, text: str, mode: int, *, durable: bool = True) -> None:
    """Write a new file, which is on disk then if it is to be; of a secret no moment is readable by others."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, mode)
    with os.fdopen(fd, "w", encoding="ascii") as file:
        file.write(text)
        file.flush()
        if durable:
            os.fsync(file.fileno())


def _distinct(folder: Path, listed: dict[str, tuple[PublicKeys, ...]]) -> dict[str, tuple[PublicKeys, ...]]:
    """Return what is listed. Raises ConfigError when one key has two names: nobody could say who speaks."""
    owners: dict[bytes, str] = {}
    for name, group in listed.items():
        for each in group:
            if owners.setdefault(each.curve, name) != name:
                raise ConfigError(
                    f"{shown(folder)} lists one key as {owners[each.curve]} and as {name}: revoke one of them"
                )
    return listed
