"""Audio with a wrong header: readable samples are read with a note, and lost ones are reported."""

import io
import shutil
import struct
import subprocess
from pathlib import Path

import numpy as np
import pytest
import soundfile

from ser_pipeline import audio
from ser_pipeline.containers import ffmpeg, flac, mpeg
from ser_pipeline.containers.pieces import Memory
from ser_pipeline.errors import PipelineError

RATE = 16_000
SPEECH = np.concatenate(
    [np.zeros(RATE, np.float32), np.random.default_rng(0).uniform(-0.5, 0.5, 4 * RATE).astype(np.float32)]
)


def encoded(kind: str, subtype: str | None = None, samples: np.ndarray = SPEECH, rate: int = RATE) -> bytes:
    out = io.BytesIO()
    soundfile.write(out, samples, rate, format=kind, subtype=subtype)
    return out.getvalue()


def read(data: bytes) -> tuple[np.ndarray, list[str]]:
    with audio.Recording(data, "a") as recording:
        samples = np.concatenate([*recording.blocks()])
        assert len(samples) == recording.header.frames
        return samples[:, 0], recording.notes


def vbr(samples: np.ndarray = SPEECH, *, xing: bool = True) -> bytes:
    """Return an MP3 of varying bit rate, with or without the Xing frame that contains its length."""
    out = io.BytesIO()
    with soundfile.SoundFile(
        out, "w", RATE, 1, format="MP3", subtype="MPEG_LAYER_III", bitrate_mode="VARIABLE", compression_level=0.3
    ) as file:
        file.write(samples)
    data = out.getvalue()
    first = mpeg.frame_at(data, 0)
    assert first is not None
    assert data[first.xing :][:4] in (b"Xing", b"Info")
    return data if xing else data[first.length :]


WAVE = encoded("WAV")


def with_sizes(riff: int, data: int) -> bytes:
    return WAVE[:4] + struct.pack("<I", riff) + WAVE[8:40] + struct.pack("<I", data) + WAVE[44:]


@pytest.mark.parametrize("size", [0x7F000000, 0x7FFFF000, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF])
@pytest.mark.parametrize("lies", [0x7FFFF024, 0xFFFFFFFF, 0, 12])
def test_a_wav_that_was_piped_is_read_to_its_end_with_a_note(size: int, lies: int) -> None:
    samples, notes = read(with_sizes(lies, size))
    np.testing.assert_allclose(samples, SPEECH, atol=1 / 32768)
    assert notes == ["has a header that does not declare its length, and is read to its end"]


def test_a_wav_that_announces_no_samples_is_read_with_a_note() -> None:
    samples, notes = read(with_sizes(36, 0))
    assert len(samples) == len(SPEECH)
    assert notes == ["has a header that declares no samples, and is read to its end"]


def test_a_wav_of_no_samples_with_a_list_behind_them_stays_empty() -> None:
    with pytest.raises(PipelineError, match="has no samples"):
        read(WAVE[:40] + struct.pack("<I", 0) + b"LIST" + struct.pack("<I", 4) + b"INFO")


@pytest.mark.parametrize("more", [8, 16, 44])
def test_a_wav_that_counts_its_header_in_is_read_with_a_note(more: int) -> None:
    samples, notes = read(with_sizes(len(WAVE), len(WAVE) - 44 + more))
    assert len(samples) == len(SPEECH)
    assert notes == [f"has a header that declares {more} bytes more than are there"]


def test_a_wav_that_breaks_off_is_truncated() -> None:
    with pytest.raises(PipelineError, match=r"^a is truncated \(9956 of 160000 bytes of audio are there\)"):
        read(WAVE[:10_000])


@pytest.mark.parametrize("kind", ["GSM610", "G721_32", "IMA_ADPCM", "MS_ADPCM", "ULAW", "NMS_ADPCM_24"])
def test_telephone_codecs_in_wav_are_read_from_any_second(kind: str) -> None:
    data = encoded("WAV", kind, rate=8_000)
    whole = audio.decode(data, "a", 8_000)
    assert len(whole) >= len(SPEECH)
    np.testing.assert_array_equal(audio.decode(data, "a", 8_000, 2.0, 3.0), whole[16_000:24_000])


def test_the_same_recording_can_be_read_twice() -> None:
    with audio.Recording(encoded("WAV", "GSM610", rate=8_000), "a") as recording:
        first, second = (np.concatenate([*recording.blocks()]) for _ in range(2))
    np.testing.assert_array_equal(first, second)


def told(total: int) -> bytes:
    """Return the FLAC file with a header that announces `total` samples."""
    data = bytearray(encoded("FLAC"))
    data[21] = data[21] & 0xF0 | total >> 32
    data[22:26] = (total & 0xFFFFFFFF).to_bytes(4, "big")
    return bytes(data)


def test_a_flac_without_a_length_is_read_to_its_end() -> None:
    samples, notes = read(told(0))
    np.testing.assert_array_equal(samples, read(encoded("FLAC"))[0])
    assert notes == ["does not declare its length, and is read to its end"]


def test_a_flac_without_a_length_that_breaks_off_is_truncated() -> None:
    with pytest.raises(PipelineError, match=r"^a is truncated \(it does not declare its length, and its last frame"):
        read(told(0)[:-100])


def test_a_flac_that_announces_more_than_its_bytes_can_hold_is_read_to_its_end() -> None:
    samples, notes = read(told(2**36 - 1))
    assert len(samples) == len(SPEECH)
    assert "declares 68,719,476,735 samples, more than its bytes can contain" in notes[0]


def test_a_flac_that_announces_twice_what_is_there_is_truncated() -> None:
    with pytest.raises(PipelineError, match="is truncated"):
        read(told(2 * len(SPEECH)))


@pytest.mark.parametrize("count", [1, 100, 4_096, 4_097, 70_000, 600_000])
@pytest.mark.parametrize("silent", [False, True])
def test_the_last_frame_of_a_flac_tells_its_length(count: int, silent: bool) -> None:
    samples = np.random.default_rng(count).uniform(-0.5, 0.5, count) * (not silent)
    data = encoded("FLAC", samples=samples)
    ((pieces, _),) = flac.flac(data[:21] + bytes([data[21] & 0xF0, 0, 0, 0, 0]) + data[26:], 0)
    assert isinstance(pieces[0], bytes)
    assert pieces[0] == data[:42]


def test_an_mp3_of_varying_bit_rate_loses_no_sound_without_a_xing_frame() -> None:
    whole, notes = read(vbr(xing=False))
    assert notes == []
    assert len(whole) >= len(SPEECH)
    assert 0.2 < np.abs(whole[-8_000:]).mean() < 0.3  # the noise at its end, uniform up to 0.5


def test_two_mp3s_joined_are_both_read() -> None:
    samples, notes = read(vbr() + vbr())
    np.testing.assert_array_equal(samples, np.tile(read(vbr())[0], 2))
    assert notes == ["contains 2 recordings in a row, which are read as one"]


def test_an_mp3_joined_with_one_that_has_no_xing_frame_is_read_whole() -> None:
    samples, notes = read(vbr() + vbr(xing=False))
    assert len(samples) >= 2 * len(SPEECH)
    assert notes == ["has a header that declares 141 of its 282 frames, all of which are read"]


def test_an_mp3_without_xing_frames_joined_with_its_like_is_read_whole() -> None:
    one = vbr(xing=False)
    assert len(read(one + one)[0]) >= 2 * len(SPEECH)


@pytest.mark.parametrize("frames", [1, 40, 2**31])
def test_an_mp3_whose_xing_frame_lies_is_read_to_its_end(frames: int) -> None:
    data = bytearray(vbr())
    first = mpeg.frame_at(bytes(data), 0)
    assert first is not None
    data[first.xing + 8 : first.xing + 12] = frames.to_bytes(4, "big")
    samples, notes = read(bytes(data))
    assert len(samples) >= len(SPEECH)
    assert len(notes) == 1


def test_an_mp3_that_breaks_off_is_truncated() -> None:
    with pytest.raises(PipelineError, match=r"^a is truncated \(\d+ of \d+ frames are there\)"):
        read(vbr()[:-5_000])


def test_an_mp3_of_a_xing_frame_alone_is_truncated() -> None:
    data = vbr()
    first = mpeg.frame_at(data, 0)
    assert first is not None
    with pytest.raises(PipelineError, match=r"^a is truncated \(none of its frames is complete\)"):
        read(data[: first.length])


@pytest.mark.parametrize("left", range(3, 13))
def test_an_mp3_that_breaks_off_in_a_second_xing_header_is_read(left: int) -> None:
    data = vbr(xing=False)
    first = mpeg.frame_at(vbr(), 0)
    assert first is not None
    assert len(read(data + vbr()[: first.xing + left])[0]) >= len(SPEECH)


def test_tags_before_and_behind_an_mp3_are_no_sound() -> None:
    tag = b"ID3\x04\x00\x00\x00\x00\x02\x00" + bytes(256)
    for data in (tag + vbr(), vbr() + b"TAG" + bytes(125), tag + tag + vbr(xing=False) + b"TAG" + bytes(125)):
        assert 0 <= len(read(data)[0]) - len(SPEECH) < 3_000


@pytest.mark.parametrize("kind", ["WAV", "FLAC", "OGG"])
def test_two_files_joined_are_both_read_and_said(kind: str) -> None:
    one = encoded(kind)
    samples, notes = read(one + one)
    np.testing.assert_array_equal(samples, np.tile(read(one)[0], 2))
    assert notes == ["contains 2 recordings in a row, which are read as one"]


def test_joined_files_of_two_rates_are_refused() -> None:
    with pytest.raises(PipelineError, match=r"joins recordings of 16000 Hz, 1 channels and 8000 Hz, 1 channels"):
        read(WAVE + encoded("WAV", rate=8_000))


def test_an_ogg_that_breaks_off_in_a_page_is_truncated() -> None:
    with pytest.raises(PipelineError, match=r"^a is truncated \(its last page has \d+ of \d+ bytes\)"):
        read(encoded("OGG")[:-100])


def test_samples_beyond_full_scale_are_said() -> None:
    samples, notes = read(encoded("WAV", "FLOAT", SPEECH * 65_536))
    assert len(samples) == len(SPEECH)
    assert notes == [f"has samples up to {np.abs(SPEECH).max() * 65_536:.6g} times full scale, which are clipped"]


def test_a_place_before_the_beginning_of_a_file_is_its_beginning() -> None:
    file = Memory(b"abc")
    assert (file.seek(-5), file.read()) == (0, b"abc")
    assert (file.seek(-2, io.SEEK_END), file.read()) == (1, b"bc")


def test_blocks_of_many_channels_are_as_large_as_those_of_eight(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audio, "BLOCK", 1_000)
    samples = np.tile(SPEECH[:3_000, None], (1, 80))
    with audio.Recording(encoded("WAV", "FLOAT", samples), "a") as recording:
        blocks = [*recording.blocks()]
    assert {len(block) for block in blocks} == {100}
    np.testing.assert_array_equal(np.concatenate(blocks), samples)


@pytest.mark.parametrize("kind", sorted(set(soundfile.available_formats()) - {"RAW", "SD2", "MP3"}))
def test_every_format_of_libsndfile_is_read(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ffmpeg, "there", lambda: False)
    samples = SPEECH[RATE : 3 * RATE]
    data = encoded(kind, samples=samples)
    heard = audio.decode(data, "a", audio.header(data, "a").rate)[: len(samples)]
    assert np.corrcoef(heard, samples[: len(heard)])[0, 1] > (0.8 if kind == "OGG" else 0.99)


@pytest.mark.parametrize("subtype", soundfile.available_subtypes("RAW"))
def test_samples_without_a_header_are_refused(subtype: str) -> None:
    with pytest.raises(PipelineError, match="not readable audio"):
        audio.decode(encoded("RAW", subtype, rate=8_000), "a.raw", RATE)


@pytest.mark.parametrize("kind", ["WAV", "FLAC", "OGG", "MP3", "AIFF", "AU", "W64", "RF64", "CAF"])
def test_a_file_too_long_for_memory_gives_the_same_samples(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "a"
    file.write_bytes(encoded(kind) if kind != "MP3" else vbr(xing=False) + vbr())
    expected = audio.decode(file, "a", RATE)
    monkeypatch.setattr(audio, "WHOLE", 1_000)
    np.testing.assert_array_equal(audio.decode(file, "a", RATE), expected)


needs_ffmpeg = pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="ffmpeg is not installed")


@pytest.fixture
def m4a(tmp_path: Path) -> Path:
    (tmp_path / "-a b.wav").write_bytes(WAVE)
    out = tmp_path / "-a b.m4a"
    subprocess.run(["ffmpeg", "-v", "error", "-i", f"file:{tmp_path / '-a b.wav'}", f"file:{out}"], check=True)
    return out


@needs_ffmpeg
def test_what_libsndfile_does_not_read_goes_through_ffmpeg(m4a: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    samples = audio.decode(m4a, "a.m4a", RATE)
    assert 0 <= len(samples) - len(SPEECH) < 3_000
    np.testing.assert_array_equal(audio.decode(m4a.read_bytes(), "a.m4a", RATE), samples)
    monkeypatch.setattr(ffmpeg.shutil, "which", lambda name: None)
    with pytest.raises(PipelineError, match=r"^a\.m4a is not readable audio without ffmpeg, which is not installed"):
        audio.decode(m4a, "a.m4a", RATE)


@needs_ffmpeg
def test_a_play_list_does_not_make_ffmpeg_read_another_file(tmp_path: Path) -> None:
    (tmp_path / "secret.wav").write_bytes(WAVE)
    lists = {
        "a.m3u8": f"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:5,\n{tmp_path}/secret.wav\n#EXT-X-ENDLIST\n",
        "a.wav": f"ffconcat version 1.0\nfile '{tmp_path}/secret.wav'\n",
    }
    for name, text in lists.items():
        (tmp_path / name).write_text(text)
        with pytest.raises(PipelineError, match="is not readable audio"):
            audio.decode(tmp_path / name, name, RATE)
