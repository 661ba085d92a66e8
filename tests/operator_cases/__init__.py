"""Cases of operators by topic: small models of one operator each, with inputs that a wrong conversion gets wrong."""

from operator_cases import arithmetic, images, layers, picking, shapes, writing
from operator_cases.case import Case

__all__ = ["CASES"]

CASES: dict[str, dict[str, Case]] = {
    module.__name__.rpartition(".")[2]: module.CASES
    for module in (arithmetic, images, layers, picking, shapes, writing)
}
