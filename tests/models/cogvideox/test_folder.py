"""CogVideoX folders on disk: what is read equals what was saved, and every damage is named."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch

from tests.models.cogvideox.conftest import FRAMES, LATENT_CODEC, SIZE, noisy, small_backbone, words
from vap_sim.errors import BadFile, Unsupported
from vap_sim.models.cogvideox.backbone import Backbone
from vap_sim.models.cogvideox.folder import open_folder
from vap_sim.models.cogvideox.video_codec import VideoCodec


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    import diffusers

    folder = tmp_path_factory.mktemp("tiny_cogvideox")
    small_backbone().transformer.save_pretrained(folder / "transformer", max_shard_size="100KB")
    diffusers.AutoencoderKLCogVideoX(**LATENT_CODEC).save_pretrained(folder / "vae")
    diffusers.CogVideoXDPMScheduler(prediction_type="v_prediction").save_pretrained(folder / "scheduler")
    return folder


@pytest.fixture
def copied(saved: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(saved, tmp_path / "model"))


def _edit(path: Path, **values: object) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def test_a_sharded_folder_comes_back(saved: Path) -> None:
    assert (saved / "transformer" / "diffusion_pytorch_model.safetensors.index.json").is_file()
    folder = open_folder(saved)
    assert folder.config.learned
    assert (folder.config.frames, folder.config.grid) == (FRAMES, (SIZE[0] // 2, SIZE[1] // 2))
    transformer, own = folder.transformer(), small_backbone()
    loaded = transformer.state_dict()
    assert all(torch.equal(value.float(), loaded[name]) for name, value in own.transformer.state_dict().items())
    level = torch.tensor([7, 7])
    with torch.no_grad():
        again = Backbone(transformer)(noisy(), level, words())
        assert torch.allclose(again, own(noisy(), level, words()), atol=1e-4)
    assert not transformer.training
    assert folder.transformer(torch.bfloat16).dtype == torch.bfloat16
    assert VideoCodec.open(folder, dtype=torch.bfloat16, tiling=True).latent_channels == 4
    scheduler = folder.scheduler()
    assert type(scheduler).__name__ == "CogVideoXDPMScheduler"
    assert scheduler.config.prediction_type == "v_prediction"


def test_a_hub_name_goes_through_diffusers(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import diffusers

    asked = []

    def download(name: str, **options: object) -> str:
        asked.append((name, options))
        if name == "owner/absent":
            raise OSError("not on the hub")
        return str(saved)

    monkeypatch.setattr(diffusers.DiffusionPipeline, "download", download)
    assert open_folder("owner/name").path == saved
    assert asked == [("owner/name", {"use_safetensors": True})]
    with pytest.raises(
        BadFile, match=r"owner/absent: is no local folder, and diffusers cannot get it .*not on the hub"
    ):
        open_folder("owner/absent")


def test_folders_that_are_none(tmp_path: Path, copied: Path) -> None:
    with pytest.raises(BadFile, match="no such folder, and not a name on the hub"):
        open_folder(tmp_path / "nothing")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "model.txt").touch()
    with pytest.raises(
        BadFile, match=r"not a CogVideoX folder: it has no transformer/config.json \(it has: model.txt\)"
    ):
        open_folder(tmp_path / "other")
    shutil.rmtree(copied / "vae")
    shutil.rmtree(copied / "scheduler")
    folder = open_folder(copied)
    with pytest.raises(BadFile, match="this folder has no video codec"):
        folder.vae()
    with pytest.raises(BadFile, match="this folder has no noise schedule"):
        folder.scheduler()


@pytest.mark.parametrize(
    ("file", "values", "error", "message"),
    [
        (
            "transformer/config.json",
            {"_class_name": "WanTransformer3DModel"},
            BadFile,
            "'WanTransformer3DModel', expected",
        ),
        ("transformer/config.json", {"patch_size_t": 2}, Unsupported, "config.json: CogVideoX 1.5"),
        ("transformer/config.json", {"num_attention_heads": None}, BadFile, "num_attention_heads .* given None"),
        ("transformer/config.json", {"number_of_heads": 3}, BadFile, "unknown value .* 'number_of_heads'"),
        ("vae/config.json", {"latent_channels": 16}, BadFile, "latent_channels of the codec: given 16"),
        ("scheduler/scheduler_config.json", {"_class_name": "DDIMScheduler"}, BadFile, "'DDIMScheduler', expected Cog"),
    ],
)
def test_foreign_configs(
    copied: Path, file: str, values: dict[str, object], error: type[Exception], message: str
) -> None:
    _edit(copied / file, **values)
    with pytest.raises(error, match=message):
        open_folder(copied)


def test_configs_that_are_not_json(copied: Path) -> None:
    path = copied / "transformer" / "config.json"
    for text, message in (("{", "is not JSON"), ("[1]", "is a list, expected an object")):
        path.write_text(text)
        with pytest.raises(BadFile, match=message):
            open_folder(copied)


def test_a_config_of_another_width_and_of_another_depth(copied: Path) -> None:
    path = copied / "transformer" / "config.json"
    _edit(path, num_attention_heads=4)
    with pytest.raises(
        BadFile, match=r"tensors have another shape than the config says, first norm_final.bias: \(32,\)"
    ):
        open_folder(copied).transformer()
    _edit(path, num_attention_heads=2, num_layers=4)
    with pytest.raises(BadFile, match=r"tensors are missing: transformer_blocks.3.attn1"):
        open_folder(copied).transformer()
    _edit(path, num_layers=2)
    with pytest.raises(BadFile, match=r"tensors are unknown: transformer_blocks.2.attn1.* \.\.\."):
        open_folder(copied).transformer()
    _edit(copied / "vae" / "config.json", layers_per_block=2)
    with pytest.raises(BadFile, match="tensors are missing: decoder"):
        open_folder(copied).vae()
    _edit(copied / "vae" / "config.json", block_out_channels=[3, 5])
    with pytest.raises(BadFile, match="makes no AutoencoderKLCogVideoX"):
        open_folder(copied).vae()


def test_damaged_shards(copied: Path) -> None:
    folder = copied / "transformer"
    index = folder / "diffusion_pytorch_model.safetensors.index.json"
    shards = sorted(folder.glob("*.safetensors"))
    whole = shards[0].read_bytes()
    shards[0].write_bytes(whole[:50])
    with pytest.raises(BadFile, match="not a whole safetensors file"):
        open_folder(copied).transformer()
    shards[0].unlink()
    with pytest.raises(BadFile, match="no such file, though the index names it"):
        open_folder(copied).transformer()
    shards[0].write_bytes(shards[1].read_bytes())
    with pytest.raises(BadFile, match="is in another file of the set too"):
        open_folder(copied).transformer()
    for named, message in (
        ({"x": "../evil.safetensors"}, "leaves the folder"),
        ([1], "is not an object of file names"),
    ):
        _edit(index, weight_map=named)
        with pytest.raises(BadFile, match=message):
            open_folder(copied).transformer()


def test_pickled_weights_are_refused(copied: Path) -> None:
    folder = copied / "vae"
    (folder / "diffusion_pytorch_model.safetensors").unlink()
    with pytest.raises(BadFile, match="no such weights file, and no index of shards"):
        open_folder(copied).vae()
    (folder / "diffusion_pytorch_model.bin").write_bytes(b"anything")
    with pytest.raises(BadFile, match=r"model.bin: weights in pickle form are refused, .* safe_serialization=True"):
        open_folder(copied).vae()


def test_a_failure_of_diffusers_is_named(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import diffusers

    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("no room")

    monkeypatch.setattr(diffusers.CogVideoXTransformer3DModel, "from_pretrained", fail)
    with pytest.raises(BadFile, match=r"diffusers cannot load it \(no room\)"):
        open_folder(saved).transformer()
