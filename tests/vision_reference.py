"""torchvision's operators once more, one number at a time, from its documentation and the papers it names."""

import math

import numpy as np


def nms(boxes, scores, threshold):
    """Positions that are kept. Equal scores: the earlier first; NaN before all."""
    order = sorted(
        range(len(boxes)), key=lambda i: (not math.isnan(scores[i]), -scores[i] if scores[i] == scores[i] else 0, i)
    )
    kept = []
    for i in order:
        if not any(overlap(boxes[j], boxes[i]) > threshold for j in kept):
            kept.append(i)
    return kept


def overlap(a, b):
    """Intersection over union in float32, NaN where a side is."""
    a, b = np.float32(a), np.float32(b)
    zero = np.float32(0)
    with np.errstate(all="ignore"):
        sides = [np.minimum(a[k + 2], b[k + 2]) - np.maximum(a[k], b[k]) for k in (0, 1)]
        shared = (sides[0] if sides[0] > zero else zero) * (sides[1] if sides[1] > zero else zero)
        areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (a, b)]
        return float(shared / (areas[0] + areas[1] - shared))


def bilinear(image, y, x, low):
    """image (H, W) at y, x. low: the place from which on it is 0 in front of the first pixel's centre."""
    height, width = image.shape
    if not (low <= y <= height and low <= x <= width):
        return 0.0
    y, x = min(max(y, 0), height - 1), min(max(x, 0), width - 1)
    top, left = int(y), int(x)
    bottom, right = min(top + 1, height - 1), min(left + 1, width - 1)
    down, along = y - top, x - left
    return (
        image[top, left] * (1 - down) * (1 - along)
        + image[top, right] * (1 - down) * along
        + image[bottom, left] * down * (1 - along)
        + image[bottom, right] * down * along
    )


def roi_align(features, rois, size, scale, ratio, aligned, own_channels=False):
    """(K, C, *size); own_channels: the position-sensitive one, which is always aligned."""
    bins = size[0] * size[1]
    channels = features.shape[1] // bins if own_channels else features.shape[1]
    result = np.zeros((len(rois), channels, *size))
    for k, (image, x1, y1, x2, y2) in enumerate(rois):
        x1, y1, x2, y2 = (value * scale - (0.5 if aligned else 0) for value in (x1, y1, x2, y2))
        width, height = (x2 - x1, y2 - y1) if aligned else (max(x2 - x1, 1), max(y2 - y1, 1))
        rows = ratio if ratio > 0 else math.ceil(height / size[0])
        columns = ratio if ratio > 0 else math.ceil(width / size[1])
        for c, i, j in np.ndindex(channels, *size):
            channel = c * bins + i * size[1] + j if own_channels else c
            total = 0.0
            for row in range(rows):
                for column in range(columns):
                    y = y1 + (i + (row + 0.5) / rows) * height / size[0]
                    x = x1 + (j + (column + 0.5) / columns) * width / size[1]
                    total += bilinear(features[int(image), channel], y, x, -1)
            count = rows * columns
            result[k, c, i, j] = total / max(count, 1) if not own_channels else total / count if count else math.nan
    return result


def pooled_bins(rois, size, scale, shape, last):
    """(k, i, j, image, rows, columns): the pixels of each bin. last: the second corner's pixel belongs to the region."""
    half_up = lambda value: math.floor(abs(value) + 0.5) * (1 if value >= 0 else -1)  # noqa: E731
    for k, (image, *corners) in enumerate(rois):
        x1, y1, x2, y2 = (half_up(value * scale) for value in corners)
        width, height = max(x2 - x1 + last, 1), max(y2 - y1 + last, 1)
        for i, j in np.ndindex(*size):
            rows = range(y1 + math.floor(i * height / size[0]), y1 + math.ceil((i + 1) * height / size[0]))
            columns = range(x1 + math.floor(j * width / size[1]), x1 + math.ceil((j + 1) * width / size[1]))
            limits = (shape[0] - 1 + last, shape[1] - 1 + last)
            yield (
                k,
                i,
                j,
                int(image),
                [r for r in rows if 0 <= r < limits[0]],
                [c for c in columns if 0 <= c < limits[1]],
            )


def roi_pool(features, rois, size, scale):
    result = np.zeros((len(rois), features.shape[1], *size))
    for k, i, j, image, rows, columns in pooled_bins(rois, size, scale, features.shape[2:], 1):
        for c in range(features.shape[1]):
            values = [features[image, c, y, x] for y in rows for x in columns]
            result[k, c, i, j] = max(values) if values else 0
    return result


def ps_roi_pool(features, rois, size, scale):
    bins = size[0] * size[1]
    result = np.zeros((len(rois), features.shape[1] // bins, *size))
    for k, i, j, image, rows, columns in pooled_bins(rois, size, scale, features.shape[2:], 0):
        for c in range(result.shape[1]):
            values = [features[image, c * bins + i * size[1] + j, y, x] for y in rows for x in columns]
            result[k, c, i, j] = sum(values) / len(values) if values else 0
    return result


def deform_conv2d(features, weight, offset, mask, bias, stride, padding, dilation):
    """mask: None for ones. Groups follow from the shapes."""
    images, channels, height, width = features.shape
    outputs, per_group, taps_h, taps_w = weight.shape
    taps, (rows, columns) = taps_h * taps_w, offset.shape[2:]
    offset_groups = offset.shape[1] // (2 * taps)
    groups = channels // per_group
    result = np.zeros((images, outputs, rows, columns))

    def pixel(n, c, y, x):
        return features[n, c, y, x] if 0 <= y < height and 0 <= x < width else 0.0

    for n, o, row, column in np.ndindex(*result.shape):
        total = bias[o]
        for c, i, j in np.ndindex(per_group, taps_h, taps_w):
            channel = o // (outputs // groups) * per_group + c
            tap = channel // (channels // offset_groups) * taps + i * taps_w + j
            y = row * stride[0] - padding[0] + i * dilation[0] + offset[n, 2 * tap, row, column]
            x = column * stride[1] - padding[1] + j * dilation[1] + offset[n, 2 * tap + 1, row, column]
            top, left = math.floor(y), math.floor(x)
            value = sum(
                pixel(n, channel, top + a, left + b) * (1 - abs(y - top - a)) * (1 - abs(x - left - b))
                for a in (0, 1)
                for b in (0, 1)
            )
            total += weight[o, c, i, j] * value * (1 if mask is None else mask[n, tap, row, column])
        result[n, o, row, column] = total
    return result
