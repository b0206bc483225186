"""Linear layers by oneDNN compute what PyTorch's do."""

import pytest
import torch
from torch import Tensor, nn

from steadyrl.policies import products
from steadyrl.policies.compat import has_onednn_linear
from steadyrl.policies.products import SMALLEST_WEIGHT, FastLinear, linear, speed_up
from tests.closeness import assert_close

pytestmark = pytest.mark.skipif(
    not has_onednn_linear(),
    reason="this PyTorch has no oneDNN",
)


@pytest.fixture(autouse=True)
def _faster(monkeypatch: pytest.MonkeyPatch) -> None:
    """oneDNN as if it were faster on this processor."""
    monkeypatch.setattr(products, "_is_onednn_faster", lambda: True)


def _calls(monkeypatch: pytest.MonkeyPatch) -> list[Tensor]:
    """Weights of the products by oneDNN from now on."""
    weights: list[Tensor] = []
    product = products.onednn_linear

    def noted(inputs: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        weights.append(weight)
        return product(inputs, weight, bias)

    monkeypatch.setattr(products, "onednn_linear", noted)
    return weights


@pytest.mark.parametrize("shape", [(1,), (7,), (300,), (2, 5), (3, 1, 4)])
@pytest.mark.parametrize("biased", [False, True])
def test_outputs_and_gradients_are_those_of_float64(shape: tuple[int, ...], biased: bool) -> None:
    torch.manual_seed(0)
    wide = torch.randn(*shape, 256, dtype=torch.float64, requires_grad=True)
    layer = nn.Linear(256, 384, bias=biased, dtype=torch.float64)
    slope = torch.randn(*shape, 384, dtype=torch.float64)
    weights = list(layer.parameters())
    expected = [layer(wide), *torch.autograd.grad(layer(wide), [wide, *weights], slope)]
    narrow = [value.detach().float().requires_grad_() for value in (wide, *weights)]
    output = linear(*narrow)
    found = [output, *torch.autograd.grad(output, narrow, slope.float())]
    for one, other in zip(found, expected, strict=True):
        assert one.dtype == torch.float32
        assert_close(one, other, terms=512)


@pytest.mark.parametrize("frozen", ["inputs", "weight"])
def test_what_needs_no_gradient_gets_none(frozen: str, monkeypatch: pytest.MonkeyPatch) -> None:
    inputs = torch.randn(4, 256, requires_grad=frozen != "inputs")
    weight = torch.randn(256, 256, requires_grad=frozen != "weight")
    calls = _calls(monkeypatch)
    linear(inputs, weight).sum().backward()
    assert len(calls) == 2
    assert (inputs.grad is None, weight.grad is None) == (frozen == "inputs", frozen == "weight")


def test_strided_inputs_and_gradients() -> None:
    torch.manual_seed(0)
    inputs = torch.randn(256, 6).T.requires_grad_()
    weight = torch.randn(256, 512)[:, ::2].requires_grad_()
    expected = torch.autograd.grad(nn.functional.linear(inputs, weight).sum(), (inputs, weight))
    for one, other in zip(
        torch.autograd.grad(linear(inputs, weight).sum(), (inputs, weight)), expected, strict=True
    ):
        assert_close(one, other, terms=512)


@pytest.mark.parametrize(
    ("inputs", "weight"),
    [
        (torch.ones(2, 255), torch.ones(256, 255)),
        (torch.ones(2, 256, dtype=torch.float64), torch.ones(256, 256, dtype=torch.float64)),
        (torch.ones(2, 256).bfloat16(), torch.ones(256, 256).bfloat16()),
        (torch.ones(0, 256), torch.ones(256, 256)),
        (torch.ones(2, 256, device="meta"), torch.ones(256, 256, device="meta")),
    ],
    ids=["small", "float64", "bfloat16", "empty", "meta"],
)
def test_other_products_are_those_of_pytorch(
    inputs: Tensor, weight: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = _calls(monkeypatch)
    assert linear(inputs, weight).shape == (len(inputs), 256)
    assert not calls


def test_autocast_is_obeyed() -> None:
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert linear(torch.ones(2, 256), torch.ones(256, 256)).dtype == torch.bfloat16


def test_large_layers_alone_are_replaced() -> None:
    class Other(nn.Linear):
        """A layer of a family, which computes something else."""

    side = int(SMALLEST_WEIGHT**0.5)
    model = nn.Sequential(nn.Linear(side, side), nn.Linear(side, side - 1), Other(side, side))
    speed_up(model)  # type: ignore[arg-type]
    assert [type(layer) for layer in model] == [FastLinear, nn.Linear, Other]


def test_nothing_is_replaced_where_mkl_is_as_fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(products, "_is_onednn_faster", lambda: False)
    model = nn.Sequential(nn.Linear(512, 512))
    speed_up(model)  # type: ignore[arg-type]
    assert type(model[0]) is nn.Linear


@pytest.mark.parametrize(
    ("maker", "capability", "expected"),
    [
        ("AuthenticAMD", "AVX512", True),
        ("GenuineIntel", "AVX512", False),
        ("AuthenticAMD", "AVX2", False),
        ("", "AVX512", False),
    ],
)
def test_processors(
    maker: str, capability: str, expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()
    monkeypatch.setattr(products, "processor_maker", lambda: maker)
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
    monkeypatch.setattr(torch.backends.mkl, "is_available", lambda: True)
    assert products._is_onednn_faster.__wrapped__() is expected
