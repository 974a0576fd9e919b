"""Promises of a folder of checkpoints: the newest whole one of the line is gone on from, and nothing else touched."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ps.checkpoint.claim import claim
from ps.checkpoint.direct_file import DirectFile
from ps.checkpoint.export import export_model
from ps.checkpoint.lives import Lives
from ps.checkpoint.manifest import Manifest, split_name, within
from ps.checkpoint.place import LocalPlace, place, write_all
from ps.checkpoint.remote_place import RemotePlace
from ps.checkpoint.stored_model import StoredModel
from ps.errors import CheckpointError, ConfigError, LayoutMismatch
from ps.protocol.layout import Layout
from ps.weights_file import open_weights
from support.kept import LAYOUT, folder_with, make, model

MINE = {"script": "a.py", "sha256": "1", "args": [], "settings": {"optimizer": "sgd:lr=0.2"}, "data": ""}


def quiet(text: str) -> None: ...


def files_of(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def test_a_changed_byte_or_a_cut_in_any_file_has_the_one_before_gone_on_from(tmp_path: Path) -> None:
    folder_with(tmp_path / "good", 10, 20, identity=MINE)
    newest = [path.relative_to(tmp_path / "good") for path in files_of(tmp_path / "good" / "step-000020")]
    assert len(newest) == 4
    tried = 0
    for name in newest:
        data = (tmp_path / "good" / name).read_bytes()
        places = [0, 3, 8, len(data) // 3, len(data) // 2, len(data) - 2]
        changed = [data[:at] + bytes([data[at] ^ 0x41]) + data[at + 1 :] for at in places]
        for damaged in (*changed, data[:-1], data[: len(data) // 2], b"", data + b" ", None):
            copy = tmp_path / f"copy{tried}"
            shutil.copytree(tmp_path / "good", copy)
            if damaged is None:
                (copy / name).unlink()
            else:
                (copy / name).write_bytes(damaged)
            said: list[str] = []
            found = claim(str(copy), None, MINE, said.append)
            assert found.manifest is not None and found.manifest.step == 10, (name, damaged and len(damaged))
            assert damaged is None or any("step-000020" in line for line in said), said
            tried += 1
    assert tried == 4 * 11


def test_a_damaged_life_is_named_and_its_checkpoints_are_gone_on_from(tmp_path: Path) -> None:
    folder_with(tmp_path, 10, 20, identity=MINE)
    data = (tmp_path / "life-000001.json").read_bytes()
    for damaged in (data[:-3], b"", b"{}", data.replace(b"a.py", b"b.py")):
        (tmp_path / "life-000001.json").write_bytes(damaged)
        life = Lives(LocalPlace(tmp_path), quiet).latest()
        assert life is not None and life.number == 1
        newest = Lives(LocalPlace(tmp_path), quiet).newest(life)
        assert newest is not None and newest.step == 20


def test_going_back_begins_a_line_that_later_runs_follow_and_leaves_the_other(tmp_path: Path) -> None:
    where, lives, _ = folder_with(tmp_path, 10, 20, 30, identity=MINE)
    said: list[str] = []
    back = claim(None, str(tmp_path / "step-000010"), MINE, said.append)
    assert back.manifest is not None and back.manifest.step == 10 and back.life is not None and back.life.number == 2
    assert "step-000030, step-000020 stay" in "".join(said)
    again = claim(str(tmp_path), None, MINE, quiet)  # it was killed before its first checkpoint
    assert again.manifest is not None and again.manifest.step == 10
    assert again.life is not None
    parent = "step-000010"
    for step in (14, 18, 22, 26):
        parent = make(where, again.life, step, parent).folder
    assert [m.step for m in lives.line(again.life)] == [26, 22, 18, 14, 10]
    assert sorted(lives.thin(again.life, 2)) == ["step-000010", "step-000014.3", "step-000018.3"]
    assert [m.step for m in lives.line(again.life)] == [26, 22]
    left = {m.folder for m in lives.manifests()}
    assert left == {"step-000020", "step-000030", "step-000022.3", "step-000026.3"}, (
        "the other line is nobody's to thin"
    )
    same = claim(None, str(tmp_path / "step-000020"), MINE, quiet)
    assert same.manifest is not None and same.manifest.step == 20


def test_the_command_that_goes_back_goes_on_with_its_own_line_when_it_is_given_again(tmp_path: Path) -> None:
    where, _, _ = folder_with(tmp_path, 10, 20, identity=MINE)
    resume = str(tmp_path / "step-000010")
    first = claim(str(tmp_path), resume, MINE, quiet)
    assert first.life is not None
    make(where, first.life, 15, "step-000010")
    second = claim(str(tmp_path), resume, MINE, quiet)
    assert second.manifest is not None and second.manifest.step == 15


def test_only_the_latest_life_writes_and_no_name_is_written_twice(tmp_path: Path) -> None:
    where, lives, old = folder_with(tmp_path, 10, identity=MINE)
    new = claim(str(tmp_path), None, MINE, quiet).life
    assert new is not None
    for refused in (lambda: lives.demand_latest(old), lambda: lives.thin(old, 1), lambda: lives.end(old, 10, "x")):
        with pytest.raises(CheckpointError, match=r"belongs to a later run \(life 2, this is 1\)"):
            refused()
    lives.demand_latest(new)
    assert make(where, new, 10).folder == "step-000010.2"
    with pytest.raises((CheckpointError, FileExistsError)):
        make(where, new, 10)


def test_an_end_is_an_end_until_another_job_is_wanted(tmp_path: Path) -> None:
    _, lives, life = folder_with(tmp_path, 10, identity=MINE)
    lives.end(life, 10, "step-000010")
    assert claim(str(tmp_path), None, MINE, quiet).ended == 10
    assert lives.latest() == life, "nothing was begun"
    other = {**MINE, "settings": {}}
    with pytest.raises(ConfigError, match=r"optimizer is sgd:lr=0\.1, and was sgd:lr=0\.2"):
        claim(str(tmp_path), None, other, quiet)
    on = claim(None, str(tmp_path), other, quiet)
    assert on.ended is None and on.manifest is not None and on.manifest.step == 10


def test_a_run_that_was_killed_between_its_last_checkpoint_and_the_word_of_its_end_has_ended(tmp_path: Path) -> None:
    where, lives, life = folder_with(tmp_path, 10, identity=MINE)
    make(where, life, 15, "step-000010", ended=True)
    assert lives.ended(life) == 15
    assert claim(str(tmp_path), None, MINE, quiet).ended == 15
    on = claim(None, str(tmp_path), {**MINE, "settings": {}}, quiet)
    assert on.ended is None and on.life is not None, "another job goes on from it"
    assert lives.ended(on.life) is None
    assert claim(None, str(tmp_path), {**MINE, "settings": {}}, quiet).ended is None


def test_what_is_not_ours_stays_and_what_was_never_whole_goes(tmp_path: Path) -> None:
    _, lives, life = folder_with(tmp_path, 10, 20, 30, identity=MINE)
    theirs = [tmp_path / "notes.txt", tmp_path / "step-000010" / "notes.txt", tmp_path / "step-000012" / "mine.bin"]
    for path in theirs:
        path.parent.mkdir(exist_ok=True)
        path.write_text("mine")
    half = tmp_path / "step-000035"
    half.mkdir()
    (half / "server-0.safetensors").write_bytes(b"x" * 100)
    assert [m.step for m in lives.line(life)] == [30, 20, 10], "a folder without a manifest is no checkpoint"
    lives.thin(life, 1)
    lives.sweep(life, "step-000030")
    assert all(path.read_text() == "mine" for path in theirs)
    assert not half.exists() and not (tmp_path / "step-000020").exists()
    assert [path.name for path in files_of(tmp_path / "step-000010")] == ["notes.txt"]


def test_a_copy_on_another_file_system_is_as_good_without_what_is_beside_it(tmp_path: Path) -> None:
    folder_with(tmp_path / "here", 10, 20, identity=MINE)
    shutil.copytree(tmp_path / "here" / "step-000020", tmp_path / "there" / "step-000020")
    found = claim(str(tmp_path / "new"), str(tmp_path / "there"), MINE, quiet)
    assert found.manifest is not None and found.manifest.step == 20
    assert found.settings()["resume"] == f"{tmp_path / 'there'}/step-000020"
    on = claim(str(tmp_path / "new"), str(tmp_path / "there"), MINE, quiet)
    assert on.manifest is not None and on.source == str(tmp_path / "there")


@pytest.mark.parametrize("servers", [1, 2, 3, 5])
def test_a_model_is_found_by_its_tensors_however_it_is_cut(tmp_path: Path, servers: int) -> None:
    where, _, _ = folder_with(tmp_path, 10)
    stored = StoredModel(where, Manifest.read(where, "step-000010"))
    split = Layout.unpack(
        (("b", "float32/trainable/ @0 lr=1", (7,)), ("d", "float64", (3,)), ("w", "float32", (20, 10)))
    )
    for layout in (LAYOUT, split):
        stored.demand(layout)
        values = LAYOUT.views(model(10))
        for chunk in layout.chunks(servers, 512):
            snapshot = stored.snapshot(layout, chunk)
            wanted = np.concatenate(
                [
                    values[t.name].reshape(-1)[max(0, chunk.start - t.start) : chunk.stop - t.start]
                    for t in layout.parts_in(chunk)
                ]
            )
            assert np.array_equal(snapshot.arrays["weights"], wanted)
            assert np.array_equal(snapshot.arrays["slot/velocity"], -wanted)
            assert (snapshot.version, snapshot.updates) == (10, 10)
    with pytest.raises(LayoutMismatch, match="none of that name where this one has other"):
        stored.demand(Layout.of({"other": np.zeros(3)}))


def test_an_export_has_all_tensors_and_those_that_stay_with_worker_0(tmp_path: Path) -> None:
    folder_with(tmp_path / "kept", 10, 20)
    text = export_model(str(tmp_path / "kept"), str(tmp_path / "m.safetensors"))
    assert text.startswith("the model of step 20 is in ")
    values = {**LAYOUT.views(model(20)), "mean": np.full(4, 20.0)}
    with open_weights(tmp_path / "m.safetensors") as file:
        assert set(file.entries) == set(values) and file.about["clock"] == "20"
        for name, wanted in values.items():
            found = np.empty(wanted.shape, wanted.dtype)
            file.read(name, found)
            assert np.array_equal(found, wanted)
    export_model(str(tmp_path / "kept" / "step-000010"), str(tmp_path / "m.safetensors"))
    with open_weights(tmp_path / "m.safetensors") as file:
        assert file.about["clock"] == "10"


def test_a_store_that_remembers_listings_is_asked_anew_each_time() -> None:
    fsspec = pytest.importorskip("fsspec")
    name = "memory://kept-by-a-test"
    fsspec.filesystem("memory").store.clear()
    here, there = place(name), RemotePlace(name)
    assert here.names() == []
    lives = Lives(here)
    life = lives.begin("", "", MINE, 0.0)
    assert there.names() == ["life-000001.json"]
    make(there, life, 10)
    newest = lives.newest(life)
    assert newest is not None and newest.step == 10
    with pytest.raises(FileExistsError), there.writing("step-000010/manifest.json"):
        raise AssertionError
    make(here, life, 20, "step-000010")
    Lives(there).thin(life, 1)
    assert [m.step for m in lives.manifests()] == [20]
    assert claim(name, None, MINE, quiet).manifest is not None
    assert StoredModel(there, Manifest.read(there, "step-000020")).tensor("d").tolist() == [20.0, 20.5, 21.0]


def test_an_address_whose_folder_is_not_there_yet_is_begun_at(tmp_path: Path) -> None:
    pytest.importorskip("fsspec")
    there = place(f"local://{tmp_path}/new/kept")
    write_all(there, "life-000001.json", b"{}")
    assert there.names() == ["life-000001.json"] and (tmp_path / "new" / "kept").is_dir()


def test_a_folder_of_a_checkpoint_is_on_the_disk_with_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[str] = []
    monkeypatch.setattr("os.fsync", lambda fd: synced.append(str(Path(f"/proc/self/fd/{fd}").readlink())))
    write_all(LocalPlace(tmp_path / "kept"), "step-000001/file", b"all of it")
    assert synced == [str(tmp_path), *(f"{tmp_path}/kept{name}" for name in ("", "/step-000001/file", "/step-000001"))]
    synced.clear()
    write_all(LocalPlace(tmp_path / "kept"), "step-000001/other", b"")
    assert synced == [f"{tmp_path}/kept/step-000001/other", f"{tmp_path}/kept/step-000001"]


@pytest.mark.parametrize(
    ("resume", "folder", "name"),
    [
        ("/step-000001", "/", "step-000001"),
        ("step-000001/", ".", "step-000001"),
        ("kept/step-000001", "kept", "step-000001"),
        ("memory://step-000001", "memory://", "step-000001"),
        ("s3://bucket/kept/step-000001", "s3://bucket/kept", "step-000001"),
    ],
)
def test_a_checkpoint_is_looked_for_where_its_name_has_it(resume: str, folder: str, name: str) -> None:
    assert split_name(resume) == (folder, name)
    assert within(folder, name).removeprefix("./") == resume.rstrip("/")


def test_a_folder_that_another_removes_while_a_file_is_begun_in_it_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    where, made = LocalPlace(tmp_path), list[Path]()
    real = DirectFile

    def opened(path: Path) -> DirectFile:
        if path.name == "file" and len(made) < 2:
            made.append(path.parent)
            where.remove_folder("step-000001")
        return real(path)

    monkeypatch.setattr("ps.checkpoint.place.DirectFile", opened)
    write_all(where, "step-000001/file", b"all of it")
    assert len(made) == 2 and (tmp_path / "step-000001" / "file").read_bytes() == b"all of it"


def test_a_library_that_remembers_what_another_process_has_changed_since_is_asked_anew(tmp_path: Path) -> None:
    """A listing cache that nothing but ``invalidate_cache`` empties, as those of object stores have."""
    fsspec = pytest.importorskip("fsspec")
    from fsspec.implementations.local import LocalFileSystem

    class Remembering(LocalFileSystem):  # type: ignore[misc]
        protocol = "remembering"
        cachable = False
        listed = 0

        def ls(self, path: str, detail: bool = False, **more: Any) -> Any:
            path = self._strip_protocol(path)
            if (path, detail) not in self.dircache_:
                type(self).listed += 1
                self.dircache_[path, detail] = super().ls(path, detail=detail)
            return self.dircache_[path, detail]

        @property
        def dircache_(self) -> dict[tuple[str, bool], Any]:
            found: dict[tuple[str, bool], Any] = self.__dict__.setdefault("_remembered", {})
            return found

        def invalidate_cache(self, path: str | None = None) -> None:
            self.dircache_.clear()

    fsspec.register_implementation("remembering", Remembering, clobber=True)
    *_, life = folder_with(tmp_path, 10, identity=MINE)
    name = f"remembering://{tmp_path}"
    here = Lives(place(name), quiet)
    assert [m.step for m in here.line(life)] == [10] and Remembering.listed
    script = (
        "import sys; from pathlib import Path; from ps.checkpoint.lives import Lives; from support.kept import make; "
        "from ps.checkpoint.place import LocalPlace; where = LocalPlace(Path(sys.argv[1])); lives = Lives(where); "
        "life = lives.latest(); make(where, life, 20, 'step-000010'); make(where, life, 30, 'step-000020'); "
        "lives.remove(next(m for m in lives.line(life) if m.step == 10))"
    )
    subprocess.run([sys.executable, "-c", script, str(tmp_path)], check=True, cwd=Path(__file__).parents[1])
    assert [m.step for m in here.line(life)] == [30, 20]
    assert here.thin(life, 1) == ["step-000020"], "who removes old ones knows which are the newest now"
    assert not (tmp_path / "step-000020").exists() and (tmp_path / "step-000030" / "manifest.json").exists()
    found = claim(name, None, MINE, quiet)
    assert found.manifest is not None and found.manifest.step == 30
