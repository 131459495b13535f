"""Gradients of what picks parts of a tensor."""

import tensorflow as tf

from aggregator.keras.gradients.geometry import Operation, Tensor, refuse


def strided_slice(operation: Operation, gradient: Tensor) -> tuple[Tensor, None, None, None]:
    """StridedSlice: zeros around what was cut out."""
    source = operation.inputs[0]
    bounds = [_bounds(operation, axis, size) for axis, size in enumerate(source.shape)]
    cut = tf.reshape(gradient, [end - begin for begin, end in bounds])
    around = [(begin, size - end) for (begin, end), size in zip(bounds, source.shape, strict=True)]
    return tf.pad(cut, around), None, None, None


def gather(operation: Operation, gradient: Tensor) -> tuple[Tensor, None, None]:
    """GatherV2 of rows, which is what Embedding does: each row's gradients added up."""
    source, rows, axis = operation.inputs
    if tf.get_static_value(axis) != 0 or operation.get_attr("batch_dims"):
        raise refuse(operation, "it does not pick along the first axis: use keras.ops.take(..., axis=0)")
    indices = tf.cast(tf.reshape(rows, [-1, 1]), tf.int32)
    updates = tf.reshape(gradient, [indices.shape[0], *source.shape[1:]])
    return tf.scatter_nd(indices, updates, source.shape), None, None


def _bounds(operation: Operation, axis: int, size: int) -> tuple[int, int]:
    """Begin and end along an axis, however the slice was written."""
    begin, end, stride = (tf.get_static_value(operation.inputs[i]) for i in (1, 2, 3))
    if (
        begin is None
        or end is None
        or operation.get_attr("ellipsis_mask")
        or operation.get_attr("new_axis_mask")
    ):
        raise refuse(operation, "a slice with '...', a new axis or unknown bounds: name every axis")
    if axis >= len(begin):
        return 0, size
    if _has(operation, "shrink_axis_mask", axis):
        at = int(begin[axis]) % size
        return at, at + 1
    if stride[axis] != 1:
        raise refuse(operation, "a slice with a step: use keras.ops.take, or pooling")
    first = None if _has(operation, "begin_mask", axis) else int(begin[axis])
    last = None if _has(operation, "end_mask", axis) else int(end[axis])
    first, last, _ = slice(first, last).indices(size)
    return first, max(first, last)


def _has(operation: Operation, mask: str, axis: int) -> bool:
    return bool(operation.get_attr(mask) >> axis & 1)
