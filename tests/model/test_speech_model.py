"""The co-attention model on speech encoders of every family."""

from pathlib import Path

import pytest
import torch
import transformers

from ser_pipeline.errors import PipelineError
from ser_pipeline.model.fast import accelerate
from ser_pipeline.model.speech import Options, open_encoder
from support.models import make_batch, small_model

SIZE = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 16}
CONVOLUTIONS = {"conv_dim": (8,) * 7, "num_conv_pos_embeddings": 8, "num_conv_pos_embedding_groups": 2}
ADAPTER = {"add_adapter": True, "num_adapter_layers": 2, "output_hidden_size": 24}
WHISPER = {"d_model": 16, "encoder_layers": 2, "encoder_attention_heads": 2, "encoder_ffn_dim": 16}
WHISPER |= {"decoder_layers": 1, "decoder_attention_heads": 2, "decoder_ffn_dim": 16}
SEW = {"conv_kernel": (10, 3, 3, 3, 3, 2, 2), "conv_stride": (5, 2, 2, 2, 2, 2, 2)}
KINDS = {
    "adapter": (transformers.Wav2Vec2Config, SIZE | CONVOLUTIONS | ADAPTER, transformers.Wav2Vec2FeatureExtractor),
    "conformer": (transformers.Wav2Vec2ConformerConfig, SIZE | CONVOLUTIONS, transformers.Wav2Vec2FeatureExtractor),
    "w2v-bert": (transformers.Wav2Vec2BertConfig, SIZE, transformers.SeamlessM4TFeatureExtractor),
    "whisper": (transformers.WhisperConfig, WHISPER, transformers.WhisperFeatureExtractor),
    "sew": (transformers.SEWConfig, SIZE | CONVOLUTIONS | SEW, transformers.Wav2Vec2FeatureExtractor),
}


@pytest.mark.parametrize("mixed", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_a_model_reads_any_encoder_and_is_made_anew_from_its_description(
    tmp_path: Path, kind: str, mixed: bool
) -> None:
    config, sizes, extractor = KINDS[kind]
    transformers.AutoModel.from_config(config(**sizes)).save_pretrained(tmp_path)
    extractor().save_pretrained(tmp_path)
    settings = {"layer_mix": mixed, "freeze_speech_encoder": kind == "sew", "spec_augment": False}
    if kind == "sew" and mixed:
        pytest.skip("SEW's last state has another rate than its layers")
    model = small_model(speech_encoder=str(tmp_path), **settings)
    batch = make_batch(2)
    output = accelerate(model, torch.device("cpu"), half=False).eval()(batch)
    again = small_model(speech_encoder="never/asked", speech_settings=model.speech_settings, **settings)
    again.load_state_dict(model.state_dict())
    torch.testing.assert_close(again.eval()(batch).logits, output.logits, atol=1e-5, rtol=1e-4)
    output.logits.sum().backward()
    encoder, waveform = model.encoders["waveform"], model.finished(batch)["waveform"]
    assert any(p.grad is not None for p in encoder.parameters()) == (kind != "sew")
    options = Options(mask_padding=False, frozen=kind == "sew", layer_mix=mixed)
    expected, _ = open_encoder(str(tmp_path), options).eval().hear(waveform, batch.samples)
    assert expected.shape == (2, encoder.frames(waveform.shape[1]), encoder.width)
    assert torch.allclose(encoder.hear(waveform, batch.samples)[0], expected, atol=1e-5)


@pytest.mark.parametrize("attends", [False, True])
@pytest.mark.parametrize("kind", ["adapter", "whisper", "w2v-bert"])
def test_padding_is_left_out_where_the_settings_say_so(tmp_path: Path, kind: str, attends: bool) -> None:
    config, sizes, extractor = KINDS[kind]
    transformers.AutoModel.from_config(config(**sizes)).save_pretrained(tmp_path)
    extractor().save_pretrained(tmp_path)
    batch = make_batch(3)
    lengths = torch.tensor([48_000, 20_000, 0], dtype=torch.int32)
    after = torch.arange(48_001) > lengths[:, None]
    quiet, loud = ({"waveform": torch.where(after, value, batch["waveform"]).short()} for value in (0, 9_000))
    differ = {}
    for masked in (False, True):
        settings = {"mask_padding": masked, "co_attention": attends, "attention": "softmax", "spec_augment": False}
        model = accelerate(small_model(speech_encoder=str(tmp_path), **settings), torch.device("cpu"), half=False)
        outputs = [model.eval()(batch.changed(rows, lengths)) for rows in (quiet, loud)]
        assert outputs[0].logits.isfinite().all()
        differ[masked] = float((outputs[0].logits - outputs[1].logits).detach().abs().max())
        if attends:
            assert bool((outputs[0].attention[1, -1] == 0) == masked)
    assert differ[True] < 1e-5 < differ[False]


def test_whispers_window_is_a_setting_that_others_refuse(tmp_path: Path) -> None:
    for kind in ("whisper", "adapter"):
        config, sizes, extractor = KINDS[kind]
        transformers.AutoModel.from_config(config(**sizes)).save_pretrained(tmp_path / kind)
        extractor().save_pretrained(tmp_path / kind)
    models = {
        window: small_model(speech_encoder=str(tmp_path / "whisper"), speech_window=window) for window in ("cut", "30s")
    }
    assert {window: model.attention.linear.out_features for window, model in models.items()} == {
        "cut": 150,
        "30s": 1500,
    }
    with pytest.raises(PipelineError, match=r"a window of 30s is for Whisper; '.*' is a wav2vec2 model: set it to cut"):
        small_model(speech_encoder=str(tmp_path / "adapter"), speech_window="30s")
