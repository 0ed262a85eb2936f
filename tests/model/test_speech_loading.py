"""Sources of speech encoders, and the one-line error of each failure."""

import builtins
import json
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import huggingface_hub
import pytest
import torch
import transformers
from huggingface_hub import errors

from ser_pipeline.errors import PipelineError
from ser_pipeline.model.speech import Options, hub, open_encoder
from ser_pipeline.model.speech.frames import FrameEncoder

FROZEN = Options(frozen=True)
COMMIT = "0123456789abcdef0123456789abcdef01234567"
SMALL = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 16}
CONVOLUTIONS = {"conv_dim": (8,) * 7, "num_conv_pos_embeddings": 8, "num_conv_pos_embedding_groups": 2}


def write(folder: Path, **saved: Any) -> torch.nn.Module:
    """Write a tiny wav2vec 2.0 with its feature extractor."""
    torch.manual_seed(0)
    model = transformers.Wav2Vec2Model(transformers.Wav2Vec2Config(**SMALL, **CONVOLUTIONS))
    model.save_pretrained(folder, **saved)
    transformers.Wav2Vec2FeatureExtractor().save_pretrained(folder)
    return model


def failing(name: str | Path, **more: Any) -> str:
    """Return the one-line error of opening `name`."""
    with pytest.raises(PipelineError) as caught:
        open_encoder(str(name), FROZEN, **more)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.fixture
def network(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., None]:
    """Return a function that sets the hub's answer: an error, or a repository of the files in a folder."""
    cache = tmp_path / "cache" / "models--some--encoder"
    monkeypatch.setattr(hub, "_reachable", lambda: True)
    monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", lambda name, file, revision: None)

    def answers(error: Exception | None = None, folder: Path | None = None, asked: list[Any] | None = None) -> None:
        def info(self: object, name: str, *, revision: str | None) -> SimpleNamespace:
            if error is not None:
                raise error
            return SimpleNamespace(siblings=[SimpleNamespace(rfilename=file.name) for file in folder.iterdir()])

        def download(name: str, *, revision: str | None, allow_patterns: list[str]) -> str:
            (cache / "snapshots" / COMMIT).mkdir(parents=True)
            for file in folder.iterdir():
                if file.name in allow_patterns:
                    shutil.copy(file, cache / "snapshots" / COMMIT)
            if asked is not None:
                asked.extend(allow_patterns)
            return str(cache / "snapshots" / COMMIT)

        monkeypatch.setattr(huggingface_hub.HfApi, "model_info", info)
        monkeypatch.setattr(huggingface_hub, "snapshot_download", download)

    return answers


def answer(kind: type[Exception], status: int) -> Exception:
    response = SimpleNamespace(headers={}, request=None, status_code=status)
    return kind("said the hub", response=response)  # type: ignore[call-arg]


def test_a_misspelt_name_a_gated_one_a_faulty_hub_and_no_network_are_told_apart(network: Callable[..., None]) -> None:
    network(answer(errors.RepositoryNotFoundError, 404))
    said = failing("openai/whisper-tiny-en")
    assert said.startswith(
        "the hub has no speech encoder 'openai/whisper-tiny-en'; did you mean 'openai/whisper-tiny.en'?"
    )
    assert "microsoft/wavlm-base-plus" in failing("wavlm-base-plus")
    assert "did you mean" not in failing("nobody/nothing-of-the-kind") and "HF_TOKEN" in failing("nobody/nothing")
    network(answer(errors.GatedRepoError, 403))
    assert "is gated: accept its terms at https://huggingface.co/some/encoder, then log in" in failing("some/encoder")
    network(answer(errors.HfHubHTTPError, 503))
    assert "answered with HTTP status 503 to 'some/encoder'; try again later" in failing("some/encoder")
    for error in (
        ConnectionError("no route"),
        errors.OfflineModeIsEnabled("off"),
        errors.LocalEntryNotFoundError("no"),
    ):
        network(error)
        said = failing("some/encoder", setting="features.embedding.encoder")
        assert "the hub cannot be reached; download it where there is a network" in said
        assert "hf download some/encoder --local-dir DIR) and pass --set features.embedding.encoder=DIR" in said
    network(OSError(28, "No space left on device"))
    assert "cannot store speech encoder 'some/encoder': [Errno 28] No space left on device; make room" in failing(
        "some/encoder"
    )


def test_the_hub_is_not_asked_where_it_cannot_be_reached(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", None)
    assert "the hub cannot be reached; did you mean 'openai/whisper-tiny.en'?" in failing("openai/whisper-tinyen")


def test_what_is_no_name_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert failing("a/b/c").startswith("'a/b/c' is neither a folder nor a name on the hub")
    assert "there is no such folder" in failing(tmp_path / "none")


def test_an_encoder_is_downloaded_with_what_it_needs_alone(network: Callable[..., None], tmp_path: Path) -> None:
    model = write(tmp_path / "hub", max_shard_size="20KB")
    (tmp_path / "hub" / "pytorch_model.bin").write_bytes(b"not wanted")
    (tmp_path / "hub" / "modeling.py").write_text("not wanted")
    asked: list[str] = []
    network(folder=tmp_path / "hub", asked=asked)
    encoder = open_encoder("some/encoder", FROZEN)
    assert encoder.revision == COMMIT
    assert not {"pytorch_model.bin", "modeling.py"} & set(asked) and "model.safetensors.index.json" in asked
    found = encoder.model.state_dict()
    assert all(torch.equal(value, found[name]) for name, value in model.state_dict().items())
    shutil.rmtree(tmp_path / "hub")
    (tmp_path / "hub").mkdir()
    shutil.rmtree(tmp_path / "cache")
    (tmp_path / "hub" / "config.json").write_text("{}")
    (tmp_path / "hub" / "tf_model.h5").write_text("")
    network(folder=tmp_path / "hub")
    assert "has no model.safetensors or pytorch_model.bin" in failing("some/encoder")


def test_the_local_cache_is_read_and_its_commit_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    repository = tmp_path / "models--some--encoder"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text(COMMIT)
    write(repository / "snapshots" / COMMIT)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert open_encoder("some/encoder", FROZEN).revision == COMMIT
    (repository / "snapshots" / COMMIT / "model.safetensors").unlink()
    assert "not in the local Hugging Face cache" in failing("some/encoder")
    assert open_encoder("some/encoder", FROZEN, weights=False).layers == 2


def test_a_commit_can_be_asked_for_and_another_is_not_taken_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, new = COMMIT, COMMIT[::-1]
    repository = tmp_path / "models--some--encoder"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text(new)
    for commit in (old, new):
        write(repository / "snapshots" / commit)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    asked = {name: hub.identity(name)["revision"] for name in ("some/encoder", f"some/encoder@{old}")}
    assert asked == {"some/encoder": new, f"some/encoder@{old}": old}
    assert open_encoder(f"some/encoder@{old}", FROZEN).revision == old
    assert "hf download some/encoder --local-dir DIR" in failing("some/encoder@1234567")


def test_what_an_encoder_is_does_not_depend_on_where_it_lies(tmp_path: Path) -> None:
    write(tmp_path / "here")
    here = hub.identity(str(tmp_path / "here"))
    shutil.copytree(tmp_path / "here", tmp_path / "there")
    assert hub.identity(str(tmp_path / "there")) == here and len(here["content"]) == 32
    described = hub.identity(str(tmp_path / "here"), weights=False)
    assert described != here
    (tmp_path / "there" / "model.safetensors").unlink()
    assert hub.identity(str(tmp_path / "there"), weights=False) == described
    front = tmp_path / "here" / "preprocessor_config.json"
    front.write_text(front.read_text().replace("true", "false"))
    assert hub.identity(str(tmp_path / "here"), weights=False) != described


def test_the_commit_of_a_downloaded_folder_is_known(tmp_path: Path) -> None:
    write(tmp_path)
    assert open_encoder(str(tmp_path), FROZEN).revision == ""
    note = tmp_path / ".cache" / "huggingface" / "download" / "config.json.metadata"
    note.parent.mkdir(parents=True)
    note.write_text(f"{COMMIT}\netag\n1.0\n")
    assert open_encoder(str(tmp_path), FROZEN).revision == COMMIT


def test_folders_that_are_not_whole_are_told_apart(tmp_path: Path) -> None:
    assert "it needs config.json and model.safetensors, as `hf download NAME --local-dir" in failing(tmp_path)
    model = write(tmp_path)
    weights = tmp_path / "model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[: len(whole) // 2])
    assert "model.safetensors is damaged or truncated" in failing(tmp_path)
    weights.write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n")
    assert "is a Git LFS pointer, not the weights; fetch them with 'git lfs pull'" in failing(tmp_path)
    weights.unlink()
    assert failing(tmp_path).startswith(f"no weights in {tmp_path}: ")
    state = {key: value for key, value in model.state_dict().items() if "layers.1" not in key}
    model.save_pretrained(tmp_path, state_dict=state)
    assert "parameters, such as encoder.layers.1" in failing(tmp_path)
    write(tmp_path / "parts", max_shard_size="20KB")
    part = sorted((tmp_path / "parts").glob("model-*.safetensors"))[1]
    part.unlink()
    assert f"are incomplete: {part.name} is missing" in failing(tmp_path / "parts")
    (tmp_path / "parts" / "model.safetensors.index.json").write_text('{"weight_map": {"a": "../../secret"}}')
    assert "names files outside its folder" in failing(tmp_path / "parts")
    (tmp_path / "config.json").write_text("{")
    assert "cannot read" in failing(tmp_path) and "download it again" in failing(tmp_path)
    (tmp_path / "config.json").write_text("{}")
    assert "names no model_type" in failing(tmp_path)


def test_a_model_of_another_kind_is_told(tmp_path: Path) -> None:
    bert = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    transformers.BertModel(transformers.BertConfig(**bert)).save_pretrained(tmp_path / "bert")
    assert "is a bert model, which reads text; a speech encoder reads audio" in failing(tmp_path / "bert")
    transformers.ViTModel(transformers.ViTConfig(**bert)).save_pretrained(tmp_path / "vit")
    assert "is a vit model, which reads images" in failing(tmp_path / "vit")
    transformers.ASTModel(transformers.ASTConfig(**bert)).save_pretrained(tmp_path / "ast")
    assert "cannot read the feature extractor of speech encoder" in failing(tmp_path / "ast")
    transformers.ASTFeatureExtractor().save_pretrained(tmp_path / "ast")
    with pytest.raises(PipelineError, match="can only be used frozen"):
        open_encoder(str(tmp_path / "ast"), Options())


HOSTILE = """
from pathlib import Path
Path({marker!r}).write_text("ran")
from transformers import Wav2Vec2Config as Config, Wav2Vec2Model as Model, Wav2Vec2FeatureExtractor as Extractor
"""


def hostile(folder: Path, marker: Path, kind: str) -> None:
    """Write a folder that requests its own code for configuration, model and feature extractor."""
    write(folder)
    (folder / "evil.py").write_text(HOSTILE.format(marker=str(marker)))
    for name, auto in (
        ("config.json", {"AutoConfig": "evil.Config", "AutoModel": "evil.Model"}),
        ("preprocessor_config.json", {"AutoFeatureExtractor": "evil.Extractor"}),
    ):
        said = json.loads((folder / name).read_text())
        changes = {"model_type": kind} if name == "config.json" else {}
        (folder / name).write_text(json.dumps({**said, "auto_map": auto, **changes}))


@pytest.fixture
def unasked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Answer every question on the terminal with yes, and count it as a failure."""
    asked: list[str] = []
    monkeypatch.setattr(builtins, "input", lambda *words: asked.append(str(words)) or "y")
    yield
    assert not asked


@pytest.mark.parametrize("kind", ["wav2vec2", "audio-spectrogram-transformer", "whisper", "never-heard-of", ""])
def test_a_hostile_folder_runs_no_code_and_asks_nothing(tmp_path: Path, unasked: None, kind: str) -> None:
    marker = tmp_path / "marker"
    hostile(tmp_path / "encoder", marker, kind)
    for options in (FROZEN, Options()):
        for weights in (True, False):
            try:
                encoder = open_encoder(str(tmp_path / "encoder"), options, weights=weights)
                assert kind == "wav2vec2" and isinstance(encoder, FrameEncoder)
            except PipelineError as error:
                assert kind != "wav2vec2" and "\n" not in str(error)
    assert not marker.exists()
    if kind == "never-heard-of":
        assert "needs code of its own, which is never run" in failing(tmp_path / "encoder")


class Bomb:
    """An object whose unpickling leaves a mark."""

    def __init__(self, marker: Path) -> None:
        self.marker = str(marker)

    def __reduce__(self) -> tuple[Any, ...]:
        return (exec, (f"open({self.marker!r}, 'w').close()",))


@pytest.mark.parametrize("kind", ["wav2vec2", "whisper"])
@pytest.mark.parametrize("protocol", ["torch", "plain"])
def test_weights_that_are_a_program_are_refused(tmp_path: Path, unasked: None, kind: str, protocol: str) -> None:
    marker, folder = tmp_path / "marker", tmp_path / "encoder"
    write(folder)
    (folder / "model.safetensors").unlink()
    if kind == "whisper":
        sizes = {"d_model": 16, "encoder_layers": 1, "encoder_attention_heads": 2, "encoder_ffn_dim": 16}
        transformers.WhisperConfig(**sizes).save_pretrained(folder)
        transformers.WhisperFeatureExtractor().save_pretrained(folder)
    state = {"a": Bomb(marker)}
    if protocol == "torch":
        torch.save(state, folder / "pytorch_model.bin")
    else:
        (folder / "pytorch_model.bin").write_bytes(pickle.dumps(state))
    assert failing(folder).startswith("cannot load the speech encoder")
    assert not marker.exists()
