"""Finding the routers of a Mixture-of-Experts model."""

from torch import nn
from transformers import PreTrainedModel

from steadyrl.base.errors import UserError
from steadyrl.policies.compat import recorded_modules


def is_moe(model: PreTrainedModel) -> bool:
    """Whether the model routes tokens to experts, in any family.

    This inspects module names, since a configuration may list experts that no layer has.
    """
    if getattr(model.config.get_text_config(), "is_moe", False):  # Doge has no such names
        return True
    names = (f"{name} {type(module).__name__}" for name, module in model.named_modules())
    return any("expert" in name.lower() for name in names)


def find_routers(model: PreTrainedModel) -> list[nn.Module]:
    """The routers of `model` in layer order.

    Raises:
        UserError: the family does not name its routers to Transformers.
    """
    classes = recorded_modules(model, "router_logits")
    routers = [module for module in model.modules() if classes and isinstance(module, classes)]
    if not routers:
        raise UserError(
            f"{type(model).__name__} has no router that routing replay knows: Transformers has no "
            "'router_logits' recorder for it, or no layer has the recorded class. Use "
            "routing_replay none, or a newer version of transformers."
        )
    return routers


def router_layers(model: PreTrainedModel) -> list[int]:
    """Layer index of each router, counting layers without a router as well.

    Example:
        [0, 2, 3]  # the second layer is dense

    Raises:
        UserError: the family does not name its routers, or their names contain no number.
    """
    routers = {id(router): place for place, router in enumerate(find_routers(model))}
    layers: dict[int, int] = {}
    for name, module in model.named_modules():
        if id(module) in routers:
            numbers = [int(part) for part in name.split(".") if part.isdigit()]
            if not numbers:
                raise UserError(
                    f"The router {name!r} of {type(model).__name__} has no layer number in its "
                    "name, so the routing of another engine cannot be matched with it. Use the "
                    "engine 'local'."
                )
            layers[routers[id(module)]] = numbers[0]
    return [layers[place] for place in range(len(routers))]
