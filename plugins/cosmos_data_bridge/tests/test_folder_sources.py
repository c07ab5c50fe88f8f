"""Folders, tables and tars as people have them: linked folders, spreadsheets, archives of other systems."""

from __future__ import annotations

import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet
import pytest
from click.testing import CliRunner

from cosmos_core.errors import UserError
from cosmos_core.plugin import PluginManager
from cosmos_core.recipes import resolve
from cosmos_data_bridge.folder.command import folder
from cosmos_data_bridge.folder.config import FolderConfig
from cosmos_data_bridge.folder.dataset import FolderSource
from cosmos_data_bridge.folder.listing import Source, list_entries
from cosmos_data_bridge.folder.rows import rows
from cosmos_data_bridge.identify import dataset_of, validation_of
from tests.command import cosmos
from tests.folder_clips import captions_of, fault, one_clip, prepare_here, small_video, told


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return small_video(tmp_path_factory.mktemp("video"))


@pytest.fixture
def clips(tmp_path: Path, video: bytes) -> Path:
    return one_clip(tmp_path / "clips", video)


def test_clips_behind_a_link_to_a_folder_are_read_once(clips: Path, tmp_path: Path, video: bytes) -> None:
    other = tmp_path / "disk"
    other.mkdir()
    (other / "b.mp4").write_bytes(video)
    (other / "b.txt").write_text("a dog")
    (clips / "linked").symlink_to(other)
    (clips / "linked" / "back").symlink_to(clips)
    prepare_here(clips, tmp_path / "out")
    assert captions_of(tmp_path / "out") == {"a": "a cat", "linked/b": "a dog"}
    assert len(FolderSource(FolderConfig(type="folder", path=str(clips), validation=0.0))) == 2
    assert dataset_of(clips) is not None


def test_a_prepared_dataset_is_read_as_its_recipe_says_under_another_recipe_too(
    clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepare_here(clips, tmp_path / "out")
    found = dataset_of(tmp_path / "out")
    assert found is not None
    assert (found["media_roots"], found["min_window_frames"]) == ([str(clips.resolve())], 1)
    assert validation_of(tmp_path / "out") == {}  # Nothing was held out.
    recipe = (tmp_path / "out" / "recipe.toml").read_text(encoding="utf-8")
    (tmp_path / "out" / "recipe.toml").write_text(recipe.replace(str(clips.resolve()), "${oc.env:CLIPS}"))
    monkeypatch.setenv("CLIPS", "/clips")
    found = dataset_of(tmp_path / "out")
    assert found is not None
    assert found["media_roots"] == ["/clips"]
    monkeypatch.delenv("CLIPS")
    with pytest.raises(UserError, match="environment variable CLIPS is not set"):
        dataset_of(tmp_path / "out")
    (tmp_path / "out" / "recipe.toml").write_text("dataloader_train = 5", encoding="utf-8")
    found = dataset_of(tmp_path / "out")
    assert found is not None
    assert "media_roots" not in found
    (tmp_path / "out" / "recipe.toml").write_text("extends = ", encoding="utf-8")
    with pytest.raises(UserError, match="not valid TOML"):
        dataset_of(tmp_path / "out")


def test_a_prepared_dataset_in_the_hubs_cache_keeps_the_names_of_its_links(clips: Path, tmp_path: Path) -> None:
    prepare_here(clips, tmp_path / "out", copy=True)
    blobs, snapshot = tmp_path / "datasets--a--b/blobs", tmp_path / "datasets--a--b/snapshots/1"
    blobs.mkdir(parents=True)
    for number, path in enumerate(path for path in (tmp_path / "out").rglob("*") if path.is_file()):
        link = snapshot / path.relative_to(tmp_path / "out")
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(path.rename(blobs / f"{number:040x}"))
    found = dataset_of(snapshot)
    assert found is not None
    assert (found["path"], found["split"], found["jsonl"]) == (str(snapshot), "train", "video_dataset_file.jsonl")


def test_a_dataset_that_was_prepared_inside_its_source_is_no_part_of_it(clips: Path) -> None:
    prepare_here(clips, clips / "out", copy=True)
    assert captions_of(clips / "out") == {"a": "a cat"}
    prepare_here(clips, clips / "out", copy=True)
    prepare_here(clips, clips / "again")
    assert captions_of(clips / "again") == {"a": "a cat"}


def test_a_name_that_is_not_utf_8_is_refused(clips: Path, tmp_path: Path, video: bytes) -> None:
    for suffix, content in ((b".mp4", video), (b".txt", b"x")):
        Path(os.fsdecode(os.fsencode(clips) + b"/b\xff" + suffix)).write_bytes(content)
    assert "holds bytes that are not UTF-8" in fault(clips, tmp_path / "out")


@pytest.mark.parametrize(
    ("caption", "words"),
    [
        ('{"caption": "x \\ud800"}', "half of a character"),
        ("[" * 200_000, "has more than 100 levels"),
        ('{"caption": ' + "1" * 5000 + "}", "holds a number of more than 4300 digits"),
        ('{"caption": "x", "start_frame": "abc"}', "'start_frame' is not read here"),
        ('{"t2w_windows": [{"start_frame": 0, "end_frame": 9, "caption": "x"}]}', "'t2w_windows' is not read here"),
        ('{"subjects": [{"count": NaN}]}', "'caption_json' holds what JSON has not, such as NaN"),
        ('{"caption": "x"}\0', "holds a NUL character; the file is damaged"),
        ('{"captions": ["x"]}', "no caption is called captions; fields that are read: caption_json, "),
        ('{"caption": null, "caption_en": "x"}', "no caption is called caption or caption_en; fields that are read: "),
        ('{"qwen3_235b_temporal": "x"}', "no caption is called qwen3_235b_temporal; fields"),
        ('{"caption": "", "qwen3_235b_temporal": "x"}', "'caption' is blank"),
    ],
)
def test_captions_that_no_manifest_can_hold_are_refused_with_their_file(
    clips: Path, tmp_path: Path, caption: str, words: str
) -> None:
    (clips / "a.txt").rename(clips / "a.json").write_text(caption)
    message = fault(clips, tmp_path / "out")
    assert f"{clips / 'a.json'}:1" in message
    assert words in message


def test_a_caption_field_of_a_window_is_one_whatever_it_is_called(clips: Path, tmp_path: Path) -> None:
    (clips / "a.txt").rename(clips / "a.json").write_text('{"qwen3_32b_rewrite-dense": "a cat"}')
    (entry,) = list_entries(Source(clips))
    assert entry.captions == {"qwen3_32b_rewrite-dense": "a cat"}


def test_a_path_and_the_same_one_without_its_slash_are_one_name(clips: Path, video: bytes, tmp_path: Path) -> None:
    """Copies of both would lie in one place."""
    inside = clips / str(tmp_path / "b.mp4").strip("/")
    inside.parent.mkdir(parents=True)
    for path in (inside, tmp_path / "b.mp4"):
        path.write_bytes(video)
    (clips / "t.csv").write_text(f"path,caption\n{inside.relative_to(clips)},x\n{tmp_path / 'b.mp4'},y\n")
    assert f"is the name of {inside} and {tmp_path / 'b.mp4'}; rename" in fault(clips / "t.csv", tmp_path / "out")


def test_a_clip_of_a_kind_that_is_not_read_is_told_with_the_endings(clips: Path, tmp_path: Path) -> None:
    (clips / "b.xyz").write_bytes(b"")
    (clips / "b.txt").write_text("x")
    message = fault(clips, tmp_path / "out")
    assert "a caption without a clip" in message
    assert "endings read: .3gp .avi" in message


def test_semicolons_are_read_and_a_quote_that_is_never_closed_is_refused_with_its_row(tmp_path: Path) -> None:
    table = tmp_path / "t.csv"
    table.write_text('path;caption\na.mp4;"one, ""two""\nlines"\n')
    assert list(rows(table, [])) == [(3, {"path": "a.mp4", "caption": 'one, "two"\nlines'})]
    table.write_text('path,caption\na.mp4,x\nb.mp4,"y\nc.mp4,z\n')
    with pytest.raises(UserError) as refused:
        list(rows(table, []))
    assert told(refused.value).startswith(f"{table}:3  a quote is opened in this row and never closed")


def test_fields_beyond_the_columns_are_refused_with_their_row_instead_of_cut_off(clips: Path, tmp_path: Path) -> None:
    table = clips / "t.csv"
    table.write_text('path,caption\na.mp4,"one\ntwo",\na.mp4,a ball, a box\n')
    assert f"{table}:4  this row has 3 fields, the first row 2; put quotes" in fault(table, tmp_path / "out")


def test_of_two_columns_with_the_name_looked_for_none_is_taken(clips: Path, tmp_path: Path) -> None:
    (clips / "t.csv").write_text("path\tnote\tnote\tcaption\tcaption\na.mp4\tx\tx\tone\ttwo\n")
    message = fault(clips / "t.csv", tmp_path / "out")
    assert f"{clips / 't.csv'}:1  2 columns are called 'caption'; rename or remove the others" in message


@pytest.mark.parametrize("name", ["t.feather", "t.ARROW"])
def test_arrow_files_are_tables_as_its_streams_are(name: str, tmp_path: Path) -> None:
    table = pa.table({"path": ["a.mp4", "b.mp4"], "caption": ["one", "two"]})
    with pa.ipc.new_file(tmp_path / name, table.schema) as file:
        file.write_table(table, max_chunksize=1)
    assert [row["caption"] for _, row in rows(tmp_path / name, ["caption"])] == ["one", "two"]
    found = dataset_of(tmp_path / name)
    assert found is not None
    assert found["type"] == "folder"


def test_names_with_accents_match_however_they_are_written(clips: Path) -> None:
    (clips / "a.mp4").rename(clips / "\u00e9.mp4")
    (clips / "a.txt").rename(clips / "e\u0301.txt")
    assert [entry.captions for entry in list_entries(Source(clips))] == [{"caption": "a cat"}]


def test_clips_that_the_table_of_their_folder_does_not_list_are_told(clips: Path, tmp_path: Path, video: bytes) -> None:
    (clips / "more").mkdir()
    (clips / "more" / "b.mp4").write_bytes(video)
    (clips / "again").symlink_to(clips / "sub")
    (clips / "sub").mkdir()
    (clips / "sub" / "c.mp4").write_bytes(video)
    (clips / "metadata.csv").write_text("path,caption\nmore/../a.mp4,a cat\nsub/c.mp4,another cat\n")
    left_out = "1 x not listed in metadata.csv"
    assert f"left out: {left_out}, e.g. {clips}/more/b.mp4" in prepare_here(clips, tmp_path / "out")
    source = FolderSource(FolderConfig(type="folder", path=str(clips), validation=0.0))
    assert [group.text for group in source.dropped] == [f"{left_out} (such as {clips}/more/b.mp4)"]
    assert prepare_here(clips / "metadata.csv", tmp_path / "other")[1:] == []


def test_a_folder_says_which_table_it_could_be_read_from(clips: Path) -> None:
    (clips / "a.txt").rename(clips / "captions.csv")
    with pytest.raises(UserError, match=r"captions\.csv holds the captions, give that table"):
        list_entries(Source(clips))
    for name in ("metadata.csv", "metadata.jsonl"):
        (clips / name).touch()
    with pytest.raises(UserError, match="not clear which table") as refused:
        list_entries(Source(clips))
    assert "metadata.csv and metadata.jsonl" in str(refused.value)


@pytest.mark.parametrize(
    ("table", "reason"),
    [
        ("path, caption\na.mp4, a cat\n", ""),
        ("path,caption\na.mp4,NaN\n", "as other programs write an empty cell"),
        ("path,caption\na.mp4,#N/A\n", "as other programs write an empty cell"),
        ("path,caption\na.mp4,...\n", "is blank"),
        ("path,caption\nx\\a.mp4,a cat\n", "folders are separated by / here"),
        ("path,caption,start_frame\na.mp4,a cat,7\n", "captions of parts of a clip are not read"),
    ],
)
def test_tables_as_other_programs_write_them_are_read_or_told(clips: Path, table: str, reason: str) -> None:
    (clips / "t.csv").write_text(table, encoding="utf-8")
    if not reason:
        assert [entry.captions for entry in list_entries(Source(clips / "t.csv"))] == [{"caption": "a cat"}]
        return
    with pytest.raises(UserError) as refused:
        list_entries(Source(clips / "t.csv"))
    assert reason in str(refused.value)


def test_a_share_that_is_no_number_is_refused(clips: Path, tmp_path: Path) -> None:
    arguments = [str(clips), "-o", str(tmp_path / "out"), "--val", "nan"]
    done = CliRunner().invoke(folder, arguments, standalone_mode=False)
    assert isinstance(done.exception, UserError)
    assert not (tmp_path / "out").exists()


def test_a_column_of_broken_json_is_told_by_name(clips: Path, tmp_path: Path) -> None:
    (clips / "t.csv").write_text("path,caption_json\na.mp4,oops\n")
    assert "column 'caption_json' is not JSON: Expecting value" in fault(clips / "t.csv", tmp_path / "out")


def test_each_of_two_clips_whose_accents_are_written_in_two_ways_has_its_own_caption(
    clips: Path, tmp_path: Path, video: bytes
) -> None:
    names = ("caf\u00e9", "cafe\u0301")
    for name in names:
        (clips / f"{name}.mp4").write_bytes(video)
        (clips / f"{name}.txt").write_text(f"{len(name)} letters")
    assert {entry.key: entry.captions["caption"] for entry in list_entries(Source(clips))} == {
        "a": "a cat", names[0]: "4 letters", names[1]: "5 letters"
    }  # fmt: skip
    (clips / f"{names[0]}.txt").unlink()
    assert f"{clips / names[0]}.mp4:None  no caption" in fault(clips, tmp_path / "out")
    (clips / f"{names[0]}.mp4").unlink()
    (clips / "t.csv").write_text(f"path,caption\n{names[0]}.mp4,x\n", encoding="utf-8")
    assert [entry.path for entry in list_entries(Source(clips / "t.csv"))] == [clips / f"{names[1]}.mp4"]


def test_links_that_lead_nowhere_are_told_and_no_clip_is_lost(clips: Path, tmp_path: Path) -> None:
    for name in ("b.mp4", "b.txt"):
        (clips / name).symlink_to(tmp_path / "gone" / name)
    message = fault(clips, tmp_path / "out")
    for name in ("b.mp4", "b.txt"):
        assert f"{clips / name}:None  there is nothing at {tmp_path / 'gone' / name}; mount or fetch it" in message
    for suffix in (".tar", ".parquet"):
        folder = tmp_path / suffix[1:]
        folder.mkdir()
        (folder / f"a{suffix}").symlink_to(tmp_path / "gone")
        assert "there is nothing at" in fault(folder, tmp_path / "out", copy=True)


def test_a_row_that_says_of_which_frames_its_caption_is_is_refused_wherever_it_stands(
    clips: Path, tmp_path: Path
) -> None:
    (clips / "t.jsonl").write_text(
        '{"path": "a.mp4", "caption": "x"}\n{"path": "a.mp4", "caption": "y", "end_frame": 9}'
    )
    assert "t.jsonl:2  has end_frame: captions of parts of a clip are not read" in fault(
        clips / "t.jsonl", tmp_path / "o"
    )


@pytest.mark.parametrize("value", [pa.scalar(b"x"), pa.scalar(1, pa.timestamp("s"))], ids=["bytes", "a time"])
def test_a_structured_caption_that_json_cannot_hold_is_refused_with_its_row(
    clips: Path, tmp_path: Path, value: pa.Scalar
) -> None:
    captions = pa.array([{"short": "x", "of": value.as_py()}], pa.struct([("short", pa.string()), ("of", value.type)]))
    pa.parquet.write_table(pa.table({"path": ["a.mp4"], "caption": captions}), clips / "t.parquet")
    assert "t.parquet:1  'caption_json' holds what JSON has not" in fault(clips / "t.parquet", tmp_path / "out")


def test_without_held_out_clips_the_recipe_does_not_validate_and_a_recipe_of_yours_is_found_from_anywhere(
    clips: Path, tmp_path: Path
) -> None:
    recipe = tmp_path / "mine.toml"
    recipe.write_text('extends = "vision_sft_demo"\n')
    out = tmp_path / "deep/out"
    given = os.path.relpath(recipe)
    cosmos("data", "prepare", "folder", str(clips), "-o", str(out), "--recipe", given, "--val", "0")
    text = (out / "recipe.toml").read_text()
    assert f'extends = "{recipe.resolve()}"' in text
    assert "run_validation = false" in text


@pytest.mark.parametrize(
    ("own", "caps"),
    [
        ("[dataloader_val]\nmax_samples_per_batch = 40", (None, 40)),
        ('unset = ["dataloader_val"]\n[dataloader_train]\nmax_sequence_length = 900', (900, 20)),
    ],
    ids=["those of its validation", "else those of its training"],
)
def test_held_out_clips_are_validated_in_batches_of_the_recipe_and_each_dataset_has_a_run_of_its_own(
    own: str, caps: tuple[int | None, int], clips: Path, tmp_path: Path
) -> None:
    recipe = tmp_path / "mine.toml"
    recipe.write_text(f'extends = "vision_sft_demo"\n{own}\n[trainer]\nrun_validation = false\n')
    (clips / "b.mp4").write_bytes((clips / "a.mp4").read_bytes())
    (clips / "b.txt").write_text("a dog")
    out = tmp_path / "at home"
    told = cosmos("data", "prepare", "folder", str(clips), "-o", str(out), "--recipe", str(recipe), "--val", "0.5")
    assert f"train with `cosmos run '{out}/recipe.toml'`" in told.stdout
    written = resolve(str(out / "recipe.toml"), plugins=PluginManager.discover()).config
    assert written.job.name == "at_home"
    assert written.dataloader_val is not None
    assert (written.dataloader_val.max_sequence_length, written.dataloader_val.max_samples_per_batch) == caps


def test_a_stride_without_windows_is_refused(clips: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="has no effect without window"):
        FolderConfig(type="folder", path=str(clips), stride=3)
    arguments = [str(clips), "-o", str(tmp_path / "out"), "--stride", "3"]
    done = CliRunner().invoke(folder, arguments, standalone_mode=False)
    assert isinstance(done.exception, UserError)


def test_folders_and_recipes_may_be_called_like_what_toml_or_a_recipe_reads_otherwise(
    clips: Path, tmp_path: Path
) -> None:
    place = tmp_path / '${oc.env:HOME} ${ "\x7f\\'
    place.mkdir()
    source, out, recipe = clips.rename(place / "clips"), place / "out", place / "mine.toml"
    recipe.write_text('extends = "vision_sft_demo"\n')
    cosmos("data", "prepare", "folder", str(source), "-o", str(out), "--recipe", str(recipe))
    short = "dataloader_train.dataset.min_window_frames=1"
    manifest = str(out / "train/video_dataset_file.jsonl")
    for data in ((str(out),), (manifest, "--recipe", str(recipe)), (str(source), "--recipe", str(recipe), short)):
        assert "1 can be used" in cosmos("data", "check", *data, "--no-html").stdout


def test_a_link_that_leads_nowhere_is_refused_as_output_before_clips_are_measured(clips: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.symlink_to("nowhere")
    with pytest.raises(UserError, match="exists and holds something else"):
        prepare_here(clips, out)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["clips", "out"]


def test_clips_in_later_rows_are_unpacked_where_the_first_row_holds_a_path_or_nothing(
    clips: Path, tmp_path: Path, video: bytes
) -> None:
    files = [{"bytes": None, "path": "a.mp4"}, {"bytes": video, "path": "b.mp4"}]
    pa.parquet.write_table(pa.table({"video": files, "caption": ["a cat", "a dog"]}), clips / "rows.parquet")
    with pytest.raises(UserError, match="clips are packed"):
        list_entries(Source(clips / "rows.parquet"))
    prepare_here(clips / "rows.parquet", tmp_path / "out", copy=True)
    assert captions_of(tmp_path / "out") == {"a": "a cat", "rows/000002": "a dog"}
