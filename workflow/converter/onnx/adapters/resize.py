"""Upsample and Resize."""

from __future__ import annotations

import numpy as np
from onnx import TensorProto

from converter.onnx.core.registry import down, up
from converter.onnx.core.site import Site

_INT64, _FLOAT = TensorProto.INT64, TensorProto.FLOAT


@up(9, "Upsample")
def _scales_to_input(site: Site) -> None:
    site.set_input(1, site.value(site.pop("scales"), np.float32, stem="scales"))


@down(9, "Upsample")
def _scales_to_attribute(site: Site) -> None:
    site.set(scales=[float(scale) for scale in site.known(1, "scales")])
    site.drop_inputs(1)


@up(10, "Upsample")
def _to_resize(site: Site) -> None:
    site.rename("Resize")


@down(10, "Resize")
def _to_upsample(site: Site) -> None:
    if (site.known(1, "scales") < 1).any():
        raise site.refusal("that shrinks")
    site.rename("Upsample")


@up(11, "Resize")
def _coordinates(site: Site) -> None:
    """Sizes were scaled from the edge, and the nearest element was the one before, or in onnxruntime, where it shrinks,
    the one after.
    """
    scales = site.constant(1)
    if site.attribute("mode", "nearest") == "nearest":
        if scales is None:
            raise site.obstacle("with scales that are computed")
        if (scales > 1).any() and (scales < 1).any():
            growing = site.value(np.maximum(scales, 1), np.float32, stem="scales")
            larger = site.add(
                "Resize",
                [site.input(0), _empty(site), growing],
                like=None,
                dtype=site.dtype(0),
                coordinate_transformation_mode="asymmetric",
                mode="nearest",
                nearest_mode="floor",
            )
            site.set_input(0, larger)
            site.set_input(1, site.value(np.minimum(scales, 1), np.float32, stem="scales"))
        site.set(nearest_mode="ceil" if (scales < 1).any() else "floor")
    else:
        site.set(mode="linear")
    site.set(coordinate_transformation_mode="asymmetric")
    factors = site.input(1)
    site.set_input(1, _empty(site))
    site.set_input(2, factors)
    if site.nodes:
        site.stay()


def _empty(site: Site) -> str:
    return site.value([], np.float32, stem="roi")


@down(11, "Resize")
def _from_edge(site: Site) -> None:
    shape = site.shape(0)
    sizes = site.constant(3) if site.has(3) else None
    scales = site.constant(2)
    computed = site.input(2)
    if site.has(3):
        if sizes is None or shape is None or any(dim is None and place > 0 for place, dim in enumerate(shape)):
            raise site.refusal("to sizes that are computed")
        scales = np.array([_scale(dim, int(size)) for dim, size in zip(shape, sizes, strict=True)], np.float32)
        computed = site.value(scales, np.float32, stem="scales")
    mode, place = site.pop("mode", "nearest"), site.pop("coordinate_transformation_mode", "half_pixel")
    nearest = site.pop("nearest_mode", "round_prefer_floor")
    site.pop("cubic_coeff_a")
    site.pop("exclude_outside")
    site.pop("extrapolation_value")
    if scales is None:
        fits = place == "asymmetric" and mode == "linear"
    else:
        fits = mode == "linear" and place == "asymmetric" or (scales == 1).all() and mode != "cubic"
        if mode == "nearest":
            fits = fits or _before(scales, place, nearest)
    if not fits:
        raise site.refusal(f"with the mode {mode} and the coordinates {place}")
    site.set(mode=mode)
    site.set_input(1, computed)
    site.drop_inputs(2)


def _before(scales: np.ndarray, place: str, nearest: str) -> bool:
    """Whether the nearest element is the one before the scaled index, or where all shrinks the one after."""
    whole = (scales >= 1).all() and (scales == np.round(scales)).all()
    if whole and place in ("half_pixel", "pytorch_half_pixel", "half_pixel_symmetric"):
        # Centres of the new elements lie less than half an element from the centre of the one that they came from.
        return nearest.startswith("round")
    if whole and place == "tf_half_pixel_for_nn":
        return nearest == "floor"
    if place != "asymmetric":
        return False
    return bool((scales >= 1).all() and nearest == "floor" or (scales <= 1).all() and nearest == "ceil")


def _scale(size: int | None, wanted: int) -> float:
    """The factor whose product with the size has just the wanted size as its whole part."""
    if size is None or size == wanted:
        return 1.0
    scale = np.float32(wanted / size)
    while int(np.floor(np.float32(size) * scale)) < wanted:
        scale = np.nextafter(scale, np.float32(np.inf))
    return float(scale)


@up(13, "Resize")
def _optional_inputs(site: Site) -> None:
    """Empty tensors stood for inputs that are left out."""
    for position in (1, 2):
        array = site.constant(position)
        if array is not None and array.size == 0:
            site.set_input(position, "")
    if site.attribute("coordinate_transformation_mode") == "tf_half_pixel_for_nn":
        scales = site.constant(2)
        nearest = site.attribute("mode", "nearest") == "nearest"
        if (
            scales is None
            or not nearest
            or not _before(scales, "tf_half_pixel_for_nn", site.attribute("nearest_mode", ""))
        ):
            raise site.obstacle("with the coordinates tf_half_pixel_for_nn")
        site.set(coordinate_transformation_mode="asymmetric")


@down(13, "Resize")
def _needed_inputs(site: Site) -> None:
    for position in (1, 2):
        if not site.has(position):
            site.set_input(position, _empty(site))
    if site.dtype(1) not in (0, _FLOAT):
        site.set_input(1, site.cast(site.input(1), _FLOAT))
        site.stay()


@down(18, "Resize")
def _all_axes(site: Site) -> None:
    if site.attribute("antialias", 0):
        raise site.refusal("with the attribute antialias")
    site.pop("antialias")
    policy = site.attribute("keep_aspect_ratio_policy", "stretch")
    if policy != "stretch" and site.has(3):
        raise site.refusal("with the attribute keep_aspect_ratio_policy")
    site.pop("keep_aspect_ratio_policy")
    axes = site.pop("axes")
    if axes is None:
        return
    rank = site.known_rank(0)
    places = [axis % rank for axis in axes]
    if places == list(range(rank)):
        return

    def filled(others: str, position: int, dtype: int, order: list[int]) -> None:
        joined = site.add("Concat", [others, site.input(position)], axis=0, dtype=dtype)
        site.set_input(position, site.add("Gather", [joined, site.value(order)], axis=0, dtype=dtype))

    if site.has(2):
        order = [1 + places.index(place) if place in places else 0 for place in range(rank)]
        filled(site.value([1], np.float32), 2, _FLOAT, order)
    if site.has(3):
        sizes = site.add("Shape", [site.input(0)], dtype=_INT64)
        filled(sizes, 3, _INT64, [rank + places.index(place) if place in places else place for place in range(rank)])
    if site.has(1) and site.attribute("coordinate_transformation_mode") == "tf_crop_and_resize":
        starts = [2 + places.index(place) if place in places else 0 for place in range(rank)]
        ends = [2 + len(axes) + places.index(place) if place in places else 1 for place in range(rank)]
        filled(site.value([0, 1], site.known_dtype(1)), 1, site.dtype(1), starts + ends)
    site.stay()


@down(19, "Resize")
def _known_coordinates(site: Site) -> None:
    if site.attribute("coordinate_transformation_mode") == "half_pixel_symmetric":
        raise site.refusal("with the coordinates half_pixel_symmetric")
