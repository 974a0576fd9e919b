"""Promises of the folder of keys: secrets stay with their user, a name and its keys belong together."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from ps.errors import ConfigError
from ps.keys import key_folder, permissions, private_keys, public_keys
from ps.keys.cluster_keys import create_cluster
from ps.keys.key_folder import KeyFolder
from ps.secure.identity import signed


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Path]:
    """Return folders of a scheduler and of a client that know nothing of each other."""
    key_folder.create(tmp_path / "s", "scheduler", "scheduler")
    key_folder.create(tmp_path / "c", "hospital", "client")
    return tmp_path / "s", tmp_path / "c"


def test_who_is_added_is_listed_with_the_fingerprint_that_its_owner_sees(pair: tuple[Path, Path]) -> None:
    scheduler, client = pair
    own = KeyFolder.read(client).own.public
    (added,) = key_folder.add(scheduler, "hospital-a", client / "public.key")
    (listed,) = KeyFolder.read(scheduler).listed["hospital-a"]
    assert added == listed == own.named("hospital-a")
    assert listed.fingerprint == own.fingerprint
    assert KeyFolder.read(scheduler).by_curve(own.curve) == listed
    assert KeyFolder.read(scheduler).of_role("client") == (listed,)


def test_a_role_that_was_changed_on_the_way_changes_the_fingerprint(pair: tuple[Path, Path]) -> None:
    scheduler, client = pair
    file = client / "public.key"
    file.write_text(file.read_text().replace(" client ", " operator "))
    (added,) = key_folder.add(scheduler, "hospital", file)
    assert added.fingerprint != KeyFolder.read(client).own.public.fingerprint


def test_identities_sign_and_what_another_signed_is_refused(pair: tuple[Path, Path]) -> None:
    mine, other = (KeyFolder.read(path).own for path in pair)
    signature = mine.sign(b"round 7")
    assert signed(mine.public.identity or b"", signature, b"round 7")
    assert not signed(mine.public.identity or b"", signature, b"round 8")
    assert not signed(other.public.identity or b"", signature, b"round 7")
    assert not signed(b"", signature, b"round 7")


def test_keys_for_one_run_need_no_cryptography_package_and_sign_nothing(tmp_path: Path) -> None:
    code = (
        "import sys; from ps.keys import key_folder\n"
        f"key_folder.create({str(tmp_path / 'k')!r}, 'a', 'worker', signing=False)\n"
        f"key_folder.KeyFolder.read({str(tmp_path / 'k')!r})\n"
        "assert not [m for m in sys.modules if m.startswith('cryptography')]"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
    with pytest.raises(ConfigError, match="sign nothing"):
        KeyFolder.read(tmp_path / "k").own.sign(b"")


def test_secrets_are_never_written_over_nor_shown(pair: tuple[Path, Path]) -> None:
    before = (pair[0] / "private.key").read_text()
    with pytest.raises(ConfigError, match="never written over"):
        key_folder.create(pair[0], "scheduler", "scheduler")
    assert (pair[0] / "private.key").read_text() == before
    own = KeyFolder.read(pair[0]).own
    assert own.curve.hex() in before
    assert own.curve.hex() not in repr(KeyFolder.read(pair[0]))


def test_a_private_file_is_not_taken_for_a_public_one(pair: tuple[Path, Path]) -> None:
    with pytest.raises(ConfigError, match="these are private keys, which stay where they are") as found:
        key_folder.add(pair[0], "hospital", pair[1] / "private.key")
    assert KeyFolder.read(pair[1]).own.curve.hex() not in str(found.value)


@pytest.mark.parametrize(
    ("mode", "what"),
    [
        (0o604, "others can read"),
        (0o602, "others can change"),
        (0o620, "a group can change"),
        (0o601, "others can read"),
    ],
)
def test_secrets_in_reach_of_others_are_refused_with_the_chmod_to_do(
    pair: tuple[Path, Path], mode: int, what: str
) -> None:
    secret = pair[0] / "private.key"
    secret.chmod(mode)
    with pytest.raises(ConfigError, match=rf"{what}.*chmod \S+ {secret}") as found:
        KeyFolder.read(pair[0])
    change = str(found.value).partition("chmod ")[2].split()[0].rstrip(";")
    subprocess.run(["chmod", change, secret], check=True)
    KeyFolder.read(pair[0])


def test_who_is_listed_cannot_be_changed_by_others(pair: tuple[Path, Path]) -> None:
    key_folder.add(pair[0], "hospital", pair[1] / "public.key")
    (pair[0] / "hospital.pub").chmod(0o666)
    with pytest.raises(ConfigError, match="others can change"):
        KeyFolder.read(pair[0])
    (pair[0] / "hospital.pub").chmod(0o644)
    pair[0].chmod(0o777)
    with pytest.raises(ConfigError, match=r"others can write to the folder.*chmod o-w"):
        KeyFolder.read(pair[0])


def about(mode: int, uid: int, gid: int) -> os.stat_result:
    return os.stat_result((stat.S_IFREG | mode, 0, 0, 1, uid, gid, 0, 0, 0, 0))


def test_a_mounted_secret_of_roots_is_accepted_and_others_files_are_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr(os, "getegid", lambda: 1000)
    monkeypatch.setattr(os, "getgroups", lambda: [1000, 2000])
    path = tmp_path / "private.key"
    permissions.check_file(path, about(0o440, 0, 2000), secret=True)
    permissions.check_file(path, about(0o400, 1000, 1000), secret=True)
    with pytest.raises(ConfigError, match="group 3000, which is not this process's"):
        permissions.check_file(path, about(0o440, 0, 3000), secret=True)
    with pytest.raises(ConfigError, match=r"belongs to user 1001.*chown 1000"):
        permissions.check_file(path, about(0o400, 1001, 2000), secret=True)


def test_links_as_kubernetes_mounts_secrets_are_followed(pair: tuple[Path, Path], tmp_path: Path) -> None:
    key_folder.add(pair[0], "hospital", pair[1] / "public.key")
    mount = tmp_path / "mount"
    (mount / "..2026").mkdir(parents=True)
    for name in ("private.key", "hospital.pub"):
        (mount / "..2026" / name).write_bytes((pair[0] / name).read_bytes())
        (mount / "..2026" / name).chmod(0o440)
        (mount / name).symlink_to(f"..data/{name}")
    (mount / "..data").symlink_to("..2026")
    assert list(KeyFolder.read(mount).listed) == ["hospital"]


def test_revoked_keys_are_refused_and_may_be_listed_again(pair: tuple[Path, Path]) -> None:
    scheduler, client = pair
    key_folder.add(scheduler, "hospital", client / "public.key")
    curve = KeyFolder.read(client).own.public.curve
    key_folder.revoke(scheduler, "hospital")
    found = KeyFolder.read(scheduler)
    assert not found.listed
    assert found.revoked == {curve}
    with pytest.raises(ConfigError, match="lists no hospital; it lists nobody"):
        key_folder.revoke(scheduler, "hospital")
    key_folder.add(scheduler, "hospital", client / "public.key")
    assert not KeyFolder.read(scheduler).revoked


def test_while_keys_are_replaced_a_name_has_two(pair: tuple[Path, Path], tmp_path: Path) -> None:
    scheduler, client = pair
    key_folder.create(tmp_path / "new", "hospital", "client")
    key_folder.add(scheduler, "hospital", client / "public.key")
    with pytest.raises(ConfigError, match="--beside"):
        key_folder.add(scheduler, "hospital", tmp_path / "new" / "public.key")
    key_folder.add(scheduler, "hospital", tmp_path / "new" / "public.key", beside=True)
    assert len(KeyFolder.read(scheduler).listed["hospital"]) == 2


def test_one_key_has_one_name(pair: tuple[Path, Path]) -> None:
    scheduler, client = pair
    key_folder.add(scheduler, "hospital", client / "public.key")
    with pytest.raises(ConfigError, match="the keys of hospital, which is listed"):
        key_folder.add(scheduler, "other", client / "public.key")
    with pytest.raises(ConfigError, match="this folder's own keys"):
        key_folder.add(scheduler, "me", scheduler / "public.key")
    (scheduler / "other.pub").write_bytes((scheduler / "hospital.pub").read_bytes())
    with pytest.raises(ConfigError, match="lists one key as hospital and as other"):
        KeyFolder.read(scheduler)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "\n",
        "paramserver-key 2 a client " + "0" * 64 + " -",
        "paramserver-key 1 a king " + "0" * 64 + " -",
        "paramserver-key 1 ../a client " + "0" * 64 + " -",
        "paramserver-key 1 a client " + "0" * 63 + " -",
        "paramserver-key 1 a client " + "g" * 64 + " -",
        "paramserver-key 1 a client " + "0" * 64,
        "\x00" * 100,
        "x" * 100_000,
    ],
)
def test_a_damaged_file_is_one_line_and_nothing_is_listed(pair: tuple[Path, Path], tmp_path: Path, text: str) -> None:
    (tmp_path / "damaged").write_text(text)
    with pytest.raises(ConfigError) as found:
        key_folder.add(pair[0], "a", tmp_path / "damaged")
    assert "\n" not in str(found.value)
    assert str(tmp_path / "damaged") in str(found.value)
    assert not KeyFolder.read(pair[0]).listed


def damage(text: str) -> list[str]:
    rows = text.splitlines(keepends=True)
    shorter = ["".join(rows[:at] + rows[at + 1 :]) for at in range(len(rows))]
    return [*shorter, text.replace("curve ", "curve 0"), text[:-70], ""]


def test_a_damaged_secret_is_refused_without_being_shown(pair: tuple[Path, Path]) -> None:
    path = pair[0] / "private.key"
    text, secret = path.read_text(), KeyFolder.read(pair[0]).own.curve.hex()
    other = KeyFolder.read(pair[1]).own.public.curve.hex()
    swapped = text.replace(KeyFolder.read(pair[0]).own.public.curve.hex(), other)
    for damaged in [*damage(text), swapped]:
        path.write_text(damaged)
        with pytest.raises(ConfigError) as found:
            KeyFolder.read(pair[0])
        assert secret not in str(found.value)


@pytest.mark.parametrize("name", ["", "..", "a/b", ".hidden", "-x", "a" * 65, "a b", "ä"])
def test_names_are_those_that_a_file_can_have(pair: tuple[Path, Path], name: str) -> None:
    with pytest.raises(ConfigError, match="no name for keys"):
        key_folder.add(pair[0], name, pair[1] / "public.key")


def without_folder(path: Path) -> None:
    KeyFolder.read(path / "none")


def without_private(path: Path) -> None:
    (path / "private.key").unlink()
    KeyFolder.read(path)


@pytest.mark.parametrize("read", [without_folder, without_private])
def test_what_is_missing_is_told_with_the_command_that_makes_it(
    pair: tuple[Path, Path], read: Callable[[Path], None]
) -> None:
    with pytest.raises(ConfigError, match="psctl keys new"):
        read(pair[0])


def test_a_cluster_of_one_machine_has_folders_that_list_each_other(tmp_path: Path) -> None:
    made = create_cluster(tmp_path, servers=2, workers=1, role="client")
    assert [each.name for each in made] == ["scheduler", "operator", "server-0", "server-1", "client-0"]
    scheduler = KeyFolder.read(tmp_path / "scheduler")
    assert set(scheduler.listed) == {"operator", "server-0", "server-1", "client-0"}
    for name in scheduler.listed:
        (pinned,) = KeyFolder.read(tmp_path / name).of_role("scheduler")
        assert pinned.curve == scheduler.own.public.curve


def test_a_line_is_read_as_it_was_written() -> None:
    keys = private_keys.generate("a", "helper")
    assert public_keys.parse(keys.public.line()) == (keys.public,)
    assert private_keys.parse(keys.text()) == keys


@pytest.mark.parametrize("moment", ["check_folder", "check_file"])
def test_a_folder_that_is_moved_away_while_it_is_read_is_one_line(
    pair: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    """Whoever replaces it by two renames leaves a gap between them; a scheduler that looked just then must live on."""
    folder, check = pair[0], getattr(permissions, moment)

    def gone(path: Path, *about: object, **named: object) -> None:
        folder.rename(tmp_path / "away")
        if moment == "check_file":
            raise FileNotFoundError
        check(path, *about, **named)

    monkeypatch.setattr(permissions, moment, gone)
    with pytest.raises(ConfigError, match="was moved away while it was read"):
        KeyFolder.read(folder)


def test_a_folder_that_cannot_be_changed_is_told_by_name_and_lists_what_it_did(tmp_path: Path) -> None:
    for name in ("a", "b"):
        key_folder.create(tmp_path / name, name, "client")
    key_folder.add(tmp_path / "a", "b", tmp_path / "b" / "public.key")
    (tmp_path / "a" / f".b.{os.getpid()}.new").mkdir()  # as root no folder is closed: something is in the way
    with pytest.raises(ConfigError, match=r"cannot change the keys in .*; nothing was changed"):
        key_folder.revoke(tmp_path / "a", "b")
    with pytest.raises(ConfigError, match=r"cannot change the keys in .*; nothing was changed"):
        key_folder.place(tmp_path / "a", "b", [])
    found = KeyFolder.read(tmp_path / "a")
    assert list(found.listed) == ["b"] and not found.revoked
