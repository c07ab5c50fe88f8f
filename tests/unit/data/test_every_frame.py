"""Frame i is the i-th that the ffmpeg program shows, wherever decoding begins, in every container there is."""

from __future__ import annotations

import re
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cosmos_core.data import UnreadableSample
from cosmos_core.data.video import check_decodes, decode, decode_frames, probe
from cosmos_core.data.video.container import OpenVideo
from cosmos_core.data.video.matroska import missing_part
from tests.ffmpeg import ffmpeg, shown_frames, shown_times
from tests.unit.logged import logged

WIDTH, HEIGHT = 64, 48
WINDOW = 8
X264 = "-c:v libx264 -pix_fmt yuv420p"
VP9 = "-c:v libvpx-vp9 -g 20 -deadline realtime -cpu-used 8"


def drawn(seconds: float, rate: str = "25", then: str = "") -> str:
    """Arguments for so many seconds of a test picture."""
    return f"-f lavfi -i testsrc2=s={WIDTH}x{HEIGHT}:r={rate}:d={seconds}{',' + then if then else ''}"


GAP = drawn(3, then="select='not(between(n,30,50))'") + " -fps_mode passthrough"
JITTER = (
    drawn(3, then="settb=1/1000,setpts='N*40+floor(random(1)*24)'") + " -fps_mode passthrough -enc_time_base 1:1000"
)
CASES = {
    "mpeg4.avi": drawn(3) + " -c:v mpeg4 -vtag xvid -bf 2 -g 30 -q:v 4",
    "h264.avi": drawn(3) + f" {X264} -g 30",
    "gap.mkv": f"{GAP} {X264} -g 20",
    "gap.webm": f"{GAP} {VP9}",
    "gap_vp8.webm": f"{GAP} -c:v libvpx -g 20 -deadline good -cpu-used 4 -auto-alt-ref 1 -lag-in-frames 16",
    "gap.avi": f"{GAP} -c:v mpeg4 -g 20",
    "jitter.mkv": f"{JITTER} {X264} -g 20",
    "jitter.webm": f"{JITTER} {VP9}",
    "plain.ts": drawn(3) + f" {X264} -g 30",
    "interlaced.mpg": drawn(3) + " -c:v mpeg2video -flags +ildct+ilme -g 15 -bf 2",
    "interlaced.ts": drawn(3) + f" {X264} -flags +ildct+ilme -x264-params tff=1",
    "fragments.mp4": drawn(3) + f" {X264} -g 30 -movflags frag_keyframe+empty_moov",
    "plain.wmv": drawn(3) + " -c:v wmv2 -g 20",
    "plain.flv": drawn(3) + f" {X264} -g 30",
    "open_265.mp4": drawn(3) + " -c:v libx265 -x265-params keyint=30:open-gop=1:bframes=4:log-level=none",
    "open_264.mp4": drawn(3) + f" {X264} -x264-params keyint=30:open-gop=1:bframes=4",
    "raw.h264": drawn(2) + f" {X264} -g 20",
    "prores.mov": drawn(1) + " -c:v prores",
    "av1.mp4": drawn(2) + " -c:v libaom-av1 -cpu-used 8 -g 20",
    "ntsc.mkv": drawn(2, "30000/1001") + f" {X264}",
    "pictures.gif": drawn(2, "10"),
    "gap_h264.avi": f"{GAP} {X264} -g 20 -bf 2",
    "gap_plain.avi": f"{GAP} {X264} -g 20 -bf 0",
    "palette.avi": drawn(1) + " -c:v rawvideo -pix_fmt pal8",
    "pictures.mjpeg": "-f lavfi -i testsrc2=s=160x120:r=25:d=1 -c:v mjpeg -q:v 3",
    "longer.ogv": f"{GAP} -c:v libtheora -q:v 5 -g 16",
    "repeated.mkv": drawn(1, then="setpts='floor(N/2)*2/25/TB'")
    + " -fps_mode passthrough -enc_time_base 1:1000 -c:v ffv1",
    "wrapped.ts": drawn(2) + f" {X264} -g 20 -output_ts_offset 95442.7",
    "refreshed.ts": drawn(2) + f" {X264} -x264-params intra-refresh=1:keyint=20",
    "every_frame.mp4": drawn(1) + f" {X264} -g 10 -movflags +frag_every_frame+empty_moov+default_base_moof",
    "deep_422.mkv": drawn(1) + " -c:v libx264 -pix_fmt yuv422p10le -g 10",
    "fields.m2v": drawn(2, "50", "tinterlace=4") + " -c:v mpeg2video -flags +ildct+ilme -g 15 -bf 2",
    "see_through.webm": drawn(1, then="format=yuva420p,colorchannelmixer=aa=0.5,format=yuva420p")
    + f" {VP9} -auto-alt-ref 0",
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("videos")


def made(folder: Path, name: str, arguments: str) -> Path:
    path = folder / name
    if not path.exists():
        ffmpeg(*arguments.split(), path)
    return path


def check_every_start(path: Path, *, differ: int = 0) -> None:
    """Windows from every start hold the same frames as the ffmpeg program shows."""
    timeline = probe(path)
    shown = shown_frames(path, timeline.width, timeline.height)
    whole = decode_frames(path, range(timeline.frames))
    assert len(whole) == len(shown)
    assert np.abs(whole.astype(int) - shown).max() <= differ
    for start in range(timeline.frames - WINDOW):
        window = decode_frames(path, range(start, start + WINDOW + 1))
        assert np.array_equal(window, whole[start : start + WINDOW + 1]), start


@pytest.mark.parametrize("name", CASES)
def test_every_window_has_the_frames_that_ffmpeg_shows(name: str, folder: Path) -> None:
    # MPEG-4's inverse transform is rounded in another way by each version.
    check_every_start(made(folder, name, CASES[name]), differ=2 if "mpeg4" in CASES[name] else 0)


def test_recordings_joined_byte_by_byte(folder: Path) -> None:
    """The second one starts again at time 0, and has another size."""
    first = made(folder, "plain.ts", CASES["plain.ts"])
    second = made(folder, "small.ts", f"-f lavfi -i testsrc=s=48x32:r=25:d=1 {X264} -g 10")
    path = folder / "joined.ts"
    path.write_bytes(first.read_bytes() + second.read_bytes())
    assert probe(path).frames == 100
    check_every_start(path)


def copied(folder: Path, source: str, name: str, *arguments: str) -> Path:
    """A copy of a case's streams into another file."""
    path = folder / name
    ffmpeg(*arguments, "-i", made(folder, source, CASES[source]), "-c", "copy", path)
    return path


@pytest.mark.parametrize("offset", [10, 100], ids=["back", "ahead"])
def test_a_clock_that_jumps_is_no_pause(offset: int, folder: Path) -> None:
    """The second recording's times lie before or long after those of the first one."""
    source = f"-i {made(folder, 'plain.ts', CASES['plain.ts'])} -c copy -output_ts_offset"
    parts = [made(folder, f"at_{at}.ts", f"{source} {at}").read_bytes() for at in (50, offset)]
    path = folder / f"jump_{offset}.ts"
    path.write_bytes(b"".join(parts))
    assert (probe(path).frames, probe(path).fps) == (150, 25)
    assert [probe(path).seconds(number) for number in range(150)] == pytest.approx(shown_times(path), abs=1e-3)
    check_every_start(path)


def test_a_clock_that_goes_back_between_earlier_times_moves_no_frame(folder: Path) -> None:
    """Programme streams have no counter that tells of the joint; the last times lie between the others."""
    draw = f"{drawn(2)} -c:v mpeg2video -g 15 -bf 2 -output_ts_offset"
    parts = [made(folder, f"at_{at}.mpg", f"{draw} {at}").read_bytes() for at in (10, 100, 50)]
    path = folder / "back.mpg"
    path.write_bytes(b"".join(parts))
    assert (probe(path).frames, probe(path).fps) == (150, 25)
    check_every_start(path)


def test_a_packet_that_the_index_has_and_the_file_lacks_moves_no_frame(folder: Path) -> None:
    path = folder / "damaged.avi"
    content = bytearray(made(folder, "mpeg4.avi", CASES["mpeg4.avi"]).read_bytes())
    places = [match.start() for match in re.finditer(b"00dc", content)]
    content[places[30] : places[30] + 8] = bytes(8)
    path.write_bytes(content)
    assert probe(path).frames == 74
    check_every_start(path, differ=2)


def test_a_crop_from_the_left_is_made_to_the_pixel(folder: Path) -> None:
    crop = "h264_metadata=crop_left=8:crop_right=8:crop_top=4"
    path = folder / "cropped.mp4"
    ffmpeg("-i", made(folder, "h264.avi", CASES["h264.avi"]), "-c", "copy", "-bsf:v", crop, path)
    assert (probe(path).width, probe(path).height) == (WIDTH - 16, HEIGHT - 4)
    check_every_start(path)


def test_streams_copied_into_another_container(folder: Path) -> None:
    check_every_start(copied(folder, "mpeg4.avi", "copied.mp4"), differ=2)


def test_the_part_before_an_edit_list_is_no_part_of_the_video(folder: Path) -> None:
    path = copied(folder, "open_264.mp4", "edited.mp4", "-ss", "1.5")
    assert probe(path).frames == len(shown_frames(path, WIDTH, HEIGHT)) < 75
    check_every_start(path)


@pytest.mark.parametrize("name", ["cut.ts", "cut.nut", "cut.mkv"])
def test_frames_that_lost_what_they_were_made_from_are_not_counted_where_a_stream_was_cut(
    name: str, folder: Path
) -> None:
    """A copy gives their packets times behind that of the first frame, though they come before it."""
    made(folder, "open_2.mkv", drawn(3) + " -c:v mpeg2video -bf 2 -g 15")
    path = folder / name
    ffmpeg("-ss", "1.3", "-i", folder / "open_2.mkv", "-c", "copy", path)
    check_every_start(path)


def test_a_container_that_is_named_after_another(folder: Path) -> None:
    path = folder / "raw.mp4"
    path.write_bytes(made(folder, "raw.h264", CASES["raw.h264"]).read_bytes())
    assert (probe(path).fps, probe(path).frames) == (25, 50)
    check_every_start(path)


@pytest.mark.parametrize(
    "turn", ["rotation 90", "rotation 180", "rotation 270", "hflip", "vflip", "rotation 90 -display_hflip"]
)
def test_pictures_are_turned_as_ffmpeg_turns_them(turn: str, folder: Path) -> None:
    path = copied(folder, "plain.ts", f"{turn.replace(' ', '_')}.mp4", *f"-display_{turn}".split())
    check_every_start(path)
    timeline = probe(path)
    size = (HEIGHT, WIDTH) if "90" in turn or "270" in turn else (WIDTH, HEIGHT)
    assert (timeline.width, timeline.height) == size
    half = (size[0] // 2, size[1] // 2)
    scaled = ffmpeg(
        "-i", path, "-vf", f"scale={half[0]}:{half[1]}:flags=bicubic+accurate_rnd", "-frames:v", "5",
        "-f", "rawvideo", "-pix_fmt", "rgb24", "-",
    )  # fmt: skip
    assert decode(path, 0, 4, 1, target=half).tobytes() == scaled


def test_an_angle_that_is_no_quarter_turn_is_refused_but_not_one_that_is_rounded(folder: Path) -> None:
    with pytest.raises(UnreadableSample, match="no quarter turn; encode it anew"):
        probe(copied(folder, "plain.ts", "odd.mp4", "-display_rotation", "45"))
    nearly = probe(copied(folder, "plain.ts", "nearly.mp4", "-display_rotation", "90.2"))
    assert (nearly.width, nearly.height) == (HEIGHT, WIDTH)


def test_a_colour_space_that_nothing_converts_is_told_before_any_frame_is_asked_for(folder: Path) -> None:
    then = "format=yuv444p,setparams=colorspace=ictcp"
    path = made(folder, "ictcp.mkv", drawn(0.2, then=then) + " -c:v libx264")
    for read in (probe, check_decodes, lambda path: decode_frames(path, [0])):
        with pytest.raises(UnreadableSample, match="colour space cannot be converted to RGB"):
            read(path)


def test_a_stream_that_comes_up_in_the_middle_ends_no_video() -> None:
    """Of a recording of a broadcast. Whether PyAV raises after it hangs on what its memory held before."""

    class Container:
        def demux(self, stream: Any) -> Iterator[Any]:
            yield stream
            raise IndexError("list index out of range")

    stream: Any = object()
    assert list(OpenVideo(Container(), stream).packets()) == [stream]


def test_cover_art_is_not_the_video(folder: Path) -> None:
    cover, path = folder / "cover.png", folder / "covered.mp4"
    ffmpeg(*drawn(0.04).split(), "-frames:v", "1", cover)
    source = made(folder, "open_264.mp4", CASES["open_264.mp4"])
    ffmpeg("-i", cover, "-i", source, "-map", "0", "-map", "1", "-c", "copy", "-disposition:v:0", "attached_pic", path)
    assert probe(path).frames == 75


def test_the_default_stream_is_read(folder: Path) -> None:
    path = folder / "two.mkv"
    small = f"-f lavfi -i testsrc2=s=32x32:r=10:d=1 -map 0 -map 1 {X264} -disposition:v:0 0 -disposition:v:1 default"
    ffmpeg(*drawn(1).split(), *small.split(), path)
    assert (probe(path).width, probe(path).frames) == (32, 10)


@pytest.mark.parametrize(
    "name",
    [
        "gap.mkv",
        "jitter.mkv",
        "longer.ogv",
        "gap.webm",
        "gap.avi",
        "gap_h264.avi",
        "gap_plain.avi",
        "repeated.mkv",
        "wrapped.ts",
    ],
)
def test_times_are_those_of_the_file(name: str, folder: Path) -> None:
    path = made(folder, name, CASES[name])
    timeline = probe(path)
    seconds = [timeline.seconds(number) for number in range(timeline.frames)]
    assert np.allclose(seconds, shown_times(path), atol=1e-3)


@pytest.mark.parametrize(
    ("then", "rate", "last"),
    [
        ("setpts='PTS+if(gte(N,80),0.4/TB,0)'", 149 / (149 / 30 + 0.4), 149 / 30 + 0.4),
        ("settb=1/90000,setpts='if(lt(N,60),N/30,2+(N-60)/5)*90000'", 149 / 19.8, 19.8),
    ],
    ids=["a pause", "two rates"],
)
def test_a_variable_rate_is_measured(then: str, rate: float, last: float, tmp_path: Path) -> None:
    path = tmp_path / "variable.mp4"
    source = drawn(5, "30", then=then)
    ffmpeg(*source.split(), *["-fps_mode", "passthrough", "-enc_time_base", "1:90000"], *X264.split(), path)
    timeline = probe(path)
    assert float(timeline.fps) == pytest.approx(rate, rel=1e-3)
    assert timeline.seconds(timeline.frames - 1) == pytest.approx(last, abs=1e-3)


@pytest.mark.parametrize(
    ("name", "fps"),
    [("plain.ts", 25), ("ntsc.mkv", Fraction(30000, 1001)), ("plain.flv", 25), ("raw.h264", 25), ("pictures.gif", 10)],
)
def test_a_constant_rate_is_exact(name: str, fps: Fraction, folder: Path) -> None:
    assert probe(made(folder, name, CASES[name])).fps == fps


def test_a_window_of_a_long_file_costs_one_group_of_pictures(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = made(folder, "long.mp4", drawn(40) + f" {X264} -g 25 -bf 0")
    decoded = []
    from cosmos_core.data.video import container

    frames = container.OpenVideo.frames

    def counted(self: container.OpenVideo) -> object:
        for frame in frames(self):
            decoded.append(frame.pts)
            yield frame

    probe(path)
    monkeypatch.setattr(container.OpenVideo, "frames", counted)
    decode_frames(path, range(900, 993))
    assert len(decoded) <= 93 + 25


@pytest.mark.parametrize(
    "name", ["fast.mp4", "gap.mkv", "see_through.webm", "mpeg4.avi", "plain.flv", "plain.wmv", "palette.avi"]
)
def test_a_file_cut_short_is_refused_for_the_same_reason_everywhere(name: str, folder: Path) -> None:
    whole = made(folder, name, CASES.get(name, drawn(3) + f" {X264} -movflags +faststart"))
    path = folder / f"half_{name}"
    path.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    reasons = set()
    for read in (probe, check_decodes, lambda path: decode_frames(path, [0])):
        with pytest.raises(UnreadableSample) as refused:
            read(path)
        reasons.add(refused.value.reason)
    assert len(reasons) == 1


@pytest.mark.parametrize("left", [0, 20, -1])
def test_a_matroska_file_is_read_without_the_index_that_was_cut_off(left: int, folder: Path) -> None:
    """left: bytes of the index; a cut in the packets before it is refused."""
    whole = made(folder, "gap.mkv", CASES["gap.mkv"])
    content, path = whole.read_bytes(), folder / f"no_index{left}.mkv"
    path.write_bytes(content[: content.rindex(b"\x1c\x53\xbb\x6b") + left])
    if left < 0:
        with pytest.raises(UnreadableSample, match="its end is missing"):
            probe(path)
        return
    with logged("cosmos_core.data.video.timeline") as lines:
        assert check_decodes(path) == probe(whole)
    check_every_start(path)
    assert lines == [f"{path} was cut after its last frame; it is read without its index"]


def test_a_matroska_file_may_end_or_be_damaged_anywhere(folder: Path) -> None:
    """Between the bytes of a number, too, or with a length that no file system knows."""
    content, path = made(folder, "gap.mkv", CASES["gap.mkv"]).read_bytes(), folder / "damaged.mkv"
    packets = content.rindex(b"\x1f\x43\xb6\x75")
    for end in range(packets + 1, packets + 13):
        path.write_bytes(content[:end])
        assert missing_part(path) == "frames"
    path.write_bytes(content[:4] + b"\x01" + 7 * b"\xfe" + content[12:])
    assert missing_part(path) is None


def test_a_recording_that_never_said_its_length_is_whole(folder: Path) -> None:
    arguments = ("-i", made(folder, "gap.mkv", CASES["gap.mkv"]), "-c", "copy", "-f", "matroska", "-live", "1", "-")
    path = folder / "live.mkv"
    path.write_bytes(ffmpeg(*arguments)[:-500])
    assert 1 < probe(path).frames < probe(folder / "gap.mkv").frames
    for kind, codec in (("avi", "mpeg4"), ("flv", "flv"), ("asf", "wmv2")):
        path = folder / f"live.{kind}"
        path.write_bytes(ffmpeg(*drawn(1).split(), "-c:v", codec, "-f", kind, "-"))
        assert probe(path).frames == 25


def test_an_avi_file_is_read_without_the_index_that_was_cut_off(folder: Path) -> None:
    content, path = made(folder, "palette.avi", CASES["palette.avi"]).read_bytes(), folder / "no_index.avi"
    path.write_bytes(content[: content.rindex(b"idx1")])
    assert check_decodes(path).frames == 25
    check_every_start(path)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("list.m3u8", "#EXTM3U\n#EXT-X-TARGETDURATION:3\n#EXTINF:3.0,\n{video}\n#EXT-X-ENDLIST\n"),
        ("list.mp4", "ffconcat version 1.0\nfile {video.name}\n"),
    ],
)
def test_a_list_of_other_files_is_no_video(name: str, text: str, folder: Path) -> None:
    """They may lie anywhere."""
    (folder / name).write_text(text.format(video=made(folder, "plain.ts", CASES["plain.ts"])))
    with pytest.raises(UnreadableSample, match="a list of other files; name those"):
        probe(folder / name)


def test_a_number_that_the_file_lacks_is_named(folder: Path) -> None:
    path = made(folder, "plain.ts", CASES["plain.ts"])
    with pytest.raises(UnreadableSample, match="frame 80 was asked for, the file has 75"):
        decode_frames(path, range(70, 81))
