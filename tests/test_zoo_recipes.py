"""Recipes make models whose outputs vary, the same file each time."""

import torch
import zoo_torchvision
from pytorch_networks import Net


def test_random_weights_make_outputs_vary_with_the_input():
    torch.manual_seed(3)
    model = Net().eval()
    zoo_torchvision.spread(model, [1, 3, 16, 16])
    with torch.no_grad():
        logits = model(torch.randn(64, 3, 16, 16))
    assert not model.bn.training and model.bn.momentum == 0.1
    assert 0.4 < logits.std(0).mean() < 2.5
    assert logits.mean(0).abs().max() < 1.5  # three standard errors of the four samples that the recipe looks at


def test_a_recipe_of_torchvision_writes_the_same_bytes_again(tmp_path):
    for folder in ("a", "b"):  # the name of the file is inside it
        model = zoo_torchvision.build("squeezenet1_0", "random")
        zoo_torchvision.spread(model, [1, 3, 64, 64])
        (tmp_path / folder).mkdir()
        torch.save(model, tmp_path / folder / "model.pt")
    assert (tmp_path / "a/model.pt").read_bytes() == (tmp_path / "b/model.pt").read_bytes()
