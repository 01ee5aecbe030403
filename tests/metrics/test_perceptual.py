"""LPIPS with local networks: the published formula written out again, the laws of a distance, and files that lie."""

import re
from functools import cache

import pytest
import torch
from safetensors.torch import save, save_file
from torch.nn import functional as F

from vap_sim.errors import BadFile, InvalidInput, UnknownName
from vap_sim.metrics.perceptual import Lpips
from vap_sim.metrics.report import Clips, NetworkCard, figure
from vap_sim.metrics.trunks import Trunk, trunk_plan

# (inputs, outputs, side, stride, padding) of each convolution under the number that torchvision gives it; -1 where a
# max-pool stands before it; the numbers after which LPIPS looks.
ALEX = {
    0: (3, 64, 11, 4, 2), -3: (64, 192, 5, 1, 2), -6: (192, 384, 3, 1, 1), 8: (384, 256, 3, 1, 1),
    10: (256, 256, 3, 1, 1),
}  # fmt: skip
VGG = {
    0: (3, 64), 2: (64, 64), -5: (64, 128), 7: (128, 128), -10: (128, 256), 12: (256, 256), 14: (256, 256),
    -17: (256, 512), 19: (512, 512), 21: (512, 512), -24: (512, 512), 26: (512, 512), 28: (512, 512),
}  # fmt: skip
LAYERS = {"alex": ALEX, "vgg": {number: (*widths, 3, 1, 1) for number, widths in VGG.items()}}
LOOKS = {"alex": (0, 3, 6, 8, 10), "vgg": (2, 7, 14, 21, 28)}
POOL = {"alex": 3, "vgg": 2}
SLICES = {"alex": (2, 5, 8, 10, 12), "vgg": (4, 9, 16, 23, 30)}


@cache
def _random_weights(net: str) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    draw = torch.Generator().manual_seed(0)
    trunk: dict[str, torch.Tensor] = {"classifier.6.bias": torch.zeros(3)}
    heads = {}
    for number, (inputs, outputs, side, *_) in LAYERS[net].items():
        scale = (2 / (inputs * side * side)) ** 0.5
        name = f"features.{abs(number)}"
        some = torch.randn(10007, generator=draw) * scale  # repeated, because VGG16 has millions of weights
        size = outputs * inputs * side * side
        trunk[f"{name}.weight"] = some.repeat(size // 10007 + 1)[:size].reshape(outputs, inputs, side, side)
        trunk[f"{name}.bias"] = torch.randn(outputs, generator=draw) * 0.1
        if abs(number) in LOOKS[net]:
            heads[f"lin{len(heads)}.model.1.weight"] = torch.rand(1, outputs, 1, 1, generator=draw)
    return trunk, heads


def random_weights(net: str) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    trunk, heads = _random_weights(net)
    return dict(trunk), dict(heads)


def written_out(net: str, a: torch.Tensor, b: torch.Tensor) -> float:
    """LPIPS v0.1 of two pictures (H, W, 3) uint8."""
    trunk, heads = random_weights(net)
    x = torch.stack([a, b]).permute(0, 3, 1, 2) / 255 * 2 - 1
    x = (x - torch.tensor([-0.030, -0.088, -0.188]).view(3, 1, 1)) / torch.tensor([0.458, 0.448, 0.450]).view(3, 1, 1)
    total, head = 0.0, iter(heads.values())
    for number, (_, _, _, stride, padding) in LAYERS[net].items():
        x = F.max_pool2d(x, POOL[net], 2) if number < 0 else x
        name = f"features.{abs(number)}"
        x = F.conv2d(x, trunk[f"{name}.weight"], trunk[f"{name}.bias"], stride, padding).relu()
        if abs(number) in LOOKS[net]:
            unit = x / (x.norm(dim=1, keepdim=True) + 1e-10)
            total += float(((unit[0] - unit[1]).square() * next(head)[0]).sum(0).mean())
    return total


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("lpips")
    trunk, heads = random_weights("alex")
    save_file(trunk, place / "alex_trunk.safetensors")
    save_file(heads, place / "alex_heads.safetensors")
    return place


@pytest.fixture(scope="module")
def alex(folder) -> Lpips:
    return Lpips.load("alex", trunk=folder / "alex_trunk.safetensors", heads=folder / "alex_heads.safetensors")


def noise(seed: int, *shape: int) -> torch.Tensor:
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))


def test_it_is_the_published_formula(alex: Lpips) -> None:
    a, b = noise(0, 3, 40, 37, 3), noise(1, 3, 40, 37, 3)
    found = alex(generated=a, truth=b)
    assert found.what == "lpips"
    expected = [written_out("alex", a[t], b[t]) for t in (1, 2)]
    assert found.values.tolist() == pytest.approx(expected, rel=1e-4)
    assert min(expected) > 0.01


def test_vgg_is_the_published_formula_too() -> None:
    trunk, heads = random_weights("vgg")
    del trunk["classifier.6.bias"]
    with torch.device("meta"):
        network = Trunk(trunk_plan("vgg"))
    network.load_state_dict(trunk, assign=True)  # a file would be large, and is read as AlexNet's is
    card = NetworkCard("random", "0" * 64, "none")
    vgg = Lpips(network, list(heads.values()), (card, card), "cpu")
    a, b = noise(0, 2, 16, 18, 3), noise(1, 2, 16, 18, 3)
    assert float(vgg(generated=a, truth=b).values) == pytest.approx(written_out("vgg", a[1], b[1]), rel=1e-4)
    with pytest.raises(InvalidInput, match="pictures: given 18 x 15 px, expected sides of at least 16 px for vgg"):
        vgg(generated=a[:, :15], truth=b[:, :15])


@pytest.mark.parametrize("net", ["alex", "vgg"])
def test_names_and_shapes_are_those_of_torchvision(net: str) -> None:
    trunk, heads = random_weights(net)
    del trunk["classifier.6.bias"]
    with torch.device("meta"):
        own = Trunk(trunk_plan(net)).state_dict()
    assert {name: value.shape for name, value in own.items()} == {name: value.shape for name, value in trunk.items()}
    assert tuple(head.shape[1] for head in heads.values()) == trunk_plan(net).channels


def test_the_whole_state_of_the_lpips_package_serves_as_both_files(tmp_path, alex: Lpips) -> None:
    trunk, heads = random_weights("alex")
    whole = {"scaling_layer.shift": torch.zeros(1, 3, 1, 1), **heads}
    for name, value in trunk.items():
        if name.startswith("features"):
            number = int(name.split(".")[1])
            part = 1 + sum(number >= end for end in SLICES["alex"])
            whole[name.replace("features", f"net.slice{part}")] = value
    assert "net.slice3.6.weight" in whole
    save_file(whole, tmp_path / "lpips.safetensors")
    other = Lpips.load("alex", trunk=tmp_path / "lpips.safetensors", heads=tmp_path / "lpips.safetensors")
    a, b = noise(0, 2, 32, 32, 3), noise(1, 2, 32, 32, 3)
    assert torch.equal(other(generated=a, truth=b).values, alex(generated=a, truth=b).values)
    assert other.cards[0].sha256 == other.cards[1].sha256


def test_equal_frames_are_at_zero_and_order_is_of_no_matter(alex: Lpips) -> None:
    a, b = noise(0, 2, 32, 32, 3), noise(1, 2, 32, 32, 3)
    assert alex(generated=a, truth=a).values.tolist() == [0]
    assert torch.equal(alex(generated=a, truth=b).values, alex(generated=b, truth=a).values)


def test_a_frame_alone_scores_as_in_a_batch(alex: Lpips) -> None:
    a, b = noise(0, 2, 3, 32, 32, 3), noise(1, 2, 3, 32, 32, 3)
    found = alex(generated=a, truth=b, at_once=3)
    assert found.values.shape == (2, 2)
    alone = torch.stack([alex(generated=a[row], truth=b[row], at_once=1).values for row in range(2)])
    torch.testing.assert_close(alone, found.values, rtol=1e-4, atol=0)
    assert alex(generated=a[:0], truth=b[:0]).values.shape == (0, 2)


def test_it_grows_with_noise(alex: Lpips) -> None:
    truth = noise(0, 3, 8, 8, 3).repeat_interleave(5, 1).repeat_interleave(5, 2)
    unrest = torch.randn(truth.shape, generator=torch.Generator().manual_seed(1))
    noisy = [(truth + level * unrest).clamp(0, 255).to(torch.uint8) for level in (0, 8, 25, 80)]
    values = [alex(generated=one, truth=truth).mean() for one in noisy]
    assert values == sorted(values)
    assert len(set(values)) == 4


def test_figures_name_both_files_by_their_hash(alex: Lpips) -> None:
    a, b = noise(0, 2, 3, 32, 32, 3), noise(1, 2, 3, 32, 32, 3)
    clips = Clips.of(a, source="noise", camera="none", frame_rate=5, preprocessing="none", seeds=(0,))
    told = figure(alex(generated=a, truth=b), clips=clips, networks=alex.cards)
    assert [card["name"] for card in told.to_json()["networks"]] == ["LPIPS trunk alex", "LPIPS heads alex, v0.1"]
    assert all(re.fullmatch("[0-9a-f]{64}", card.sha256) for card in told.networks)


def test_loading_draws_nothing_from_the_global_generator(folder) -> None:
    before = torch.get_rng_state()
    Lpips.load("alex", trunk=folder / "alex_trunk.safetensors", heads=folder / "alex_heads.safetensors")
    assert torch.equal(torch.get_rng_state(), before)


def test_a_hash_pins_the_file(folder, alex: Lpips) -> None:
    paths = {"trunk": folder / "alex_trunk.safetensors", "heads": folder / "alex_heads.safetensors"}
    good = {"trunk_sha256": alex.cards[0].sha256.upper(), "heads_sha256": alex.cards[1].sha256}
    assert Lpips.load("alex", **paths, **good).cards == alex.cards
    for name in good:
        with pytest.raises(BadFile, match=r"its sha256 is .*, expected 00"):
            Lpips.load("alex", **paths, **{**good, name: "00" * 32})


def test_missing_damaged_and_foreign_files_give_no_number(folder, tmp_path) -> None:
    trunk, heads = folder / "alex_trunk.safetensors", folder / "alex_heads.safetensors"
    with pytest.raises(UnknownName, match=r"unknown trunk of LPIPS 'alexnet'. Did you mean 'alex'"):
        Lpips.load("alexnet", trunk=trunk, heads=heads)
    with pytest.raises(BadFile, match=r"nowhere: no such network file .*nothing is ever downloaded"):
        Lpips.load("alex", trunk=tmp_path / "nowhere", heads=heads)
    bad = tmp_path / "bad.safetensors"
    for content in (b"", b"PK\x03\x04 a pickle", trunk.read_bytes()[:-4]):
        bad.write_bytes(content)
        with pytest.raises(BadFile, match="not a whole safetensors file"):
            Lpips.load("alex", trunk=bad, heads=heads)
    weights, lins = random_weights("alex")
    bad.write_bytes(save({**lins, "lin2.model.1.weight": lins["lin2.model.1.weight"] * torch.nan}))
    with pytest.raises(BadFile, match=r"tensor 'lin2.model.1.weight' has values that are not finite"):
        Lpips.load("alex", trunk=trunk, heads=bad)
    bad.write_bytes(save({name: value for name, value in weights.items() if name != "features.6.bias"}))
    with pytest.raises(BadFile, match=r"tensor 'features.6.bias' is missing, expected \(384,\)"):
        Lpips.load("alex", trunk=bad, heads=heads)
    bad.write_bytes(save(random_weights("vgg")[1]))
    with pytest.raises(BadFile, match=r"tensor 'lin1.model.1.weight' is of shape \(1, 128, 1, 1\), expected \(1, 192"):
        Lpips.load("alex", trunk=trunk, heads=bad)


def test_wrong_clips_are_named(alex: Lpips) -> None:
    with pytest.raises(InvalidInput, match="pictures: given 30 x 32 px, expected sides of at least 31 px for alex"):
        alex(generated=noise(0, 2, 32, 30, 3), truth=noise(1, 2, 32, 30, 3))
    with pytest.raises(InvalidInput, match=r"generated: given torch.float32"):
        alex(generated=torch.zeros(2, 32, 32, 3), truth=noise(1, 2, 32, 32, 3))
